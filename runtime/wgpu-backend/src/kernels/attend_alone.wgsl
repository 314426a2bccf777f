// Attention without barriers, for adapters that are programs: a thread has one query vector and goes over all keys
// that it sees, with the bindings of attend.wgsl.

struct Params {
    shape: vec4u, // n, head_dim, keys before the first row, 1: rows see all keys up to themselves
    heads: vec4u, // n_heads, n_kv_heads, first row of out
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> q: array<vec4f>;
@group(1) @binding(1) var<storage, read> k: array<vec4<KV_VALUE>>;
@group(1) @binding(2) var<storage, read> v: array<vec4<KV_VALUE>>;
@group(1) @binding(3) var<storage, read> bounds: array<vec2u>;
@group(1) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) index: u32
) {
    let head_dim = params.shape.y;
    let n_heads = params.heads.x;
    let n_kv = params.heads.y;
    let task = group_number(group, groups) * 64u + index;
    let row = task / n_heads;
    if (row >= params.shape.x) {
        return;
    }
    let kv_head = (task % n_heads) / (n_heads / n_kv);
    var seen = vec2u(0u, params.shape.z + row + 1u);
    if (params.shape.w == 0u) {
        seen = bounds[row];
    }
    var query: array<vec4f, N_FOURS>;
    var mixed: array<vec4f, N_FOURS>;
    for (var d = 0u; d < N_FOURS; d++) {
        query[d] = q[task * N_FOURS + d];
    }
    var best = -1e30;
    var weight = 0.0;
    for (var key = seen.x; key < seen.y; key++) {
        let at = (key * n_kv + kv_head) * N_FOURS;
        var score = 0.0;
        for (var d = 0u; d < N_FOURS; d++) {
            score += dot(query[d], vec4f(k[at + d]));
        }
        let new_best = max(best, score);
        let fade = exp(best - new_best);
        let share = exp(score - new_best);
        best = new_best;
        weight = weight * fade + share;
        for (var d = 0u; d < N_FOURS; d++) {
            mixed[d] = mixed[d] * fade + share * vec4f(v[at + d]);
        }
    }
    let to = (params.heads.z * n_heads + task) * head_dim;
    for (var d = 0u; d < head_dim; d++) {
        out[to + d] = mixed[d / 4u][d % 4u] / weight;
    }
}
