// Eight codes of 5 bits times a scale plus a minimum, the two f16s of their 32: 5 words for 4 units.
fn $W_eight(row: u32, unit: u32) -> Eight {
    let units = params.shape.x;
    let group = unit >> 2u;
    let at = params.codes.$S + (row * (units / 4u) + group) * 5u;
    let word = $W[at + (unit & 3u)];
    let bits = $W[at + 4u] >> (8u * (unit & 3u));
    let fifth_low = vec4f((vec4u(bits) >> vec4u(0u, 1u, 2u, 3u)) & vec4u(1u)) * 16.0;
    let fifth_high = vec4f((vec4u(bits) >> vec4u(4u, 5u, 6u, 7u)) & vec4u(1u)) * 16.0;
    let factors = unpack2x16float($W[params.factors.$S + row * (units / 4u) + group]);
    return Eight(
        factors.x * (low_nibbles(word) + fifth_low) + factors.y,
        factors.x * (high_nibbles(word) + fifth_high) + factors.y,
    );
}
