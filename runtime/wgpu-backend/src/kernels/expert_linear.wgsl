// One projection of the experts chosen for each slot, where gate and up are not stored alike.
//
// A task is four rows of the weight times one slot. Slots go along the second axis.
//
// x    [slots / top_k, cols]
// ids  [slots]: the expert of each slot
// w0   [experts * inner, cols], in planes
// out  [slots, inner]

struct Params {
    shape: vec4u,   // units a row, rows of x, cols, top_k
    experts: vec4u, // inner, first expert in this weight, experts in it, slots
    codes: vec4u,
    factors: vec4u,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> ids: array<u32>;
@group(1) @binding(2) var<storage, read> w0: array<u32>;
@group(1) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) index: u32 SUBGROUP_INPUTS
) {
    let thread = THREAD_OF_INPUTS;
    let inner = params.experts.x;
    let first = task_of(group.x, thread) * 4u;
    let slot = group.y;
    let expert = ids[slot] - params.experts.y;
    if (first >= inner || expert >= params.experts.z) {
        return;
    }
    let row = expert * inner;
    let last = inner - 1u;
    var sums = vec4f();
    for (var unit = thread.lane; unit < params.shape.x; unit += LANES) {
        let v = x_eight(slot / params.shape.w, unit);
        sums += vec4f(
            dot_eight(w0_eight(row + first, unit), v),
            dot_eight(w0_eight(row + min(first + 1u, last), unit), v),
            dot_eight(w0_eight(row + min(first + 2u, last), unit), v),
            dot_eight(w0_eight(row + min(first + 3u, last), unit), v),
        );
    }
    let sum = sum_of(sums, thread);
    if (thread.lane == 0u) {
        for (var r = 0u; r < 4u; r++) {
            if (first + r < inner) {
                out[slot * inner + first + r] = sum[r];
            }
        }
    }
}
