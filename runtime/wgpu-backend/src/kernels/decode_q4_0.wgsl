// Eight codes of 4 bits less 8, times the f16 of their 32: a word a unit.
fn $W_eight(row: u32, unit: u32) -> Eight {
    let units = params.shape.x;
    let word = $W[params.codes.$S + row * units + unit];
    let group = unit >> 2u;
    let scale = half_of($W[params.factors.$S + row * ((units / 4u + 1u) / 2u) + group / 2u], (group & 1u) == 1u);
    return Eight(scale * (low_nibbles(word) - 8.0), scale * (high_nibbles(word) - 8.0));
}
