// Router and choice of one row: the logits of all experts, then what route.wgsl does. For decode, where two dispatches
// would take longer than what they do.
//
// x        [1, cols]
// w0       router, [n_experts, cols], in planes; at most 256 experts
// bias     [n_experts], or nothing
// ids      [top_k]
// weights  [1, top_k]

struct Params {
    shape: vec4u, // units a row, 1, cols
    route: vec4u, // n_experts, top_k, norm_min as bits, 1: there is a bias
    codes: vec4u,
    factors: vec4u,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> w0: array<u32>;
@group(1) @binding(2) var<storage, read> bias: array<f32>;
@group(1) @binding(3) var<storage, read_write> ids: array<u32>;
@group(1) @binding(4) var<storage, read_write> weights: array<f32>;

var<workgroup> logits: array<f32, 256>;

// The largest logit, and the sum of the exponentials.
struct Softmax {
    largest: f32,
    total: f32,
}

fn probability(row: Softmax, expert: u32) -> f32 {
    return exp(logits[expert] - row.largest) / row.total;
}

fn score(row: Softmax, expert: u32) -> f32 {
    if (params.route.w == 1u) {
        return probability(row, expert) + bias[expert];
    }
    return probability(row, expert);
}

// The number of experts that come before one; ties go to the lower index.
fn place_of(row: Softmax, expert: u32) -> u32 {
    let own = score(row, expert);
    var place = 0u;
    for (var other = 0u; other < params.route.x; other++) {
        let rival = score(row, other);
        place += select(0u, 1u, rival > own || (rival == own && other < expert));
    }
    return place;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) index: u32 SUBGROUP_INPUTS
) {
    let thread = THREAD_OF_INPUTS;
    if (task_of(group.x, thread) > 0u) {
        return;
    }
    let n_experts = params.route.x;
    var row = Softmax(-1e30, 0.0);
    for (var e = thread.lane; e < n_experts; e += LANES) {
        var logit = 0.0;
        for (var unit = 0u; unit < params.shape.x; unit++) {
            logit += dot_eight(w0_eight(e, unit), x_eight(0u, unit));
        }
        logits[e] = logit;
        row.largest = max(row.largest, logit);
    }
    row.largest = max_of(row.largest, thread); // and all logits are there
    for (var e = thread.lane; e < n_experts; e += LANES) {
        row.total += exp(logits[e] - row.largest);
    }
    row.total = sum_of(vec4f(row.total), thread).x;

    var chosen = 0.0;
    for (var e = thread.lane; e < n_experts; e += LANES) {
        chosen += select(0.0, probability(row, e), place_of(row, e) < params.route.y);
    }
    let divisor = max(sum_of(vec4f(chosen), thread).x, bitcast<f32>(params.route.z));
    for (var e = thread.lane; e < n_experts; e += LANES) {
        let place = place_of(row, e);
        if (place < params.route.y) {
            ids[place] = e;
            weights[place] = probability(row, e) / divisor;
        }
    }
}
