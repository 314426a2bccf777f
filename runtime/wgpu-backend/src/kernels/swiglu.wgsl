// silu(gate) ⊙ up, value by value.

struct Params {
    shape: vec4u, // values
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> gate: array<f32>;
@group(1) @binding(1) var<storage, read> up: array<f32>;
@group(1) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) index: u32
) {
    let at = group_number(group, groups) * 64u + index;
    if (at < params.shape.x) {
        out[at] = gate[at] * sigmoid(gate[at]) * up[at];
    }
}
