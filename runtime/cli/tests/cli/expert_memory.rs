//! `--expert-memory` and `--quantize`: less memory, and what is told about it.

use serde_json::Value;

use crate::support::{ocelli, picture, world};

#[test]
fn experts_in_less_memory_give_the_same_answer() {
    let dir = world();
    picture(&dir.path().join("a.png"), 84, 84);
    let ask = |more: &[&str]| {
        let args = ["ask", "--model", "model", "--max-tokens", "12", "--json", "a.png", "What is this?"];
        ocelli(dir.path(), &[&args[..], more].concat()).expect(0).json().remove(0)
    };
    let plain = ask(&[]);
    assert_eq!(plain["experts"], Value::Null);
    let bounded = ask(&["--expert-memory", "60%"]);
    assert_eq!(bounded["answer"], plain["answer"]);
    let experts = &bounded["experts"];
    let number = |key: &str| experts[key].as_f64().unwrap_or_else(|| panic!("{key} in {experts}"));
    assert!(number("uses") > 0.0 && number("read_bytes") > 0.0, "{experts}");
    assert!((0.0..1.0).contains(&number("hit_rate")), "{experts}");
    assert!(number("resident_bytes") <= number("budget_bytes"), "{experts}");
    assert!(bounded["notes"].to_string().contains("uses of experts found them in"), "{bounded}");

    let args =
        ["bench", "--model", "model", "--prompt", "20", "--generate", "4", "--repetitions", "1", "--json"];
    let bench =
        ocelli(dir.path(), &[&args[..], &["--expert-memory", "60%"]].concat()).expect(0).json().remove(0);
    assert!(bench["experts"]["uses"].as_u64().unwrap() > 0, "{bench}");
}

#[test]
fn budgets_that_cannot_be_kept_are_refused_before_anything_is_loaded() {
    let dir = world();
    for (memory, model, expected) in [
        ("1KiB", Some("model"), "need at least"),
        ("lots", Some("model"), "a size as 8GiB, 500MB or 60% is needed"),
        ("101%", Some("model"), "a size as"),
    ] {
        let mut args = vec!["ask", "--expert-memory", memory, "Hello?"];
        args.extend(model.iter().flat_map(|model| ["--model", model]));
        let run = ocelli(dir.path(), &args).expect(2);
        assert!(run.stderr.contains(expected), "{memory}: {run:#?}");
    }
}

#[test]
fn weights_are_quantised_while_loading() {
    let dir = world();
    let bench = |more: &[&str]| {
        // The model inside, whose rows are whole blocks.
        let args = ["bench", "--prompt", "20", "--generate", "4", "--repetitions", "1", "--json"];
        ocelli(dir.path(), &[&args[..], more].concat()).expect(0)
    };
    let bytes = |run: &Value, key: &str| run[key].as_u64().unwrap();
    let plain = bench(&[]).json().remove(0);
    let run = bench(&["--quantize", "q8_0"]);
    assert!(run.stderr.contains("quantising to q8_0 while loading"), "{run:#?}");
    let quantised = run.json().remove(0);
    let all = |run: &Value| bytes(run, "weights_mapped_bytes") + bytes(run, "weights_owned_bytes");
    assert!(all(&quantised) < all(&plain) * 6 / 10, "{quantised}");
    assert!(
        bytes(&quantised, "weights_owned_bytes") > bytes(&quantised, "weights_mapped_bytes"),
        "{quantised}"
    );
    let both = ["--quantize", "q8_0", "--expert-memory", "60%"];
    let refused = ocelli(dir.path(), &[&["ask", "--model", "model"][..], &both, &["Hi"]].concat()).expect(2);
    assert!(refused.stderr.contains("cannot be used with"), "{refused:#?}");
}
