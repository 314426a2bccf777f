// Σ weight · (down · h) over the chosen experts of one row, and down · h of the shared ones: the second half of
// gate_up_shared.wgsl. Both widths are whole units.
//
// A task is four rows.
//
// h        [top_k, inner], then [1, shared]
// ids      [top_k]
// weights  [1, top_k]
// w0       down, [experts * hidden, inner], in planes
// w1       down of the shared experts, [hidden, shared], in planes
// out      [1, hidden]

struct Params {
    shape: vec4u,   // units of inner, units of shared, hidden, top_k
    experts: vec4u, // experts
    codes: vec4u,
    factors: vec4u,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> h: array<vec4f>;
@group(1) @binding(1) var<storage, read> ids: array<u32>;
@group(1) @binding(2) var<storage, read> weights: array<f32>;
@group(1) @binding(3) var<storage, read> w0: array<u32>;
@group(1) @binding(4) var<storage, read> w1: array<u32>;
@group(1) @binding(5) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) index: u32 SUBGROUP_INPUTS
) {
    let thread = THREAD_OF_INPUTS;
    let hidden = params.shape.z;
    let top_k = params.shape.w;
    let units = params.shape.x;
    let first = task_of(group.x, thread) * 4u;
    if (first >= hidden) {
        return;
    }
    let rows = min(vec4u(first) + vec4u(0u, 1u, 2u, 3u), vec4u(hidden - 1u));
    var sums = vec4f();
    for (var slot = 0u; slot < top_k; slot++) {
        let at = rows + min(ids[slot], params.experts.x - 1u) * hidden;
        var own = vec4f();
        for (var unit = thread.lane; unit < units; unit += LANES) {
            let v = Eight(h[(slot * units + unit) * 2u], h[(slot * units + unit) * 2u + 1u]);
            own += vec4f(
                dot_eight(w0_eight(at.x, unit), v),
                dot_eight(w0_eight(at.y, unit), v),
                dot_eight(w0_eight(at.z, unit), v),
                dot_eight(w0_eight(at.w, unit), v),
            );
        }
        sums += weights[slot] * own;
    }
    let shared_at = top_k * units * 2u;
    for (var unit = thread.lane; unit < params.shape.y; unit += LANES) {
        let v = Eight(h[shared_at + unit * 2u], h[shared_at + unit * 2u + 1u]);
        sums += vec4f(
            dot_eight(w1_eight(rows.x, unit), v),
            dot_eight(w1_eight(rows.y, unit), v),
            dot_eight(w1_eight(rows.z, unit), v),
            dot_eight(w1_eight(rows.w, unit), v),
        );
    }
    let sum = sum_of(sums, thread);
    if (thread.lane == 0u) {
        for (var r = 0u; r < 4u; r++) {
            if (first + r < hidden) {
                out[first + r] = sum[r];
            }
        }
    }
}
