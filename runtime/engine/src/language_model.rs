//! What everything above the backends sees of a model.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;

use model::config::Config;
use tensor::{Candidate, ExpertUse};

use crate::{CachedRows, Result};

/// A future that stays on its thread: a WebGPU device is not `Send`.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A picture or a video, ready for the vision tower.
#[derive(Debug, Clone)]
pub struct Visual {
    /// `[n_patches, channels * patch_size²]`, in merge-block order.
    pub patches: Arc<[f32]>,
    /// Frames, patch rows, patch columns.
    pub grid_thw: [u32; 3],
    /// Whether its placeholders stand between video delimiters.
    pub is_video: bool,
    /// Equal for equal patches; a cached prefix is reused only if the digests of its pictures agree.
    pub digest: u64,
}

/// A prompt as the model takes it.
#[derive(Debug, Clone, Default)]
pub struct ModelInput {
    /// The tokens; each visual has as many placeholders as it has merged patches.
    pub token_ids: Vec<u32>,
    /// Pictures and videos in the order of their placeholders.
    pub visuals: Vec<Visual>,
    /// `(time, height, width)` of each token, if not the model's own rule.
    /// Decoding goes on at the largest of them plus one.
    pub position_ids: Option<Vec<[u32; 3]>>,
}

/// Bytes a model holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Weights that are read in place: in a mapped file, or where they were unpacked from one.
    pub weights_mapped: u64,
    /// Weights that the backend made its own copy of.
    pub weights_owned: u64,
    /// Keys and values of all cached tokens.
    pub kv_cache: u64,
}

/// A language model with its cache: token ids in, the best next tokens out.
pub trait LanguageModel {
    /// Sizes and special tokens.
    fn config(&self) -> &Config;

    /// Number of tokens whose keys and values are cached.
    fn context_len(&self) -> usize;

    /// Forgets all tokens from `len` on, which may be inside a picture.
    ///
    /// # Errors
    /// If fewer tokens are cached.
    fn truncate(&mut self, len: usize) -> Result<()>;

    /// Appends the tokens of `input` from [`context_len`](Self::context_len) on, at most `chunk` at a
    /// time; those before are cached already, and the caller vouches that they are equal.
    ///
    /// `progress` is told how many of the new tokens are done, and of how many, after each chunk.
    /// Returns the `k` best candidates for the token after the last one, best first. If `k` is the size of the
    /// vocabulary or more they are all, in the order of their ids: whoever wants all rarely wants them sorted.
    ///
    /// # Errors
    /// [`Error::Prompt`](crate::Error::Prompt) if placeholders and visuals do not agree or nothing is new;
    /// [`Error::Cancelled`](crate::Error::Cancelled) if `progress` breaks. Finished chunks stay cached.
    fn prefill<'a>(
        &'a mut self,
        input: &'a ModelInput,
        chunk: usize,
        k: usize,
        progress: &'a mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> LocalFuture<'a, Result<Vec<Candidate>>>;

    /// Reads `input` from an empty cache as [`prefill`](Self::prefill) does, and returns the mean over all tokens of
    /// what the head sees, `[hidden_size]`; `None` if this model does not tell it.
    ///
    /// # Errors
    /// As [`prefill`](Self::prefill).
    fn embed<'a>(
        &'a mut self,
        input: &'a ModelInput,
        chunk: usize,
        progress: &'a mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> LocalFuture<'a, Result<Option<Vec<f32>>>> {
        let _ = (input, chunk, progress);
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Tokens that [`decode_rows`](Self::decode_rows) appends with the bits that one by one would give; 1 if none
    /// but the first are sure of that, or if more than one would hold up others.
    fn exact_rows(&self) -> usize;

    /// Whether [`draft`](Self::draft) will be asked for: a head that guesses must see the prompt too. What is
    /// cached already stays unknown to it. Models without such a head need not care.
    ///
    /// # Errors
    /// If the device has no room for what the head remembers.
    fn set_drafting(&mut self, on: bool) -> Result<()> {
        let _ = on;
        Ok(())
    }

    /// At most `n` tokens that a head of this model's own expects after `token`, which is about to be appended;
    /// none if it has no such head.
    fn draft(&mut self, token: u32, n: usize) -> LocalFuture<'_, Result<Vec<u32>>> {
        let _ = (token, n);
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Appends tokens in one pass, generated or guessed, which count as text whatever their ids.
    /// Returns for each of them the `k` best candidates for the one after it, as [`prefill`](Self::prefill) does.
    ///
    /// # Errors
    /// If a token is not in the vocabulary; nothing is cached then that was not before.
    fn decode_rows<'a>(
        &'a mut self,
        tokens: &'a [u32],
        k: usize,
    ) -> LocalFuture<'a, Result<Vec<Vec<Candidate>>>>;

    /// [`decode_rows`](Self::decode_rows) of one token.
    fn decode(&mut self, token: u32, k: usize) -> LocalFuture<'_, Result<Vec<Candidate>>> {
        Box::pin(async move {
            let rows = self.decode_rows(&[token], k).await?;
            Ok(rows.into_iter().next().expect("one row a token"))
        })
    }

    /// Bytes held now.
    fn bytes_resident(&self) -> Memory;

    /// What routed experts cost so far, if they share a budget of memory. Sequences over one copy of the
    /// weights share the account too.
    fn expert_use(&self) -> Option<ExpertUse> {
        None
    }

    /// A copy of what is cached; `None` if this model keeps its cache to itself.
    ///
    /// # Errors
    /// If the device cannot be read.
    fn read_cache(&self) -> Result<Option<CachedRows>> {
        Ok(None)
    }

    /// Takes `rows` in place of what is cached; whether this model can.
    ///
    /// # Errors
    /// If they are of another shape.
    fn write_cache(&mut self, rows: CachedRows) -> Result<bool> {
        let _ = rows;
        Ok(false)
    }
}

/// A model that runs several sequences at once over one copy of its weights.
pub trait Sequences {
    /// Sizes and special tokens.
    fn config(&self) -> &Config;

    /// A sequence with an empty cache.
    ///
    /// Its [`decode`](LanguageModel::decode) waits for [`step`](Self::step), and its
    /// [`prefill`](LanguageModel::prefill) lets others go on after each chunk. A future that is dropped leaves
    /// the sequence as it was after the last step.
    ///
    /// # Errors
    /// If the device has no room for it.
    fn sequence(&self) -> Result<Box<dyn LanguageModel>>;

    /// Decodes the tokens of all sequences that wait for that, in one pass. Returns how many there were.
    ///
    /// What fails is told to the sequence that it failed for.
    fn step(&self) -> LocalFuture<'_, usize>;
}
