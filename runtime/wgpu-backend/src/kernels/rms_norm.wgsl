// RMS norm of a sum of N_ADDENDS inputs, and that sum: x, x + y or x + (y + z). A task is a row.
//
// x, y, z  [n, cols]; those that are not there are not read
// w        [cols]
// sum      [n, cols]; not written if there is one input
// out      [n, cols]

struct Params {
    shape: vec4u, // n, cols, eps as bits
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> x: array<f32>;
@group(1) @binding(1) var<storage, read> y: array<f32>;
@group(1) @binding(2) var<storage, read> z: array<f32>;
@group(1) @binding(3) var<storage, read> w: array<f32>;
@group(1) @binding(4) var<storage, read_write> sum: array<f32>;
@group(1) @binding(5) var<storage, read_write> out: array<f32>;

fn addends_at(at: u32) -> f32 {
    if (N_ADDENDS == 1u) {
        return x[at];
    }
    if (N_ADDENDS == 2u) {
        return x[at] + y[at];
    }
    return x[at] + (y[at] + z[at]);
}

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
    var squares = 0.0;
    for (var col = thread.lane; col < cols; col += LANES) {
        let value = addends_at(row * cols + col);
        squares += value * value;
        if (N_ADDENDS > 1u) {
            sum[row * cols + col] = value;
        }
    }
    let mean = sum_of(vec4f(squares), thread).x / f32(cols);
    let scale = 1.0 / sqrt(mean + bitcast<f32>(params.shape.z));
    for (var col = thread.lane; col < cols; col += LANES) {
        out[row * cols + col] = addends_at(row * cols + col) * scale * w[col];
    }
}
