// Eight codes of 5 bits less 16, times the f16 of their 32: 5 words for 4 units.
fn $W_eight(row: u32, unit: u32) -> Eight {
    let units = params.shape.x;
    let group = unit >> 2u;
    let at = params.codes.$S + (row * (units / 4u) + group) * 5u;
    let word = $W[at + (unit & 3u)];
    let bits = $W[at + 4u] >> (8u * (unit & 3u));
    let fifth_low = vec4f((vec4u(bits) >> vec4u(0u, 1u, 2u, 3u)) & vec4u(1u)) * 16.0;
    let fifth_high = vec4f((vec4u(bits) >> vec4u(4u, 5u, 6u, 7u)) & vec4u(1u)) * 16.0;
    let scale = half_of($W[params.factors.$S + row * ((units / 4u + 1u) / 2u) + group / 2u], (group & 1u) == 1u);
    return Eight(
        scale * (low_nibbles(word) + fifth_low - 16.0),
        scale * (high_nibbles(word) + fifth_high - 16.0),
    );
}
