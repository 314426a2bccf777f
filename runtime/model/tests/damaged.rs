//! Damaged and foreign files are errors: no panic, no hang, no allocation that a file merely claims.

#[path = "../../../tests/random.rs"]
mod random;

use std::path::{Path, PathBuf};

use model::{Checkpoint, Config, Decoder};
use random::Random;
use tensor::SharedBytes;
use tensor::weights::{Gguf, Safetensors};

fn recorded(path: &str) -> Vec<u8> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recorded").join(path);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Whether the bytes form a decoder; whatever they are, this returns.
fn loads_gguf(bytes: &[u8]) -> bool {
    let Ok(gguf) = Gguf::parse(SharedBytes::new(bytes.to_vec())) else { return false };
    for (_, value) in gguf.metadata() {
        if let Some(array) = value.as_array() {
            let _ = (array.strings(), array.numbers());
        }
    }
    let Ok(config) = Config::from_gguf(&gguf) else { return false };
    forms_decoder(config, gguf.index().clone())
}

fn loads_safetensors(config: &Config, bytes: &[u8]) -> bool {
    let Ok(file) = Safetensors::parse(SharedBytes::new(bytes.to_vec())) else { return false };
    forms_decoder(config.clone(), file.into_index())
}

fn forms_decoder(config: Config, index: tensor::weights::TensorIndex) -> bool {
    let _ = config.n_parameters();
    let Ok(mut checkpoint) = Checkpoint::new(config.clone(), index) else { return false };
    checkpoint.check(|w| Decoder::load(w, &config.text).map(drop)).is_ok()
}

/// Cuts the file at many lengths and flips bits, mostly in its header.
fn damage(file: &[u8], header_len: usize, loads: impl Fn(&[u8]) -> bool) {
    assert!(loads(file));
    let lengths = (0..header_len.min(600)).chain((0..file.len()).step_by(file.len() / 100 + 1));
    for len in lengths {
        assert!(!loads(&file[..len]), "{len} of {} bytes load", file.len());
    }
    let mut random = Random(file.len() as u64);
    let mut damaged = file.to_vec();
    for _ in 0..1500 {
        let places: Vec<usize> = (0..1 + random.below(3)).map(|_| random.below(header_len)).collect();
        for &place in &places {
            damaged[place] ^= 1 << random.below(8);
        }
        loads(&damaged);
        for place in places {
            damaged[place] = file[place];
        }
    }
}

#[test]
fn damaged_gguf_files_are_refused() {
    for case in ["gguf_q8_0", "gguf_moe_mixed", "gguf_llama"] {
        damage(&recorded(&format!("{case}/model.gguf")), 2000, loads_gguf);
    }
}

#[test]
fn damaged_safetensors_files_are_refused() {
    for case in ["dense", "moe_stacked", "vl_image"] {
        let config =
            Config::from_json(str::from_utf8(&recorded(&format!("{case}/config.json"))).unwrap()).unwrap();
        let file = recorded(&format!("{case}/model.safetensors"));
        let header_len = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        damage(&file, header_len, |bytes| loads_safetensors(&config, bytes));
    }
}

#[test]
fn foreign_files_are_refused() {
    let config = Config::from_json(str::from_utf8(&recorded("dense/config.json")).unwrap()).unwrap();
    let zip = [b"PK\x03\x04".as_slice(), &[0; 200]].concat();
    let png = recorded("preprocess/blocks_224x224.png");
    for bytes in [&[][..], &zip, &png, b"GGUF", b"GGUF\x03\0\0\0", &[0xff; 64], &[0; 64]] {
        assert!(!loads_gguf(bytes) && !loads_safetensors(&config, bytes));
    }
}

#[test]
fn claims_of_a_header_size_nothing() {
    let claim = |tensors: u64, values: u64, rest: &[u8]| {
        let head =
            [b"GGUF\x03\0\0\0".as_slice(), &tensors.to_le_bytes(), &values.to_le_bytes(), rest].concat();
        Gguf::parse(SharedBytes::new(head)).unwrap_err().to_string()
    };
    assert_eq!(
        claim(1 << 60, 0, &[]),
        "GGUF file is not valid: 1152921504606846976 tensors do not fit into the 8 bytes that follow"
    );
    assert!(claim(0, u64::MAX, &[]).contains("metadata values"));
    let key = [1u64.to_le_bytes().as_slice(), b"k"].concat();
    let array = [&key[..], &9u32.to_le_bytes(), &5u32.to_le_bytes(), &(1u64 << 62).to_le_bytes()].concat();
    assert!(claim(0, 1, &array).contains("array values"));
    let tensor =
        [&key[..], &2u32.to_le_bytes(), &[0xff; 16], &0u32.to_le_bytes(), &0u64.to_le_bytes()].concat();
    assert!(claim(1, 0, &tensor).contains("absurd"));
}

#[test]
fn nonsense_in_a_config_is_named() {
    let json: String = String::from_utf8(recorded("moe/config.json")).unwrap();
    let check = |key: &str, value: &str| {
        let mut config: serde_json::Value = serde_json::from_str(&json).unwrap();
        config[key] = serde_json::from_str(value).unwrap();
        let error = Config::from_json(&config.to_string()).unwrap_err().to_string();
        assert!(error.contains(key) && !error.contains('\n'), "{key} {value}: {error}");
    };
    for (key, value) in [
        ("num_hidden_layers", "1000000000"),
        ("num_hidden_layers", "0"),
        ("num_attention_heads", "0"),
        ("num_attention_heads", "5"),
        ("num_key_value_heads", "4"),
        ("head_dim", "7"),
        ("hidden_size", "-48"),
        ("hidden_size", "1e300"),
        ("hidden_size", "\"48\""),
        ("vocab_size", "99999999999999999999"),
        ("moe_k", "9"),
        ("moe_num_experts", "[8, 8, 8]"),
        ("moe_num_experts", "4000000000"),
        ("moe_layer_interval", "0"),
        ("moe_layer_end_index", "-2"),
        ("rms_norm_eps", "0"),
        ("hidden_act", "\"gelu\""),
        ("moe_gate", "\"hash\""),
        ("mlp_layer_types", "[\"dense\"]"),
        ("intermediate_size", "null"),
    ] {
        check(key, value);
    }
}

#[test]
fn damaged_configs_never_panic() {
    for case in ["dense", "moe", "vl_image", "vl_converted"] {
        let json = recorded(&format!("{case}/config.json"));
        let mut random = Random(json.len() as u64);
        for _ in 0..1500 {
            let mut damaged = json.clone();
            let place = random.below(json.len());
            damaged[place] = b"0123456789-.,:\"[]{}enl"[random.below(22)];
            if let Ok(config) = Config::from_json(&String::from_utf8_lossy(&damaged)) {
                let _ = config.n_parameters();
            }
        }
    }
}

#[test]
fn published_models_have_their_published_size() {
    let published = |json: &str| Config::from_json(json).unwrap().published_name();
    let dense = r#"{"model_type": "ernie4_5", "hidden_size": 1024, "num_hidden_layers": 18, "head_dim": 128,
        "num_attention_heads": 16, "num_key_value_heads": 2, "intermediate_size": 3072, "vocab_size": 103424}"#;
    assert_eq!(published(dense), Some("ERNIE-4.5-0.3B"));
    let moe = r#"{"model_type": "ernie4_5_moe", "hidden_size": 2560, "num_hidden_layers": 28,
        "num_attention_heads": 20, "num_key_value_heads": 4, "intermediate_size": 12288, "vocab_size": 103424,
        "moe_num_experts": 64, "moe_intermediate_size": 1536, "moe_k": 6, "moe_num_shared_experts": 2,
        "moe_layer_start_index": 1, "moe_layer_end_index": 27}"#;
    assert_eq!(published(moe), Some("ERNIE-4.5-21B-A3B"));
    let vl = r#"{"model_type": "ernie4_5_moe_vl", "hidden_size": 2560, "num_hidden_layers": 28,
        "num_attention_heads": 20, "num_key_value_heads": 4, "intermediate_size": 12288, "vocab_size": 103424,
        "moe_num_experts": [64, 64], "moe_intermediate_size": [1536, 512], "moe_k": 6,
        "moe_num_shared_experts": 2, "moe_layer_start_index": [1, 1], "moe_layer_end_index": [29, 28],
        "vision_config": {"depth": 32, "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4}}"#;
    assert_eq!(published(vl), Some("ERNIE-4.5-VL-28B-A3B"));
}
