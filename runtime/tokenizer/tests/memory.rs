//! A program that tokenizes for days holds no more than after its first text.

#[path = "../../../tests/counting.rs"]
mod counting;

use std::path::Path;

use tokenizer::Tokenizer;

#[test]
fn texts_leave_nothing_behind() {
    for folder in ["tokenizer", "tokenizer_bytes"] {
        let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recorded").join(folder);
        let json = std::fs::read(recorded.join("tokenizer.json")).unwrap();
        let tokenizer = Tokenizer::from_json(&json).unwrap();
        let encode =
            |i: usize| assert!(!tokenizer.encode(&format!("Picture {i}: word{i}, and others")).is_empty());
        // Tables that are made once, for whatever length comes.
        (0..10).for_each(encode);
        let ((), taken) = counting::peak(|| (10..1000).for_each(encode));
        assert!(taken < 64 << 10, "{folder}: {taken} bytes");
    }
}
