//! Speed of the products: `cargo run --release -p kernels --example throughput [TYPE...]`
//!
//! For each type and shape, on two threads (in WebAssembly on one) that share the weight rows out: 10⁹ operations a second with 512
//! activation rows (a multiplication and an addition are two), and 10⁹ bytes of weights a second with few
//! rows, over weights larger than the caches; below that, the same with the rows packed. The last column is the
//! route that the kernels replace: rows become `f32` and are then multiplied with one activation row.

#![expect(clippy::print_stdout, reason = "an example reports to its terminal")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use kernels::{Activations, Columns, Matrix, Path, matmul};
use tensor::DType;

/// WebAssembly has none but its own.
const N_THREADS: usize = if cfg!(target_family = "wasm") { 1 } else { 2 };
const SHAPES: [[usize; 2]; 2] = [[3072, 1024], [2560, 2560]];
/// Weights that decode goes through in turn: together more than a cache holds.
const DECODE_BYTES: usize = 96 << 20;
/// Times taken of each product; the first is to warm up, and the best counts.
const REPEATS: usize = 6;

fn main() {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let path = Path::chosen().expect("a path of this machine");
    println!("path {}, threads {N_THREADS}", path.name());
    println!("                    512 rows    1 row  4 rows  8 rows   in f32");
    for dtype in DType::ALL {
        if names.is_empty() || names.contains(&dtype.to_string()) {
            SHAPES.iter().for_each(|&shape| report(path, dtype, shape));
        }
    }
}

fn report(path: Path, dtype: DType, [n_rows, n_cols]: [usize; 2]) {
    let n_bytes = dtype.n_bytes(&[n_rows, n_cols]).expect("whole blocks");
    let n_weights = DECODE_BYTES.div_ceil(n_bytes);
    // Plain floats of such bytes would be too small to be normal, which processors multiply slowly.
    let byte = |i: usize| if dtype.is_quantized() { (i / 64 % 5) as u8 } else { 0x3f };
    let bytes: Vec<u8> = (0..n_weights * n_bytes).map(byte).collect();
    let name = format!("{dtype} {n_rows} x {n_cols}");
    let matrices = [Matrix::new, Matrix::packed];
    for (name, matrix) in [name.as_str(), "  packed"].into_iter().zip(matrices) {
        if name == "  packed" && !dtype.is_quantized() {
            continue;
        }
        let weights: Vec<Matrix<'_>> = bytes
            .chunks_exact(n_bytes)
            .map(|bytes| matrix(dtype, bytes, n_rows, n_cols).expect("the bytes fill the shape"))
            .collect();
        let prefill = 2e-9 * (512 * n_rows * n_cols) as f64 / seconds(path, &weights[..1], 512);
        let gigabytes = 1e-9 * bytes.len() as f64;
        let [one, four, eight] = [1, 4, 8].map(|n| gigabytes / seconds(path, &weights, n));
        let in_f32 = gigabytes / weights.len() as f64 / seconds_in_f32(dtype, &bytes[..n_bytes], n_cols);
        println!("{name:16} {prefill:6.0} GOP/s   {one:6.1}  {four:6.1}  {eight:6.1}   {in_f32:6.1} GB/s");
    }
}

fn noise(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 2_654_435_761) % 1021) as f32 / 510.5 - 1.0).collect()
}

/// The best of a few times for all `weights`.
fn seconds(path: Path, weights: &[Matrix<'_>], n: usize) -> f64 {
    let (n_rows, n_cols) = (weights[0].n_rows(), weights[0].n_cols());
    let values = noise(n * n_cols);
    let x = if weights[0].dtype().is_quantized() {
        Activations::quantize(path, &values, n_cols)
    } else {
        Activations::plain(&values, n_cols)
    }
    .expect("whole rows");
    let mut y = vec![0.0; n * n_rows];
    let arrived = AtomicUsize::new(0);
    let parts = Columns::new(&mut y, n_rows).chunks(n_rows / N_THREADS);
    let run = |thread: usize, mut out: Columns<'_>| -> Vec<[Instant; 2]> {
        let rows = n_rows / N_THREADS * thread..n_rows / N_THREADS * (thread + 1);
        let time = |repeat| {
            // Threads start together; they spin, because waking up takes longer than a product.
            arrived.fetch_add(1, Ordering::SeqCst);
            while arrived.load(Ordering::SeqCst) < (repeat + 1) * N_THREADS {
                std::hint::spin_loop();
            }
            let started = Instant::now();
            for w in weights {
                matmul(path, &x, w, rows.clone(), &mut out).expect("shapes that fit");
            }
            [started, Instant::now()]
        };
        (0..REPEATS).map(time).collect()
    };
    let times: Vec<_> = std::thread::scope(|s| {
        let run = &run;
        let mut parts = parts.enumerate();
        let (_, own) = parts.next().expect("a share of the rows");
        let threads: Vec<_> = parts.map(|(i, out)| s.spawn(move || run(i, out))).collect();
        let own = run(0, own);
        threads.into_iter().map(|thread| thread.join().expect("a thread that ends")).chain([own]).collect()
    });
    let time = |repeat: usize| {
        let started = times.iter().map(|thread| thread[repeat][0]).min().expect("a thread");
        let ended = times.iter().map(|thread| thread[repeat][1]).max().expect("a thread");
        (ended - started).as_secs_f64()
    };
    (0..REPEATS).map(time).fold(f64::INFINITY, f64::min)
}

/// The best of a few times for one weight, if each of the threads took its share.
fn seconds_in_f32(dtype: DType, bytes: &[u8], n_cols: usize) -> f64 {
    let x = noise(n_cols);
    let row_bytes = dtype.n_bytes(&[n_cols]).expect("whole blocks");
    let mut row = vec![0.0; n_cols];
    let time = |_| {
        let started = Instant::now();
        for bytes in bytes.chunks_exact(row_bytes) {
            dtype.dequantize(bytes, &mut row).expect("whole rows");
            let mut sums = [0.0f32; 32];
            for (x, w) in x.as_chunks::<32>().0.iter().zip(row.as_chunks::<32>().0) {
                (0..32).for_each(|i| sums[i] += x[i] * w[i]);
            }
            std::hint::black_box(sums.iter().sum::<f32>());
        }
        started.elapsed().as_secs_f64() / N_THREADS as f64
    };
    (0..REPEATS).map(time).fold(f64::INFINITY, f64::min)
}
