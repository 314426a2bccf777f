//! What is asked of the one who owns the engine.

use serde::{Deserialize, Serialize};

use crate::Sight;

/// Something to be done. `id` is chosen by the sender, and must not be in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Load a model in the place of the one that is loaded. Answered by [`Loaded`](crate::Event::Loaded).
    Load {
        /// Of this request.
        id: u32,
        /// Which model.
        source: Source,
        /// What shall compute it.
        #[serde(default)]
        engine: EngineChoice,
    },
    /// Say what a picture shows. Answered by [`Answered`](crate::Event::Answered).
    Caption {
        /// Of this request.
        id: u32,
        /// A PNG, JPEG, WebP, GIF or BMP file.
        #[serde(with = "serde_bytes")]
        picture: Vec<u8>,
        /// How to answer.
        #[serde(default)]
        options: Options,
    },
    /// Answer a conversation. Answered by [`Answered`](crate::Event::Answered).
    Chat {
        /// Of this request.
        id: u32,
        /// The conversation, oldest message first.
        messages: Vec<Message>,
        /// How to answer.
        #[serde(default)]
        options: Options,
    },
    /// Draw a picture as a model elsewhere saw it. Answered by [`Shown`](crate::Event::Shown).
    Show {
        /// Of this request.
        id: u32,
        /// A PNG, JPEG, WebP, GIF or BMP file.
        #[serde(with = "serde_bytes")]
        picture: Vec<u8>,
        /// What that model told of it.
        sight: Sight,
    },
    /// End another request early. What was answered so far stays; nothing is said if it has ended.
    Cancel {
        /// Of the request that is to end.
        id: u32,
    },
    /// Which models are stored on this device. Answered by [`Stored`](crate::Event::Stored).
    ListStored {
        /// Of this request.
        id: u32,
    },
    /// Remove a stored model. Answered by [`Stored`](crate::Event::Stored).
    Forget {
        /// Of this request.
        id: u32,
        /// [`StoredModel::key`](crate::StoredModel::key) of the model.
        key: String,
    },
}

impl Request {
    /// The id that answers carry; of [`Cancel`](Self::Cancel), that of the request to end.
    pub fn id(&self) -> u32 {
        match self {
            Self::Load { id, .. }
            | Self::Caption { id, .. }
            | Self::Chat { id, .. }
            | Self::Show { id, .. }
            | Self::Cancel { id }
            | Self::ListStored { id }
            | Self::Forget { id, .. } => *id,
        }
    }
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Source {
    /// The small model that is served beside the page.
    Embedded,
    /// A GGUF file, or a list of files as `cargo xtask web` writes one, fetched once and then kept.
    Url {
        /// Absolute, or relative to the worker.
        url: String,
    },
    /// Files that the user chose; they travel beside the request, as they have no serialised form.
    Files {
        /// What to call the model.
        name: String,
    },
    /// A running `ocelli serve`, or any other server that speaks OpenAI's words.
    Server {
        /// Its address without `/v1`, as `http://localhost:8080`.
        url: String,
        /// Sent as a bearer token if the server wants one.
        #[serde(default)]
        key: Option<String>,
    },
}

/// What shall compute a model that runs here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineChoice {
    /// The graphics processor if there is one, else the processor.
    #[default]
    Fastest,
    /// The graphics processor, or the program that stands in for one; an error if there is neither.
    WebGpu,
    /// The processor.
    Processor,
}

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sets the rules.
    System,
    /// Asks.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What, in order.
    pub parts: Vec<Part>,
}

impl Message {
    /// The files of its pictures.
    pub fn pictures(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().filter_map(|part| match part {
            Part::Image { bytes } => Some(&bytes[..]),
            Part::Text { .. } => None,
        })
    }
}

/// A piece of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    /// Plain text; control tokens in it stay text.
    Text {
        /// The text.
        text: String,
    },
    /// A picture.
    Image {
        /// A PNG, JPEG, WebP, GIF or BMP file.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
}

/// How an answer is made. The default is greedy, of at most 256 tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// 0 is greedy.
    pub temperature: f64,
    /// The likeliest tokens to choose from; 0 is all of them.
    pub top_k: usize,
    /// The share of the probability to choose from, in `0..=1`.
    pub top_p: f64,
    /// Of the random numbers: the same seed gives the same answer.
    pub seed: u32,
    /// Tokens of the answer at most.
    pub max_tokens: usize,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Whether the model shall think first; `None` leaves it to its template.
    pub thinking: Option<bool>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            seed: 0,
            max_tokens: 256,
            stop: Vec::new(),
            thinking: None,
        }
    }
}
