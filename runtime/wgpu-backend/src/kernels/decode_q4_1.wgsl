// Eight codes of 4 bits times a scale plus a minimum, the two f16s of their 32: a word a unit.
fn $W_eight(row: u32, unit: u32) -> Eight {
    let units = params.shape.x;
    let word = $W[params.codes.$S + row * units + unit];
    let factors = unpack2x16float($W[params.factors.$S + row * (units / 4u) + (unit >> 2u)]);
    return Eight(
        factors.x * low_nibbles(word) + factors.y,
        factors.x * high_nibbles(word) + factors.y,
    );
}
