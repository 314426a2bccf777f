// Attention: softmax(q · k) v over the keys that each row sees, in one pass over tiles of 64 keys.
//
// A workgroup has four query vectors of one key head, neighbours among its heads first, then among rows, so that each
// key and value is read once for four. A thread scores one key of a tile, then gathers its own features of the values.
//
// q       [n, n_heads * 4 * N_FOURS], scaled
// k, v    [keys, n_kv_heads * 4 * N_FOURS]
// bounds  [n]: first key that a row sees, and the one after the last; nothing if rows are causal
// out     [n, n_heads * head_dim], from row first on; if the keys are split along the third axis, for each split and
//         query vector its mix, its largest score and its sum of weights, for attend_joined.wgsl

struct Params {
    shape: vec4u, // n, head_dim, keys before the first row, 1: rows see all keys up to themselves
    heads: vec4u, // n_heads, n_kv_heads, first row of out, keys of a split; 0 if they are not split
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> q: array<vec4f>;
@group(1) @binding(1) var<storage, read> k: array<vec4<KV_VALUE>>;
@group(1) @binding(2) var<storage, read> v: array<KV_VALUE>;
@group(1) @binding(3) var<storage, read> bounds: array<vec2u>;
@group(1) @binding(4) var<storage, read_write> out: array<f32>;

const TILE = 64u;
const HIDDEN = -1e30;

var<workgroup> queries: array<array<vec4f, N_FOURS>, 4>;
var<workgroup> scores: array<vec4f, 64>;
var<workgroup> largest: array<vec4f, 16>;

fn bounds_of(row: u32) -> vec2u {
    if (params.shape.w == 1u) {
        return vec2u(0u, params.shape.z + row + 1u);
    }
    return bounds[row];
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
    let n = params.shape.x;
    let head_dim = params.shape.y;
    let n_heads = params.heads.x;
    let n_kv = params.heads.y;
    let per_kv = n_heads / n_kv;
    let kv_head = group.y;
    let first = group.x * 4u;
    let n_vectors = n * per_kv;

    // Vectors beyond the last are that again, and not written.
    var starts = vec4u();
    var ends = vec4u();
    for (var m = 0u; m < 4u; m++) {
        let vector = min(first + m, n_vectors - 1u);
        let row = vector / per_kv;
        let seen = bounds_of(row);
        starts[m] = seen.x;
        ends[m] = seen.y;
        let at = (row * n_heads + kv_head * per_kv + vector % per_kv) * N_FOURS;
        for (var d = index; d < N_FOURS; d += 64u) {
            queries[m][d] = q[at + d];
        }
    }
    workgroupBarrier();

    var start = min(min(starts.x, starts.y), min(starts.z, starts.w));
    var end = max(max(ends.x, ends.y), max(ends.z, ends.w));
    let is_split = params.heads.w > 0u;
    if (is_split) {
        start += group.z * params.heads.w;
        end = min(end, start + params.heads.w);
    }
    var best = vec4f(HIDDEN);
    var weight = vec4f();
    var mixed: array<vec4f, N_OWN>; // component m is of vector m
    for (var tile = start; tile < end; tile += TILE) {
        let key = tile + index;
        let is_seen = (vec4u(key) >= starts) & (vec4u(key) < min(ends, vec4u(end)));
        var score = vec4f();
        let at = (min(key, end - 1u) * n_kv + kv_head) * N_FOURS;
        for (var d = 0u; d < N_FOURS; d++) {
            let four = vec4f(k[at + d]);
            score += vec4f(
                dot(queries[0][d], four),
                dot(queries[1][d], four),
                dot(queries[2][d], four),
                dot(queries[3][d], four),
            );
        }
        score = select(vec4f(HIDDEN), score, is_seen);
        scores[index] = score;
        workgroupBarrier();
        if (index < 16u) {
            let four = index * 4u;
            largest[index] =
                max(max(scores[four], scores[four + 1u]), max(scores[four + 2u], scores[four + 3u]));
        }
        workgroupBarrier();
        var new_best = best;
        for (var i = 0u; i < 16u; i++) {
            new_best = max(new_best, largest[i]);
        }
        let fade = exp(best - new_best);
        best = new_best;
        let share = select(vec4f(), exp(score - best), is_seen);
        weight = weight * fade + share;
        scores[index] = share;
        workgroupBarrier();
        let n_keys = min(TILE, end - tile);
        for (var own = 0u; own < N_OWN; own++) {
            let d = min(own * 64u + index, N_FOURS * 4u - 1u);
            var sum = mixed[own] * fade;
            for (var j = 0u; j < n_keys; j++) {
                sum += scores[j] * f32(v[((tile + j) * n_kv + kv_head) * N_FOURS * 4u + d]);
            }
            mixed[own] = sum;
        }
        workgroupBarrier();
    }

    scores[index] = weight;
    workgroupBarrier();
    var total = vec4f();
    for (var i = 0u; i < TILE; i++) {
        total += scores[i];
    }
    for (var m = 0u; m < 4u; m++) {
        let vector = first + m;
        if (vector < n_vectors) {
            let row = vector / per_kv;
            let query = row * n_heads + kv_head * per_kv + vector % per_kv;
            var to = (params.heads.z * n_heads + query) * head_dim;
            var divisor = total[m];
            if (is_split) {
                to = (group.z * n * n_heads + query) * (head_dim + 2u);
                divisor = 1.0;
                if (index == 0u) {
                    out[to + head_dim] = best[m];
                    out[to + head_dim + 1u] = total[m];
                }
            }
            for (var own = 0u; own < N_OWN; own++) {
                let d = own * 64u + index;
                if (d < head_dim) {
                    out[to + d] = mixed[own][m] / divisor;
                }
            }
        }
    }
}
