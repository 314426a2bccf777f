// What every kernel shares: eight decoded values, codes and factors, and tasks beyond the first axis of a grid.

struct Eight {
    low: vec4f,
    high: vec4f,
}

// One thread of a workgroup, and where it stands in its subgroup if the tier has them.
struct Thread {
    index: u32,
    lane: u32,
    subgroup: u32,
    n_subgroups: u32,
    subgroup_lane: u32,
}

fn dot_eight(a: Eight, b: Eight) -> f32 {
    return dot(a.low, b.low) + dot(a.high, b.high);
}

// Workgroups are counted along x, then along y.
fn group_number(group: vec3u, groups: vec3u) -> u32 {
    return group.y * groups.x + group.x;
}

fn low_nibbles(word: u32) -> vec4f {
    return vec4f((vec4u(word) >> vec4u(0u, 4u, 8u, 12u)) & vec4u(15u));
}

fn high_nibbles(word: u32) -> vec4f {
    return vec4f((vec4u(word) >> vec4u(16u, 20u, 24u, 28u)) & vec4u(15u));
}

fn signed_bytes(word: u32) -> vec4f {
    return vec4f(bitcast<vec4i>(vec4u(word) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u));
}

// The `f16` in the lower or the upper half of `word`.
fn half_of(word: u32, is_upper: bool) -> f32 {
    let both = unpack2x16float(word);
    return select(both.x, both.y, is_upper);
}

fn sigmoid(x: f32) -> f32 {
    // Beyond 80 the exponential overflows, which kernels may not rely on.
    return 1.0 / (1.0 + exp(min(-x, 80.0)));
}
