// Queries, keys and values of one row, rotated as neighbours and stored where they are attended to: matvec.wgsl and
// kv_write.wgsl in one, for decode. Heads are whole vectors of four wide, so that nothing is padded.
//
// A task is four rows of a weight, which are two pairs of features.
//
// x        [1, cols]
// w0…w2    [rows[s], cols] each, in planes
// cos_sin  [1, head_dim]: cosines, then sines
// q_out    [1, rows[0]], scaled
// k_out    [past + 1, rows[1]], row past
// v_out    the same

struct Params {
    shape: vec4u,   // units a row, 1, cols
    rows: vec4u,
    codes: vec4u,   // where the codes of each weight begin, in words
    factors: vec4u, // and its factors
    heads: vec4u,   // head_dim, past, scale as bits
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> w0: array<u32>;
@group(1) @binding(2) var<storage, read> w1: array<u32>;
@group(1) @binding(3) var<storage, read> w2: array<u32>;
@group(1) @binding(4) var<storage, read> cos_sin: array<f32>;
@group(1) @binding(5) var<storage, read_write> q_out: array<f32>;
@group(1) @binding(6) var<storage, read_write> k_out: array<KV_VALUE>;
@group(1) @binding(7) var<storage, read_write> v_out: array<KV_VALUE>;

fn weight_eight(segment: u32, row: u32, unit: u32) -> Eight {
    switch (segment) {
        case 0u: { return w0_eight(row, unit); }
        case 1u: { return w1_eight(row, unit); }
        default: { return w2_eight(row, unit); }
    }
}

// Two pairs of features, of which the first has number `first` in its row.
fn turned(pairs: vec4f, first: u32) -> vec4f {
    let half = params.heads.x / 2u;
    let pair = (first % params.heads.x) / 2u;
    let cosine = vec2f(cos_sin[pair], cos_sin[pair + 1u]);
    let sine = vec2f(cos_sin[half + pair], cos_sin[half + pair + 1u]);
    let a = pairs.xz * cosine - pairs.yw * sine;
    let b = pairs.yw * cosine + pairs.xz * sine;
    return vec4f(a.x, b.x, a.y, b.y);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) index: u32 SUBGROUP_INPUTS
) {
    let thread = THREAD_OF_INPUTS;
    var block = task_of(group.x, thread);
    var segment = 0u;
    for (; segment < 3u; segment++) {
        if (block < params.rows[segment] / 4u) {
            break;
        }
        block -= params.rows[segment] / 4u;
    }
    if (segment >= 3u) {
        return;
    }
    let first = block * 4u;
    var sums = vec4f();
    for (var unit = thread.lane; unit < params.shape.x; unit += LANES) {
        let v = x_eight(0u, unit);
        sums += vec4f(
            dot_eight(weight_eight(segment, first, unit), v),
            dot_eight(weight_eight(segment, first + 1u, unit), v),
            dot_eight(weight_eight(segment, first + 2u, unit), v),
            dot_eight(weight_eight(segment, first + 3u, unit), v),
        );
    }
    let sum = sum_of(sums, thread);
    if (thread.lane != 0u) {
        return;
    }
    let turned_sum = turned(sum, first);
    let to = params.heads.y * params.rows.y + first;
    for (var r = 0u; r < 4u; r++) {
        switch (segment) {
            case 0u: { q_out[first + r] = turned_sum[r] * bitcast<f32>(params.heads.z); }
            case 1u: { k_out[to + r] = KV_VALUE(turned_sum[r]); }
            default: { v_out[to + r] = KV_VALUE(sum[r]); }
        }
    }
}
