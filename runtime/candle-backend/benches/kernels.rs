//! Kernels at the sizes of ERNIE-4.5-0.3B (`wide`) and of a model small enough to ship (`small`).
//!
//! `cargo bench -p candle-backend`

use candle_backend::{Candle, Weight};
use candle_core::{Device, Tensor, Var};
use divan::Bencher;
use tensor::{Backend, DType, Experts, Heads, Mask, RawTensor, Routing, SharedBytes};

fn main() {
    divan::main();
}

/// Values in `-1..1`; their bytes serve as blocks of any type.
fn noise(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 2_654_435_761) % 1021) as f32 / 510.5 - 1.0).collect()
}

fn rows(n: usize, cols: usize) -> Tensor {
    Candle::cpu().tensor(&noise(n * cols), cols).expect("whole rows")
}

/// A matrix of zeros: time does not depend on the values.
fn matrix(dtype: DType, rows: usize, cols: usize) -> Weight {
    let n_bytes = dtype.n_bytes(&[rows, cols]).expect("whole blocks");
    let raw = RawTensor::new("w", dtype, vec![rows, cols], SharedBytes::new(vec![0; n_bytes]));
    Candle::cpu().weight(raw.expect("the bytes fill the shape")).expect("a good weight")
}

const TYPES: [DType; 5] = [DType::F32, DType::BF16, DType::Q8_0, DType::Q4_0, DType::Q4_K];

mod linear {
    use super::*;

    fn bench(bencher: Bencher<'_, '_>, dtype: DType, n: usize, [out, cols]: [usize; 2]) {
        let (x, w) = (rows(n, cols), matrix(dtype, out, cols));
        bencher
            .counter(divan::counter::ItemsCount::new(2 * n * out * cols))
            .bench(|| Candle::cpu().linear(&x, &w, None));
    }

    #[divan::bench(args = TYPES)]
    fn wide_decode(bencher: Bencher<'_, '_>, dtype: DType) {
        bench(bencher, dtype, 1, [3072, 1024]);
    }

    #[divan::bench(args = TYPES)]
    fn wide_prefill_64(bencher: Bencher<'_, '_>, dtype: DType) {
        bench(bencher, dtype, 64, [3072, 1024]);
    }

    #[divan::bench(args = TYPES)]
    fn small_decode(bencher: Bencher<'_, '_>, dtype: DType) {
        bench(bencher, dtype, 1, [768, 256]);
    }

    #[divan::bench(args = TYPES)]
    fn small_prefill_64(bencher: Bencher<'_, '_>, dtype: DType) {
        bench(bencher, dtype, 64, [768, 256]);
    }
}

mod attention {
    use super::*;

    const HEADS: Heads = Heads { n_heads: 16, n_kv_heads: 2, head_dim: 128 };

    #[divan::bench(args = [64, 512])]
    fn prefill(bencher: Bencher<'_, '_>, n: usize) {
        let [q, k, v] = [rows(n, HEADS.q_width()), rows(n, HEADS.kv_width()), rows(n, HEADS.kv_width())];
        bencher.bench(|| Candle::cpu().attention([&q, &k, &v], HEADS, &Mask::Causal, None));
    }

    /// One row after `past` cached ones, which are all that is left again afterwards.
    #[divan::bench(args = [64, 2048])]
    fn decode(bencher: Bencher<'_, '_>, past: usize) {
        let b = Candle::cpu();
        let mut cache = b.cache(HEADS, past + 1).expect("host memory");
        let qkv = |n| [rows(n, HEADS.q_width()), rows(n, HEADS.kv_width()), rows(n, HEADS.kv_width())];
        let [q, k, v] = qkv(past);
        b.attention([&q, &k, &v], HEADS, &Mask::Causal, Some(&mut cache)).expect("rows fit the heads");
        let [q, k, v] = qkv(1);
        bencher.bench_local(|| {
            let y = b.attention([&q, &k, &v], HEADS, &Mask::Causal, Some(&mut cache));
            b.truncate(&mut cache, past).expect("there are more rows");
            y
        });
    }
}

#[divan::bench(args = [1, 256])]
fn rms_norm(bencher: Bencher<'_, '_>, n: usize) {
    let (x, w) = (rows(n, 1024), matrix(DType::F32, 1, 1024));
    bencher.bench(|| Candle::cpu().rms_norm(&x, &w, 1e-5));
}

#[divan::bench(args = [1, 64])]
fn expert_mlp(bencher: Bencher<'_, '_>, n: usize) {
    let (n_experts, top_k, hidden, inner) = (8, 2, 256, 256);
    let bank = |rows, cols| (0..n_experts).map(|_| matrix(DType::BF16, rows, cols)).collect();
    let experts = Experts {
        gate_proj: bank(inner, hidden),
        up_proj: bank(inner, hidden),
        down_proj: bank(hidden, inner),
    };
    let chosen: Vec<u32> = (0..n * top_k).map(|i| (i % n_experts) as u32).collect();
    let expert_ids = Candle::cpu().ids(&chosen).expect("indices");
    let (x, routing) = (rows(n, hidden), Routing { expert_ids, weights: rows(n, top_k), top_k });
    bencher.bench(|| Candle::cpu().expert_mlp(&x, &routing, &experts));
}

#[divan::bench(args = [64])]
fn cross_entropy_and_gradient(bencher: Bencher<'_, '_>, n: usize) {
    let vocab = 4096;
    let logits = Var::from_vec(noise(n * vocab), (n, vocab), &Device::Cpu).expect("values fill the shape");
    let (targets, weights) = (vec![7; n], vec![1.0; n]);
    bencher.bench(|| Candle::cpu().cross_entropy(&logits, &targets, &weights).map(|loss| loss.backward()));
}
