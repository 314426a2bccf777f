// Sorts slots by their expert into tiles of 32, none of which has slots of two experts: prefill. One workgroup.
//
// ids    [slots]: the expert of each slot
// order  [tiles, 32]: slots; those that no slot fills are 0xffffffff
// tiles  [tiles]: the expert of each tile; those that no expert has are 0xffffffff
//
// Slots of one expert come in any order, which changes no result.

struct Params {
    shape: vec4u, // slots, experts (at most 256), tiles
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> ids: array<u32>;
@group(1) @binding(1) var<storage, read_write> order: array<u32>;
@group(1) @binding(2) var<storage, read_write> tiles: array<u32>;

const TILE = 32u;
const NONE = 0xffffffffu;

var<workgroup> counts: array<atomic<u32>, 256>;
var<workgroup> starts: array<u32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) index: u32) {
    let n = params.shape.x;
    atomicStore(&counts[index], 0u);
    for (var i = index; i < params.shape.z * TILE; i += 256u) {
        order[i] = NONE;
    }
    for (var i = index; i < params.shape.z; i += 256u) {
        tiles[i] = NONE;
    }
    workgroupBarrier();
    for (var slot = index; slot < n; slot += 256u) {
        atomicAdd(&counts[min(ids[slot], 255u)], 1u);
    }
    workgroupBarrier();
    // Where the tiles of each expert begin: a sum over those before it.
    var start = 0u;
    for (var e = 0u; e < index; e++) {
        start += (atomicLoad(&counts[e]) + TILE - 1u) / TILE;
    }
    starts[index] = start;
    let own = (atomicLoad(&counts[index]) + TILE - 1u) / TILE;
    for (var i = 0u; i < own && start + i < params.shape.z; i++) {
        tiles[start + i] = index;
    }
    // Also orders the fill of `order` before what is written below.
    storageBarrier();
    workgroupBarrier();
    atomicStore(&counts[index], 0u);
    workgroupBarrier();
    for (var slot = index; slot < n; slot += 256u) {
        let expert = min(ids[slot], 255u);
        let at = starts[expert] * TILE + atomicAdd(&counts[expert], 1u);
        if (at < params.shape.z * TILE) {
            order[at] = slot;
        }
    }
}
