//! Experts in less memory than they take, and weights that are quantised while loading.

use engine::quantize::Preset;
use engine::{Capture, Device, LoadOptions, ModelFiles, Traceable, load_traceable};

use crate::recorded::{Case, case};

/// Routed text, in floats and in blocks; routed text and pictures, experts apart and stacked.
const ROUTED: [&str; 6] =
    ["moe", "moe_interval", "gguf_moe_f16", "gguf_moe_mixed", "vl_two_images", "vl_converted"];

fn load(case: &Case, options: LoadOptions) -> Box<dyn Traceable> {
    load_traceable(&ModelFiles::open(&case.model).unwrap(), options).unwrap()
}

/// The logits of a prompt in chunks, and of tokens generated after it.
fn logits(model: &mut dyn Traceable, case: &Case) -> Vec<f32> {
    let input = case.prompt(model.config());
    let rows: Vec<usize> = (0..input.token_ids.len()).collect();
    let mut all = pollster::block_on(model.trace(&input, 7, &rows, Capture::default())).unwrap().logits;
    let k = model.config().text.vocab_size;
    let mut token = 5;
    for _ in 0..12 {
        let candidates = pollster::block_on(model.decode(token, k)).unwrap();
        token = candidates[0].id;
        all.extend(candidates.iter().map(|candidate| candidate.logit));
    }
    all
}

#[test]
fn experts_on_disk_change_no_bit() {
    for name in ROUTED {
        let case = case(name);
        let stored = case.checkpoint().stored_bytes();
        assert!(stored.experts_in_file, "{name}");
        for device in [Device::Cpu, Device::CpuExact] {
            let expected = logits(&mut *load(&case, device.into()), &case);
            for budget in [stored.experts * 6 / 10, stored.least_experts] {
                let options = LoadOptions { device, expert_memory: Some(budget), ..LoadOptions::default() };
                let mut model = load(&case, options);
                let found = logits(&mut *model, &case);
                let same = found.iter().map(|v| v.to_bits()).eq(expected.iter().map(|v| v.to_bits()));
                assert!(same, "{name} on {device:?} in {budget} bytes");
                let usage = model.expert_use().unwrap();
                assert!(usage.hits > 0 && usage.hits < usage.uses, "{name}: {usage:?}");
                assert!(usage.read_bytes > stored.experts, "{name} fits after all: {usage:?}");
                assert!(usage.resident_bytes <= budget, "{name}: {usage:?}");
            }
        }
    }
}

#[test]
fn a_budget_that_all_experts_fit_into_reads_each_once() {
    let case = case("gguf_moe_mixed");
    let expected = logits(&mut *load(&case, LoadOptions::default()), &case);
    let options = LoadOptions { expert_memory: Some(u64::MAX), ..LoadOptions::default() };
    let mut model = load(&case, options);
    assert_eq!(logits(&mut *model, &case), expected);
    let read = |model: &dyn Traceable| model.expert_use().unwrap().read_bytes;
    let first = read(&*model);
    // Whatever lies between the parts of an expert is counted too.
    assert!(first > 0 && first < case.checkpoint().stored_bytes().experts * 11 / 10, "{first}");
    assert_eq!(logits(&mut *model, &case), expected);
    assert_eq!(read(&*model), first);
}

#[test]
fn impossible_budgets_are_refused() {
    let refusal = |name: &str, options: LoadOptions| {
        let files = ModelFiles::open(&case(name).model).unwrap();
        load_traceable(&files, options).err().expect("it cannot be had").to_string()
    };
    let one = LoadOptions { expert_memory: Some(1), ..LoadOptions::default() };
    assert!(refusal("moe", one).contains("need at least"));
    // Paddle stores matrices transposed.
    assert!(refusal("moe_paddle", one).contains("not used as they lie"));
    assert!(refusal("moe", LoadOptions { device: Device::Reference, ..one }).contains("for the processor"));
    let both = LoadOptions { quantize: Preset::named("q8_0"), ..one };
    assert!(refusal("moe", both).contains("ocelli quantize"));
}

#[test]
fn weights_quantised_while_loading_are_those_of_the_file() {
    for name in ["dense", "moe_paddle", "vl_image"] {
        let case = case(name);
        let exact = logits(&mut *load(&case, Device::CpuExact.into()), &case);
        let plain = load(&case, Device::CpuExact.into()).bytes_resident();
        for (preset, largest) in [("q8_0", 0.05), ("q4_k_m", 0.6)] {
            let quantize = Preset::named(preset);
            let options = LoadOptions { device: Device::CpuExact, quantize, ..LoadOptions::default() };
            let mut model = load(&case, options);
            let memory = model.bytes_resident();
            let [before, after] = [plain, memory].map(|memory| memory.weights_owned + memory.weights_mapped);
            assert!(after < before, "{name}: {before} to {after}");
            let found = logits(&mut *model, &case);
            let square = |x: f32| f64::from(x) * f64::from(x);
            // Prompt rows only: what is generated may part ways.
            let n = exact.len() - 12 * model.config().text.vocab_size;
            let error: f64 = found[..n].iter().zip(&exact).map(|(f, e)| square(f - e)).sum();
            let error = (error / exact[..n].iter().map(|&e| square(e)).sum::<f64>()).sqrt();
            assert!(0.0 < error && error < largest, "{name} as {preset}: {error}");
        }
    }
}
