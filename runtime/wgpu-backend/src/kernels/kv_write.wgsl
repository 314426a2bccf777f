// Brings queries, keys and values into the form in which they are attended to: rotated (PAIRS is 0 if they are not,
// 1 for neighbours, 2 for halves), heads padded with zeros to whole vectors of four, queries scaled, and keys and
// values behind those of the cache. A task is a feature.
//
// q        [n, n_heads * head_dim]
// k, v     [n, n_kv_heads * head_dim]
// cos_sin  [n, head_dim], from row angle_row on; nothing if nothing is rotated
// q_out    [n, n_heads * padded]
// k_out    [past + n, n_kv_heads * padded], from row past on
// v_out    the same

struct Params {
    shape: vec4u, // n, head_dim, padded, past
    heads: vec4u, // n_heads, n_kv_heads, first row of q, k, v and cos_sin, scale as bits
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> q: array<f32>;
@group(1) @binding(1) var<storage, read> k: array<f32>;
@group(1) @binding(2) var<storage, read> v: array<f32>;
@group(1) @binding(3) var<storage, read> cos_sin: array<f32>;
@group(1) @binding(4) var<storage, read_write> q_out: array<f32>;
@group(1) @binding(5) var<storage, read_write> k_out: array<KV_VALUE>;
@group(1) @binding(6) var<storage, read_write> v_out: array<KV_VALUE>;

// What feature d is turned with, and by which cosine and (signed) sine.
struct Turn {
    other: u32,
    cosine: f32,
    sine: f32,
}

fn turn_of(row: u32, d: u32) -> Turn {
    let head_dim = params.shape.y;
    let half = head_dim / 2u;
    var pair = d / 2u;
    var other = d ^ 1u;
    var is_second = (d & 1u) == 1u;
    if (PAIRS == 2u) {
        is_second = d >= half;
        pair = select(d, d - half, is_second);
        other = select(d + half, d - half, is_second);
    }
    let sine = cos_sin[row * head_dim + half + pair];
    return Turn(other, cos_sin[row * head_dim + pair], select(-sine, sine, is_second));
}

fn turned_q(row: u32, at: u32, d: u32) -> f32 {
    if (PAIRS == 0u) {
        return q[at + d];
    }
    let turn = turn_of(row, d);
    return q[at + d] * turn.cosine + q[at + turn.other] * turn.sine;
}

fn turned_k(row: u32, at: u32, d: u32) -> f32 {
    if (PAIRS == 0u) {
        return k[at + d];
    }
    let turn = turn_of(row, d);
    return k[at + d] * turn.cosine + k[at + turn.other] * turn.sine;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) index: u32
) {
    let head_dim = params.shape.y;
    let padded = params.shape.z;
    let n_heads = params.heads.x;
    let n_kv = params.heads.y;
    let task = group_number(group, groups) * 64u + index;
    let d = task % padded;
    let all_heads = n_heads + 2u * n_kv;
    let i = task / padded / all_heads;
    if (i >= params.shape.x) {
        return;
    }
    let head = (task / padded) % all_heads;
    let row = params.heads.z + i;
    let is_in = d < head_dim;
    if (head < n_heads) {
        var value = 0.0;
        if (is_in) {
            value = turned_q(row, (row * n_heads + head) * head_dim, d) * bitcast<f32>(params.heads.w);
        }
        q_out[(i * n_heads + head) * padded + d] = value;
        return;
    }
    let is_key = head < n_heads + n_kv;
    let kv_head = (head - n_heads) % n_kv;
    let at = (row * n_kv + kv_head) * head_dim;
    var value = 0.0;
    if (is_in && is_key) {
        value = turned_k(row, at, d);
    } else if (is_in) {
        value = v[at + d];
    }
    let to = ((params.shape.w + i) * n_kv + kv_head) * padded + d;
    if (is_key) {
        k_out[to] = KV_VALUE(value);
    } else {
        v_out[to] = KV_VALUE(value);
    }
}
