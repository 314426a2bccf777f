// Eight values of a row of `x` whose rows are whole units. `params.shape` is [units, rows, cols, …].
@group(1) @binding(0) var<storage, read> x: array<vec4f>;

fn x_eight(row: u32, unit: u32) -> Eight {
    let at = (row * params.shape.x + unit) * 2u;
    return Eight(x[at], x[at + 1u]);
}
