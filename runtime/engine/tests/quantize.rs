//! Models of every kind become GGUF files that hold the same model.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use engine::quantize::{Importance, Loss, Preset, Quantization};
use engine::{Device, ModelFiles, ModelInput, load, measure_importance};
use tensor::SharedBytes;

fn recorded(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recorded").join(path)
}

fn preset(name: &str) -> Preset {
    Preset::named(name).unwrap()
}

/// The whole file.
fn write(plan: &Quantization) -> Vec<u8> {
    let mut file = plan.layout().header();
    for i in 0..plan.tensors().len() {
        file.resize(plan.layout().range(i).start as usize, 0);
        for chunk in plan.chunks(i) {
            let bytes = plan.encode(i, &chunk).unwrap();
            assert_eq!(bytes.len(), plan.chunk_bytes(i, &chunk));
            file.extend(bytes);
        }
        assert_eq!(file.len() as u64, plan.layout().range(i).end);
    }
    file.resize(plan.layout().file_len() as usize, 0);
    file
}

fn as_gguf(files: &ModelFiles, preset: &Preset) -> ModelFiles {
    let plan = Quantization::plan(files, preset).unwrap();
    ModelFiles::from_bytes("test", vec![("model.gguf".to_owned(), SharedBytes::new(write(&plan)))])
}

/// All scores of the token after some text.
fn logits(files: &ModelFiles) -> Vec<(u32, f32)> {
    let mut model = load(files, Device::Reference).unwrap();
    let input = ModelInput { token_ids: vec![5, 9, 80, 17, 3, 60], ..ModelInput::default() };
    let mut progress = |_, _| ControlFlow::Continue(());
    let candidates = pollster::block_on(model.prefill(&input, 4, usize::MAX, &mut progress)).unwrap();
    candidates.into_iter().map(|candidate| (candidate.id, candidate.logit)).collect()
}

/// One case of each family and layout of files.
const CASES: [&str; 14] = [
    "dense",
    "dense_bias",
    "dense_bias_paddle",
    "dense_sharded",
    "moe",
    "moe_interval",
    "moe_paddle",
    "moe_stacked",
    "vl_image",
    "vl_converted",
    "vl_converted_experts",
    "vl_untied",
    "gguf_llama",
    "gguf_moe_mixed",
];

#[test]
fn a_model_written_as_f32_is_the_same_model() {
    for case in CASES {
        let files = ModelFiles::open(&recorded(case)).unwrap();
        let written = as_gguf(&files, &preset("f32"));
        let (before, after) = (files.checkpoint().unwrap(), written.checkpoint().unwrap());
        assert_eq!(after.config, before.config, "{case}");
        assert_eq!(after.ignored().count(), 0, "{case}");
        assert_eq!(logits(&written), logits(&files), "{case}");
    }
}

#[test]
fn every_preset_gives_a_file_that_loads() {
    for case in ["dense", "moe", "vl_image"] {
        let files = ModelFiles::open(&recorded(case)).unwrap();
        let best = |files: &ModelFiles| {
            logits(files).into_iter().fold(f32::NEG_INFINITY, |best, (_, logit)| best.max(logit))
        };
        let before = best(&files);
        for preset in Preset::ALL {
            let after = best(&as_gguf(&files, &preset));
            assert!((after - before).abs() < 0.2 * before.abs().max(1.0), "{case} {}", preset.name);
        }
    }
}

#[test]
fn blocks_of_the_same_type_are_taken_as_they_are() {
    let files = ModelFiles::open(&recorded("gguf_q8_0")).unwrap();
    let plan = Quantization::plan(&files, &preset("q8_0")).unwrap();
    let same = plan.tensors().iter().enumerate().filter(|(_, tensor)| tensor.stored == tensor.dtype);
    let mut n = 0;
    for (i, tensor) in same {
        let mut loss = Loss::default();
        for chunk in plan.chunks(i) {
            loss.add(plan.loss(i, &chunk, &plan.encode(i, &chunk).unwrap()).unwrap());
        }
        assert_eq!(loss.relative_rms(), 0.0, "{}", tensor.name());
        n += 1;
    }
    assert!(n > 10, "{n}");
    let larger =
        Quantization::plan(&ModelFiles::open(&recorded("gguf_q4_0")).unwrap(), &preset("q8_0")).unwrap();
    let kept = larger.tensors().iter().filter(|tensor| tensor.is_kept());
    assert!(kept.clone().count() > 10 && kept.clone().all(|tensor| tensor.dtype == tensor::DType::Q4_0));
}

/// All values of tensor `i` as they read after encoding.
fn values(plan: &Quantization, i: usize) -> Vec<f32> {
    let dtype = plan.tensors()[i].dtype;
    let mut values = Vec::new();
    for chunk in plan.chunks(i) {
        let bytes = plan.encode(i, &chunk).unwrap();
        let start = values.len();
        values.resize(start + bytes.len() / dtype.block().bytes * dtype.block().values, 0.0);
        dtype.dequantize(&bytes, &mut values[start..]).unwrap();
    }
    values
}

fn prompt(token_ids: impl IntoIterator<Item = u32>) -> ModelInput {
    ModelInput { token_ids: token_ids.into_iter().collect(), ..ModelInput::default() }
}

#[test]
fn columns_that_a_text_uses_are_kept_nearer() {
    let files = ModelFiles::open(&recorded("dense_bias")).unwrap();
    let prompts = [prompt((0..60).map(|i| i * 7 % 90)), prompt([3, 1, 4])];
    let mut done = Vec::new();
    let importance = measure_importance(&files, Device::Reference, &prompts, &mut |n| done.push(n)).unwrap();
    assert_eq!(done, [1, 2]);
    let plan = || Quantization::plan(&files, &preset("q4_0")).unwrap();
    let original = Quantization::plan(&files, &preset("f32")).unwrap();
    let weighted = plan().with_importance(importance.clone(), "sample.txt").unwrap();
    for (tensor, parameter) in [
        ("blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"),
        ("blk.1.ffn_up.weight", "model.layers.1.mlp.up_proj.weight"),
    ] {
        let i = original.tensors().iter().position(|found| found.name() == tensor).unwrap();
        assert!(weighted.tensors()[i].dtype.is_quantized(), "{tensor}");
        let columns = importance.columns(parameter).unwrap();
        let expected = values(&original, i);
        let loss = |plan: &Quantization| -> f32 {
            let errors = values(plan, i).into_iter().zip(&expected).zip(columns.iter().cycle());
            errors.map(|((found, expected), weight)| weight * (found - expected).powi(2)).sum()
        };
        let (weighted, alike) = (loss(&weighted), loss(&plan()));
        assert!(weighted < alike, "{tensor}: {weighted:e}, {alike:e} without importance");
    }
}

#[test]
fn experts_that_no_token_meets_have_no_importance() {
    let files = ModelFiles::open(&recorded("moe_interval")).unwrap();
    let importance =
        |prompt: ModelInput| measure_importance(&files, Device::Reference, &[prompt], &mut |_| ()).unwrap();
    let few = importance(prompt([5]));
    let n_met = |importance: &Importance, projection: &str| {
        let met = |e: &usize| {
            let name = |layer| format!("model.layers.{layer}.mlp.experts.{e}.{projection}.weight");
            (0..6).any(|layer| importance.columns(&name(layer)).is_some())
        };
        (0..64).filter(met).count()
    };
    let many = importance(prompt((0..90).map(|i| i * 7 % 90)));
    for projection in ["gate_proj", "up_proj", "down_proj"] {
        let [few, many] = [&few, &many].map(|importance| n_met(importance, projection));
        assert!(0 < few && few < many, "{projection}: {few} and {many}");
    }
    let plan =
        Quantization::plan(&files, &preset("q8_0")).unwrap().with_importance(few, "sample.txt").unwrap();
    let written =
        ModelFiles::from_bytes("test", vec![("model.gguf".to_owned(), SharedBytes::new(write(&plan)))]);
    assert_eq!(written.checkpoint().unwrap().config, files.checkpoint().unwrap().config);
}

/// A model with a vocabulary of one kind, as a GGUF file, and the notes on it.
fn with_vocabulary(names: &[&str]) -> (ModelFiles, ModelFiles, Vec<String>) {
    let read = |path: String| SharedBytes::new(std::fs::read(recorded(&path)).unwrap());
    let mut files: Vec<(String, SharedBytes)> = ["config.json", "model.safetensors"]
        .map(|name| (name.to_owned(), read(format!("dense/{name}"))))
        .into();
    files.extend(names.iter().map(|path| {
        let name = path.rsplit('/').next().unwrap();
        (name.to_owned(), read((*path).to_owned()))
    }));
    let files = ModelFiles::from_bytes("test", files);
    let plan = Quantization::plan(&files, &preset("f16")).unwrap();
    (as_gguf(&files, &preset("f16")), files, plan.notes().to_vec())
}

#[test]
fn vocabularies_of_every_kind_are_kept() {
    for (names, is_native) in [
        (&["tokenizer/tokenizer.json"][..], true),
        (
            &["tokenizer/tokenizer.model", "tokenizer/added_tokens.json", "tokenizer/tokenizer_config.json"],
            true,
        ),
        (&["tokenizer_bytes/tokenizer.json"], false),
    ] {
        let (written, files, notes) = with_vocabulary(names);
        assert_eq!(notes.is_empty(), is_native, "{names:?}: {notes:?}");
        let (before, after) = (files.tokenizer().unwrap(), written.tokenizer().unwrap());
        let text = " Hello,  <|im_end|> <think>wörld</think> 2026!\n\n";
        assert_eq!(after.encode(text), before.encode(text), "{names:?}");
        let ids = before.encode_prompt(text);
        assert_eq!(after.encode_prompt(text), ids, "{names:?}");
        for skip_special in [false, true] {
            assert_eq!(after.decode(&ids, skip_special), before.decode(&ids, skip_special), "{names:?}");
        }
        assert_eq!(after.control_tokens(), before.control_tokens(), "{names:?}");
    }
    let (_, _, notes) = with_vocabulary(&[]);
    assert_eq!(notes, ["the model has no vocabulary, and so its file will have none"]);
}

#[test]
fn one_file_holds_what_a_folder_held() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/model");
    let files = ModelFiles::open(&folder).unwrap();
    let plan = Quantization::plan(&files, &preset("q4_k_m")).unwrap();
    assert_eq!(plan.notes(), [""; 0]);
    let header = SharedBytes::new({
        // The tensors are not looked at.
        let mut file = plan.layout().header();
        file.resize(plan.layout().file_len() as usize, 0);
        file
    });
    let written = ModelFiles::from_bytes("test", vec![("model.gguf".to_owned(), header)]);
    assert_eq!(written.checkpoint().unwrap().config, files.checkpoint().unwrap().config);
    assert_eq!(written.preprocessor().unwrap(), files.preprocessor().unwrap());
    assert_eq!(written.chat_template().unwrap(), files.chat_template().unwrap());
    assert_eq!(written.generation_defaults().unwrap(), files.generation_defaults().unwrap());
    let text = "A large red balloon on grass, near 3 trees.";
    assert_eq!(written.tokenizer().unwrap().encode(text), files.tokenizer().unwrap().encode(text));
}

#[test]
fn values_that_are_no_numbers_are_refused_by_name() {
    let path = |name: &str| recorded("dense").join(name);
    let mut weights = std::fs::read(path("model.safetensors")).unwrap();
    let n = weights.len();
    weights[n - 64..].fill(0xFF); // NaN in every float type
    let files = vec![
        ("config.json".to_owned(), SharedBytes::new(std::fs::read(path("config.json")).unwrap())),
        ("model.safetensors".to_owned(), SharedBytes::new(weights)),
    ];
    let plan = Quantization::plan(&ModelFiles::from_bytes("test", files), &preset("q8_0")).unwrap();
    let all = |i: usize| plan.chunks(i).iter().try_for_each(|chunk| plan.encode(i, chunk).map(drop));
    let error = (0..plan.tensors().len()).find_map(|i| all(i).err()).unwrap().to_string();
    assert!(error.ends_with("which holds a value that is no finite number"), "{error}");
}

/// The head is known to no other program, so it is kept only if somebody asks.
#[test]
fn the_head_that_guesses_is_kept_on_request() {
    let files = ModelFiles::open(&recorded("moe")).unwrap();
    let draft = |files: &ModelFiles| {
        let mut model = load(files, Device::Reference).unwrap();
        model.set_drafting(true).unwrap();
        pollster::block_on(model.decode_rows(&[5, 9, 80], 1)).unwrap();
        pollster::block_on(model.draft(17, 4)).unwrap()
    };
    let without = Quantization::plan(&files, &preset("f32")).unwrap();
    assert!(
        without.notes().iter().any(|note| note.contains("(12 tensors) is left out; --mtp")),
        "{:?}",
        without.notes()
    );
    assert_eq!(draft(&as_gguf(&files, &preset("f32"))), [0; 0]);

    let with = Quantization::plan_with_mtp(&files, &preset("f32")).unwrap();
    assert!(!with.notes().iter().any(|note| note.contains("further tokens")));
    assert_eq!(with.tensors().len(), without.tensors().len() + 12);
    let entry = ("model.gguf".to_owned(), SharedBytes::new(write(&with)));
    let kept = ModelFiles::from_bytes("test", vec![entry]);
    assert_eq!(draft(&kept), draft(&files));
    assert_eq!(draft(&kept).len(), 4);
    // A file with the head can be quantised further.
    assert_eq!(
        Quantization::plan_with_mtp(&kept, &preset("q8_0")).unwrap().tensors().len(),
        with.tensors().len()
    );
}
