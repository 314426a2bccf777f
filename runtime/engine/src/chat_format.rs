//! How conversations are put to a model: all of it that is not weights.

use model::config::Config;
use tokenizer::Tokenizer;
use vision::Preprocessor;

use crate::chat_template::{BuiltIn, ChatTemplate};
use crate::guide::Guides;
use crate::prompt::{PromptBuilder, ToolSupport};
use crate::{Error, GenerateOptions, Message, ModelFiles, Prompt, Result};

/// Tokens that end a turn in some of ERNIE's templates, beside the configured ones.
const TURN_ENDS: [&str; 2] = ["<|end_of_sentence|>", "<|im_end|>"];

/// A model's vocabulary, chat template and preprocessor. Prompts can be made on any thread.
pub struct ChatFormat {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    preprocessor: Preprocessor,
    config: Config,
    stop_ids: Vec<u32>,
    tool_support: ToolSupport,
    guides: Guides,
}

/// What a [`ChatFormat`] takes from the small files of a model.
pub(crate) struct FormatFiles {
    tokenizer: Tokenizer,
    template: Option<String>,
    preprocessor: Preprocessor,
    eos: Vec<u32>,
}

impl FormatFiles {
    /// Takes the built-in template that fits if the files bring none.
    pub(crate) fn for_model(self, config: &Config) -> Result<ChatFormat> {
        let Self { tokenizer, template, preprocessor, eos } = self;
        let template = match template {
            Some(source) => ChatTemplate::new(&source)?,
            None => ChatTemplate::built_in(BuiltIn::for_model(config, &tokenizer)?),
        };
        let mut format = ChatFormat::new(tokenizer, template, preprocessor, config.clone());
        format.stop_ids.extend(eos);
        Ok(format)
    }
}

impl ChatFormat {
    pub(crate) fn new(
        tokenizer: Tokenizer,
        template: ChatTemplate,
        preprocessor: Preprocessor,
        config: Config,
    ) -> Self {
        let mut stop_ids = config.tokens.eos.clone();
        stop_ids.extend(TURN_ENDS.iter().filter_map(|token| tokenizer.token_id(token)));
        let tool_support = ToolSupport::of(&template, &config);
        let guides = Guides::default();
        Self { tokenizer, template, preprocessor, config, stop_ids, tool_support, guides }
    }

    /// The format of a model whose weights need not be loaded.
    ///
    /// # Errors
    /// If a file is damaged or missing, or does not fit the others.
    pub fn open(files: &ModelFiles) -> Result<Self> {
        Self::files(files)?.for_model(&files.checkpoint()?.config)
    }

    /// Reads the small files.
    pub(crate) fn files(files: &ModelFiles) -> Result<FormatFiles> {
        Ok(FormatFiles {
            tokenizer: files.tokenizer()?,
            template: files.chat_template()?,
            preprocessor: files.preprocessor()?,
            eos: files.generation_defaults()?.eos,
        })
    }

    /// Sizes and special tokens of the model.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The vocabulary.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// How pictures are cut into patches.
    pub fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }

    /// Whether messages may hold pictures.
    pub fn takes_pictures(&self) -> bool {
        self.config.vision.is_some()
    }

    /// Whether the model's own template tells it of tools; else they are described in the system text.
    pub fn knows_tools(&self) -> bool {
        self.tool_support.lists_tools
    }

    /// Tokens that a prompt and its answer may have together.
    pub fn context_limit(&self) -> usize {
        self.config.text.max_position_embeddings
    }

    /// Whether a model that says `token` has ended its answer.
    pub(crate) fn ends_answer(&self, token: u32) -> bool {
        self.stop_ids.contains(&token)
    }

    /// The text of a conversation as the model would read it, placeholders not yet expanded.
    ///
    /// # Errors
    /// If the template refuses the conversation.
    pub fn render(&self, messages: &[Message], options: &GenerateOptions) -> Result<String> {
        let text = self.builder().render(messages, options)?;
        Ok(text.replace(tokenizer::GUARD, ""))
    }

    /// Token ids and pictures of a conversation.
    ///
    /// # Errors
    /// If the template refuses the conversation, it holds pictures that the model cannot take, or the answer
    /// cannot have the form that the options ask for.
    pub fn prompt(&self, messages: &[Message], options: &GenerateOptions) -> Result<Prompt> {
        self.builder().build(messages, options)
    }

    /// Plain text as a prompt, without a template. Control tokens in it stay text.
    pub fn plain_prompt(&self, text: &str) -> Prompt {
        let mut prompt = Prompt::default();
        prompt.input.token_ids = self.tokenizer.encode(text);
        prompt
    }

    /// Checks that the model can take `prompt`.
    ///
    /// # Errors
    /// If it is empty or longer than the context.
    pub fn check(&self, prompt: &Prompt) -> Result<()> {
        let (n, limit) = (prompt.input.token_ids.len(), self.context_limit());
        match n {
            0 => Err(Error::Prompt("it is empty".into())),
            n if n > limit => Err(Error::ContextTooLong { prompt: n, limit }),
            _ => Ok(()),
        }
    }

    fn builder(&self) -> PromptBuilder<'_> {
        PromptBuilder {
            template: &self.template,
            tokenizer: &self.tokenizer,
            config: &self.config,
            tool_support: self.tool_support,
            guides: &self.guides,
            stop_ids: &self.stop_ids,
        }
    }
}

impl std::fmt::Debug for ChatFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatFormat").field("config", &self.config).finish_non_exhaustive()
    }
}
