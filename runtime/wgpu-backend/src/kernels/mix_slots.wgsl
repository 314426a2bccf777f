// Σ weight · slot over the slots of each row. A task is a value.
//
// x        [n * top_k, cols]
// weights  [n, top_k]
// out      [n, cols]

struct Params {
    shape: vec4u, // n, cols, top_k
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> x: array<f32>;
@group(1) @binding(1) var<storage, read> weights: array<f32>;
@group(1) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) index: u32
) {
    let task = group_number(group, groups) * 64u + index;
    let cols = params.shape.y;
    let row = task / cols;
    if (row >= params.shape.x) {
        return;
    }
    var sum = 0.0;
    for (var slot = row * params.shape.z; slot < (row + 1u) * params.shape.z; slot++) {
        sum += weights[slot] * x[slot * cols + task % cols];
    }
    out[task] = sum;
}
