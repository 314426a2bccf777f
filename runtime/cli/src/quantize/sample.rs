//! What weights matter to: texts and pictures that the user gives.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use engine::quantize::Importance;
use engine::{
    CAPTION_PROMPT, ChatFormat, Device, GenerateOptions, Message, ModelFiles, ModelInput, Part, Role,
};
use vision::DecodeOptions;

use crate::inputs::collect;
use crate::output::{Output, name_it, plural};

/// Tokens of a prompt of a text.
const PROMPT: usize = 512;
/// Fewer tokens tell too little about the columns of a matrix.
const LEAST: usize = 256;

/// How much weights matter to `paths`, and what a file is to call these.
pub(super) fn measure_on(
    paths: &[PathBuf],
    files: &ModelFiles,
    output: &mut Output,
) -> anyhow::Result<(Importance, String)> {
    let format = ChatFormat::open(files)?;
    let mut prompts = Vec::new();
    for path in paths {
        prompts.extend(prompts_of(path, &format)?);
    }
    let n_tokens: usize = prompts.iter().map(|prompt: &ModelInput| prompt.token_ids.len()).sum();
    ensure!(
        n_tokens >= LEAST,
        "{} are too few to measure on; give at least {LEAST}",
        plural(n_tokens, "token")
    );
    output.start_progress(prompts.len());
    output.working_on("measuring");
    let importance =
        engine::measure_importance(files, Device::default(), &prompts, &mut |_| output.advance())?;
    output.end_progress();
    let names = paths.iter().map(|path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy());
    Ok((importance, names.collect::<Vec<_>>().join(", ")))
}

/// A text in parts, or each picture with the question for its caption.
fn prompts_of(path: &Path, format: &ChatFormat) -> anyhow::Result<Vec<ModelInput>> {
    let is_single = path.is_file();
    if is_single || !path.exists() && !path.to_string_lossy().contains('*') {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        if let Ok(text) = std::str::from_utf8(&bytes) {
            let prompt = |ids: &[u32]| ModelInput { token_ids: ids.to_vec(), ..ModelInput::default() };
            return Ok(format.tokenizer().encode(text).chunks(PROMPT).map(prompt).collect());
        }
    }
    if !format.takes_pictures() {
        bail!("{} is no text, and this model reads text only", path.display());
    }
    let pictures = collect(std::slice::from_ref(&path.to_owned()), false)?.files;
    pictures
        .iter()
        .map(|path| {
            let picture = vision::open(path, &DecodeOptions::default());
            let patches = picture.and_then(|picture| format.preprocessor().image(&picture));
            let patches = patches.map_err(|error| name_it(error.into(), path))?;
            let parts = vec![Part::Image(patches.into()), Part::Text(CAPTION_PROMPT.to_owned())];
            let messages = [Message { role: Role::User, parts }];
            Ok(format.prompt(&messages, &GenerateOptions::default())?.input)
        })
        .collect()
}
