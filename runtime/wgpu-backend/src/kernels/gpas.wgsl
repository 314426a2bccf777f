// x · (1 − silu(g)), value by value; g is one value.

struct Params {
    shape: vec4u, // values
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> x: array<f32>;
@group(1) @binding(1) var<storage, read> g: array<f32>;
@group(1) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) index: u32
) {
    let at = group_number(group, groups) * 64u + index;
    if (at < params.shape.x) {
        out[at] = x[at] * (1.0 - g[0] * sigmoid(g[0]));
    }
}
