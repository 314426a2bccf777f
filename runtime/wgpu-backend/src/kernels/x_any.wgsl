// Eight values of a row of `x` of any width, zero beyond its end. `params.shape` is [units, rows, cols, …].
@group(1) @binding(0) var<storage, read> x: array<f32>;

fn x_at(row: u32, col: u32) -> f32 {
    let cols = params.shape.z;
    return select(0.0, x[row * cols + min(col, cols - 1u)], col < cols);
}

fn x_four(row: u32, col: u32) -> vec4f {
    return vec4f(x_at(row, col), x_at(row, col + 1u), x_at(row, col + 2u), x_at(row, col + 3u));
}

fn x_eight(row: u32, unit: u32) -> Eight {
    return Eight(x_four(row, unit * 8u), x_four(row, unit * 8u + 4u));
}
