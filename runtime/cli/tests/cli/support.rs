//! Runs the program, and makes the model and the pictures it is run on.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What a run of the program gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        // A panic must not pass for an error, nor colours reach a pipe.
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        assert!(!self.stdout.contains('\x1b') && !self.stderr.contains('\x1b'), "{self:#?}");
        self
    }

    /// Standard output as lines of JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Vec<Value> {
        let lines = self.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }
}

/// Runs the program in `dir`.
pub(crate) fn ocelli(dir: &Path, args: &[&str]) -> Run {
    ocelli_reading(dir, args, "")
}

/// Runs the program with text on standard input.
pub(crate) fn ocelli_reading(dir: &Path, args: &[&str], stdin: impl AsRef<[u8]>) -> Run {
    let mut child = command(dir, args).spawn().unwrap();
    // The program may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_ref());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    Run {
        code: status.code().expect("the program ends by itself"),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

pub(crate) fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ocelli"));
    command.current_dir(dir).args(args);
    // Nothing of whoever runs the tests is read or written.
    command.env("XDG_CONFIG_HOME", dir.join("config")).env("XDG_DATA_HOME", dir.join("data"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn recorded(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recorded").join(path)
}

/// A folder with a tiny vision-language model in `model`. Its weights are those of a recorded case, its
/// vocabulary the recorded one, so that it speaks, if only gibberish.
pub(crate) fn world() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    fs::create_dir(&model).unwrap();
    fs::copy(recorded("tokenizer/tokenizer.json"), model.join("tokenizer.json")).unwrap();
    fs::copy(recorded("chat/vl.jinja"), model.join("chat_template.jinja")).unwrap();
    let limits = json!({ "min_pixels": 784, "max_pixels": 16 * 784 });
    fs::write(model.join("preprocessor_config.json"), limits.to_string()).unwrap();

    let vocabulary: Value = read_json(&recorded("tokenizer/tokenizer.json"));
    let id = |token: &str| {
        let added = vocabulary["added_tokens"].as_array().unwrap();
        added.iter().find(|entry| entry["content"] == token).unwrap()["id"].clone()
    };
    let vocab_size = id("<|VIDEO_PLACEHOLDER|>").as_u64().unwrap() as usize + 1;
    let mut config = read_json(&recorded("vl_image/config.json"));
    config["vocab_size"] = vocab_size.into();
    for (key, token) in [
        ("im_patch_id", "<|IMAGE_PLACEHOLDER|>"),
        ("image_start_token_id", "<|IMAGE_START|>"),
        ("image_end_token_id", "<|IMAGE_END|>"),
        ("video_start_token_id", "<|VIDEO_START|>"),
        ("video_end_token_id", "<|VIDEO_END|>"),
    ] {
        config[key] = id(token);
    }
    fs::write(model.join("config.json"), config.to_string()).unwrap();
    let weights = fs::read(recorded("vl_image/model.safetensors")).unwrap();
    fs::write(model.join("model.safetensors"), with_vocabulary(&weights, vocab_size)).unwrap();
    dir
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The same weights with an embedding of `n` rows, which repeats the rows there are.
fn with_vocabulary(safetensors: &[u8], n: usize) -> Vec<u8> {
    let header_len = u64::from_le_bytes(safetensors[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&safetensors[8..8 + header_len]).unwrap();
    let data = &safetensors[8 + header_len..];
    let mut tensors = serde_json::Map::new();
    let mut bytes = Vec::new();
    for (name, tensor) in header.as_object().unwrap() {
        if name == "__metadata__" || name == "lm_head.weight" {
            continue;
        }
        let at = |i: usize| tensor["data_offsets"][i].as_u64().unwrap() as usize;
        let start = bytes.len();
        bytes.extend_from_slice(&data[at(0)..at(1)]);
        let mut shape = tensor["shape"].clone();
        if name == "model.embed_tokens.weight" {
            let row = (at(1) - at(0)) / shape[0].as_u64().unwrap() as usize;
            while bytes.len() - start < n * row {
                bytes.extend_from_within(start..start + (at(1) - at(0)).min(n * row - (bytes.len() - start)));
            }
            shape[0] = n.into();
        }
        let offsets = json!([start, bytes.len()]);
        tensors.insert(
            name.clone(),
            json!({ "dtype": tensor["dtype"], "shape": shape, "data_offsets": offsets }),
        );
    }
    let header = Value::Object(tensors).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend(bytes);
    file
}

/// Saves a picture of `width` by `height` pixels, in the format that the name says.
pub(crate) fn picture(path: &Path, width: u32, height: u32) {
    let shade = |x: u32, y: u32| Rgb([(x * 7) as u8, (y * 5) as u8, 90]);
    RgbImage::from_fn(width, height, shade).save(path).unwrap();
}
