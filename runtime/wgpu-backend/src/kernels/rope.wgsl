// Rotates each pair of features of every head by the angle of its row. A task is a pair.
//
// x        [n, cols], heads of head_dim
// cos_sin  [n, head_dim]: cosines, then sines
// out      [n, cols]

struct Params {
    shape: vec4u, // pairs in all, pairs a row, pairs a head
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> x: array<f32>;
@group(1) @binding(1) var<storage, read> cos_sin: array<f32>;
@group(1) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) index: u32
) {
    let task = group_number(group, groups) * 64u + index;
    if (task >= params.shape.x) {
        return;
    }
    let half = params.shape.z;
    let row = task / params.shape.y;
    let pair = task % half;
    let head = (task / half) * half * 2u;
    var a = head + pair;
    var b = a + half;
    if (PAIRS == 1u) {
        a = head + 2u * pair;
        b = a + 1u;
    }
    let cosine = cos_sin[row * half * 2u + pair];
    let sine = cos_sin[row * half * 2u + half + pair];
    out[a] = x[a] * cosine - x[b] * sine;
    out[b] = x[b] * cosine + x[a] * sine;
}
