// The best k of each run of 1024 logits, or of 1024 earlier bests, sorted: larger first, equal ones by lower id.
// A workgroup sorts a run by a bitonic network.
//
// logits  [n], if IS_FIRST
// bests   [n]: order and id of earlier bests, if not IS_FIRST
// out     [runs * k]: order and id
//
// The order of a logit is its bits, turned so that they rise as it does.

struct Params {
    shape: vec4u, // n, k
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> logits: array<u32>;
@group(1) @binding(1) var<storage, read> bests: array<vec2u>;
@group(1) @binding(2) var<storage, read_write> out: array<vec2u>;

const RUN = 1024u;

var<workgroup> run: array<vec2u, 1024>;

fn entry(at: u32) -> vec2u {
    if (at >= params.shape.x) {
        return vec2u(0u, 0xffffffffu);
    }
    if (!IS_FIRST) {
        return bests[at];
    }
    let bits = logits[at];
    return vec2u(select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u), at);
}

// Whether `a` comes after `b`.
fn is_after(a: vec2u, b: vec2u) -> bool {
    return a.x < b.x || (a.x == b.x && a.y > b.y);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
    for (var i = index; i < RUN; i += 256u) {
        run[i] = entry(group.x * RUN + i);
    }
    workgroupBarrier();
    for (var size = 2u; size <= RUN; size *= 2u) {
        for (var step = size / 2u; step > 0u; step /= 2u) {
            for (var i = index; i < RUN / 2u; i += 256u) {
                let a = (i / step) * step * 2u + i % step;
                let b = a + step;
                let is_rising = (a & size) == 0u;
                let first = run[a];
                let second = run[b];
                if (is_after(first, second) == is_rising) {
                    run[a] = second;
                    run[b] = first;
                }
            }
            workgroupBarrier();
        }
    }
    for (var i = index; i < params.shape.y; i += 256u) {
        out[group.x * params.shape.y + i] = run[i];
    }
}
