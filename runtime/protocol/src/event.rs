//! What is told while requests are worked on.

use serde::{Deserialize, Serialize};

use crate::{EngineReport, ModelReport, StoredModel};

/// Something happened. Every request ends with exactly one of `Loaded`, `Answered`, `Stored` and `Failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The worker is ready for requests; the first event, and about none of them.
    Started,
    /// A file of a model is on its way.
    Fetching {
        /// Of the request.
        id: u32,
        /// The file's name.
        file: String,
        /// Bytes of the whole model that are here.
        done: f64,
        /// Bytes of the whole model.
        total: f64,
        /// Whether they come from this device rather than over the network.
        from_store: bool,
    },
    /// The files are here, and the model is being put together.
    Preparing {
        /// Of the request.
        id: u32,
    },
    /// The model is ready.
    Loaded {
        /// Of the request.
        id: u32,
        /// What it is.
        model: ModelReport,
    },
    /// What the model gets to see of a picture.
    Seen {
        /// Of the request.
        id: u32,
        /// The picture.
        view: PictureView,
    },
    /// A picture as a model elsewhere saw it.
    Shown {
        /// Of the request.
        id: u32,
        /// The picture.
        view: PictureView,
    },
    /// So many of the prompt's new tokens are read.
    Prefill {
        /// Of the request.
        id: u32,
        /// Read so far.
        done: usize,
        /// To be read.
        total: usize,
    },
    /// More of what the model thinks.
    Reasoning {
        /// Of the request.
        id: u32,
        /// The new text.
        text: String,
    },
    /// More of the answer.
    Text {
        /// Of the request.
        id: u32,
        /// The new text.
        text: String,
    },
    /// What ran the model went away, and something else goes on with the answer.
    Moved {
        /// Of the request.
        id: u32,
        /// What runs the model from now on.
        engine: EngineReport,
    },
    /// The answer is whole.
    Answered {
        /// Of the request.
        id: u32,
        /// All of it.
        answer: Answer,
    },
    /// Which models are stored on this device.
    Stored {
        /// Of the request.
        id: u32,
        /// The models.
        models: Vec<StoredModel>,
        /// Bytes that the browser has stored for this site.
        usage: f64,
        /// Bytes that it would store at most.
        quota: f64,
    },
    /// The request came to nothing.
    Failed {
        /// Of the request.
        id: u32,
        /// Why.
        problem: Problem,
    },
}

impl Event {
    /// Of the request that it is about.
    pub fn id(&self) -> Option<u32> {
        match self {
            Self::Started => None,
            Self::Fetching { id, .. }
            | Self::Preparing { id }
            | Self::Loaded { id, .. }
            | Self::Seen { id, .. }
            | Self::Shown { id, .. }
            | Self::Prefill { id, .. }
            | Self::Reasoning { id, .. }
            | Self::Text { id, .. }
            | Self::Moved { id, .. }
            | Self::Answered { id, .. }
            | Self::Stored { id, .. }
            | Self::Failed { id, .. } => Some(*id),
        }
    }

    /// Whether no other event follows about the same request.
    pub fn is_last(&self) -> bool {
        matches!(
            self,
            Self::Loaded { .. }
                | Self::Shown { .. }
                | Self::Answered { .. }
                | Self::Stored { .. }
                | Self::Failed { .. }
        )
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model ended it.
    #[default]
    Eos,
    /// A stop text came.
    StopString,
    /// It has as many tokens as were asked for.
    MaxTokens,
    /// The model takes no more tokens.
    ContextFull,
    /// A [`Cancel`](crate::Request::Cancel) came.
    Cancelled,
}

/// What the model said, and what that took. The default is one of which nothing is known yet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The answer.
    pub text: String,
    /// What the model thought before it.
    pub reasoning: Option<String>,
    /// Why it ended.
    pub stop_reason: StopReason,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Those of them that were cached.
    pub cached_tokens: usize,
    /// Tokens that were generated.
    pub generated_tokens: usize,
    /// Milliseconds from the request to the first token.
    pub ttft_ms: f64,
    /// Milliseconds that reading the prompt took.
    pub prefill_ms: f64,
    /// Milliseconds from the first token to the end.
    pub decode_ms: f64,
    /// Everything that was lost or changed on the way in.
    pub notes: Vec<String>,
    /// What each token after the first cost the graphics processor, if one computed.
    pub gpu: Option<GpuCost>,
}

/// What a token costs a graphics processor, on average.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GpuCost {
    /// Kernels started.
    pub dispatches: f64,
    /// Command buffers submitted.
    pub submits: f64,
    /// Reads back.
    pub reads: f64,
    /// Bytes of weights that kernels read.
    pub weight_bytes: f64,
    /// Bytes that were read back.
    pub bytes_read_back: f64,
    /// Bytes of its memory that are in use or kept for the next answer, at the end; not of this token alone.
    pub held_bytes: f64,
}

/// A picture as the model sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PictureView {
    /// What became of it on the way in.
    pub sight: Sight,
    /// `[height, width, 4]`: the resized picture, every fourth byte 255.
    #[serde(with = "serde_bytes")]
    pub rgba: Vec<u8>,
}

/// What became of a picture on its way into the model. The default is one of which nothing is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// Width and height of the file's picture, upright.
    pub original: [u32; 2],
    /// Width and height after resizing.
    pub resized: [u32; 2],
    /// Side of a patch in pixels.
    pub patch_size: u32,
    /// Patches per side of a block that becomes one token.
    pub merge_size: u32,
    /// Tokens that the picture takes in the prompt.
    pub n_tokens: usize,
    /// What it went through, in words.
    pub notes: Vec<String>,
}

/// Why something failed, and what can be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Problem {
    /// A cancel came before there was anything to keep.
    Cancelled,
    /// No model is loaded yet.
    NoModel,
    /// The network, or what it brought; trying again goes on where it stopped.
    Network {
        /// What happened.
        message: String,
    },
    /// This device has no room.
    Storage {
        /// What happened, with the numbers.
        message: String,
    },
    /// The model, picture or conversation is not usable.
    Input {
        /// What is wrong with it.
        message: String,
    },
    /// The graphics processor went away, or its memory is full.
    Device {
        /// What happened.
        message: String,
    },
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cancelled => f.write_str("cancelled"),
            Self::NoModel => f.write_str("no model is loaded; load one first"),
            Self::Network { message }
            | Self::Storage { message }
            | Self::Input { message }
            | Self::Device { message } => f.write_str(message),
        }
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Request};

    #[test]
    fn requests_take_what_they_leave_out_from_the_defaults() {
        let json = r#"{"type": "caption", "id": 3, "picture": [1, 2], "options": {"max_tokens": 5}}"#;
        let request: Request = serde_json::from_str(json).unwrap();
        let options = Options { max_tokens: 5, ..Options::default() };
        assert_eq!(request, Request::Caption { id: 3, picture: vec![1, 2], options });
    }

    #[test]
    fn a_misspelt_option_is_an_error_that_names_it() {
        let json = r#"{"type": "chat", "id": 3, "messages": [], "options": {"max_token": 5}}"#;
        let error = serde_json::from_str::<Request>(json).unwrap_err().to_string();
        assert!(error.contains("unknown field `max_token`"), "{error}");
    }

    #[test]
    fn events_survive_json() {
        let problem = Problem::Storage { message: "needs 3 GiB, has 1 GiB".into() };
        let event = Event::Failed { id: 9, problem };
        let json = serde_json::to_string(&event).unwrap();
        assert!(json.starts_with(r#"{"type":"failed","id":9,"problem":{"kind":"storage""#), "{json}");
        let back: Event = serde_json::from_str(&json).unwrap();
        assert!(back.is_last() && back.id() == Some(9));
        assert_eq!(back, event);
    }
}
