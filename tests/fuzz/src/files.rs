//! Files of models, pictures and conversations.

use std::ops::ControlFlow;

use agent::{Content, Origin, Part, Pictures, Role, Turn};
use engine::{Device, ModelFiles, ModelInput};
use sessions::Store;
use tensor::SharedBytes;
use tokenizer::Tokenizer;
use vision::{DecodeOptions, Limits, Preprocessor};

use crate::{apart, joined, read};

/// Sides of a picture that is worth looking at: what is refused is refused by its header.
const LIMITS: Limits = Limits { max_bytes: 1 << 20, max_side: 1024, max_pixels: 1 << 19 };

/// Asks a model's files for everything, and the model, if it is one, for two tokens.
fn use_model(files: &ModelFiles) -> bool {
    let _ = files.tokenizer();
    let _ = files.chat_template();
    let _ = files.preprocessor();
    let _ = files.generation_defaults();
    let _ = files.fingerprint();
    let Ok(checkpoint) = files.checkpoint() else { return false };
    let _ = checkpoint.stored_bytes();
    let Ok(mut model) = engine::load(files, Device::Cpu) else { return false };
    let input = ModelInput { token_ids: vec![1, 2], ..ModelInput::default() };
    let read = pollster::block_on(model.prefill(&input, 2, 1, &mut |_, _| ControlFlow::Continue(())));
    read.is_ok() && pollster::block_on(model.decode(1, 1)).is_ok()
}

pub(crate) fn gguf(bytes: &[u8]) -> bool {
    let file = ("model.gguf".to_owned(), SharedBytes::copy(bytes.to_vec()));
    use_model(&ModelFiles::from_bytes("model.gguf", vec![file]))
}

pub(crate) fn gguf_seeds() -> Vec<Vec<u8>> {
    ["gguf_q4_0", "gguf_k_quants", "gguf_moe_mixed", "gguf_llama"]
        .map(|case| read(&format!("tests/recorded/{case}/model.gguf")))
        .into()
}

pub(crate) fn safetensors(bytes: &[u8]) -> bool {
    let (config, weights) = apart(bytes);
    let file = |name: &str, bytes: &[u8]| (name.to_owned(), SharedBytes::copy(bytes.to_vec()));
    let files = vec![file("config.json", config), file("model.safetensors", weights)];
    use_model(&ModelFiles::from_bytes("model", files))
}

pub(crate) fn safetensors_seeds() -> Vec<Vec<u8>> {
    let file = |case: &str, name: &str| read(&format!("tests/recorded/{case}/{name}"));
    ["dense", "moe", "vl_image"]
        .map(|case| joined(&file(case, "config.json"), &file(case, "model.safetensors")))
        .into()
}

/// The first byte tells the format.
pub(crate) fn tokenizer(bytes: &[u8]) -> bool {
    const TEXT: &str = "A red car on gr\u{e4}ss.\n\u{4e00}\u{1f600} <s>";
    let Some((format, bytes)) = bytes.split_first() else { return false };
    let tokenizer = match format % 2 {
        0 => Tokenizer::from_json(bytes),
        _ => Tokenizer::from_sentencepiece(bytes, &[]),
    };
    let Ok(tokenizer) = tokenizer else { return false };
    let ids = tokenizer.encode(TEXT);
    assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()), "an id beyond the vocabulary");
    let whole = tokenizer.decode(&ids, false);
    let mut parts = tokenizer.detokenizer(false);
    let mut streamed: String = ids.iter().map(|&id| parts.push(id)).collect();
    streamed.push_str(&parts.finish());
    assert_eq!(streamed, whole, "streamed and decoded at once");
    true
}

pub(crate) fn tokenizer_seeds() -> Vec<Vec<u8>> {
    let tagged = |tag: u8, path: &str| [vec![tag], read(path)].concat();
    vec![
        tagged(0, "tests/recorded/tokenizer_bytes/tokenizer.json"),
        tagged(1, "tests/recorded/tokenizer/tokenizer.model"),
    ]
}

pub(crate) fn picture(bytes: &[u8]) -> bool {
    let _ = vision::frame_durations(bytes);
    let options = DecodeOptions { limits: LIMITS, apply_orientation: true };
    let Ok(picture) = vision::decode(bytes, &options) else { return false };
    assert!(u64::from(picture.width) * u64::from(picture.height) <= LIMITS.max_pixels);
    Preprocessor::default().image(&picture).is_ok()
}

pub(crate) fn picture_seeds() -> Vec<Vec<u8>> {
    ["cup.jpg", "umbrella.webp", "two-apples.png"].map(|name| read(&format!("assets/images/{name}"))).into()
}

pub(crate) fn session(bytes: &[u8]) -> bool {
    let Ok(exported) = serde_json::from_slice(bytes) else { return false };
    let folder = tempfile::tempdir().expect("a folder for the database");
    let mut store = Store::open(&folder.path().join("sessions.db")).expect("a new database");
    let Ok(id) = store.import(exported) else {
        assert!(store.list().expect("a list").is_empty(), "a part of what was refused stayed");
        return false;
    };
    store.turns(&id).expect("what was imported is there");
    store.pictures(&id).expect("and its pictures");
    let again = store.export(&id).expect("and can be exported");
    store.import(again).expect("and imported once more");
    true
}

pub(crate) fn session_seeds() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder for the database");
    let mut store = Store::open(&folder.path().join("sessions.db")).expect("a new database");
    let id = store.create("cups").expect("a session");
    let mut pictures = Pictures::default();
    let cup = pictures.add(read("assets/images/cup.jpg"));
    let part = |origin, content| Part { origin, content };
    let turns = [
        (
            Role::User,
            vec![
                part(Origin::User, Content::Text("What?".into())),
                part(Origin::File, Content::Picture(cup)),
            ],
        ),
        (Role::Assistant, vec![part(Origin::Model, Content::Text("A cup.".into()))]),
    ];
    for (role, parts) in turns {
        let turn = Turn { role, parts, call_id: None, reasoning: None };
        store.append(&id, &turn, &pictures).expect("a turn");
    }
    vec![store.export(&id).expect("an export").to_string().into_bytes()]
}
