// silu(gate · x) ⊙ (up · x), of one MLP or of the experts chosen for each slot.
//
// A task is two rows of both weights times one slot. Slots go along the second axis.
//
// x    [slots / top_k, cols]
// ids  [slots]: the expert of each slot; nothing if there is but one
// w0   gate, [experts * inner, cols], in planes
// w1   up, the same
// out  [slots, inner]

struct Params {
    shape: vec4u,   // units a row, rows of x, cols, top_k
    experts: vec4u, // inner, first expert in these weights, experts in them, slots
    codes: vec4u,   // of gate and up
    factors: vec4u,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> ids: array<u32>;
@group(1) @binding(2) var<storage, read> w0: array<u32>;
@group(1) @binding(3) var<storage, read> w1: array<u32>;
@group(1) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) index: u32 SUBGROUP_INPUTS
) {
    let thread = THREAD_OF_INPUTS;
    let inner = params.experts.x;
    let first = task_of(group.x, thread) * 2u;
    let slot = group.y;
    var expert = 0u;
    if (IS_ROUTED) {
        expert = ids[slot] - params.experts.y;
    }
    if (first >= inner || expert >= params.experts.z) {
        return;
    }
    let row = expert * inner + first;
    let next = expert * inner + min(first + 1u, inner - 1u);
    var sums = vec4f();
    for (var unit = thread.lane; unit < params.shape.x; unit += LANES) {
        let v = x_eight(slot / params.shape.w, unit);
        sums += vec4f(
            dot_eight(w0_eight(row, unit), v),
            dot_eight(w0_eight(next, unit), v),
            dot_eight(w1_eight(row, unit), v),
            dot_eight(w1_eight(next, unit), v),
        );
    }
    let sum = sum_of(sums, thread);
    if (thread.lane == 0u) {
        out[slot * inner + first] = sum.x * sigmoid(sum.x) * sum.z;
        if (first + 1u < inner) {
            out[slot * inner + first + 1u] = sum.y * sigmoid(sum.y) * sum.w;
        }
    }
}
