// Products of a few rows with up to three weights: decode, and everything on adapters that are programs.
//
// A task is four rows of a weight times N_X_ROWS rows of `x`; its lanes go over the units of the rows.
//
// x      [n, cols]
// w0…w2  [rows[s], cols] each, in planes
// b0…b2  [rows[s]] each, or nothing
// out    n rows of each product: row i of product s begins at base[s] + i * stride[s]

struct Params {
    shape: vec4u,   // units a row, n, cols, bit s: product s has a bias
    rows: vec4u,
    codes: vec4u,   // where the codes of each weight begin, in words
    factors: vec4u, // and its factors
    base: vec4u,
    stride: vec4u,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> w0: array<u32>;
@group(1) @binding(2) var<storage, read> w1: array<u32>;
@group(1) @binding(3) var<storage, read> w2: array<u32>;
@group(1) @binding(4) var<storage, read> b0: array<f32>;
@group(1) @binding(5) var<storage, read> b1: array<f32>;
@group(1) @binding(6) var<storage, read> b2: array<f32>;
@group(1) @binding(7) var<storage, read_write> out: array<f32>;

fn weight_eight(segment: u32, row: u32, unit: u32) -> Eight {
    switch (segment) {
        SEGMENT_CASES
        default: { return Eight(vec4f(), vec4f()); }
    }
}

fn bias_of(segment: u32, row: u32) -> f32 {
    if ((params.shape.w & (1u << segment)) == 0u) {
        return 0.0;
    }
    switch (segment) {
        case 0u: { return b0[row]; }
        case 1u: { return b1[row]; }
        default: { return b2[row]; }
    }
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) index: u32 SUBGROUP_INPUTS
) {
    let thread = THREAD_OF_INPUTS;
    var block = task_of(group.x, thread);
    var segment = 0u;
    for (; segment < N_SEGMENTS; segment++) {
        let blocks = (params.rows[segment] + 3u) / 4u;
        if (block < blocks) {
            break;
        }
        block -= blocks;
    }
    if (segment >= N_SEGMENTS) {
        return;
    }
    let rows = params.rows[segment];
    let n = params.shape.y;
    let first = block * 4u;
    let x_first = group.y * N_X_ROWS;
    var sums: array<vec4f, N_X_ROWS>;
    for (var unit = thread.lane; unit < params.shape.x; unit += LANES) {
        let a = weight_eight(segment, first, unit);
        let b = weight_eight(segment, min(first + 1u, rows - 1u), unit);
        let c = weight_eight(segment, min(first + 2u, rows - 1u), unit);
        let d = weight_eight(segment, min(first + 3u, rows - 1u), unit);
        for (var i = 0u; i < N_X_ROWS; i++) {
            let v = x_eight(min(x_first + i, n - 1u), unit);
            sums[i] += vec4f(dot_eight(a, v), dot_eight(b, v), dot_eight(c, v), dot_eight(d, v));
        }
    }
    for (var i = 0u; i < N_X_ROWS; i++) {
        let sum = sum_of(sums[i], thread);
        if (thread.lane == 0u && x_first + i < n) {
            let at = params.base[segment] + (x_first + i) * params.stride[segment] + first;
            for (var r = 0u; r < 4u; r++) {
                if (first + r < rows) {
                    out[at + r] = sum[r] + bias_of(segment, first + r);
                }
            }
        }
    }
}
