//! `generation_config.json`.

use serde::{Deserialize, Deserializer};

/// How a model's authors sample from it; what they do not state is `None`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct GenerationDefaults {
    /// Whether to sample at all, or to take the best token.
    pub do_sample: Option<bool>,
    /// Divides logits.
    pub temperature: Option<f32>,
    /// Keeps so many candidates.
    pub top_k: Option<usize>,
    /// Keeps candidates until their probabilities add up to this.
    pub top_p: Option<f32>,
    /// Drops candidates less probable than this share of the best.
    pub min_p: Option<f32>,
    /// Divides the logits of tokens that occurred.
    pub repetition_penalty: Option<f32>,
    /// Taken off logits for every occurrence.
    pub frequency_penalty: Option<f32>,
    /// Taken off the logits of tokens that occurred.
    pub presence_penalty: Option<f32>,
    /// Longest answer.
    pub max_new_tokens: Option<usize>,
    /// Tokens that end an answer, beside the configuration's.
    #[serde(rename = "eos_token_id", deserialize_with = "one_or_many")]
    pub eos: Vec<u32>,
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Ids {
        One(u32),
        Many(Vec<u32>),
    }
    Ok(match Option::<Ids>::deserialize(deserializer)? {
        None => Vec::new(),
        Some(Ids::One(id)) => vec![id],
        Some(Ids::Many(ids)) => ids,
    })
}
