//! Every path against the scalar one, and the scalar one against exact arithmetic.

use kernels::{Activations, Columns, Error, Matrix, Path, Tile, matmul};
use tensor::DType;

/// A small generator, so that the cases are the same everywhere.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    /// A value in `-1..1`.
    fn value(&mut self) -> f32 {
        self.next() as f32 / (1u64 << 30) as f32 - 1.0
    }
}

/// Where the `f16` factors of a block are.
fn factors(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::Q8_0 | DType::Q4_0 | DType::Q5_0 => &[0],
        DType::Q6_K => &[208],
        _ => &[0, 2],
    }
}

/// Bytes of a weight: any codes, with factors from `factor`.
fn weight(dtype: DType, n_rows: usize, n_cols: usize, mut factor: impl FnMut(&mut Noise) -> u16) -> Vec<u8> {
    let mut noise = Noise((n_rows * 31 + n_cols) as u64);
    let n = dtype.n_bytes(&[n_rows, n_cols]).unwrap();
    if !dtype.is_quantized() {
        let bytes = |noise: &mut Noise| match dtype {
            DType::F32 => noise.value().to_le_bytes().to_vec(),
            DType::F16 => half::f16::from_f32(noise.value()).to_le_bytes().to_vec(),
            _ => half::bf16::from_f32(noise.value()).to_le_bytes().to_vec(),
        };
        return (0..n_rows * n_cols).flat_map(|_| bytes(&mut noise)).collect();
    }
    let mut bytes: Vec<u8> = (0..n).map(|_| noise.next() as u8).collect();
    for block in bytes.chunks_exact_mut(dtype.block().bytes) {
        for &at in factors(dtype) {
            block[at..at + 2].copy_from_slice(&factor(&mut noise).to_le_bytes());
        }
    }
    bytes
}

fn usual_factor(noise: &mut Noise) -> u16 {
    half::f16::from_f32(noise.value() * 0.01).to_bits()
}

fn noise(n: usize) -> Vec<f32> {
    let mut noise = Noise(n as u64);
    (0..n).map(|_| noise.value() * noise.value()).collect()
}

fn product(path: Path, x: &[f32], w: &Matrix<'_>) -> Vec<f32> {
    let quantized = w.dtype().is_quantized();
    let x = if quantized {
        Activations::quantize(path, x, w.n_cols()).unwrap()
    } else {
        Activations::plain(x, w.n_cols()).unwrap()
    };
    let mut y = vec![0.0; x.n_rows() * w.n_rows()];
    matmul(path, &x, w, 0..w.n_rows(), &mut Columns::new(&mut y, w.n_rows())).unwrap();
    y
}

fn bits(y: &[f32]) -> Vec<u32> {
    // The payload of a NaN is nobody's business.
    y.iter().map(|y| if y.is_nan() { f32::NAN.to_bits() } else { y.to_bits() }).collect()
}

/// Column counts that are one block, several, and not whole chunks of the kernels.
fn column_counts(dtype: DType) -> &'static [usize] {
    match dtype.block().values {
        32 if cfg!(miri) => &[288],
        _ if cfg!(miri) => &[256],
        1 => &[1, 63, 64, 200],
        32 => &[32, 96, 256, 576],
        _ => &[256, 768],
    }
}

/// Fewer cases where every instruction is interpreted.
fn n_rows() -> &'static [usize] {
    if cfg!(miri) { &[18] } else { &[1, 3, 15, 16, 17, 40, 131] }
}

fn n_activations() -> Vec<usize> {
    if cfg!(miri) { vec![2] } else { (1..=17).chain([40]).collect() }
}

#[test]
fn every_path_gives_the_same_bits() {
    for dtype in DType::ALL {
        for &n_cols in column_counts(dtype) {
            for &n_rows in n_rows() {
                let mut bytes = weight(dtype, n_rows, n_cols, usual_factor);
                // Mapped bytes begin anywhere.
                bytes.insert(0, 0);
                let w = Matrix::new(dtype, &bytes[1..], n_rows, n_cols).unwrap();
                for n in n_activations() {
                    let x = noise(n * n_cols);
                    let expected = product(Path::SCALAR, &x, &w);
                    for path in Path::supported() {
                        let found = product(path, &x, &w);
                        let case = format!("{} {dtype} [{n_rows}, {n_cols}], {n} rows", path.name());
                        assert_eq!(bits(&found), bits(&expected), "{case}");
                    }
                }
            }
        }
    }
}

#[test]
fn packed_rows_give_the_same_bits() {
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.is_quantized()) {
        for &n_cols in column_counts(dtype) {
            let n_rows = 48;
            let bytes = weight(dtype, n_rows, n_cols, usual_factor);
            let mut packed = vec![0; bytes.len() + 1];
            let panel = Matrix::PANEL_ROWS * bytes.len() / n_rows;
            for (rows, out) in bytes.chunks(panel).zip(packed[1..].chunks_mut(panel)) {
                Matrix::pack(dtype, rows, out).unwrap();
            }
            let w = Matrix::new(dtype, &bytes, n_rows, n_cols).unwrap();
            let packed = Matrix::packed(dtype, &packed[1..], n_rows, n_cols).unwrap();
            for n in n_activations() {
                let x = noise(n * n_cols);
                let expected = product(Path::SCALAR, &x, &w);
                for path in Path::supported() {
                    let case = format!("{} {dtype} [{n_rows}, {n_cols}], {n} rows", path.name());
                    assert_eq!(bits(&product(path, &x, &packed)), bits(&expected), "{case}");
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_packed_is_refused() {
    let plain = Matrix::pack(DType::F16, &[0; 64], &mut [0; 64]);
    assert_eq!(plain, Err(Error::NotPacked(DType::F16)));
    assert!(Matrix::packed(DType::F32, &[0; 16 * 128], 16, 32).is_err());
    assert!(Matrix::pack(DType::Q4_0, &[0; 15 * 18], &mut [0; 15 * 18]).is_err(), "a row too few");
    assert!(Matrix::pack(DType::Q4_0, &[0; 16 * 18], &mut [0; 15 * 18]).is_err(), "too little room");
    assert!(Matrix::packed(DType::Q4_0, &[0; 17 * 18], 17, 32).is_err(), "a row beyond the panel");
    // A product may not begin within a panel.
    let bytes = [0; 32 * 18];
    let w = Matrix::packed(DType::Q4_0, &bytes, 32, 32).unwrap();
    let x = Activations::quantize(Path::SCALAR, &[1.0; 32], 32).unwrap();
    let mut y = [0.0; 8];
    assert!(matmul(Path::SCALAR, &x, &w, 8..16, &mut Columns::new(&mut y, 8)).is_err());
    assert!(matmul(Path::SCALAR, &x, &w, 16..24, &mut Columns::new(&mut y, 8)).is_ok());
}

/// Calls `f(y, exact, bound)` with every result, its value in exact arithmetic and the rounding that the
/// bytes of the activations allow.
fn compare(dtype: DType, n_cols: usize, x: &[f32], f: impl Fn(f32, f64, f64)) {
    let n_rows = if cfg!(miri) { 1 } else { 21 };
    let bytes = weight(dtype, n_rows, n_cols, usual_factor);
    let w = Matrix::new(dtype, &bytes, n_rows, n_cols).unwrap();
    let mut values = vec![0.0; n_rows * n_cols];
    dtype.dequantize(&bytes, &mut values).unwrap();
    for path in Path::supported() {
        let y = product(path, x, &w);
        for (x, y) in x.chunks(n_cols).zip(y.chunks(n_rows)) {
            for (w, &y) in values.chunks(n_cols).zip(y) {
                let exact = x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
                let group = |(x, w): (&[f32], &[f32])| {
                    let largest = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
                    let weights: f64 = w.iter().map(|w| f64::from(w.abs())).sum();
                    weights * f64::from(largest) / 254.0
                };
                f(y, exact, x.chunks(32).zip(w.chunks(32)).map(group).sum());
            }
        }
    }
}

#[test]
fn activations_that_are_bytes_lose_nothing() {
    for dtype in DType::ALL {
        let (n_rows, n_cols) = match dtype.is_quantized() {
            true if cfg!(miri) => (1, 256),
            false if cfg!(miri) => (1, 50),
            true => (3, 512),
            false => (3, 500),
        };
        let mut noise = Noise(9);
        let mut x: Vec<f32> = (0..n_rows * n_cols).map(|_| (noise.next() % 255) as f32 - 127.0).collect();
        x.iter_mut().step_by(32).for_each(|x| *x = 127.0);
        compare(dtype, n_cols, &x, |y, exact, bound| {
            // `bound` is half a unit of the activations' codes; what is left is rounding of `f32` sums.
            let error = (f64::from(y) - exact).abs();
            assert!(error <= bound * 1e-4, "{dtype}: {y} {exact} {error:e} {bound:e}");
        });
    }
}

#[test]
fn other_activations_are_within_the_rounding_of_their_bytes() {
    let (n_rows, n_cols) = if cfg!(miri) { (1, 256) } else { (5, 768) };
    for dtype in DType::ALL {
        compare(dtype, n_cols, &noise(n_rows * n_cols), |y, exact, bound| {
            let error = (f64::from(y) - exact).abs();
            // Roundings of so many values are independent: far below the worst case.
            let allowed = if dtype.is_quantized() { bound * 0.25 } else { bound * 1e-4 };
            assert!(error <= allowed, "{dtype}: {y} {exact} {error:e} {bound:e}");
        });
    }
}

#[test]
fn ranges_and_columns_make_up_the_whole() {
    let (n_rows, n_cols, n) = if cfg!(miri) { (18, 256, 2) } else { (75, 256, 14) };
    let widths: &[usize] = if cfg!(miri) { &[7] } else { &[1, 7, 16, 33] };
    for dtype in DType::ALL {
        let bytes = weight(dtype, n_rows, n_cols, usual_factor);
        let w = Matrix::new(dtype, &bytes, n_rows, n_cols).unwrap();
        let values = noise(n * n_cols);
        let tiles: Vec<Tile> = values
            .chunks(Tile::MAX_ROWS * n_cols)
            .map(|x| Tile::quantize(Path::SCALAR, x, n_cols).unwrap())
            .collect();
        let x = Activations::from_tiles(&values, n_cols, &tiles).unwrap();
        for path in Path::supported() {
            let whole = product(path, &values, &w);
            for &width in widths {
                let mut y = vec![0.0; n * n_rows];
                let parts: Vec<_> = Columns::new(&mut y, n_rows).chunks(width).collect();
                let multiply = |i: usize, mut out: Columns<'_>| {
                    let rows = i * width..i * width + out.n_cols();
                    matmul(path, &x, &w, rows, &mut out).unwrap();
                };
                std::thread::scope(|s| {
                    for (i, out) in parts.into_iter().enumerate() {
                        // There are no threads in WebAssembly.
                        match cfg!(target_family = "wasm") {
                            true => multiply(i, out),
                            false => drop(s.spawn(move || multiply(i, out))),
                        }
                    }
                });
                assert_eq!(bits(&y), bits(&whole), "{} {dtype} by {width}", path.name());
            }
            // One row alone is what it is among others.
            assert_eq!(
                bits(&product(path, &values[(n - 1) * n_cols..], &w)),
                bits(&whole[(n - 1) * n_rows..])
            );
        }
    }
}

#[test]
fn hostile_factors_and_activations_do_no_harm() {
    let mut factors = vec![0, 0x8000, 0x7c00, 0xfc00, 0x7e00, 0xffff, 0x0001, 0x7bff, 0xfbff];
    let mut values = vec![0.0, 1.0, f32::MAX, f32::MIN_POSITIVE, f32::NAN, f32::INFINITY];
    if cfg!(miri) {
        (factors, values) = (vec![0xfbff], vec![f32::NAN]);
    }
    for dtype in DType::ALL {
        for &factor in &factors {
            let bytes = weight(dtype, 17, 256, |_| factor);
            let w = Matrix::new(dtype, &bytes, 17, 256).unwrap();
            for &value in &values {
                let mut x = vec![value; 256];
                x[3] = -1.0;
                let expected = product(Path::SCALAR, &x, &w);
                if !value.is_finite() {
                    assert!(expected.iter().all(|y| !y.is_finite()), "{dtype} hides {value}");
                }
                for path in Path::supported() {
                    assert_eq!(bits(&product(path, &x, &w)), bits(&expected), "{} {dtype}", path.name());
                }
            }
        }
    }
}

#[test]
fn empty_operands_have_empty_products() {
    let n_rows = if cfg!(miri) { 2 } else { 20 };
    for path in Path::supported() {
        for dtype in DType::ALL {
            let bytes = weight(dtype, n_rows, 256, usual_factor);
            let w = Matrix::new(dtype, &bytes, n_rows, 256).unwrap();
            assert!(product(path, &[], &w).is_empty());
            assert!(product(path, &noise(256), &Matrix::new(dtype, &[], 0, 256).unwrap()).is_empty());
            let none = Matrix::new(dtype, &[], 3, 0).unwrap();
            let x = Activations::quantize(path, &[], 0).unwrap();
            matmul(path, &x, &none, 0..3, &mut Columns::new(&mut [], 3)).unwrap();
        }
    }
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let bytes = weight(DType::Q4_0, 4, 64, usual_factor);
    let message = Matrix::new(DType::Q4_0, &bytes, 4, 96).unwrap_err().to_string();
    assert_eq!(message, "a Q4_0 matrix [4, 96] has 144 bytes, but needs 216");
    let message = Matrix::new(DType::Q4_K, &bytes, 4, 64).unwrap_err().to_string();
    assert_eq!(message, "a Q4_K matrix [4, 64] has 144 bytes, but needs whole blocks in each row");
    assert!(Matrix::new(DType::Q4_0, &bytes, usize::MAX, 64).is_err());

    let w = Matrix::new(DType::Q4_0, &bytes, 4, 64).unwrap();
    let values = noise(128);
    let mut y = [0.0; 8];
    let plain = Activations::plain(&values, 64).unwrap();
    let x = Activations::quantize(Path::SCALAR, &values, 64).unwrap();
    let mut run = |x: &Activations<'_>, rows, n_cols| {
        matmul(Path::SCALAR, x, &w, rows, &mut Columns::new(&mut y, n_cols)).err()
    };
    assert_eq!(run(&plain, 0..4, 4), Some(Error::Plain(DType::Q4_0)));
    assert_eq!(run(&x, 0..4, 4), None);
    for (rows, n_cols) in [(0..4, 2), (1..4, 4), (1..5, 4), (0..2, 4)] {
        assert!(run(&x, rows, n_cols).is_some());
    }
    assert!(Activations::quantize(Path::SCALAR, &values, 16).is_err());
    assert!(Activations::quantize(Path::SCALAR, &values[1..], 64).is_err());
    assert!(Tile::quantize(Path::SCALAR, &noise(32 * 13), 32).is_err());
}
