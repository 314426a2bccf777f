// One projection of the experts chosen for many slots: matmul.wgsl over slots sorted by sort_slots.wgsl.
//
// A workgroup makes a tile of 32 slots of one expert by 64 rows of its weight. Tiles go along the second axis.
//
// x      [slots / per_row, cols]
// order  [tiles, 32]
// tiles  [tiles]
// w0     [experts * rows, cols], in planes
// out    [slots, rows]

struct Params {
    shape: vec4u,   // units a row, rows of x, cols, per_row
    experts: vec4u, // rows, first expert in this weight, experts in it
    codes: vec4u,
    factors: vec4u,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(1) var<storage, read> order: array<u32>;
@group(1) @binding(2) var<storage, read> tiles: array<u32>;
@group(1) @binding(3) var<storage, read> w0: array<u32>;
@group(1) @binding(4) var<storage, read_write> out: array<f32>;

const X_TILE = 32u;
const W_TILE = 64u;
const K_UNITS = 4u;
const NONE = 0xffffffffu;

var<workgroup> x_tile: array<f32, 1024>; // [column][slot]
var<workgroup> w_tile: array<f32, 2048>; // [column][row of the weight]

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
    let units = params.shape.x;
    let rows = params.experts.x;
    // A tile without an expert is beyond all of them.
    let expert = tiles[group.y] - params.experts.y;
    if (expert >= params.experts.z) {
        return;
    }
    let w_first = group.x * W_TILE;
    let x_own = (index % 8u) * 4u;
    let w_own = (index / 8u) * 4u;
    let u = index % K_UNITS;
    let tile_row = index / K_UNITS;
    let slot = order[group.y * X_TILE + tile_row];
    let x_row = min(slot / params.shape.w, params.shape.y - 1u);
    var sums: array<vec4f, 4>;
    for (var first = 0u; first < units; first += K_UNITS) {
        let is_in = first + u < units;
        let unit = min(first + u, units - 1u);
        let v = x_eight(x_row, unit);
        for (var e = 0u; e < 4u; e++) {
            x_tile[(u * 8u + e) * X_TILE + tile_row] = select(0.0, v.low[e], is_in);
            x_tile[(u * 8u + 4u + e) * X_TILE + tile_row] = select(0.0, v.high[e], is_in);
        }
        for (var half = 0u; half < 2u; half++) {
            let row = tile_row + half * 32u;
            let w = w0_eight(expert * rows + min(w_first + row, rows - 1u), unit);
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
        let to = order[group.y * X_TILE + x_own + i];
        for (var r = 0u; r < 4u; r++) {
            let row = w_first + w_own + r;
            if (to != NONE && row < rows) {
                out[to * rows + row] = sums[i][r];
            }
        }
    }
}
