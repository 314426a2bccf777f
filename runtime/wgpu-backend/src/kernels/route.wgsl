// Chooses top_k experts a row: softmax over all, the bias added for choosing only, ties to the lower index; the
// chosen, unbiased probabilities are divided by max(sum, norm_min). A task is a row.
//
// An expert's place is the number of experts that come before it, so that no lane waits for a choice.
//
// logits   [n, n_experts]
// bias     [n_experts], or nothing
// ids      [n * top_k]
// weights  [n, top_k]

struct Params {
    shape: vec4u, // n, n_experts, top_k, 1: there is a bias
    norm: vec4u,  // norm_min as bits
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> logits: array<f32>;
@group(1) @binding(1) var<storage, read> bias: array<f32>;
@group(1) @binding(2) var<storage, read_write> ids: array<u32>;
@group(1) @binding(3) var<storage, read_write> weights: array<f32>;

fn score_of(p: f32, expert: u32) -> f32 {
    if (params.shape.w == 1u) {
        return p + bias[expert];
    }
    return p;
}

// The softmax of a row: its largest logit and the sum of the exponentials.
struct Softmax {
    at: u32,
    largest: f32,
    total: f32,
}

fn probability(row: Softmax, expert: u32) -> f32 {
    return exp(logits[row.at + expert] - row.largest) / row.total;
}

fn place_of(row: Softmax, expert: u32) -> u32 {
    let score = score_of(probability(row, expert), expert);
    var place = 0u;
    for (var other = 0u; other < params.shape.y; other++) {
        let rival = score_of(probability(row, other), other);
        place += select(0u, 1u, rival > score || (rival == score && other < expert));
    }
    return place;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) index: u32 SUBGROUP_INPUTS
) {
    let thread = THREAD_OF_INPUTS;
    let i = task_of(group_number(group, groups), thread);
    let n_experts = params.shape.y;
    let top_k = params.shape.z;
    if (i >= params.shape.x) {
        return;
    }
    var row = Softmax(i * n_experts, -1e30, 0.0);
    for (var e = thread.lane; e < n_experts; e += LANES) {
        row.largest = max(row.largest, logits[row.at + e]);
    }
    row.largest = max_of(row.largest, thread);
    for (var e = thread.lane; e < n_experts; e += LANES) {
        row.total += exp(logits[row.at + e] - row.largest);
    }
    row.total = sum_of(vec4f(row.total), thread).x;

    var chosen = 0.0;
    for (var e = thread.lane; e < n_experts; e += LANES) {
        chosen += select(0.0, probability(row, e), place_of(row, e) < top_k);
    }
    let divisor = max(sum_of(vec4f(chosen), thread).x, bitcast<f32>(params.norm.x));
    for (var e = thread.lane; e < n_experts; e += LANES) {
        let place = place_of(row, e);
        if (place < top_k) {
            ids[i * top_k + place] = e;
            weights[i * top_k + place] = probability(row, e) / divisor;
        }
    }
}
