// Layer norm. A task is a row.
//
// x        [n, cols]
// w, bias  [cols]
// out      [n, cols]

struct Params {
    shape: vec4u, // n, cols, eps as bits
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> x: array<f32>;
@group(1) @binding(1) var<storage, read> w: array<f32>;
@group(1) @binding(2) var<storage, read> bias: array<f32>;
@group(1) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) index: u32 SUBGROUP_INPUTS
) {
    let thread = THREAD_OF_INPUTS;
    let row = task_of(group_number(group, groups), thread);
    let cols = params.shape.y;
    if (row >= params.shape.x) {
        return;
    }
    var values = 0.0;
    for (var col = thread.lane; col < cols; col += LANES) {
        values += x[row * cols + col];
    }
    let mean = sum_of(vec4f(values), thread).x / f32(cols);
    // Squares of differences: the difference of squares would lose what a large mean hides.
    var squares = 0.0;
    for (var col = thread.lane; col < cols; col += LANES) {
        let difference = x[row * cols + col] - mean;
        squares += difference * difference;
    }
    let variance = sum_of(vec4f(squares), thread).x / f32(cols);
    let scale = 1.0 / sqrt(variance + bitcast<f32>(params.shape.z));
    for (var col = thread.lane; col < cols; col += LANES) {
        out[row * cols + col] = (x[row * cols + col] - mean) * scale * w[col] + bias[col];
    }
}
