//! What rounding activations to signed bytes costs, and what it must not change.

use engine::{Capture, Device, KvType, LoadOptions};

use crate::recorded::case;

/// Cases whose matrices are block-quantised, of every type.
const QUANTIZED: [&str; 7] =
    ["gguf_q8_0", "gguf_q4_0", "gguf_q4_1", "gguf_q5_0", "gguf_q5_1", "gguf_k_quants", "gguf_moe_mixed"];

/// Logits of every row of a case's prompt.
fn logits(name: &str, options: impl Into<LoadOptions>, chunk: usize) -> Vec<f32> {
    let mut model = case(name).load(options);
    let input = case(name).prompt(model.config());
    let rows: Vec<usize> = (0..input.token_ids.len()).collect();
    pollster::block_on(model.trace(&input, chunk, &rows, Capture::default())).unwrap().logits
}

/// `Σ (found − exact)² / Σ exact²`.
fn nmse(found: &[f32], exact: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = found.iter().zip(exact).map(|(f, e)| square(f - e)).sum();
    error / exact.iter().map(|&e| square(e)).sum::<f64>()
}

/// One product adds up to 1e-4 (see `tensor::conformance`), and these models have some twenty in a row.
#[test]
fn rounding_activations_costs_little() {
    for name in QUANTIZED {
        let exact = logits(name, Device::CpuExact, 512);
        let error = nmse(&logits(name, Device::Cpu, 512), &exact);
        assert!(error > 1e-8, "{name}: nothing was rounded");
        assert!(error < 3e-3, "{name}: {error:.1e}");
    }
}

/// A row's codes do not depend on the rows beside it. Attention adds in another order, which may tip a code, and
/// that must cost far less than rounding itself.
#[test]
fn chunks_of_any_size_give_the_same_logits() {
    for name in QUANTIZED {
        let whole = logits(name, Device::Cpu, 512);
        for chunk in [1, 2, 3, 5, 7] {
            let error = nmse(&logits(name, Device::Cpu, chunk), &whole);
            assert!(error < 1e-5, "{name} in chunks of {chunk}: {error:.1e}");
        }
    }
}

/// Rows that were computed in other chunks are read from the cache, so what it rounds is seen.
#[test]
fn keys_and_values_take_less_memory_and_cost_little() {
    for name in ["dense", "moe", "vl_image"] {
        let kept_as = |kv_type| LoadOptions { kv_type: Some(kv_type), ..LoadOptions::default() };
        let memory = |kv_type| {
            let mut model = case(name).load(kept_as(kv_type));
            let input = case(name).prompt(model.config());
            pollster::block_on(model.trace(&input, 512, &[], Capture::default())).unwrap();
            model.bytes_resident().kv_cache
        };
        let bytes = KvType::ALL.map(memory);
        assert!(bytes[0] == 2 * bytes[1] && bytes[1] > bytes[2] && bytes[2] > 0, "{name}: {bytes:?}");
        let exact = logits(name, kept_as(KvType::F32), 1);
        let default = logits(name, Device::Cpu, 1);
        assert_eq!(default, logits(name, kept_as(LoadOptions::KV_TYPE), 1), "{name}");
        for (kv_type, bound) in [(KvType::F16, 1e-6), (KvType::Q8_0, 5e-3)] {
            let error = nmse(&logits(name, kept_as(kv_type), 1), &exact);
            assert!(0.0 < error && error < bound, "{name} as {kv_type:?}: {error:.1e}");
        }
    }
}

#[test]
fn only_the_processor_rounds_keys_and_values() {
    for device in [Device::CpuExact, Device::Reference] {
        let options = LoadOptions { device, kv_type: Some(KvType::Q8_0), ..LoadOptions::default() };
        let refused = engine::load(&engine::ModelFiles::open(&case("dense").model).unwrap(), options);
        assert!(refused.err().expect("it cannot be had").to_string().contains("processor"));
    }
}
