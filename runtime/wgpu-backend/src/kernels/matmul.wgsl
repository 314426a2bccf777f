// Product of many rows with one weight: prefill.
//
// A workgroup makes a tile of 32 rows of `x` by 64 rows of the weight, 32 columns at a time, each decoded once into
// workgroup memory; a thread makes 4 by 4 of it.
//
// x    [n, cols]
// w0   [rows, cols], in planes
// b0   [rows], or nothing
// out  row i begins at base + i * stride

struct Params {
    shape: vec4u,   // units a row, n, cols, bit 0: there is a bias
    rows: vec4u,    // only x, as below
    codes: vec4u,
    factors: vec4u,
    base: vec4u,
    stride: vec4u,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> w0: array<u32>;
@group(1) @binding(2) var<storage, read> b0: array<f32>;
@group(1) @binding(3) var<storage, read_write> out: array<f32>;

const X_TILE = 32u;
const W_TILE = 64u;
const K_UNITS = 4u;

var<workgroup> x_tile: array<f32, 1024>; // [column][row of x]
var<workgroup> w_tile: array<f32, 2048>; // [column][row of the weight]

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
    let units = params.shape.x;
    let n = params.shape.y;
    let rows = params.rows.x;
    let w_first = group.x * W_TILE;
    let x_first = group.y * X_TILE;
    let x_own = (index % 8u) * 4u;
    let w_own = (index / 8u) * 4u;
    var sums: array<vec4f, 4>;
    for (var first = 0u; first < units; first += K_UNITS) {
        let u = index % K_UNITS;
        let is_in = first + u < units;
        let unit = min(first + u, units - 1u);
        {
            let row = index / K_UNITS;
            let v = x_eight(min(x_first + row, n - 1u), unit);
            for (var e = 0u; e < 4u; e++) {
                x_tile[(u * 8u + e) * X_TILE + row] = select(0.0, v.low[e], is_in);
                x_tile[(u * 8u + 4u + e) * X_TILE + row] = select(0.0, v.high[e], is_in);
            }
        }
        for (var half = 0u; half < 2u; half++) {
            let row = index / K_UNITS + half * 32u;
            let w = w0_eight(min(w_first + row, rows - 1u), unit);
            for (var e = 0u; e < 4u; e++) {
                w_tile[(u * 8u + e) * W_TILE + row] = select(0.0, w.low[e], is_in);
                w_tile[(u * 8u + 4u + e) * W_TILE + row] = select(0.0, w.high[e], is_in);
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < K_UNITS * 8u; k++) {
            let x_at = k * X_TILE + x_own;
            let w_at = k * W_TILE + w_own;
            let w = vec4f(w_tile[w_at], w_tile[w_at + 1u], w_tile[w_at + 2u], w_tile[w_at + 3u]);
            sums[0] += x_tile[x_at] * w;
            sums[1] += x_tile[x_at + 1u] * w;
            sums[2] += x_tile[x_at + 2u] * w;
            sums[3] += x_tile[x_at + 3u] * w;
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < 4u; i++) {
        let x_row = x_first + x_own + i;
        for (var r = 0u; r < 4u; r++) {
            let w_row = w_first + w_own + r;
            if (x_row < n && w_row < rows) {
                var sum = sums[i][r];
                if ((params.shape.w & 1u) == 1u) {
                    sum += b0[w_row];
                }
                out[params.base.x + x_row * params.stride.x + w_row] = sum;
            }
        }
    }
}
