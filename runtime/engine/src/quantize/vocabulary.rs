//! The vocabulary of a GGUF file.

use model::Config;
use tensor::weights::{GgufEntry, GgufLayout};
use tokenizer::{GgufVocab, Tokenizer};

use crate::files::{SHOWN_TOKENS_KEY, TOKENIZER_JSON_KEY};
use crate::{ModelFiles, Result};

/// Tokens that are encoded together when two vocabularies are compared.
const TOKENS_A_TEXT: usize = 7;

/// Adds vocabulary, special tokens and chat template, and says what other programs will miss.
///
/// Native lists are written if they give the same tokens for every text tried. Where they would not,
/// `tokenizer.json` itself goes into the file.
pub(super) fn put(files: &ModelFiles, config: &Config, layout: &mut GgufLayout) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    if !layout.has("tokenizer.ggml.model") && !layout.has(TOKENIZER_JSON_KEY) {
        notes.extend(put_tokens(files, layout)?);
    }
    put_ids(files, config, layout, &mut notes)?;
    if let Some(template) = files.chat_template()?
        && !layout.has("tokenizer.chat_template")
    {
        layout.put("tokenizer.chat_template", GgufEntry::Str(&template))?;
    }
    Ok(notes)
}

fn put_tokens(files: &ModelFiles, layout: &mut GgufLayout) -> Result<Option<String>> {
    if let Some(json) = files.text("tokenizer.json")? {
        let tokenizer = files.tokenizer()?;
        if let Some(vocab) = GgufVocab::from_json(json.as_bytes())?
            && is_same(&tokenizer, &Tokenizer::from_gguf(vocab.clone())?)
        {
            put_lists(&vocab, layout)?;
            return Ok(None);
        }
        layout.put(TOKENIZER_JSON_KEY, GgufEntry::Str(json))?;
        return Ok(Some(
            "the vocabulary is kept as tokenizer.json, which other programs may not read".to_owned(),
        ));
    }
    let Some((model, added)) = files.sentencepiece()? else {
        return Ok(Some("the model has no vocabulary, and so its file will have none".to_owned()));
    };
    let vocab = GgufVocab::from_sentencepiece(model, &added)?;
    put_lists(&vocab, layout)?;
    let differs = !is_same(&files.tokenizer()?, &Tokenizer::from_gguf(vocab)?);
    Ok(differs.then(|| "some texts will be split otherwise than by tokenizer.model".to_owned()))
}

fn put_lists(vocab: &GgufVocab, layout: &mut GgufLayout) -> Result<()> {
    layout.put("tokenizer.ggml.model", GgufEntry::Str(&vocab.model))?;
    layout.put("tokenizer.ggml.pre", GgufEntry::Str(vocab.pre.as_deref().unwrap_or("default")))?;
    layout.put("tokenizer.ggml.tokens", GgufEntry::Strings(&vocab.tokens))?;
    layout.put("tokenizer.ggml.scores", GgufEntry::F32s(&vocab.scores))?;
    layout.put("tokenizer.ggml.token_type", GgufEntry::I32s(&vocab.token_types))?;
    // Prompts bring their own marker of the beginning. Other programs would add one where nothing is said.
    layout.put("tokenizer.ggml.add_space_prefix", GgufEntry::Bool(vocab.add_space_prefix))?;
    layout.put("tokenizer.ggml.add_bos_token", GgufEntry::Bool(false))?;
    layout.put("tokenizer.ggml.add_eos_token", GgufEntry::Bool(false))?;
    if !vocab.shown.is_empty() {
        let ids: Vec<i32> = vocab.shown.iter().map(|&id| id.cast_signed()).collect();
        layout.put(SHOWN_TOKENS_KEY, GgufEntry::I32s(&ids))?;
    }
    Ok(())
}

fn put_ids(
    files: &ModelFiles,
    config: &Config,
    layout: &mut GgufLayout,
    notes: &mut Vec<String>,
) -> Result<()> {
    let json = files.json("config.json")?;
    let stated = |key: &str| {
        let value = json.as_ref()?.get(key).or_else(|| json.as_ref()?.get("text_config")?.get(key))?;
        value.as_u64().and_then(|id| u32::try_from(id).ok())
    };
    let eos = |i: usize| config.tokens.eos.get(i).copied();
    for (key, id) in [
        ("eos", eos(0)),
        ("eot", eos(1)),
        ("eom", eos(2)),
        ("bos", stated("bos_token_id")),
        ("padding", stated("pad_token_id")),
    ] {
        let key = format!("tokenizer.ggml.{key}_token_id");
        if let Some(id) = id.filter(|_| !layout.has(&key)) {
            layout.put(&key, GgufEntry::U32(id))?;
        }
    }
    if config.tokens.eos.len() > 3 {
        notes.push(format!("of {} tokens that end an answer, the file names three", config.tokens.eos.len()));
    }
    Ok(())
}

/// Whether two vocabularies name, show and find the same tokens, alone and beside others.
fn is_same(one: &Tokenizer, other: &Tokenizer) -> bool {
    let n = one.vocab_size() as u32;
    let is_same_token = |id: u32| {
        let seen =
            |t: &Tokenizer| (t.token(id), t.is_control(id), t.decode(&[id], true), t.decode(&[id], false));
        // Ids without a token are padding in a list.
        one.token(id).is_none() || seen(one) == seen(other)
    };
    let is_same_text = |text: &str| {
        one.encode(text) == other.encode(text) && one.encode_prompt(text) == other.encode_prompt(text)
    };
    if n != other.vocab_size() as u32 || !(0..n).all(is_same_token) {
        return false;
    }
    let ids: Vec<u32> = (0..n).collect();
    // Neighbours in the list, and tokens from all over it.
    let stride = (n / TOKENS_A_TEXT as u32).max(1);
    let scattered: Vec<u32> =
        (0..stride).flat_map(|start| (start..n).step_by(stride as usize)).take(n as usize).collect();
    [ids, scattered].iter().all(|ids| {
        let mut texts = ids.chunks(TOKENS_A_TEXT).map(|ids| one.decode(ids, false));
        texts.all(|text| is_same_text(&text))
    }) && is_same_text("  Two spaces,\ttabs\r\n\nand  ends ")
}
