// Rows of `x` in the order of `rows`. A task is a value.
//
// x     [n_x, cols]
// rows  [n], each below n_x
// out   [n, cols]

struct Params {
    shape: vec4u, // n, cols, n_x
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> x: array<f32>;
@group(1) @binding(1) var<storage, read> rows: array<u32>;
@group(1) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) index: u32
) {
    let task = group_number(group, groups) * 64u + index;
    let cols = params.shape.y;
    let i = task / cols;
    if (i < params.shape.x) {
        out[task] = x[min(rows[i], params.shape.z - 1u) * cols + task % cols];
    }
}
