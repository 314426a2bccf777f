//! Evaluation of files, and the same as lines of JSON.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tensor::SharedBytes;
use tensor::weights::{NamedArray, Safetensors, write_safetensors};
use tokenizer::Tokenizer;
use vision::{DecodeOptions, Preprocessor};

use super::{EvalOptions, Evaluation, Named, evaluate};
use crate::chat_template::{self, BuiltIn, ChatTemplate, RenderOptions};
use crate::{Capture, Device, Error, ModelFiles, Result, Traceable, load_traceable};

/// Longest line of a request; longer ones are refused without being kept.
const MAX_LINE: u64 = 16 << 20;

/// Evaluates the case in file `input` with `model` and writes the outputs to file `output`.
///
/// # Errors
/// If a file cannot be read or written, or the case does not fit the model.
pub fn evaluate_file(
    model: &mut dyn Traceable,
    input: &Path,
    output: &Path,
    options: EvalOptions,
) -> Result<Evaluation> {
    let io = |source| Error::Io { path: input.to_owned(), source };
    if !fs::metadata(input).map_err(io)?.is_file() {
        return Err(Error::Prompt(format!("{} is no plain file", input.display())));
    }
    let bytes = fs::read(input).map_err(io)?;
    let inputs = Safetensors::parse(SharedBytes::new(bytes))?;
    let start = Instant::now();
    let evaluation = pollster::block_on(evaluate(model, inputs.index(), options, &|| start.elapsed()))?;
    write(output, &evaluation.arrays)?;
    Ok(evaluation)
}

fn write(path: &Path, arrays: &[Named]) -> Result<()> {
    let bytes = write_safetensors(arrays)?;
    fs::write(path, bytes).map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Answers requests, one line of JSON each. The state is the loaded model and nothing else.
pub struct EvalServer {
    device: Device,
    loaded: Option<LoadedFiles>,
}

impl Default for EvalServer {
    /// On the processor, exactly.
    fn default() -> Self {
        Self::on(Device::CpuExact)
    }
}

struct LoadedFiles {
    files: ModelFiles,
    model: Box<dyn Traceable>,
}

/// What a request asks for. Members that are not known are ignored.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Request {
    Load {
        model: Box<Path>,
        dtype: Option<String>,
    },
    Eval {
        input: Box<Path>,
        output: Box<Path>,
        #[serde(default)]
        max_new_tokens: usize,
        capture: Option<Vec<Part>>,
    },
    /// No vocabulary of this family adds tokens by itself, so `add_special_tokens` changes nothing.
    Tokenize {
        text: String,
        #[serde(default)]
        parse_special: bool,
    },
    Detokenize {
        ids: Vec<u32>,
        #[serde(default)]
        skip_special_tokens: bool,
    },
    Preprocess {
        images: Vec<Box<Path>>,
        output: Box<Path>,
    },
    Chat(ChatRequest),
}

/// What `eval` may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    Logits,
    Hidden,
    Router,
    Vision,
}

/// A conversation to render.
#[derive(Debug, Deserialize)]
struct ChatRequest {
    messages: Value,
    template_file: Option<Box<Path>>,
    add_generation_prompt: Option<bool>,
    #[serde(default)]
    kwargs: Map<String, Value>,
    tools: Option<Value>,
}

impl EvalServer {
    /// Evaluates on `device`.
    #[must_use]
    pub fn on(device: Device) -> Self {
        Self { device, loaded: None }
    }

    /// Answers every line of `requests` in order, until there are no more.
    ///
    /// # Errors
    /// If reading or writing fails; a bad request is answered.
    pub fn serve(&mut self, requests: &mut dyn BufRead, answers: &mut dyn Write) -> io::Result<()> {
        let mut line = Vec::new();
        while read_line(requests, &mut line)? {
            if !line.iter().all(u8::is_ascii_whitespace) {
                writeln!(answers, "{}", self.answer(&line))?;
                answers.flush()?;
            }
        }
        Ok(())
    }

    /// The answer to one request.
    pub fn answer(&mut self, line: &[u8]) -> Value {
        if line.len() as u64 > MAX_LINE {
            return failure(&Value::Null, format!("the request is longer than {MAX_LINE} bytes"));
        }
        let request: Value = match serde_json::from_slice(line) {
            Ok(request) => request,
            Err(error) => return failure(&Value::Null, format!("the request is not JSON: {error}")),
        };
        let id = request.get("id").cloned().unwrap_or_default();
        let answer = match Request::deserialize(request) {
            Ok(request) => self.perform(request).map_err(|error| describe(&error)),
            Err(error) => Err(format!("bad request: {error}")),
        };
        match answer {
            Ok(members) => {
                let mut answer = Map::from_iter([("id".to_owned(), id), ("ok".to_owned(), true.into())]);
                answer.extend(members);
                Value::Object(answer)
            }
            Err(error) => failure(&id, error),
        }
    }

    fn perform(&mut self, request: Request) -> Result<Map<String, Value>> {
        let answer = match request {
            Request::Load { model, dtype } => self.load(&model, dtype.as_deref())?,
            Request::Eval { input, output, max_new_tokens, capture } => {
                let capture = capture.unwrap_or_else(|| vec![Part::Logits, Part::Vision]);
                self.eval(&input, &output, max_new_tokens, &capture)?
            }
            Request::Tokenize { text, parse_special: true } => {
                json!({ "ids": self.tokenizer()?.encode_prompt(&text) })
            }
            Request::Tokenize { text, parse_special: false } => {
                json!({ "ids": self.tokenizer()?.encode(&text) })
            }
            Request::Detokenize { ids, skip_special_tokens } => {
                json!({ "text": self.tokenizer()?.decode(&ids, skip_special_tokens) })
            }
            Request::Preprocess { images, output } => {
                json!({ "image_grid_thw": self.preprocess(&images, &output)? })
            }
            Request::Chat(chat) => json!({ "text": self.chat(chat)? }),
        };
        match answer {
            Value::Object(members) => Ok(members),
            _ => unreachable!("every answer is an object"),
        }
    }

    fn load(&mut self, path: &Path, dtype: Option<&str>) -> Result<Value> {
        check_dtype(dtype)?;
        self.loaded = None; // two models need not fit in memory, and a failed load must not leave the last one
        let files = ModelFiles::open(path)?;
        let model = load_traceable(&files, self.device)?;
        let config = model.config();
        let answer = json!({ "arch": config.architecture.model_type(), "params": config.n_parameters() });
        self.loaded = Some(LoadedFiles { files, model });
        Ok(answer)
    }

    fn eval(&mut self, input: &Path, output: &Path, max_new_tokens: usize, parts: &[Part]) -> Result<Value> {
        let options = EvalOptions {
            logits: parts.contains(&Part::Logits),
            capture: Capture {
                hidden: parts.contains(&Part::Hidden),
                router: parts.contains(&Part::Router),
                vision: parts.contains(&Part::Vision),
            },
            max_new_tokens,
            greedy_logits: true,
        };
        let model = &mut self.loaded.as_mut().ok_or_else(nothing_loaded)?.model;
        let evaluation = evaluate_file(&mut **model, input, output, options)?;
        Ok(json!({
            "prompt_tokens": evaluation.prompt_tokens,
            "prefill_ms": evaluation.prefill.as_secs_f64() * 1e3,
            "decode_ms": evaluation.decode.as_secs_f64() * 1e3,
            "warnings": evaluation.warnings,
        }))
    }

    fn files(&self) -> Result<&ModelFiles> {
        self.loaded.as_ref().map(|loaded| &loaded.files).ok_or_else(nothing_loaded)
    }

    fn tokenizer(&self) -> Result<Tokenizer> {
        self.files()?.tokenizer()
    }

    /// Writes `pixel_values` and `image_grid_thw` of pictures, as the loaded model wants them, or else ERNIE 4.5 VL.
    fn preprocess(&self, images: &[Box<Path>], output: &Path) -> Result<Vec<[u32; 3]>> {
        let preprocessor = match &self.loaded {
            Some(loaded) => loaded.files.preprocessor()?,
            None => Preprocessor::default(),
        };
        let (mut pixel_values, mut grids) = (Vec::new(), Vec::new());
        for path in images {
            let patches = preprocessor.image(&vision::open(path, &DecodeOptions::default())?)?;
            pixel_values.extend(patches.pixel_values);
            grids.push(patches.grid_thw);
        }
        let patch_values = (3 * preprocessor.patch_size * preprocessor.patch_size) as usize;
        let n_patches = pixel_values.len() / patch_values;
        let flat = grids.iter().flatten().map(|&n| i64::from(n)).collect();
        write(
            output,
            &[
                ("pixel_values".to_owned(), vec![n_patches, patch_values], NamedArray::F32(pixel_values)),
                ("image_grid_thw".to_owned(), vec![grids.len(), 3], NamedArray::I64(flat)),
            ],
        )?;
        Ok(grids)
    }

    /// Renders as it is written, special tokens in the messages included.
    fn chat(&self, request: ChatRequest) -> Result<String> {
        let template = match &request.template_file {
            Some(path) => ChatTemplate::new(&read_text(path)?)?,
            None => match self.files()?.chat_template()? {
                Some(source) => ChatTemplate::new(&source)?,
                None => {
                    let config = self.loaded.as_ref().ok_or_else(nothing_loaded)?.model.config();
                    ChatTemplate::built_in(BuiltIn::for_model(config, &self.tokenizer()?)?)
                }
            },
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let options = RenderOptions {
            add_generation_prompt: request.add_generation_prompt,
            tools: request.tools,
            variables: request.kwargs,
            unix_time: i64::try_from(now.as_secs()).ok(),
        };
        template.render(&request.messages, &options, &|text| Cow::Borrowed(text))
    }
}

fn read_text(path: &Path) -> Result<String> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut text = String::new();
    // One byte more than a template may have, which then says so.
    let file = File::open(path).map_err(io)?.take(chat_template::MAX_SOURCE as u64 + 1);
    io::BufReader::new(file).read_to_string(&mut text).map_err(io)?;
    Ok(text)
}

/// Everything is computed in `f32`; weights are decoded exactly.
fn check_dtype(dtype: Option<&str>) -> Result<()> {
    match dtype {
        None | Some("f32" | "float32") => Ok(()),
        Some(other) => {
            Err(Error::Prompt(format!("dtype `{other}` is not supported; all computing is in f32")))
        }
    }
}

fn nothing_loaded() -> Error {
    Error::Prompt("no model is loaded; send a `load` request first".to_owned())
}

fn failure(id: &Value, error: String) -> Value {
    json!({ "id": id, "ok": false, "error": error })
}

/// An error with those of its causes that it does not tell itself, on one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let detail = error.to_string();
        if !text.contains(&detail) {
            text = format!("{text}: {detail}");
        }
        cause = error.source();
    }
    text
}

/// Reads a line of at most one byte more than [`MAX_LINE`] and drops the rest of it; `false` at the end.
fn read_line(input: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let n = input.take(MAX_LINE + 1).read_until(b'\n', line)?;
    while n as u64 > MAX_LINE && line.last() != Some(&b'\n') {
        let available = input.fill_buf()?;
        let Some(used) = available.iter().position(|&byte| byte == b'\n') else {
            match available.len() {
                0 => break,
                n => input.consume(n),
            }
            continue;
        };
        input.consume(used + 1);
        break;
    }
    Ok(n > 0)
}
