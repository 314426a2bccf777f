// Eight codes of 4 bits times a scale less a minimum, bytes for 32 values times the f16s of 256: a word a unit.
fn $W_eight(row: u32, unit: u32) -> Eight {
    let units = params.shape.x;
    let word = $W[params.codes.$S + row * units + unit];
    let base = params.factors.$S + (row * (units / 32u) + (unit >> 5u)) * 5u;
    let both = unpack2x16float($W[base]);
    let k = (unit & 31u) >> 2u;
    let pair = $W[base + 1u + k / 2u] >> (16u * (k & 1u));
    let scale = both.x * f32(pair & 255u);
    let least = both.y * f32((pair >> 8u) & 255u);
    return Eight(scale * low_nibbles(word) - least, scale * high_nibbles(word) - least);
}
