//! Laws that hold for any model, whatever its weights.

use std::ops::{ControlFlow, Range};

use candle_backend::Candle;
use engine::{Capture, Device, Error, Loaded, ModelInput, Traceable};
use model::config::{Architecture, RopeKind};
use model::{Decoder, Positions, Span, Step};
use tensor::{Backend, Candidate, Mask, Reference, Result, Weights};

use crate::recorded::{Case, TOLERANCE, case, relative_error};

/// Cases that differ in kind: dense, routed, one picture, a video before a picture, text through a VL model.
const KINDS: [&str; 5] = ["dense_bias", "moe_interval", "vl_image", "vl_untied", "vl_text"];

fn trace(model: &mut dyn Traceable, input: &ModelInput, chunk: usize) -> Vec<f32> {
    let rows: Vec<usize> = (0..input.token_ids.len()).collect();
    pollster::block_on(model.trace(input, chunk, &rows, Capture::default())).unwrap().logits
}

fn prefill(model: &mut dyn Traceable, input: &ModelInput, chunk: usize) -> Vec<f32> {
    let k = model.config().text.vocab_size;
    let progress = &mut |_, _| ControlFlow::Continue(());
    by_id(&pollster::block_on(model.prefill(input, chunk, k, progress)).unwrap())
}

fn by_id(candidates: &[Candidate]) -> Vec<f32> {
    let mut logits = vec![f32::NAN; candidates.len()];
    candidates.iter().for_each(|candidate| logits[candidate.id as usize] = candidate.logit);
    logits
}

#[track_caller]
fn close(found: &[f32], expected: &[f32], what: &str) {
    let error = relative_error(found, expected);
    assert!(error <= TOLERANCE, "{what}: {error:.1e}");
}

fn last_row<'a>(logits: &'a [f32], model: &dyn Traceable) -> &'a [f32] {
    &logits[logits.len() - model.config().text.vocab_size..]
}

#[test]
fn chunks_of_any_size_give_the_same_logits() {
    for name in KINDS {
        let case = case(name);
        let mut model = case.load(Device::CpuExact);
        let input = case.prompt(model.config());
        let expected = case.expected_f32("logits");
        for chunk in [1, 2, 3, 5, 7, 11, usize::MAX] {
            close(&trace(&mut *model, &input, chunk), &expected, &format!("{name} in chunks of {chunk}"));
        }
    }
}

#[test]
fn decoding_one_by_one_equals_prefill() {
    for name in ["dense_bias", "moe_interval", "vl_text"] {
        let case = case(name);
        let mut model = case.load(Device::CpuExact);
        let input = case.prompt(model.config());
        let expected = case.expected_f32("logits");
        let vocab_size = model.config().text.vocab_size;
        for (row, &token) in expected.chunks_exact(vocab_size).zip(&input.token_ids) {
            let candidates = pollster::block_on(model.decode(token, vocab_size)).unwrap();
            close(&by_id(&candidates), row, name);
        }
    }
}

/// Guesses are computed together with the token before them. If the bits of a row depended on those beside it, a
/// guess could change the answer where two tokens are almost equally likely.
#[test]
fn rows_appended_together_have_the_bits_of_rows_appended_apart() {
    let quantized = ["gguf_q8_0", "gguf_q4_0", "gguf_q5_1", "gguf_k_quants", "gguf_moe_mixed"];
    for name in KINDS.into_iter().chain(quantized) {
        for device in [Device::Cpu, Device::CpuExact, Device::Reference] {
            let case = case(name);
            let mut model = case.load(device);
            let input = case.prompt(model.config());
            let vocab_size = model.config().text.vocab_size;
            let tokens: Vec<u32> = (0..8).map(|i| 3 + i * 7).collect();
            let n = input.token_ids.len();
            prefill(&mut *model, &input, 512);
            let apart: Vec<Vec<Candidate>> = tokens
                .iter()
                .map(|&token| pollster::block_on(model.decode(token, vocab_size)).unwrap())
                .collect();
            for n_rows in 2..=tokens.len().min(model.exact_rows()) {
                model.truncate(n).unwrap();
                let together: Vec<_> = tokens
                    .chunks(n_rows)
                    .flat_map(|tokens| pollster::block_on(model.decode_rows(tokens, vocab_size)).unwrap())
                    .collect();
                assert!(together == apart, "{name} on {device:?}, {n_rows} rows at once");
                assert_eq!(model.context_len(), n + tokens.len());
            }
        }
        assert!(case(name).load(Device::Cpu).exact_rows() >= 8, "{name}: nothing was tested");
    }
}

#[test]
fn a_prefix_of_any_length_is_reused() {
    for name in KINDS {
        let case = case(name);
        let mut model = case.load(Device::CpuExact);
        let input = case.prompt(model.config());
        let expected = case.expected_f32("logits");
        let n = input.token_ids.len();
        prefill(&mut *model, &input, 512);
        for kept in (0..n).step_by(3) {
            // What was generated, and the end of the prompt, is forgotten.
            pollster::block_on(model.decode(7, 1)).unwrap();
            model.truncate(kept).unwrap();
            let logits = prefill(&mut *model, &input, 4);
            close(&logits, last_row(&expected, &*model), &format!("{name} from {kept}"));
            assert_eq!(model.context_len(), n);
        }
        let error = pollster::block_on(model.prefill(&input, 4, 1, &mut |_, _| ControlFlow::Continue(())));
        assert!(matches!(error, Err(Error::Prompt(_))), "nothing is new");
    }
}

#[test]
fn a_cancelled_prefill_goes_on_where_it_stopped() {
    let case = case("vl_image");
    let mut model = case.load(Device::CpuExact);
    let input = case.prompt(model.config());
    let stop = &mut |done, _| if done >= 6 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let cancelled = pollster::block_on(model.prefill(&input, 3, 1, stop));
    assert!(matches!(cancelled, Err(Error::Cancelled)));
    assert_eq!(model.context_len(), 6);
    close(&prefill(&mut *model, &input, 3), last_row(&case.expected_f32("logits"), &*model), "resumed");
}

#[test]
fn only_the_best_candidates_are_returned_in_order() {
    for device in [Device::CpuExact, Device::Reference] {
        let case = case("dense");
        let mut model = case.load(device);
        let input = case.prompt(model.config());
        let progress = &mut |_, _| ControlFlow::Continue(());
        let best = pollster::block_on(model.prefill(&input, 512, 5, progress)).unwrap();
        let expected = case.expected_f32("logits");
        let last = last_row(&expected, &*model);
        let mut order: Vec<usize> = (0..last.len()).collect();
        order.sort_by(|&a, &b| last[b].total_cmp(&last[a]));
        let ids: Vec<usize> = best.iter().map(|candidate| candidate.id as usize).collect();
        assert_eq!(ids, order[..5]);
    }
}

#[test]
fn resident_bytes_grow_with_the_context() {
    let case = case("dense");
    for (device, value_bytes) in [(Device::Cpu, 2), (Device::CpuExact, 4)] {
        let mut model = case.load(device);
        let input = case.prompt(model.config());
        let empty = model.bytes_resident();
        prefill(&mut *model, &input, 512);
        let text = &model.config().text;
        let row = (2 * text.n_layers * text.n_kv_heads * text.head_dim * value_bytes) as u64;
        let n = input.token_ids.len() as u64;
        assert_eq!((empty.kv_cache, model.bytes_resident().kv_cache), (0, row * n));
        // bf16 matrices stay in the file; only the norms are decoded.
        assert!(empty.weights_mapped > 50 * empty.weights_owned, "{empty:?}");
    }
    assert_eq!(case.load(Device::Reference).bytes_resident().weights_mapped, 0);
}

/// Logits of whole prompts in one pass, each seeing only itself.
fn packed<B: Backend>(b: &B, decoder: &Decoder<B>, prompts: &[&[u32]]) -> Vec<f32> {
    let (mut positions, mut cu_seqlens) = (Vec::new(), vec![0]);
    for prompt in prompts {
        positions.extend(Positions::walk(&[Span::Text(prompt.len())]).ids);
        cu_seqlens.push(positions.len() as u32);
    }
    let cos_sin = b.tensor(&decoder.rope.cos_sin(&positions), decoder.config().head_dim).unwrap();
    let mask = Mask::Segments { cu_seqlens: &cu_seqlens, causal: true };
    let step = Step { backend: b, cos_sin, mask, modalities: None, taps: None };
    let x = b.embed(&decoder.embed_tokens, &b.ids(&prompts.concat()).unwrap()).unwrap();
    let hidden = decoder.forward(&step, x, &mut []).unwrap();
    pollster::block_on(b.read(&decoder.logits(b, &hidden, None).unwrap())).unwrap()
}

fn check_packing<B: Backend>(b: &B) {
    for name in ["dense_bias", "moe_interval"] {
        let checkpoint = case(name).checkpoint();
        let decoder = Decoder::load(&checkpoint.weights(b), &checkpoint.config.text).unwrap();
        let prompts: [&[u32]; 3] = [&[5, 9, 2, 7, 7], &[3], &[8, 1, 4, 4, 6, 11, 90]];
        let apart: Vec<f32> = prompts.iter().flat_map(|&prompt| packed(b, &decoder, &[prompt])).collect();
        close(&packed(b, &decoder, &prompts), &apart, name);
    }
}

#[test]
fn packed_prompts_do_not_see_each_other() {
    check_packing(&Candle::cpu());
    check_packing(&Reference);
}

/// The text half of a vision-language checkpoint: the first row of each two-row table.
struct TextHalf<W>(W);

impl<B: Backend, W: Weights<B>> Weights<B> for TextHalf<W> {
    fn get(&self, name: &str, shape: &[usize]) -> Result<B::Weight> {
        self.0.get(name, shape)
    }

    fn get_rows(&self, name: &str, shape: &[usize], rows: Range<usize>) -> Result<B::Weight> {
        match shape {
            [1, n] => self.0.get_rows(name, &[2, *n], rows),
            _ => self.0.get_rows(name, shape, rows),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.has(name)
    }
}

#[test]
fn without_pictures_a_vl_model_is_the_text_model_of_its_weights() {
    let case: Case = case("vl_text");
    let checkpoint = case.checkpoint();
    let mut config = checkpoint.config.clone();
    config.architecture = Architecture::Moe;
    config.vision = None;
    config.text.rope = RopeKind::Interleaved1d;
    config.text.moe.as_mut().unwrap().vision = None;
    let b = Candle::cpu();
    let mut model = Loaded::load(b.clone(), &TextHalf(checkpoint.weights(&b)), config).unwrap();
    let input = case.prompt(&checkpoint.config);
    let found = trace(&mut model, &input, 512);
    let same_path = trace(&mut *case.load(Device::CpuExact), &input, 512);
    assert_eq!(found, same_path, "bit for bit");
    close(&found, &case.expected_f32("logits"), "vl_text");
}
