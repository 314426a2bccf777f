//! The files of a model: weights, configuration, vocabulary, template.

mod generation_defaults;
mod gguf_vocab;
#[cfg(not(target_family = "wasm"))]
mod open;

use std::cell::OnceCell;
use std::collections::BTreeMap;

use model::{Checkpoint, Config, Decoder};
use serde_json::Value;
use tensor::SharedBytes;
use tensor::weights::{Gguf, GgufValue, Safetensors, TensorIndex};
use tokenizer::{AddedToken, Tokenizer};
use vision::{Preprocessor, Resampler, Tower};

pub use generation_defaults::GenerationDefaults;

use crate::loaded::load_mtp;
use crate::{Error, Result, tower_config};

const SHARD_INDEX: &str = "model.safetensors.index.json";
pub(crate) const GENERATION_CONFIG: &str = "generation_config.json";
/// The one to look into first comes first.
pub(crate) const PREPROCESSOR_CONFIGS: [&str; 2] = ["preprocessor_config.json", "processor_config.json"];

/// Where GGUF files keep what else is a file of its own.
pub(crate) const TOKENIZER_JSON_KEY: &str = "tokenizer.huggingface.json";
pub(crate) const GENERATION_KEY: &str = "ocelli.generation_config";
pub(crate) const PREPROCESSOR_KEY: &str = "ocelli.preprocessor_config";
/// Control tokens that belong to the text of an answer.
pub(crate) const SHOWN_TOKENS_KEY: &str = "ocelli.shown_token_ids";

/// The files of one model by name: from a folder, a GGUF file, a download, or inside the program.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    name: String,
    files: BTreeMap<String, SharedBytes>,
}

impl ModelFiles {
    /// Files that are in memory already; `name` is what messages call the model.
    #[must_use]
    pub fn from_bytes(name: impl Into<String>, files: Vec<(String, SharedBytes)>) -> Self {
        Self { name: name.into(), files: files.into_iter().collect() }
    }

    /// Files that are part of the program.
    #[must_use]
    pub fn from_static(name: &str, files: &[(&str, &'static [u8])]) -> Self {
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), SharedBytes::new(*bytes)));
        Self::from_bytes(name, files.collect())
    }

    /// What messages call the model: its path.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names and sizes in bytes of all files that are used.
    pub fn sizes(&self) -> impl Iterator<Item = (&str, usize)> {
        self.files.iter().map(|(name, bytes)| (name.as_str(), bytes.len()))
    }

    /// Tells this model from others: of its files the names, the sizes and samples of their bytes. Files are not
    /// read in whole, so it is no proof against forgery.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        /// Bytes of a sample, and how many of them a file has.
        const SAMPLE: usize = 4096;
        const SAMPLES: usize = 64;
        let mut facts = Vec::new();
        for (name, bytes) in &self.files {
            let bytes = bytes.as_ref();
            facts.extend(name.as_bytes());
            facts.extend((bytes.len() as u64).to_le_bytes());
            let step = (bytes.len() / SAMPLES).max(SAMPLE);
            let samples = (0..bytes.len()).step_by(step);
            facts.extend(samples.flat_map(|at| &bytes[at..bytes.len().min(at + SAMPLE)]));
        }
        crate::snapshot::checksum(&facts)
    }

    /// The configuration with every parameter found and its shape checked; no value is read.
    ///
    /// # Errors
    /// The first thing wrong with configuration or weights, and in which file.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        let (config, index) = match self.gguf()? {
            Some((name, gguf)) => {
                (Config::from_gguf(&gguf).map_err(|error| in_file(name, error))?, gguf.index().clone())
            }
            None => (self.config_json()?, self.safetensors()?),
        };
        let mut checkpoint = Checkpoint::new(config, index).map_err(|error| in_file(&self.name, error))?;
        let config = checkpoint.config.clone();
        let load = checkpoint.check(|w| {
            Decoder::load(w, &config.text)?;
            load_mtp(w, &config)?;
            if let Some(vision) = &config.vision {
                let config = tower_config(&config.text, vision);
                Tower::load(w, &config)?;
                Resampler::load(w, &config)?;
            }
            Ok(())
        });
        load.map_err(|error| in_file(&self.name, error))?;
        Ok(checkpoint)
    }

    /// The vocabulary: `tokenizer.json`, `tokenizer.model` and the tokens added to it, or that of a GGUF file.
    ///
    /// # Errors
    /// If there is none, or it is damaged.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        if let Some(json) = self.files.get("tokenizer.json") {
            return Tokenizer::from_json(json.as_ref()).map_err(|error| in_file("tokenizer.json", error));
        }
        if let Some((model, added)) = self.sentencepiece()? {
            let tokenizer = Tokenizer::from_sentencepiece(model, &added);
            return tokenizer.map_err(|error| in_file("tokenizer.model", error));
        }
        match self.gguf()? {
            Some((name, gguf)) => {
                let json = gguf.value(TOKENIZER_JSON_KEY).and_then(GgufValue::as_str);
                let tokenizer = match json {
                    Some(json) => Tokenizer::from_json(json.as_bytes()).map_err(Error::from),
                    None => gguf_vocab::read(&gguf),
                };
                tokenizer.map_err(|error| in_file(name, error))
            }
            None if !self.files.contains_key("config.json") => {
                Err(self.lacks("config.json and no GGUF file"))
            }
            None => Err(self.lacks("tokenizer.json or tokenizer.model")),
        }
    }

    /// The chat template that the model brings, if any.
    ///
    /// # Errors
    /// If the file that should hold it is damaged.
    pub fn chat_template(&self) -> Result<Option<String>> {
        if let Some(template) = self.text("chat_template.jinja")? {
            return Ok(Some(template.to_owned()));
        }
        for name in ["chat_template.json", "tokenizer_config.json"] {
            let template =
                match self.json(name)?.and_then(|mut json| Some(json.get_mut("chat_template")?.take())) {
                    Some(Value::String(template)) => template,
                    // Several by name; the one for ordinary chat is called `default`.
                    Some(Value::Array(named)) => {
                        let default = named.iter().find(|entry| entry["name"] == "default");
                        match default.and_then(|entry| entry["template"].as_str()) {
                            Some(template) => template.to_owned(),
                            None => continue,
                        }
                    }
                    _ => continue,
                };
            return Ok(Some(template));
        }
        Ok(self.gguf_text("tokenizer.chat_template")?.map(|(_, template)| template))
    }

    /// How pictures become patches: as the model's file says, else as ERNIE 4.5 VL does.
    ///
    /// # Errors
    /// If that file is damaged or asks for something unsupported.
    pub fn preprocessor(&self) -> Result<Preprocessor> {
        for name in PREPROCESSOR_CONFIGS {
            if let Some(json) = self.text(name)? {
                return Preprocessor::from_json(json).map_err(|error| in_file(name, error));
            }
        }
        let Some((name, json)) = self.gguf_text(PREPROCESSOR_KEY)? else {
            return Ok(Preprocessor::default());
        };
        Preprocessor::from_json(&json).map_err(|error| in_file(name, error))
    }

    /// How the model's authors sample from it.
    ///
    /// # Errors
    /// If `generation_config.json` is damaged.
    pub fn generation_defaults(&self) -> Result<GenerationDefaults> {
        if let Some(json) = self.files.get(GENERATION_CONFIG) {
            return serde_json::from_slice(json.as_ref()).map_err(|error| damaged(GENERATION_CONFIG, error));
        }
        let Some((name, json)) = self.gguf_text(GENERATION_KEY)? else {
            return Ok(GenerationDefaults::default());
        };
        serde_json::from_str(&json).map_err(|error| damaged(name, format!("{GENERATION_KEY}: {error}")))
    }

    fn config_json(&self) -> Result<Config> {
        const NAME: &str = "config.json";
        let json = self.text(NAME)?.ok_or_else(|| self.lacks("config.json and no GGUF file"))?;
        let added = self.added_tokens()?;
        let tokenizer = OnceCell::new();
        let token_id = |token: &str| {
            let added = added.iter().find(|added| added.content == token).map(|added| added.id);
            added.or_else(|| tokenizer.get_or_init(|| self.tokenizer().ok()).as_ref()?.token_id(token))
        };
        Config::from_json_with_tokens(json, &token_id).map_err(|error| in_file(NAME, error))
    }

    /// The tensors of `model.safetensors`, of the files an index names, or of the only such file.
    fn safetensors(&self) -> Result<TensorIndex> {
        let names = match self.text(SHARD_INDEX)? {
            Some(json) => shards(json)?,
            None => vec![
                self.only("safetensors")?
                    .ok_or_else(|| self.lacks("weights (model.safetensors)"))?
                    .to_owned(),
            ],
        };
        let mut index = TensorIndex::default();
        for name in names {
            let bytes = self
                .files
                .get(&name)
                .ok_or_else(|| self.lacks(&format!("`{name}`, which its index names")))?;
            let shard = Safetensors::parse(bytes.clone()).map_err(|error| in_file(&name, error))?;
            index.extend(shard.into_index()).map_err(|error| in_file(&name, error))?;
        }
        Ok(index)
    }

    /// The GGUF file, if that is what the model consists of.
    pub(crate) fn gguf(&self) -> Result<Option<(&str, Gguf)>> {
        let Some(name) = self.only("gguf")? else { return Ok(None) };
        let gguf = Gguf::parse(self.files[name].clone()).map_err(|error| in_file(name, error))?;
        Ok(Some((name, gguf)))
    }

    /// A text of the GGUF file's metadata, and the name of the file.
    fn gguf_text(&self, key: &str) -> Result<Option<(&str, String)>> {
        let Some((name, gguf)) = self.gguf()? else { return Ok(None) };
        Ok(gguf.value(key).and_then(GgufValue::as_str).map(|text| (name, text.to_owned())))
    }

    /// A SentencePiece model and the tokens added to it.
    pub(crate) fn sentencepiece(&self) -> Result<Option<(&[u8], Vec<AddedToken>)>> {
        let Some(model) = self.files.get("tokenizer.model") else { return Ok(None) };
        Ok(Some((model.as_ref(), self.added_tokens()?)))
    }

    /// The one file that ends in `.extension`.
    fn only(&self, extension: &str) -> Result<Option<&str>> {
        let mut names = self.files.keys().map(String::as_str).filter(|name| has_extension(name, extension));
        match (names.next(), names.next()) {
            (Some(one), Some(two)) => {
                let detail = format!("it holds `{one}` and `{two}`; name one of them");
                Err(Error::Model { name: self.name.clone(), detail })
            }
            (one, _) => Ok(one),
        }
    }

    fn added_tokens(&self) -> Result<Vec<AddedToken>> {
        let mut added = Vec::new();
        let decoder = AddedToken::from_tokenizer_config as fn(&[u8]) -> tokenizer::Result<_>;
        for (name, read) in
            [("tokenizer_config.json", decoder), ("added_tokens.json", AddedToken::from_added_tokens)]
        {
            if let Some(json) = self.files.get(name) {
                for token in read(json.as_ref()).map_err(|error| in_file(name, error))? {
                    if !added.iter().any(|other: &AddedToken| other.content == token.content) {
                        added.push(token);
                    }
                }
            }
        }
        Ok(added)
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>> {
        let Some(bytes) = self.files.get(name) else { return Ok(None) };
        std::str::from_utf8(bytes.as_ref()).map(Some).map_err(|error| damaged(name, error))
    }

    pub(crate) fn json(&self, name: &str) -> Result<Option<Value>> {
        let Some(bytes) = self.files.get(name) else { return Ok(None) };
        serde_json::from_slice(bytes.as_ref()).map(Some).map_err(|error| damaged(name, error))
    }

    fn lacks(&self, what: &str) -> Error {
        Error::Model { name: self.name.clone(), detail: format!("it has no {what}") }
    }
}

fn in_file(name: &str, error: impl Into<Error>) -> Error {
    Error::InFile { name: name.to_owned(), source: Box::new(error.into()) }
}

fn damaged(name: &str, error: impl ToString) -> Error {
    Error::Model { name: name.to_owned(), detail: error.to_string() }
}

fn has_extension(name: &str, extension: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, found)| found.eq_ignore_ascii_case(extension))
}

/// The files that an index of shards names, in order; only files beside it.
fn shards(json: &str) -> Result<Vec<String>> {
    let index: Value = serde_json::from_str(json).map_err(|error| damaged(SHARD_INDEX, error))?;
    let map = index.get("weight_map").and_then(Value::as_object);
    let mut names: Vec<String> = Vec::new();
    for name in map.ok_or_else(|| damaged(SHARD_INDEX, "it has no `weight_map`"))?.values() {
        let name = name.as_str().unwrap_or_default();
        if !has_extension(name, "safetensors") || name.contains(['/', '\\', ':', '\0']) {
            return Err(damaged(
                SHARD_INDEX,
                format!("it names {name:?}, which is no safetensors file beside it"),
            ));
        }
        names.push(name.to_owned());
    }
    names.sort();
    names.dedup();
    Ok(names)
}
