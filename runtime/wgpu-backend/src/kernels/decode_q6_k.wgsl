// Eight codes of 6 bits less 32, times a signed byte for 16 values and the f16 of 256: 6 words for 4 units.
fn $W_eight(row: u32, unit: u32) -> Eight {
    let units = params.shape.x;
    let at = params.codes.$S + (row * (units / 4u) + (unit >> 2u)) * 6u;
    let j = unit & 3u;
    let word = $W[at + j];
    let bits = $W[at + 4u + j / 2u] >> (16u * (j & 1u));
    let upper_low = vec4f((vec4u(bits) >> vec4u(0u, 2u, 4u, 6u)) & vec4u(3u)) * 16.0;
    let upper_high = vec4f((vec4u(bits) >> vec4u(8u, 10u, 12u, 14u)) & vec4u(3u)) * 16.0;
    let base = params.factors.$S + (row * (units / 32u) + (unit >> 5u)) * 5u;
    let k = (unit & 31u) >> 1u;
    let byte = $W[base + 1u + k / 4u] << (24u - 8u * (k & 3u));
    let scale = half_of($W[base], false) * f32(bitcast<i32>(byte) >> 24u);
    return Eight(
        scale * (low_nibbles(word) + upper_low - 32.0),
        scale * (high_nibbles(word) + upper_high - 32.0),
    );
}
