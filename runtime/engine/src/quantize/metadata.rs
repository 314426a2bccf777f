//! What a GGUF file says about the model: the configuration, and the files that have no keys of their own.

use model::Config;
use tensor::weights::{GgufEntry, GgufLayout};

use super::Preset;
use crate::files::{GENERATION_CONFIG, GENERATION_KEY, PREPROCESSOR_CONFIGS, PREPROCESSOR_KEY};
use crate::{ModelFiles, Result};

/// Adds all but the vocabulary.
pub(super) fn put(
    files: &ModelFiles,
    config: &Config,
    preset: &Preset,
    layout: &mut GgufLayout,
) -> Result<()> {
    let gguf = files.gguf()?;
    let source = gguf.as_ref().map(|(_, gguf)| gguf);
    // A llama model stays one: other defaults hang on the name.
    let architecture = source.and_then(|gguf| gguf.value("general.architecture")?.as_str());
    let architecture = architecture.unwrap_or(config.gguf_architecture());
    layout.put("general.architecture", GgufEntry::Str(architecture))?;
    if source.is_none() {
        layout.put("general.name", GgufEntry::Str(&model_name(files, config)))?;
    }
    preset.put(layout)?;
    config.put_gguf(architecture, layout)?;

    for name in PREPROCESSOR_CONFIGS {
        // The first one found is the one that counts.
        if let Some(json) = files.text(name)?
            && config.vision.is_some()
            && !layout.has(PREPROCESSOR_KEY)
        {
            layout.put(PREPROCESSOR_KEY, GgufEntry::Str(json))?;
        }
    }
    if let Some(json) = files.text(GENERATION_CONFIG)? {
        layout.put(GENERATION_KEY, GgufEntry::Str(json))?;
    }
    // Files beside a GGUF file win, as they do when it is loaded.
    let has_vocabulary = files.text("tokenizer.json")?.is_some() || files.sentencepiece()?.is_some();
    let is_kept = |key: &str| match key {
        "general.alignment" | "tokenizer.chat_template" => false,
        _ if key.starts_with("tokenizer.") => !has_vocabulary,
        _ => key.starts_with("general.") || key.starts_with("ocelli."),
    };
    for (key, value) in source.into_iter().flat_map(|gguf| gguf.metadata()) {
        if is_kept(key) && !layout.has(key) {
            layout.put(key, GgufEntry::Copy(value))?;
        }
    }
    Ok(())
}

/// What people call it: the published name, or that of its folder.
fn model_name(files: &ModelFiles, config: &Config) -> String {
    let folder = files.name().trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or_default();
    config.published_name().unwrap_or(folder).to_owned()
}
