// Index of each row's largest value, the lowest on ties. A task is a row.
//
// x    [n, cols]
// out  [n]

struct Params {
    shape: vec4u, // n, cols
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> x: array<f32>;
@group(1) @binding(1) var<storage, read_write> out: array<u32>;

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
    var best = x[row * cols + min(thread.lane, cols - 1u)];
    var place = min(thread.lane, cols - 1u);
    for (var col = thread.lane; col < cols; col += LANES) {
        if (x[row * cols + col] > best) {
            best = x[row * cols + col];
            place = col;
        }
    }
    let largest = max_of(best, thread);
    // Indices below 2^24 are whole as f32; the lowest is the largest of their negatives.
    let lowest = max_of(select(-16777216.0, -f32(place), best == largest), thread);
    if (thread.lane == 0u) {
        out[row] = min(u32(-lowest), cols - 1u);
    }
}
