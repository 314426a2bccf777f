// The second half of routed experts: Σ weight · (down · h) over the slots of each row.
//
// A task is four rows of the weight times one row. Rows go along the second axis.
//
// x        h, [n * top_k, cols]
// ids      [n * top_k]: the expert of each slot
// weights  [n, top_k]
// w0       down, [experts * hidden, cols], in planes
// out      [n, hidden]; experts of further weights are added to what is there

struct Params {
    shape: vec4u,   // units a row, slots, cols, top_k
    experts: vec4u, // hidden, first expert in this weight, experts in it, 1: add to what is there
    codes: vec4u,
    factors: vec4u,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> ids: array<u32>;
@group(1) @binding(2) var<storage, read> weights: array<f32>;
@group(1) @binding(3) var<storage, read> w0: array<u32>;
@group(1) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) index: u32 SUBGROUP_INPUTS
) {
    let thread = THREAD_OF_INPUTS;
    let hidden = params.experts.x;
    let first = task_of(group.x, thread) * 4u;
    let row = group.y;
    let top_k = params.shape.w;
    if (first >= hidden) {
        return;
    }
    let last = hidden - 1u;
    var sums = vec4f();
    for (var slot = row * top_k; slot < (row + 1u) * top_k; slot++) {
        let expert = ids[slot] - params.experts.y;
        if (expert >= params.experts.z) {
            continue;
        }
        let at = expert * hidden;
        var own = vec4f();
        for (var unit = thread.lane; unit < params.shape.x; unit += LANES) {
            let v = x_eight(slot, unit);
            own += vec4f(
                dot_eight(w0_eight(at + first, unit), v),
                dot_eight(w0_eight(at + min(first + 1u, last), unit), v),
                dot_eight(w0_eight(at + min(first + 2u, last), unit), v),
                dot_eight(w0_eight(at + min(first + 3u, last), unit), v),
            );
        }
        sums += weights[slot] * own;
    }
    let sum = sum_of(sums, thread);
    if (thread.lane == 0u) {
        for (var r = 0u; r < 4u; r++) {
            if (first + r < hidden) {
                let to = row * hidden + first + r;
                var before = 0.0;
                if (params.experts.w == 1u) {
                    before = out[to];
                }
                out[to] = before + sum[r];
            }
        }
    }
}
