//! The ERNIE 4.5 decoder: dense, routed, and vision-language.

use tensor::{Backend, Mask, Result, Taps, Weights};

use crate::attention::Attention;
use crate::config::TextConfig;
use crate::mlp::{Linear, Mlp};
use crate::moe::Moe;
use crate::rope::Rope;

/// Which rows of a step are text and which are picture tokens.
pub struct Modalities<B: Backend> {
    /// Rows of text tokens; `None` if there are none.
    pub text: Option<B::Ids>,
    /// Rows of picture and video tokens, their delimiters included; at least one.
    pub vision: B::Ids,
}

impl<B: Backend> Modalities<B> {
    /// Splits rows by `is_vision`; `None` if all rows are text, so that the step is a plain text step.
    pub fn split(b: &B, is_vision: &[bool]) -> Result<Option<Self>> {
        let rows = |wanted| -> Vec<u32> {
            (0..).zip(is_vision).filter(|&(_, &vision)| vision == wanted).map(|(row, _)| row).collect()
        };
        let (text, vision) = (rows(false), rows(true));
        if vision.is_empty() {
            return Ok(None);
        }
        let text = (!text.is_empty()).then(|| b.ids(&text)).transpose()?;
        Ok(Some(Self { text, vision: b.ids(&vision)? }))
    }
}

/// What every layer of one forward pass shares.
pub struct Step<'a, B: Backend> {
    /// The device.
    pub backend: &'a B,
    /// Rotary angles, `[n, head_dim]`.
    pub cos_sin: B::Tensor,
    /// Which rows see which.
    pub mask: Mask<'a>,
    /// Row lists, when there are picture tokens.
    pub modalities: Option<Modalities<B>>,
    /// Where intermediate values go, when somebody asked.
    pub taps: Option<&'a Taps<B>>,
}

/// The feed-forward of a layer.
#[allow(clippy::large_enum_variant, reason = "one a layer; on 64 bits they differ enough for the lint")]
pub enum Ffn<B: Backend> {
    /// One SwiGLU.
    Dense(Mlp<B>),
    /// Routed experts.
    Moe(Moe<B>),
}

/// One pre-norm block.
pub struct DecoderLayer<B: Backend> {
    /// `[hidden_size]`
    pub input_layernorm: B::Weight,
    /// Self-attention.
    pub attention: Attention<B>,
    /// `[hidden_size]`
    pub post_attention_layernorm: B::Weight,
    /// Dense or routed feed-forward.
    pub ffn: Ffn<B>,
    /// `[1]`: gradient-preserving activation scaling, in checkpoints that are still training.
    pub gpas_gate: Option<B::Weight>,
    eps: f32,
}

impl<B: Backend> DecoderLayer<B> {
    /// Loads the block below `prefix`: `layer` of the decoder, which tells whether it is routed, or one beside it.
    pub(crate) fn load(
        w: &dyn Weights<B>,
        prefix: &str,
        layer: Option<usize>,
        config: &TextConfig,
    ) -> Result<Self> {
        let hidden = config.hidden_size;
        let ffn = match (&config.moe, layer) {
            (Some(moe), Some(layer)) if moe.layers[layer] => Ffn::Moe(Moe::load(w, layer, config, moe)?),
            _ => {
                let inner = config.intermediate_size;
                Ffn::Dense(Mlp::load(w, &format!("{prefix}.mlp"), hidden, inner, config.use_bias)?)
            }
        };
        let gate = || w.get(&format!("{prefix}.gpas_gate"), &[1]);
        Ok(Self {
            input_layernorm: w.get(&format!("{prefix}.input_layernorm.weight"), &[hidden])?,
            attention: Attention::load(w, &format!("{prefix}.self_attn"), config)?,
            post_attention_layernorm: w
                .get(&format!("{prefix}.post_attention_layernorm.weight"), &[hidden])?,
            ffn,
            gpas_gate: config.gpas.then(gate).transpose()?,
            eps: config.rms_norm_eps,
        })
    }

    /// Attention, then dense or routed feed-forward, each added to the stream `x` `[n, hidden_size]`.
    pub(crate) fn forward(
        &self,
        step: &Step<'_, B>,
        x: B::Tensor,
        caches: &mut [&mut B::Cache],
    ) -> Result<B::Tensor> {
        let b = step.backend;
        let h = b.rms_norm(&x, &self.input_layernorm, self.eps)?;
        let h = self.attention.forward(step, &h, caches)?;
        let (x, h) = match &self.gpas_gate {
            None => b.add_rms_norm(&x, &h, &self.post_attention_layernorm, self.eps)?,
            Some(gate) => {
                let x = b.gpas(&b.add(&x, &h)?, gate)?;
                let h = b.rms_norm(&x, &self.post_attention_layernorm, self.eps)?;
                (x, h)
            }
        };
        let h = match &self.ffn {
            Ffn::Dense(mlp) => mlp.forward(b, &h)?,
            Ffn::Moe(moe) => moe.forward(step, &h)?,
        };
        let x = b.add(&x, &h)?;
        match &self.gpas_gate {
            None => Ok(x),
            Some(gate) => b.gpas(&x, gate),
        }
    }
}

/// The language model: embedding, layers, final norm and head.
pub struct Decoder<B: Backend> {
    /// `[vocab_size, hidden_size]`
    pub embed_tokens: B::Weight,
    /// The blocks, first to last.
    pub layers: Vec<DecoderLayer<B>>,
    /// `[hidden_size]`
    pub norm: B::Weight,
    /// `[vocab_size, hidden_size]`; the embedding itself when tied.
    pub lm_head: Linear<B>,
    /// Angles of positions.
    pub rope: Rope,
    config: TextConfig,
}

impl<B: Backend> Decoder<B> {
    /// Loads every parameter that `config` asks for.
    ///
    /// # Errors
    /// The first tensor that is missing or has another shape, by name.
    pub fn load(w: &dyn Weights<B>, config: &TextConfig) -> Result<Self> {
        let table = [config.vocab_size, config.hidden_size];
        let embed_tokens = w.get("model.embed_tokens.weight", &table)?;
        let lm_head = if config.tie_word_embeddings {
            Linear { weight: embed_tokens.clone(), bias: None }
        } else {
            Linear::load(w, "lm_head", table, config.lm_head_bias)?
        };
        Ok(Self {
            embed_tokens,
            layers: (0..config.n_layers)
                .map(|l| DecoderLayer::load(w, &format!("model.layers.{l}"), Some(l), config))
                .collect::<Result<_>>()?,
            norm: w.get("model.norm.weight", &[config.hidden_size])?,
            lm_head,
            rope: Rope::new(config),
            config: config.clone(),
        })
    }

    /// The configuration this decoder was loaded with.
    #[must_use]
    pub fn config(&self) -> &TextConfig {
        &self.config
    }

    /// One empty cache a layer; `capacity` is a hint in tokens.
    pub fn caches(&self, b: &B, capacity: usize) -> Result<Vec<B::Cache>> {
        self.layers.iter().map(|_| b.cache(self.config.heads(), capacity)).collect()
    }

    /// Runs all layers over `x` `[n, hidden_size]`: token embeddings with picture rows already in place.
    ///
    /// `caches` is empty (no cache) or holds one cache a layer.
    /// Returns the residual stream before the final norm.
    pub fn forward(&self, step: &Step<'_, B>, x: B::Tensor, caches: &mut [B::Cache]) -> Result<B::Tensor> {
        match caches {
            [] => self.forward_sequences(step, x, &mut []),
            caches => self.forward_sequences(step, x, &mut [caches]),
        }
    }

    /// [`forward`](Self::forward) of rows of several sequences at once, each with its own caches: the mask of
    /// the step has a causal segment for each of `sequences`.
    pub fn forward_sequences(
        &self,
        step: &Step<'_, B>,
        x: B::Tensor,
        sequences: &mut [&mut [B::Cache]],
    ) -> Result<B::Tensor> {
        if let Some(taps) = step.taps {
            taps.rows("hidden.embed", &x);
        }
        let mut x = x;
        for (l, layer) in self.layers.iter().enumerate() {
            let mut caches: Vec<_> = sequences.iter_mut().map(|caches| &mut caches[l]).collect();
            x = layer.forward(step, x, &mut caches)?;
            if let Some(taps) = step.taps {
                taps.rows(format!("hidden.layer.{l}"), &x);
            }
        }
        Ok(x)
    }

    /// Final norm and head: `[n, hidden_size]` → `[n, vocab_size]`. Callers gather the rows they need first.
    pub fn logits(&self, b: &B, hidden: &B::Tensor, taps: Option<&Taps<B>>) -> Result<B::Tensor> {
        let h = self.final_norm(b, hidden)?;
        if let Some(taps) = taps {
            taps.rows("hidden.norm", &h);
        }
        self.lm_head.forward(b, &h)
    }

    /// What the head sees of rows of the residual stream, in the same shape.
    pub fn final_norm(&self, b: &B, hidden: &B::Tensor) -> Result<B::Tensor> {
        b.rms_norm(hidden, &self.norm, self.config.rms_norm_eps)
    }
}
