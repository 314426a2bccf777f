//! The head that predicts further tokens: what it says, and that asking it changes no answer.

use std::fs;
use std::ops::ControlFlow;

use candle_backend::Candle;
use engine::{Device, LanguageModel, ModelFiles, ModelInput, load};
use model::{Decoder, MtpHead, Step};
use serde_json::Value;
use tensor::weights::{NamedArray, TensorIndex};
use tensor::{Backend, Mask, Reference};

use crate::recorded::{TOLERANCE, case, folder, read, relative_error};

/// The head's logits over the recorded rows of the decoder, in steps of `chunk` rows.
fn logits<B: Backend>(b: &B, files: &ModelFiles, chunk: usize) -> Vec<f32> {
    let checkpoint = files.checkpoint().unwrap();
    let config = &checkpoint.config.text;
    let weights = checkpoint.weights(b);
    let decoder = Decoder::load(&weights, config).unwrap();
    let head = MtpHead::load(&weights, config).unwrap().expect("the case has the head");
    let case = case("moe");
    let hidden = case.expected_f32(&format!("hidden.layer.{}", config.n_layers - 1));
    let tokens = next_tokens();
    let mut cache = b.cache(config.heads(), 4).unwrap();
    let mut all = Vec::new();
    for start in (0..tokens.len()).step_by(chunk) {
        let rows = start..(start + chunk).min(tokens.len());
        let positions: Vec<[u32; 3]> = rows.clone().map(|row| [row as u32 + 1; 3]).collect();
        let step = Step {
            backend: b,
            cos_sin: b.tensor(&decoder.rope.cos_sin(&positions), config.head_dim).unwrap(),
            mask: Mask::Causal,
            modalities: None,
            taps: None,
        };
        let cols = config.hidden_size;
        let hidden = b.tensor(&hidden[rows.start * cols..rows.end * cols], cols).unwrap();
        let embeds = b.embed(&decoder.embed_tokens, &b.ids(&tokens[rows]).unwrap()).unwrap();
        let x = head.forward(&step, &hidden, &embeds, &mut cache).unwrap();
        all.extend(pollster::block_on(b.read(&head.logits(&decoder, b, &x).unwrap())).unwrap());
    }
    all
}

/// The token after each row of the prompt; the first greedy one after the last.
fn next_tokens() -> Vec<u32> {
    [&prompt().token_ids[1..], &ids(&case("moe").expected, "greedy_ids")[..1]].concat()
}

fn prompt() -> ModelInput {
    let case = case("moe");
    case.prompt(&ModelFiles::open(&case.model).unwrap().checkpoint().unwrap().config)
}

/// Recorded token ids.
fn ids(index: &TensorIndex, name: &str) -> Vec<u32> {
    match index.array(name).unwrap() {
        Some((_, NamedArray::I64(ids))) => ids.into_iter().map(|id| id as u32).collect(),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn the_head_says_what_its_definition_does() {
    let recorded = read(&folder("moe/mtp.safetensors"));
    let Ok(Some((_, NamedArray::F32(expected)))) = recorded.array("logits") else { panic!("no logits") };
    let files = ModelFiles::open(&folder("moe")).unwrap();
    for chunk in [1, 5, 100] {
        for (found, backend) in [
            (logits(&Reference, &files, chunk), "reference"),
            (logits(&Candle::cpu(), &files, chunk), "candle"),
        ] {
            let error = relative_error(&found, &expected);
            assert!(error <= TOLERANCE, "{backend} in steps of {chunk}: {error:.1e}");
        }
    }
}

/// Files whose projection is `[2 * hidden, hidden]`, as an early exporter left it.
#[test]
fn a_transposed_projection_is_noticed() {
    let bytes = fs::read(folder("moe/model.safetensors")).unwrap();
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
    let mut data = bytes[8 + n..].to_vec();
    let tensor = &mut header["model.mtp_linear_proj.0.weight"];
    let at = |i: usize| tensor["data_offsets"][i].as_u64().unwrap() as usize;
    let (start, end, cols) = (at(0), at(1), 96);
    let values = data[start..end].to_vec();
    let rows = values.len() / 2 / cols;
    for (i, value) in values.chunks_exact(2).enumerate() {
        let place = start + 2 * (i % cols * rows + i / cols);
        data[place..place + 2].copy_from_slice(value);
    }
    tensor["shape"] = vec![cols, rows].into();
    let header = header.to_string();
    let mut transposed = (header.len() as u64).to_le_bytes().to_vec();
    transposed.extend_from_slice(header.as_bytes());
    transposed.extend_from_slice(&data);

    let config = fs::read(folder("moe/config.json")).unwrap();
    let entries = [("config.json", config), ("model.safetensors", transposed)];
    let entries = entries.map(|(name, bytes)| (name.to_owned(), tensor::SharedBytes::new(bytes)));
    let files = ModelFiles::from_bytes("transposed", entries.into());
    let expected = logits(&Reference, &ModelFiles::open(&folder("moe")).unwrap(), 100);
    assert_eq!(logits(&Reference, &files, 100), expected);
}

/// A model that has read `tokens`, in chunks, with the head listening.
fn listening(device: Device, chunk: usize) -> Box<dyn LanguageModel> {
    let mut model = load(&ModelFiles::open(&folder("moe")).unwrap(), device).unwrap();
    model.set_drafting(true).unwrap();
    let go_on = &mut |_, _| ControlFlow::Continue(());
    pollster::block_on(model.prefill(&prompt(), chunk, 1, go_on)).unwrap();
    model
}

fn draft(model: &mut dyn LanguageModel, n: usize) -> Vec<u32> {
    let next = *next_tokens().last().unwrap();
    pollster::block_on(model.draft(next, n)).unwrap()
}

#[test]
fn guesses_are_those_of_the_definition_however_the_prompt_was_read() {
    let expected = ids(&read(&folder("moe/mtp.safetensors")), "draft");
    for device in [Device::Cpu, Device::Reference] {
        for chunk in [1, 3, 27, 512] {
            let model = &mut *listening(device, chunk);
            for n in [4, 1, 4] {
                assert_eq!(draft(model, n), expected[..n], "{device:?} in chunks of {chunk}");
            }
            // Rows that are taken back leave no trace.
            let len = model.context_len();
            pollster::block_on(model.decode_rows(&[3, 1, 4], 1)).unwrap();
            model.truncate(len).unwrap();
            let refused = draft(model, 4);
            assert!(
                refused.is_empty() || refused == expected,
                "the last row may be unknown, but not another"
            );
            model.truncate(len - 2).unwrap();
            let go_on = &mut |_, _| ControlFlow::Continue(());
            pollster::block_on(model.prefill(&prompt(), 512, 1, go_on)).unwrap();
            assert_eq!(draft(model, 4).len(), 4, "it goes on after a gap");
        }
    }
}

#[test]
fn a_model_without_the_head_guesses_nothing() {
    let mut model = load(&ModelFiles::open(&folder("dense")).unwrap(), Device::Cpu).unwrap();
    model.set_drafting(true).unwrap();
    pollster::block_on(model.decode(3, 1)).unwrap();
    assert_eq!(draft(&mut *model, 4), [0; 0]);
}

#[test]
fn listening_changes_no_candidate() {
    let greedy = ids(&case("moe").expected, "greedy_ids");
    let mut model = listening(Device::Cpu, 7);
    for pair in greedy.windows(2) {
        let _ = pollster::block_on(model.draft(pair[0], 3)).unwrap();
        let rows = pollster::block_on(model.decode_rows(&[pair[0], 5], 1)).unwrap();
        assert_eq!(rows[0][0].id, pair[1]);
        let len = model.context_len();
        model.truncate(len - 1).unwrap();
    }
}
