// Joins what the splits of attend.wgsl found. A task is a feature of a query vector.
//
// parts  [splits, n * n_heads, head_dim + 2]: mix, largest score, sum of weights
// out    [n, n_heads * head_dim], from row first on

struct Params {
    shape: vec4u, // n * n_heads, head_dim, splits, first row of out times n_heads
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> parts: array<f32>;
@group(1) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) index: u32
) {
    let task = group_number(group, groups) * 64u + index;
    let head_dim = params.shape.y;
    let query = task / head_dim;
    let d = task % head_dim;
    if (query >= params.shape.x) {
        return;
    }
    let width = head_dim + 2u;
    var best = -1e30;
    for (var split = 0u; split < params.shape.z; split++) {
        best = max(best, parts[(split * params.shape.x + query) * width + head_dim]);
    }
    var mixed = 0.0;
    var weight = 0.0;
    for (var split = 0u; split < params.shape.z; split++) {
        let at = (split * params.shape.x + query) * width;
        let share = exp(parts[at + head_dim] - best);
        mixed += share * parts[at + d];
        weight += share * parts[at + head_dim + 1u];
    }
    out[params.shape.w * head_dim + task] = mixed / weight;
}
