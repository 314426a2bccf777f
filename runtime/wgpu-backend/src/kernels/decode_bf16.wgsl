// Eight values stored as bf16, the upper half of an f32: 4 words a unit.
fn $W_eight(row: u32, unit: u32) -> Eight {
    let at = params.codes.$S + (row * params.shape.x + unit) * 4u;
    let a = vec4u($W[at], $W[at], $W[at + 1u], $W[at + 1u]);
    let b = vec4u($W[at + 2u], $W[at + 2u], $W[at + 3u], $W[at + 3u]);
    let shift = vec4u(16u, 0u, 16u, 0u);
    let mask = vec4u(0xffff0000u);
    return Eight(bitcast<vec4f>((a << shift) & mask), bitcast<vec4f>((b << shift) & mask));
}
