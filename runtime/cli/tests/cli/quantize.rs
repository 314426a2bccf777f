//! `quantize`: files that are whole or not there, and what the smaller types cost.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use engine::{Capture, Device, ModelFiles, ModelInput, load_traceable};
use tempfile::TempDir;

use crate::support::{Run, ocelli, picture, recorded, world};

fn assets(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets").join(name)
}

fn quantize(dir: &Path, model: &Path, out: &str, more: &[&str]) -> Run {
    ocelli(dir, &[&["quantize", model.to_str().unwrap(), out], more].concat())
}

#[test]
fn a_file_says_what_it_is_and_answers() {
    let dir = world();
    let run = quantize(dir.path(), Path::new("model"), "q.gguf", &["--type", "Q8_0", "--tensors"]).expect(0);
    assert!(run.stdout.contains("q8_0") && run.stdout.contains("blk.1.ffn_up_exps_vis.weight"), "{run:#?}");
    assert!(run.stdout.contains("fallback"), "{run:#?}");
    assert!(!dir.path().join("q.gguf.part").exists());
    let inspect = ocelli(dir.path(), &["inspect", "q.gguf", "--json"]).expect(0).json().remove(0);
    let original = ocelli(dir.path(), &["inspect", "model", "--json"]).expect(0).json().remove(0);
    for key in ["architecture", "config", "parameters", "tokenizer", "chat_template"] {
        assert_eq!(inspect[key], original[key], "{key}");
    }
    assert_eq!(inspect["ignored"].as_array().unwrap().len(), 0);
    let args = ["ask", "--model", "q.gguf", "--max-tokens", "5", "Hello?"];
    assert!(!ocelli(dir.path(), &args).expect(0).stdout.is_empty());
    // A file of this kind is a model to quantise like any other.
    let again = quantize(dir.path(), Path::new("q.gguf"), "again.gguf", &["--type", "q8_0", "--json"]);
    let report = again.expect(0).json().remove(0);
    let tensors = report["tensors"].as_array().unwrap();
    assert!(tensors.iter().all(|tensor| tensor["relative_rms_error"] == 0.0), "{report}");
    let len = |name: &str| fs::metadata(dir.path().join(name)).unwrap().len();
    assert_eq!(len("again.gguf"), len("q.gguf"));
}

#[test]
fn an_interrupted_run_is_continued() {
    let dir = world();
    let model = Path::new("model");
    let run = |out: &str, more: &[&str]| quantize(dir.path(), model, out, &[&["--json"], more].concat());
    let path = |name: &str| dir.path().join(name);
    let bytes_of = |report: &Run| report.json()[0]["bytes"].as_u64().unwrap();
    assert_eq!(bytes_of(&run("whole.gguf", &[]).expect(0)), fs::metadata(path("whole.gguf")).unwrap().len());
    let whole = fs::read(path("whole.gguf")).unwrap();

    let continued = |name: &str, part: &[u8]| {
        fs::write(path(&format!("{name}.part")), part).unwrap();
        let run = run(name, &[]).expect(0);
        assert_eq!(fs::read(path(name)).unwrap(), whole, "{name}");
        run.json()[0]["resumed"].as_u64().unwrap()
    };
    assert!(continued("half.gguf", &whole[..whole.len() * 3 / 5]) > 3);
    assert!(continued("full.gguf", &whole) > 3);
    // What was left by something else is no beginning.
    assert_eq!(continued("empty.gguf", b""), 0);
    assert_eq!(continued("other.gguf", &vec![7; whole.len()]), 0);
    let header_only = &whole[..whole.len() / 50];
    assert_eq!(continued("header.gguf", header_only), 0);
    let mut damaged = whole[..whole.len() * 3 / 5].to_vec();
    let start = whole.len() * 2 / 5;
    damaged[start..].fill(0);
    assert_eq!(continued("damaged.gguf", &damaged), 0);
}

#[test]
fn nothing_is_replaced_unasked() {
    let dir = world();
    fs::write(dir.path().join("mine.gguf"), "precious").unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    let model = Path::new("model");
    for (model, out, more, expected) in [
        (model, "mine.gguf", &[][..], "mine.gguf exists; give --force to replace it"),
        (model, "folder", &[], "folder is a folder; name the file to write"),
        (model, "none/x.gguf", &[], "there is no folder none to write into"),
        (model, "model/config.json", &["--force"], "model/config.json is part of the model itself"),
        (Path::new("none"), "x.gguf", &[], "cannot read none"),
        (Path::new("mine.gguf"), "x.gguf", &[], "GGUF file is not valid"),
        (model, "x.gguf", &["--type", "q3_k"], "invalid value 'q3_k'"),
    ] {
        let run = quantize(dir.path(), model, out, more).expect(2);
        assert!(run.stderr.starts_with("error: ") && run.stderr.contains(expected), "{run:#?}");
        assert!(run.stdout.is_empty(), "{run:#?}");
    }
    assert_eq!(fs::read_to_string(dir.path().join("mine.gguf")).unwrap(), "precious");
    quantize(dir.path(), model, "mine.gguf", &["--force", "--quiet"]).expect(0);
    assert!(fs::read(dir.path().join("mine.gguf")).unwrap().starts_with(b"GGUF"));
}

#[test]
fn models_that_only_read_are_written_too() {
    let dir = tempfile::tempdir().unwrap();
    for case in ["dense", "moe_paddle"] {
        let run =
            quantize(dir.path(), &recorded(case), &format!("{case}.gguf"), &["--type", "q4_0"]).expect(0);
        assert!(run.stderr.contains("no vocabulary"), "{run:#?}");
        ocelli(dir.path(), &["inspect", &format!("{case}.gguf")]).expect(0);
    }
}

#[test]
fn a_text_tells_which_weights_matter() {
    let dir = world();
    let run = |out: &str, more: &[&str]| quantize(dir.path(), Path::new("model"), out, more);
    fs::write(dir.path().join("short.txt"), "Hello!").unwrap();
    fs::write(dir.path().join("sample.txt"), TEXT.repeat(8)).unwrap();
    let short = run("x.gguf", &["--importance", "short.txt"]).expect(2);
    assert!(short.stderr.contains("too few to measure on"), "{short:#?}");
    let missing = run("x.gguf", &["--importance", "none.txt"]).expect(2);
    assert!(missing.stderr.contains("cannot read none.txt"), "{missing:#?}");

    run("plain.gguf", &["--type", "q4_0"]).expect(0);
    run("weighted.gguf", &["--type", "q4_0", "--importance", "sample.txt"]).expect(0);
    let [plain, weighted] =
        ["plain.gguf", "weighted.gguf"].map(|name| fs::read(dir.path().join(name)).unwrap());
    assert!(weighted.windows(10).any(|bytes| bytes == b"sample.txt"));
    assert!(plain.iter().rev().zip(weighted.iter().rev()).any(|(a, b)| a != b), "no weight was kept nearer");
    ocelli(dir.path(), &["inspect", "weighted.gguf"]).expect(0);
}

#[test]
fn pictures_tell_which_weights_matter() {
    let dir = world();
    fs::create_dir(dir.path().join("pictures")).unwrap();
    fs::write(dir.path().join("sample.txt"), TEXT.repeat(8)).unwrap();
    for (i, side) in [56, 84, 112].into_iter().enumerate() {
        picture(&dir.path().join(format!("pictures/{i}.png")), side, 84);
    }
    let run = |out: &str, more: &[&str]| quantize(dir.path(), Path::new("model"), out, more);
    run("text.gguf", &["--type", "q4_0", "--importance", "sample.txt"]).expect(0);
    run("both.gguf", &["--type", "q4_0", "--importance", "sample.txt", "--importance", "pictures"]).expect(0);
    // Only pictures pass the tower.
    let tower = |name: &str| -> Vec<u8> {
        let files = ModelFiles::open(&dir.path().join(name)).unwrap();
        let index = files.checkpoint().unwrap().index().clone();
        let names = index.names().filter(|name| name.starts_with("v.blk."));
        names.flat_map(|name| index.get(name).unwrap().bytes.as_ref().to_vec()).collect()
    };
    assert!(tower("text.gguf") != tower("both.gguf"), "no weight of the tower was kept nearer");
    let bytes = fs::read(dir.path().join("both.gguf")).unwrap();
    assert!(bytes.windows(20).any(|bytes| bytes == b"sample.txt, pictures"));
    fs::write(dir.path().join("broken.png"), [0xff, 0xd8, 0]).unwrap();
    let broken = run("x.gguf", &["--importance", "broken.png"]).expect(2);
    assert!(broken.stderr.contains("broken.png"), "{broken:#?}");
}

/// Text of the kind that the model inside was trained on.
const TEXT: &str = "A large red balloon on grass. A large white butterfly on a checked background. A large orange on \
    the sea. A large yellow key at night. A purple umbrella on a white background. A large green shirt on grass. \
    A red apple on a white background. A large purple umbrella on a yellow background. What colour is the star? \
    Describe this picture. Hello! How are you? Two blue fish and a green tree next to a small brown house. Three small \
    orange stars in the sky. A small black dog on a road. What is in the middle? A pink heart and a yellow sun above \
    a large boat on the sea. How many apples are there? There are two of them. A large brown chair on a grey \
    background, and a small white cup to the left of it. Is there a flower? Yes, a red one at night.";

/// Each type with the most that its next-token distributions may differ from those of the original (mean of
/// KL divergence, in nats), and the least share of places where the likeliest token stays the same.
///
/// Any model that is trained on the same data has to stay within them: they tell noise from a mistake, not one
/// encoder from a better one. Weights in bf16 are the original's, and f16 loses nothing but the smallest of them;
/// 0.25 nats would be a fifth of the likelihood. `--nocapture` shows what is measured.
const COSTS: [(&str, f64, f64); 8] = [
    ("bf16", 1e-9, 1.0),
    ("f16", 1e-4, 0.98),
    ("q8_0", 1e-2, 0.95),
    ("q6_k", 5e-2, 0.9),
    ("q5_k_m", 0.15, 0.8),
    ("q4_k_m", 0.25, 0.75),
    ("q4_1", 0.25, 0.75),
    ("q4_0", 0.25, 0.75),
];

/// Presets whose errors of weights at least double from one to the next: the median divergence grows with their
/// squares. The mean hangs on a few places where the model hesitates.
const WORSE_AND_WORSE: [&str; 4] = ["f16", "q8_0", "q6_k", "q4_0"];

/// Log-probabilities of the token after each one of the text.
fn distributions(model: &Path, device: Device) -> Vec<Vec<f64>> {
    let files = ModelFiles::open(model).unwrap();
    let input = ModelInput { token_ids: files.tokenizer().unwrap().encode(TEXT), ..ModelInput::default() };
    let mut model = load_traceable(&files, device).unwrap();
    let rows: Vec<usize> = (0..input.token_ids.len()).collect();
    let trace = pollster::block_on(model.trace(&input, 64, &rows, Capture::default())).unwrap();
    let log_softmax = |logits: &[f32]| {
        let most = logits.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = logits.iter().map(|&x| f64::from(x - most).exp()).sum();
        logits.iter().map(|&x| f64::from(x - most) - sum.ln()).collect()
    };
    trace.logits.chunks(trace.logits.len() / rows.len()).map(log_softmax).collect()
}

fn likeliest(row: &[f64]) -> usize {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap()
}

/// Mean and median KL divergence, and the share of equal likeliest tokens.
fn compare(original: &[Vec<f64>], found: &[Vec<f64>]) -> (f64, f64, f64) {
    let divergence =
        |(p, q): (&Vec<f64>, &Vec<f64>)| -> f64 { p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum() };
    let n = original.len() as f64;
    let pairs = || original.iter().zip(found);
    let same = pairs().filter(|(p, q)| likeliest(p) == likeliest(q)).count();
    let mut divergences: Vec<f64> = pairs().map(divergence).collect();
    divergences.sort_by(f64::total_cmp);
    (divergences.iter().sum::<f64>() / n, divergences[divergences.len() / 2], same as f64 / n)
}

fn captions(model: &Path) -> Vec<String> {
    let args = ["caption", "--json", "--model", model.to_str().unwrap(), "."];
    let run = ocelli(&assets("images"), &args).expect(0);
    run.json().iter().map(|line| line["caption"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The share of words of the captions `expected` that are in their place in `found`.
fn same_words(expected: &[String], found: &[String]) -> f64 {
    let pairs = || expected.iter().zip(found).flat_map(|(a, b)| a.split(' ').zip(b.split(' ')));
    let n_words: usize = expected.iter().map(|caption| caption.split(' ').count()).sum();
    pairs().filter(|(a, b)| a == b).count() as f64 / n_words as f64
}

#[test]
#[expect(clippy::print_stderr, reason = "figures for those who ask for them")]
fn the_model_inside_survives_every_type() {
    let dir: TempDir = tempfile::tempdir().unwrap();
    let model = assets("model");
    let original = distributions(&model, Device::CpuExact);
    let mut bytes_before = u64::MAX;
    let mut medians = BTreeMap::new();
    for (preset, most_divergence, least_agreement) in COSTS {
        let name = format!("{preset}.gguf");
        let run = quantize(dir.path(), &model, &name, &["--type", preset, "--json"]).expect(0);
        let report = run.json().remove(0);
        let bytes = fs::metadata(dir.path().join(&name)).unwrap().len();
        assert_eq!(report["bytes"], bytes, "{preset}");
        // Each of them is smaller than the one before, where it is not the other half-precision type.
        assert!(bytes < bytes_before || preset == "f16" || preset == "q4_1", "{preset}: {bytes}");
        bytes_before = bytes;
        let [exact, rounded] =
            [Device::CpuExact, Device::Cpu].map(|device| distributions(&dir.path().join(&name), device));
        let (divergence, median, agreement) = compare(&original, &exact);
        let (rounding, rounding_median, _) = compare(&exact, &rounded);
        eprintln!(
            "{preset:>8} {bytes:>9} bytes, KL {divergence:.2e} (median {median:.1e}), top-1 {:.1} %; activations \
             {rounding:.2e} (median {rounding_median:.1e})",
            100.0 * agreement
        );
        assert!(divergence < most_divergence, "{preset}: {divergence}");
        assert!(agreement >= least_agreement, "{preset}: {agreement}");
        assert!(rounding < 0.1, "{preset}: rounding activations costs {rounding}");
        medians.insert(preset, median);
    }
    assert!(WORSE_AND_WORSE.map(|preset| medians[preset]).is_sorted(), "{medians:?}");

    let expected = captions(&model);
    for (preset, least) in [("q8_0", 0.8), ("q4_k_m", 0.5), ("q4_0", 0.5)] {
        let found = captions(&dir.path().join(format!("{preset}.gguf")));
        let same = same_words(&expected, &found);
        eprintln!("{preset:>8} keeps {:.0} % of the captions' words", 100.0 * same);
        assert!(same >= least, "{preset}: {found:?}, not {expected:?}");
    }
}
