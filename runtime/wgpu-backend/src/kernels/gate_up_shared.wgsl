// silu(gate · x) ⊙ (up · x) of one row, by the experts chosen for it and by the shared ones: gate_up.wgsl with one more
// slot, which has weights and a width of its own.
//
// x    [1, cols]
// ids  [top_k]
// w0   gate, [experts * inner, cols], in planes
// w1   up, the same
// w2   gate of the shared experts, [shared, cols], in planes
// w3   up, the same
// out  [top_k, inner], then [1, shared]

struct Params {
    shape: vec4u,   // units a row, 1, cols, top_k
    experts: vec4u, // inner, experts, shared
    codes: vec4u,
    factors: vec4u,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> ids: array<u32>;
@group(1) @binding(2) var<storage, read> w0: array<u32>;
@group(1) @binding(3) var<storage, read> w1: array<u32>;
@group(1) @binding(4) var<storage, read> w2: array<u32>;
@group(1) @binding(5) var<storage, read> w3: array<u32>;
@group(1) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) index: u32 SUBGROUP_INPUTS
) {
    let thread = THREAD_OF_INPUTS;
    let first = task_of(group.x, thread) * 2u;
    let slot = group.y;
    let top_k = params.shape.w;
    let is_shared = slot == top_k;
    let inner = select(params.experts.x, params.experts.z, is_shared);
    var row = 0u;
    if (!is_shared) {
        row = min(ids[slot], params.experts.y - 1u) * inner;
    }
    if (first >= inner) {
        return;
    }
    let next = row + min(first + 1u, inner - 1u);
    row += first;
    var sums = vec4f();
    for (var unit = thread.lane; unit < params.shape.x; unit += LANES) {
        let v = x_eight(0u, unit);
        if (is_shared) {
            sums += vec4f(
                dot_eight(w2_eight(row, unit), v),
                dot_eight(w2_eight(next, unit), v),
                dot_eight(w3_eight(row, unit), v),
                dot_eight(w3_eight(next, unit), v),
            );
        } else {
            sums += vec4f(
                dot_eight(w0_eight(row, unit), v),
                dot_eight(w0_eight(next, unit), v),
                dot_eight(w1_eight(row, unit), v),
                dot_eight(w1_eight(next, unit), v),
            );
        }
    }
    let sum = sum_of(sums, thread);
    if (thread.lane == 0u) {
        let to = slot * params.experts.x + first;
        out[to] = sum.x * sigmoid(sum.x) * sum.z;
        if (first + 1u < inner) {
            out[to + 1u] = sum.y * sigmoid(sum.y) * sum.w;
        }
    }
}
