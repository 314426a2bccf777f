//! Every recorded checkpoint, whatever its family, age and file format, forms a whole decoder.

use std::path::{Path, PathBuf};

use model::config::{Architecture, RopeKind};
use model::{Checkpoint, Config, Decoder};
use tensor::weights::{Gguf, Safetensors, TensorIndex};
use tensor::{Reference, SharedBytes};

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recorded").join(case)
}

fn bytes(path: &Path) -> SharedBytes {
    SharedBytes::new(std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

fn config(case: &str) -> Config {
    Config::from_json(&std::fs::read_to_string(folder(case).join("config.json")).unwrap()).unwrap()
}

fn checkpoint(case: &str) -> Checkpoint {
    let gguf = folder(case).join("model.gguf");
    if gguf.exists() {
        let gguf = Gguf::parse(bytes(&gguf)).unwrap();
        return Checkpoint::new(Config::from_gguf(&gguf).unwrap(), gguf.index().clone()).unwrap();
    }
    let mut index = TensorIndex::default();
    for entry in std::fs::read_dir(folder(case)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("model") && name.ends_with(".safetensors") {
            index.extend(Safetensors::parse(bytes(&path)).unwrap().into_index()).unwrap();
        }
    }
    Checkpoint::new(config(case), index).unwrap()
}

/// Loads the decoder and says which text tensors were left over.
fn check(case: &str) -> Vec<String> {
    let mut checkpoint = checkpoint(case);
    let text = checkpoint.config.text.clone();
    checkpoint.check(|w| Decoder::load(w, &text).map(drop)).unwrap_or_else(|e| panic!("{case}: {e}"));
    Decoder::load(&checkpoint.weights(&Reference), &text).unwrap_or_else(|e| panic!("{case}: {e}"));
    let left_over = checkpoint.ignored().map(|(name, why)| format!("{name}: {why}"));
    left_over.filter(|line| !line.contains("vision_") && !line.contains("resampler_model")).collect()
}

#[test]
fn every_naming_scheme_forms_a_decoder() {
    for case in [
        "dense",
        "dense_bias",
        "dense_bias_paddle",
        "dense_sharded",
        "moe_interval",
        "moe_paddle",
        "moe_stacked",
        "vl_converted",
        "vl_converted_experts",
        "vl_untied",
        "gguf_f32",
        "gguf_f16",
        "gguf_bf16",
        "gguf_q8_0",
        "gguf_q4_0",
        "gguf_q4_1",
        "gguf_q5_0",
        "gguf_q5_1",
        "gguf_k_quants",
        "gguf_llama",
        "gguf_moe_f16",
        "gguf_moe_mixed",
    ] {
        assert_eq!(check(case), [""; 0], "{case}");
    }
}

#[test]
fn what_no_parameter_needs_is_reported() {
    let moe = check("moe");
    assert_eq!(moe.len(), 12);
    assert!(moe.iter().all(|line| line.ends_with("head that predicts further tokens")), "{moe:?}");
    assert_eq!(check("vl_image"), ["lm_head.weight: copy of the embedding, to which the head is tied"]);
}

/// The same parameters under two naming schemes are the same numbers.
#[track_caller]
fn check_same(case: &str, other: &str) {
    let (one, two) = (checkpoint(case), checkpoint(other));
    assert_eq!(one.config.text, two.config.text);
    let load =
        |checkpoint: &Checkpoint| Decoder::load(&checkpoint.weights(&Reference), &checkpoint.config.text);
    let (one, two) = (load(&one).unwrap(), load(&two).unwrap());
    assert_eq!(format!("{:?}", weights(&one)), format!("{:?}", weights(&two)), "{case} {other}");
}

fn weights(decoder: &Decoder<Reference>) -> Vec<&tensor::ReferenceWeight> {
    let mut all = vec![&decoder.embed_tokens, &decoder.norm, &decoder.lm_head.weight];
    for layer in &decoder.layers {
        let a = &layer.attention;
        for l in [&a.q_proj, &a.k_proj, &a.v_proj, &a.o_proj] {
            all.push(&l.weight);
            all.extend(&l.bias);
        }
        match &layer.ffn {
            model::Ffn::Dense(mlp) => {
                for l in [&mlp.gate_proj, &mlp.up_proj, &mlp.down_proj] {
                    all.push(&l.weight);
                    all.extend(&l.bias);
                }
            }
            model::Ffn::Moe(moe) => {
                for bank in [Some(&moe.text), moe.vision.as_ref()].into_iter().flatten() {
                    all.push(&bank.router);
                    all.extend(&bank.correction_bias);
                    all.extend(&bank.experts.gate_proj);
                    all.extend(&bank.experts.up_proj);
                    all.extend(&bank.experts.down_proj);
                }
                if let Some(mlp) = &moe.shared {
                    all.extend([&mlp.gate_proj.weight, &mlp.up_proj.weight, &mlp.down_proj.weight]);
                }
            }
        }
    }
    all
}

#[test]
fn names_do_not_change_numbers() {
    check_same("dense", "dense_sharded");
    check_same("dense_bias", "dense_bias_paddle");
    check_same("moe", "moe_paddle");
    check_same("moe", "moe_stacked");
}

#[test]
fn configs_of_every_family_are_read() {
    let dense = config("dense");
    assert_eq!(dense.architecture, Architecture::Dense);
    assert_eq!((dense.text.head_dim, dense.text.n_kv_heads, dense.text.tie_word_embeddings), (16, 2, true));
    let moe = config("moe_interval").text;
    assert_eq!(moe.moe.unwrap().layers, [false, true, false, true, false, false]);
    assert!(moe.lm_head_bias);
    let vl = config("vl_image");
    assert_eq!(vl.text.rope, RopeKind::InterleavedHwt { hw: 6 });
    let moe = vl.text.moe.unwrap();
    assert_eq!((moe.layers, moe.shared_intermediate_size), (vec![false, true, true], 48));
    let vision = vl.vision.unwrap();
    assert_eq!((vision.depth, vision.intermediate_size, vision.n_heads), (2, 128, 2));
    assert_eq!((vl.tokens.image_placeholder, vl.tokens.video_placeholder), (190, None));
    assert_eq!((vl.tokens.image_start, vl.tokens.video_end), (191, 194));
    let converted = config("vl_converted");
    assert_eq!(converted.tokens.video_placeholder, Some(196));
    assert_eq!(converted.text.rope_theta, 100.0);
    assert_eq!(config("vl_converted_experts").text.moe.unwrap().layers, [false, false, true, true]);
    assert_eq!(config("moe_stacked").text.rope_theta, 500_000.0);
}

#[test]
fn markers_come_from_the_vocabulary_where_the_config_is_silent() {
    let json = std::fs::read_to_string(folder("vl_untied").join("config.json")).unwrap();
    let ids = |token: &str| (token == "<|VIDEO_END|>").then_some(194);
    let tokens = Config::from_json_with_tokens(&json, &ids).unwrap().tokens;
    assert_eq!((tokens.image_placeholder, tokens.image_start, tokens.video_end), (190, 101_304, 194));
}

#[test]
fn errors_name_the_tensor_and_both_shapes() {
    let load = |change: fn(&mut Config)| {
        let mut checkpoint = checkpoint("dense");
        change(&mut checkpoint.config);
        let text = checkpoint.config.text.clone();
        checkpoint.check(|w| Decoder::load(w, &text).map(drop)).unwrap_err().to_string()
    };
    assert_eq!(
        load(|config| config.text.intermediate_size = 81),
        "tensor `model.layers.0.mlp.gate_proj.weight` has shape [80, 48], but the config needs [81, 48]; \
         is this checkpoint for another model size?"
    );
    assert_eq!(
        load(|config| config.text.n_layers = 4),
        "tensor `model.layers.3.mlp.gate_proj.weight` is not in the checkpoint; \
         nearest name there: `model.layers.0.mlp.gate_proj.weight`"
    );
}
