// Rows of a parameter, decoded. A task is a unit of a row.
//
// w0   [rows, cols], in planes: rows first..first + rows of the parameter
// ids  [n]; those of other rows are passed over, for another part of the parameter
// out  [n, cols]

struct Params {
    shape: vec4u,   // units a row, n, cols, first row
    rows: vec4u,    // rows of the parameter here; 1: pass over other rows, 0: there are none, and ids are clamped
    codes: vec4u,
    factors: vec4u,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> w0: array<u32>;
@group(1) @binding(1) var<storage, read> ids: array<u32>;
@group(1) @binding(2) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) index: u32
) {
    let task = group_number(group, groups) * 64u + index;
    let units = params.shape.x;
    let i = task / units;
    let unit = task % units;
    if (i >= params.shape.y) {
        return;
    }
    var row = ids[i] - params.shape.w;
    if (row >= params.rows.x) {
        if (params.rows.y == 1u) {
            return;
        }
        row = params.rows.x - 1u;
    }
    let values = w0_eight(row, unit);
    let cols = params.shape.z;
    for (var e = 0u; e < 4u; e++) {
        let col = unit * 8u + e;
        if (col < cols) {
            out[i * cols + col] = values.low[e];
        }
        if (col + 4u < cols) {
            out[i * cols + col + 4u] = values.high[e];
        }
    }
}
