// Eight values stored as f32: 8 words a unit.
fn $W_eight(row: u32, unit: u32) -> Eight {
    let at = params.codes.$S + (row * params.shape.x + unit) * 8u;
    return Eight(
        bitcast<vec4f>(vec4u($W[at], $W[at + 1u], $W[at + 2u], $W[at + 3u])),
        bitcast<vec4f>(vec4u($W[at + 4u], $W[at + 5u], $W[at + 6u], $W[at + 7u])),
    );
}
