// Eight values stored as f16: 4 words a unit.
fn $W_eight(row: u32, unit: u32) -> Eight {
    let at = params.codes.$S + (row * params.shape.x + unit) * 4u;
    return Eight(
        vec4f(unpack2x16float($W[at]), unpack2x16float($W[at + 1u])),
        vec4f(unpack2x16float($W[at + 2u]), unpack2x16float($W[at + 3u])),
    );
}
