//! The model that does a task: the one on this machine, or one behind a server.

use std::env;

use ::agent::{ChatModel, EngineModel};
use anyhow::Context;
use clap::Args;
use remote::RemoteModel;

use super::record::Record;
use crate::args::{ModelArgs, SamplingArgs};
use crate::output::Output;

/// Holds the key of a server.
const KEY: &str = "OCELLI_API_KEY";

/// Options of a model on this machine.
const LOCAL: [&str; 6] = ["model", "expert_memory", "packed_memory", "kv_type", "quantize", "device"];

/// A model on another machine.
#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    /// Ask the model of an OpenAI-compatible server, as http://gpu-box:8000; its key is read from OCELLI_API_KEY
    #[arg(long, value_name = "URL", help_heading = "Server", conflicts_with_all = LOCAL)]
    server: Option<String>,
    /// What that server calls the model [default: the only one it has]
    #[arg(long, value_name = "NAME", help_heading = "Server", requires = "server")]
    server_model: Option<String>,
}

/// The model of a task.
pub(super) enum Brain {
    /// Here, with what tells it from others.
    Local(Box<EngineModel>, u64),
    Remote(Box<RemoteModel>),
}

impl Brain {
    pub(super) fn model(&mut self) -> &mut dyn ChatModel {
        match self {
            Self::Local(model, _) => &mut **model,
            Self::Remote(model) => &mut **model,
        }
    }

    /// Whether it surely sees nothing. Another machine's model says so itself.
    pub(super) fn is_blind(&self) -> bool {
        match self {
            Self::Local(model, _) => !model.engine.takes_pictures(),
            Self::Remote(_) => false,
        }
    }

    /// Takes over what it knew of a conversation, so that it need not be read again.
    pub(super) fn recall(&mut self, record: &Record, output: &Output) -> anyhow::Result<()> {
        match self {
            Self::Local(model, fingerprint) => record.recall(*fingerprint, &mut model.engine, output),
            Self::Remote(_) => Ok(()),
        }
    }

    /// Keeps what it knows of a conversation.
    pub(super) fn remember(&mut self, record: &Record) -> anyhow::Result<()> {
        match self {
            Self::Local(model, fingerprint) => record.remember(*fingerprint, &mut model.engine),
            Self::Remote(_) => Ok(()),
        }
    }
}

impl ServerArgs {
    /// The model that is wished for. Runs inside of tokio.
    pub(super) async fn brain(
        &self,
        local: &ModelArgs,
        sampling: &SamplingArgs,
        output: &Output,
    ) -> anyhow::Result<Brain> {
        let Some(url) = &self.server else {
            let files = local.files()?;
            let engine = local.engine_of(&files, output)?;
            let options = sampling.options_of(&files.generation_defaults()?);
            return Ok(Brain::Local(Box::new(EngineModel::new(engine, options)), files.fingerprint()));
        };
        let key = match env::var_os(KEY).filter(|key| !key.is_empty()) {
            Some(key) => Some(key.into_string().ok().with_context(|| format!("{KEY} is no text"))?),
            None => None,
        };
        let mut model = RemoteModel::connect(url, self.server_model.as_deref(), key).await?;
        model.options = sampling.wishes();
        if model.shows_its_key() {
            output.warning(&format!("the key is sent to {url} without encryption"));
        }
        output.note(&format!("{} on {url} does this", model.name()));
        Ok(Brain::Remote(Box::new(model)))
    }
}
