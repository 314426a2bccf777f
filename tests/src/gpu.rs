//! Whole models on the GPU: what the processor says, at a cost that is counted.
//!
//! Where there is no adapter these tests are passed over, and say so; Mesa's `lavapipe` is one.

#![expect(clippy::print_stdout, reason = "a test that is passed over says so, and others count")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{
    CAPTION_PROMPT, Counters, Device, Engine, GenerateOptions, Gpu, GpuOptions, LanguageModel, Message,
    ModelFiles, ModelInput, Part, Role, Tier, Traceable, load, load_on, load_traceable_on,
};
use tensor::Candidate;

use crate::parity::differences;
use crate::recorded::{Case, case, cases};

/// Where the two best logits are nearer than this share of the best one, they may change places: keys and values are
/// `f16` in the best tier, whose values are exact to 5e-4, and sums have another order.
const SMALLEST_GAP: f32 = 2e-3;
/// Tokens after each prompt.
const N_TOKENS: usize = 16;

fn request(options: GpuOptions) -> Option<Gpu> {
    match pollster::block_on(Gpu::request_with(options)) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

/// The best that the adapter has, as a real GPU would run it.
fn best() -> Option<Gpu> {
    request(GpuOptions { barrier_free: Some(false), ..GpuOptions::default() })
}

fn traceable(case: &Case, gpu: &Gpu) -> Box<dyn Traceable> {
    let files = ModelFiles::open(&case.model).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    load_traceable_on(&files, gpu.clone()).unwrap_or_else(|error| panic!("{}: {error}", case.name))
}

#[test]
fn every_recorded_case_is_computed_as_by_the_reference_implementation() {
    let options = GpuOptions { highest_tier: Some(Tier::Plain), ..GpuOptions::default() };
    let Some(gpu) = request(options) else { return };
    let differences: Vec<String> =
        cases().iter().flat_map(|case| differences(case, &mut *traceable(case, &gpu))).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// The likeliest tokens after `input`, each with how far it is before the second one, as a share of its logit.
fn greedy(model: &mut dyn LanguageModel, input: &ModelInput) -> Vec<(u32, f32)> {
    let told = |candidates: &[Candidate]| match candidates {
        [first, second, ..] => (first.id, (first.logit - second.logit) / first.logit.abs()),
        _ => panic!("two candidates were asked for"),
    };
    let go_on = &mut |_, _| ControlFlow::Continue(());
    model.truncate(0).unwrap();
    let mut tokens = vec![told(&pollster::block_on(model.prefill(input, 512, 2, go_on)).unwrap())];
    while tokens.len() < N_TOKENS {
        let (last, _) = tokens[tokens.len() - 1];
        tokens.push(told(&pollster::block_on(model.decode(last, 2)).unwrap()));
    }
    tokens
}

/// Counts tokens, and places where the GPU went another way than the processor.
#[derive(Default)]
struct Compared {
    n_tokens: usize,
    near: Vec<String>,
}

impl Compared {
    /// # Panics
    /// If they differ where the processor was sure.
    fn compare(&mut self, name: &str, expected: &[(u32, f32)], found: &[(u32, f32)]) {
        // Behind a token that differs they answer different prompts.
        let differs = (0..expected.len()).find(|&i| expected[i].0 != found[i].0);
        self.n_tokens += differs.unwrap_or(expected.len());
        if let Some(i) = differs {
            let ((expected, gap), (found, _)) = (expected[i], found[i]);
            assert!(gap < SMALLEST_GAP, "{name}: token {i} is {found}, not {expected}, which leads by {gap}");
            self.near.push(format!("{name} from token {i} (gap {gap:.1e})"));
        }
    }

    fn tell(&self, gpu: &Gpu) {
        let Self { n_tokens, near } = self;
        println!("{}: {n_tokens} tokens are equal, {} answers part: {near:?}", gpu.adapter(), near.len());
    }
}

#[test]
fn the_best_tier_says_the_tokens_of_the_processor() {
    let Some(gpu) = best() else { return };
    let mut compared = Compared::default();
    // Some cases share a model, and differ in what they record.
    let mut cases = cases();
    cases.sort_by(|a, b| (&a.model, &a.input).cmp(&(&b.model, &b.input)));
    cases.dedup_by(|a, b| (&a.model, &a.input) == (&b.model, &b.input));
    assert!(cases.len() >= 25, "only {} cases are recorded", cases.len());
    for case in cases {
        let mut on_cpu = case.load(Device::CpuExact);
        let input = case.prompt(on_cpu.config());
        let expected = greedy(&mut *on_cpu, &input);
        compared.compare(&case.name, &expected, &greedy(&mut *traceable(&case, &gpu), &input));
    }
    compared.tell(&gpu);
}

fn asset(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets").join(path)
}

/// A picture and what is said about it, in turns that begin and end with the user's.
fn conversation(engine: &Engine, picture: &str, turns: &[&str]) -> ModelInput {
    let bytes = std::fs::read(asset("images").join(picture)).unwrap();
    let picture = vision::decode(&bytes, &vision::DecodeOptions::default()).unwrap();
    let patches = engine.preprocessor().image(&picture).unwrap();
    let mut messages: Vec<Message> = turns
        .iter()
        .zip([Role::User, Role::Assistant].into_iter().cycle())
        .map(|(text, role)| Message { role, parts: vec![Part::Text((*text).to_owned())] })
        .collect();
    messages[0].parts.insert(0, Part::Image(Arc::new(patches)));
    engine.prompt(&messages, &GenerateOptions::default()).unwrap().input
}

#[test]
fn the_model_inside_captions_and_converses_as_on_the_processor() {
    let Some(gpu) = request(GpuOptions::default()) else { return };
    let files = ModelFiles::open(&asset("model")).unwrap();
    let engine = Engine::open(&files, Device::CpuExact, Box::new(|| 0.0)).unwrap();
    let mut inputs = Vec::new();
    for entry in std::fs::read_dir(asset("images")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if [".png", ".jpg", ".webp"].iter().any(|end| name.ends_with(end)) {
            inputs.push((conversation(&engine, &name, &[CAPTION_PROMPT]), name));
        }
    }
    assert!(inputs.len() >= 8, "only {} pictures", inputs.len());
    let turns = [CAPTION_PROMPT, "A yellow star and a red heart.", "What colour is the star?"];
    inputs.push((conversation(&engine, "star-and-heart.png", &turns), "a conversation".to_owned()));
    let mut on_cpu = load(&files, Device::CpuExact).unwrap();
    let mut on_gpu = load_on(&files, gpu.clone()).unwrap();
    let mut compared = Compared::default();
    for (input, name) in &inputs {
        compared.compare(name, &greedy(&mut *on_cpu, input), &greedy(&mut *on_gpu, input));
    }
    compared.tell(&gpu);
}

/// What one decoded token costs once all is warm.
fn cost_of_a_token(model: &mut dyn LanguageModel, gpu: &Gpu) -> Counters {
    for token in 3..11 {
        pollster::block_on(model.decode(token, 8)).unwrap();
    }
    let before = gpu.counters();
    pollster::block_on(model.decode(7, 8)).unwrap();
    gpu.counters().since(&before)
}

#[test]
fn a_token_costs_eight_dispatches_a_layer_and_reads_its_weights_and_the_device_once() {
    let Some(gpu) = best() else { return };
    for name in ["dense", "gguf_llama", "gguf_q4_0", "gguf_k_quants", "moe", "vl_text"] {
        let case = case(name);
        let mut model = traceable(&case, &gpu);
        let n_layers = model.config().text.n_layers as u64;
        let cost = cost_of_a_token(&mut *model, &gpu);
        let touched = ModelFiles::open(&case.model).unwrap().checkpoint().unwrap().decode_bytes();
        println!(
            "{name}: {} dispatches for {n_layers} layers, {} bytes of weights where {touched} are stored",
            cost.dispatches, cost.weight_bytes
        );
        // Beside the layers: embedding, last sum with final norm, head, and two rounds that find the best logits.
        assert!(cost.dispatches <= 8 * n_layers + 5, "{name}: {cost:?}");
        assert_eq!((cost.submits, cost.reads, cost.bytes_read_back), (1, 1, 64), "{name}");
        assert_eq!((cost.pipelines, cost.bind_groups), (0, 0), "{name}");
        assert!(cost.weight_bytes as f64 <= 1.05 * touched as f64, "{name}: {cost:?}, {touched}");
    }
}

#[test]
fn a_gpu_that_was_given_up_is_an_error_with_a_next_step() {
    let Some(gpu) = request(GpuOptions::default()) else { return };
    let mut model = traceable(&case("dense"), &gpu);
    pollster::block_on(model.decode(3, 1)).unwrap();
    gpu.give_up();
    let error = pollster::block_on(model.decode(4, 1)).unwrap_err().to_string();
    assert!(error.contains("given up") && error.contains("load the model again"), "{error}");
    drop(model);
    // Another one takes its place.
    let files = ModelFiles::open(&case("dense").model).unwrap();
    assert!(pollster::block_on(load(&files, Device::Gpu).unwrap().decode(3, 1)).is_ok());
}
