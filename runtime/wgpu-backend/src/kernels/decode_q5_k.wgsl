// Eight codes of 5 bits times a scale less a minimum, bytes for 32 values times the f16s of 256.
fn $W_eight(row: u32, unit: u32) -> Eight {
    let units = params.shape.x;
    let group = unit >> 2u;
    let at = params.codes.$S + (row * (units / 4u) + group) * 5u;
    let word = $W[at + (unit & 3u)];
    let bits = $W[at + 4u] >> (8u * (unit & 3u));
    let fifth_low = vec4f((vec4u(bits) >> vec4u(0u, 1u, 2u, 3u)) & vec4u(1u)) * 16.0;
    let fifth_high = vec4f((vec4u(bits) >> vec4u(4u, 5u, 6u, 7u)) & vec4u(1u)) * 16.0;
    let base = params.factors.$S + (row * (units / 32u) + (unit >> 5u)) * 5u;
    let both = unpack2x16float($W[base]);
    let k = (unit & 31u) >> 2u;
    let pair = $W[base + 1u + k / 2u] >> (16u * (k & 1u));
    let scale = both.x * f32(pair & 255u);
    let least = both.y * f32((pair >> 8u) & 255u);
    return Eight(
        scale * (low_nibbles(word) + fifth_low) - least,
        scale * (high_nibbles(word) + fifth_high) - least,
    );
}
