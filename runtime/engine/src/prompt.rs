//! Messages and pictures to token ids with placeholder runs.

mod tool_text;

use std::borrow::Cow;
use std::sync::Arc;

use model::config::Config;
use protocol::Sight;
use serde_json::{Value, json};
use tokenizer::Tokenizer;
use vision::Patches;

use crate::answer::{AnswerShape, without_reasoning};
use crate::chat_template::{ChatTemplate, RenderOptions};
use crate::guide::{Form, Guide, Guides};
use crate::{Error, GenerateOptions, ModelInput, Result, Tool, ToolCall, ToolChoice, Visual, tools};
pub(crate) use tool_text::ToolSupport;

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sets the rules.
    System,
    /// Asks.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// A piece of a message.
#[derive(Debug, Clone)]
pub enum Part {
    /// Plain text; control tokens in it stay text.
    Text(String),
    /// A picture.
    Image(Arc<Patches>),
    /// A video.
    Video(Arc<Patches>),
    /// A call that the assistant made; its result is a message of [`Role::Tool`].
    ToolCall(ToolCall),
}

/// One turn of a conversation.
#[derive(Debug, Clone)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What, in order.
    pub parts: Vec<Part>,
}

impl Message {
    /// A message of text alone.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self { role, parts: vec![Part::Text(text.into())] }
    }
}

/// A conversation as the model takes it.
#[derive(Debug, Clone, Default)]
pub struct Prompt {
    /// Token ids and pictures.
    pub input: ModelInput,
    /// Whether the answer begins inside `<think>`.
    pub in_reasoning: bool,
    /// What pictures lost on the way in, and what the template left out.
    pub notes: Vec<String>,
    /// What became of each picture.
    pub pictures: Vec<Sight>,
    /// What the answer may hold.
    pub(crate) shape: AnswerShape,
    /// The form of the answer, if it has one.
    pub(crate) guide: Option<Guide>,
}

/// Turns conversations into prompts for one model.
pub(crate) struct PromptBuilder<'a> {
    pub(crate) template: &'a ChatTemplate,
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) config: &'a Config,
    pub(crate) tool_support: ToolSupport,
    pub(crate) guides: &'a Guides,
    pub(crate) stop_ids: &'a [u32],
}

impl PromptBuilder<'_> {
    /// Renders, encodes and expands the placeholders, and prepares the form of the answer.
    pub(crate) fn build(&self, messages: &[Message], options: &GenerateOptions) -> Result<Prompt> {
        let visuals = self.visuals(messages)?;
        let tools = tools::offered(&options.tools, &options.tool_choice)?;
        let rendered = self.render(messages, options)?;
        let token_ids = self.expand(&rendered, &visuals)?;
        let mut notes = picture_notes(messages);
        notes.extend(self.left_out(messages, &rendered));
        if let Some(think) = options.enable_thinking {
            let other = GenerateOptions { enable_thinking: Some(!think), ..options.clone() };
            if self.render(messages, &other)? == rendered {
                let wish = if think { "think" } else { "answer without thinking" };
                notes.push(format!("the chat template has no way to tell the model to {wish}"));
            }
        }
        let visuals = visuals.into_iter().map(|(visual, _)| visual).collect();
        let in_reasoning = rendered.trim_end().ends_with("<think>");
        let shape =
            AnswerShape { in_reasoning, tools: !tools.is_empty(), verbatim: options.constraint.is_some() };
        let mut guide = self.guide(options, &tools, in_reasoning)?;
        let gaps = guide.iter_mut().flat_map(Guide::gaps);
        notes.extend(gaps.map(|gap| format!("arguments may not keep to the schema of their tool: {gap}")));
        Ok(Prompt {
            input: ModelInput { token_ids, visuals, position_ids: None },
            in_reasoning,
            notes,
            pictures: sights(messages),
            shape,
            guide,
        })
    }

    /// The form of the answer, if the options give it one.
    fn guide(&self, options: &GenerateOptions, tools: &[&Tool], in_reasoning: bool) -> Result<Option<Guide>> {
        let must_call = matches!(options.tool_choice, ToolChoice::Required | ToolChoice::Named(_));
        let form = Form {
            constraint: options.constraint.as_ref(),
            tools,
            must_call,
            may_call_more: options.parallel_tool_calls
                && !matches!(options.tool_choice, ToolChoice::Named(_)),
            in_reasoning,
            wraps_answers: self.template.wraps_answers(),
        };
        let is_needed = form.constraint.is_some()
            || must_call
            || (cfg!(all(feature = "guidance", not(target_family = "wasm"))) && !tools.is_empty());
        is_needed.then(|| self.guides.guide(&form, self.tokenizer, self.stop_ids)).transpose()
    }

    /// The template's text, with the guards of [`Tokenizer::guard`] still in it.
    pub(crate) fn render(&self, messages: &[Message], options: &GenerateOptions) -> Result<String> {
        let mut variables = serde_json::Map::new();
        if let Some(think) = options.enable_thinking {
            variables.insert("enable_thinking".into(), json!(think));
            // ERNIE-4.5-VL-Thinking's name for it.
            variables
                .insert("options".into(), json!({"thinking_mode": if think { "open" } else { "close" }}));
        }
        if let Some(eos) = self.config.tokens.eos.first().and_then(|&id| self.tokenizer.token(id)) {
            variables.insert("eos_token".into(), json!(eos));
        }
        let tools = tools::offered(&options.tools, &options.tool_choice)?;
        let listed = tools.iter().map(|tool| tool.to_json()).collect();
        let render_options = RenderOptions {
            add_generation_prompt: Some(true),
            tools: (self.tool_support.lists_tools && !tools.is_empty()).then_some(listed),
            variables,
            unix_time: None,
        };
        let messages = self.tool_support.adapt(messages, &tools);
        let messages = messages.iter().map(|message| self.message(message)).collect();
        self.template.render(&messages, &render_options, &|text| self.tokenizer.guard(text))
    }

    /// As transformers writes messages: lists of parts for models that take pictures, else strings.
    fn message(&self, message: &Message) -> Value {
        let role = match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        };
        let content: Value = if self.config.vision.is_none() {
            message.parts.iter().map(|part| shown(message.role, part)).collect::<String>().into()
        } else {
            let parts = message.parts.iter().filter_map(|part| match part {
                Part::Text(_) => Some(json!({"type": "text", "text": shown(message.role, part)})),
                Part::Image(_) => Some(json!({"type": "image"})),
                Part::Video(_) => Some(json!({"type": "video"})),
                Part::ToolCall(_) => None,
            });
            parts.collect()
        };
        let calls: Vec<Value> = message
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::ToolCall(call) => {
                    let function = json!({"name": call.name, "arguments": call.arguments});
                    Some(json!({"type": "function", "id": call.id, "function": function}))
                }
                _ => None,
            })
            .collect();
        match calls.is_empty() {
            true => json!({"role": role, "content": content}),
            false => json!({"role": role, "content": content, "tool_calls": calls}),
        }
    }

    /// Pictures and videos in the order of the conversation, with their numbers of tokens.
    fn visuals(&self, messages: &[Message]) -> Result<Vec<(Visual, usize)>> {
        let mut visuals = Vec::new();
        for part in messages.iter().flat_map(|message| &message.parts) {
            let (patches, is_video) = match part {
                Part::Text(_) | Part::ToolCall(_) => continue,
                Part::Image(patches) => (patches, false),
                Part::Video(patches) => (patches, true),
            };
            if self.config.vision.is_none() {
                return Err(Error::Prompt(
                    "it holds a picture, but this model reads only text; choose a vision-language model"
                        .into(),
                ));
            }
            let digest = digest(patches);
            let n_tokens = patches.n_tokens();
            let pixels = patches.pixel_values.as_slice().into();
            visuals
                .push((Visual { patches: pixels, grid_thw: patches.grid_thw, is_video, digest }, n_tokens));
        }
        Ok(visuals)
    }

    fn expand(&self, rendered: &str, visuals: &[(Visual, usize)]) -> Result<Vec<u32>> {
        if visuals.is_empty() {
            return Ok(self.tokenizer.encode_prompt(rendered));
        }
        let placeholders = self.placeholders();
        let mut ids = Vec::new();
        let mut rest = rendered;
        let mut n_found = 0;
        // The text of users is guarded, so only the template's own placeholders are found.
        while let Some((at, (literal, is_video))) = placeholders
            .iter()
            .filter_map(|placeholder| rest.find(&*placeholder.0).map(|at| (at, placeholder)))
            .min_by_key(|&(at, _)| at)
        {
            ids.extend(self.tokenizer.encode_prompt(&rest[..at]));
            rest = &rest[at + literal.len()..];
            if let Some((visual, n_tokens)) = visuals.get(n_found) {
                if visual.is_video != *is_video {
                    return Err(Error::Prompt(format!(
                        "the chat template writes `{literal}` where picture or video {} of the conversation belongs",
                        n_found + 1
                    )));
                }
                let tokens = &self.config.tokens;
                let image = tokens.image_placeholder;
                let id = if *is_video { tokens.video_placeholder.unwrap_or(image) } else { image };
                ids.extend(std::iter::repeat_n(id, *n_tokens));
            }
            n_found += 1;
        }
        ids.extend(self.tokenizer.encode_prompt(rest));
        if n_found != visuals.len() {
            return Err(Error::Prompt(format!(
                "the conversation holds {} pictures and videos, but the chat template has places for {n_found}",
                visuals.len()
            )));
        }
        Ok(ids)
    }

    /// What templates write for a picture or (true) a video.
    fn placeholders(&self) -> Vec<(Cow<'static, str>, bool)> {
        let mut all: Vec<(Cow<'static, str>, bool)> = vec![
            ("<|image@placeholder|>".into(), false),
            ("<|IMAGE_PLACEHOLDER|>".into(), false),
            ("<|video@placeholder|>".into(), true),
            ("<|VIDEO_PLACEHOLDER|>".into(), true),
        ];
        let tokens = &self.config.tokens;
        for (id, is_video) in [(Some(tokens.image_placeholder), false), (tokens.video_placeholder, true)] {
            if let Some(token) = id.and_then(|id| self.tokenizer.token(id))
                && all.iter().all(|(literal, _)| *literal != token)
            {
                all.push((token.into(), is_video));
            }
        }
        all
    }

    /// Says which messages the template passes over.
    fn left_out(&self, messages: &[Message], rendered: &str) -> Vec<String> {
        let missing = |message: &Message| {
            message.parts.iter().any(|part| {
                let text = match part {
                    Part::ToolCall(call) => call.name.as_str(),
                    part => shown(message.role, part),
                };
                !rendered.contains(self.tokenizer.guard(text.trim()).as_ref())
            })
        };
        let numbered = messages.iter().zip(1..).filter(|(message, _)| missing(message));
        numbered
            .map(|(m, n)| {
                format!("message {n} ({:?}) is not in the prompt: the chat template passes over it", m.role)
            })
            .collect()
    }
}

/// The text of a part as the prompt shows it: without what the assistant thought in earlier turns.
fn shown(role: Role, part: &Part) -> &str {
    match part {
        Part::Text(text) if role == Role::Assistant => without_reasoning(text),
        Part::Text(text) => text,
        Part::Image(_) | Part::Video(_) | Part::ToolCall(_) => "",
    }
}

fn picture_notes(messages: &[Message]) -> Vec<String> {
    let mut notes = Vec::new();
    let (mut n_images, mut n_videos) = (0, 0);
    for part in messages.iter().flat_map(|message| &message.parts) {
        let (patches, name) = match part {
            Part::Text(_) | Part::ToolCall(_) => continue,
            Part::Image(patches) => {
                n_images += 1;
                (patches, format!("picture {n_images}"))
            }
            Part::Video(patches) => {
                n_videos += 1;
                (patches, format!("video {n_videos}"))
            }
        };
        notes.extend(patches.notes.iter().map(|note| format!("{name}: {note}")));
    }
    notes
}

fn sights(messages: &[Message]) -> Vec<Sight> {
    let pictures = messages.iter().flat_map(|message| &message.parts).filter_map(|part| match part {
        Part::Image(patches) => Some(patches.sight()),
        _ => None,
    });
    pictures.collect()
}

/// A 64-bit hash of patches and grid: equal pictures are recognised, but nobody is kept from forging one.
fn digest(patches: &Patches) -> u64 {
    let grid = patches.grid_thw.iter().copied();
    let words = grid.chain(patches.pixel_values.iter().map(|x| x.to_bits()));
    words.fold(0x9e37_79b9_7f4a_7c15, |hash: u64, word| {
        let mixed = (hash ^ u64::from(word)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ (mixed >> 32)
    })
}
