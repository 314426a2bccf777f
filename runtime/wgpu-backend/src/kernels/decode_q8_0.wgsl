// Eight signed bytes times the f16 of their 32: 2 words a unit.
fn $W_eight(row: u32, unit: u32) -> Eight {
    let units = params.shape.x;
    let at = params.codes.$S + (row * units + unit) * 2u;
    let group = unit >> 2u;
    let scale = half_of($W[params.factors.$S + row * ((units / 4u + 1u) / 2u) + group / 2u], (group & 1u) == 1u);
    return Eight(scale * signed_bytes($W[at]), scale * signed_bytes($W[at + 1u]));
}
