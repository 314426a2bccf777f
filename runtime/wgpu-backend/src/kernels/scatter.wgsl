// Row `i` of `src` to row `rows[i]` of `out`, the others of which stay as they are. A task is a value.
//
// src   [n, cols]
// rows  [n], distinct, each below n_out
// out   [n_out, cols]

struct Params {
    shape: vec4u, // n, cols, n_out
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> src: array<f32>;
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
    if (i < params.shape.x && rows[i] < params.shape.z) {
        out[rows[i] * cols + task % cols] = src[task];
    }
}
