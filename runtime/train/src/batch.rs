//! Samples to the packed rows of one step.

use anyhow::{Result, ensure};
use model::{Positions, Span};
use tokenizer::Tokenizer;
use vision::{Picture, Preprocessor};

use crate::data::{Cell, Sample};
use crate::recipe::Ids;

/// Several chats, packed one after another, and what to learn from them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Tokens of all chats.
    pub token_ids: Vec<u32>,
    /// `(time, height, width)` of every token, from zero in each chat.
    pub positions: Vec<[u32; 3]>,
    /// Bounds of the chats.
    pub cu_seqlens: Vec<u32>,
    /// Whether a token belongs to a picture, its delimiters included.
    pub is_vision: Vec<bool>,
    /// Patches of all pictures, `[n_patches, 588]`.
    pub patches: Vec<f32>,
    /// Grids of all pictures.
    pub grids: Vec<[u32; 3]>,
    /// What each row of the resampler should say.
    pub cells: Vec<Cell>,
    /// Rows of the placeholder tokens.
    pub placeholders: Vec<u32>,
    /// Rows whose next token is part of an answer.
    pub supervised: Vec<u32>,
    /// That next token.
    pub targets: Vec<u32>,
    /// For every answer, the end of its part of `targets`, and the sample it belongs to.
    pub answers: Vec<(usize, usize)>,
}

/// Turns samples into batches.
#[derive(Debug, Clone)]
pub struct Packer {
    tokenizer: Tokenizer,
    ids: Ids,
    preprocessor: Preprocessor,
}

impl Packer {
    /// A packer for this vocabulary.
    #[must_use]
    pub fn new(tokenizer: Tokenizer, preprocessor: Preprocessor) -> Self {
        Self { ids: Ids::new(&tokenizer), tokenizer, preprocessor }
    }

    /// Packs `samples` in order, written as the chat template writes them.
    ///
    /// # Errors
    /// If a picture cannot be cut into patches.
    pub fn pack(&self, samples: &[Sample]) -> Result<Batch> {
        let mut batch = Batch { cu_seqlens: vec![0], ..Batch::default() };
        for (index, sample) in samples.iter().enumerate() {
            self.push(&mut batch, index, sample)?;
        }
        Ok(batch)
    }

    /// Packs the pictures alone: what the eyes learn from.
    ///
    /// # Errors
    /// If a picture cannot be cut into patches.
    pub fn pack_pictures(&self, samples: &[Sample]) -> Result<Batch> {
        let mut batch = Batch { cu_seqlens: vec![0], ..Batch::default() };
        for sample in samples {
            for number in 0..sample.pictures.len() {
                self.push_picture(&mut batch, sample, number)?;
            }
        }
        Ok(batch)
    }

    /// Appends patches and cells of one picture; returns its grid and its number of tokens.
    fn push_picture(&self, batch: &mut Batch, sample: &Sample, number: usize) -> Result<([u32; 3], usize)> {
        let picture = &sample.pictures[number];
        let picture = Picture::new(picture.width(), picture.height(), picture.as_raw().clone())?;
        let patches = self.preprocessor.image(&picture)?;
        let n_tokens = patches.n_tokens();
        match sample.cells.get(number) {
            Some(cells) => {
                ensure!(cells.len() == n_tokens, "{} cells for {n_tokens} tokens", cells.len());
                batch.cells.extend(cells);
            }
            None => batch.cells.resize(batch.cells.len() + n_tokens, Cell::default()),
        }
        batch.grids.push(patches.grid_thw);
        batch.patches.extend(patches.pixel_values);
        Ok((patches.grid_thw, n_tokens))
    }

    fn push(&self, batch: &mut Batch, index: usize, sample: &Sample) -> Result<()> {
        let Ids { begin, end_of_sentence, placeholder, image_start, image_end, .. } = self.ids;
        let mut spans = Vec::new();
        let mut text = vec![begin];
        let say = |text: &mut Vec<u32>, words: &str| text.extend(self.tokenizer.encode(words));
        // Where text tokens of this chat begin that are not yet in the batch.
        let flush = |batch: &mut Batch, spans: &mut Vec<Span>, text: &mut Vec<u32>| {
            spans.push(Span::Text(text.len()));
            batch.is_vision.resize(batch.is_vision.len() + text.len(), false);
            batch.token_ids.append(text);
        };
        // One piece of text between two control tokens is encoded whole, as in a rendered prompt.
        let mut piece = sample.system.as_ref().map_or_else(String::new, |system| format!("{system}\n"));
        for (nth, turn) in sample.turns.iter().enumerate() {
            piece.push_str("User: ");
            if nth == 0 {
                for number in 0..sample.pictures.len() {
                    piece.push_str(&format!("Picture {}:", number + 1));
                    say(&mut text, &piece);
                    piece.clear();
                    let (grid, n_tokens) = self.push_picture(batch, sample, number)?;
                    flush(batch, &mut spans, &mut text);
                    let start = batch.token_ids.len() as u32 + 1;
                    batch.placeholders.extend(start..start + n_tokens as u32);
                    batch.token_ids.push(image_start);
                    batch.token_ids.resize(batch.token_ids.len() + n_tokens, placeholder);
                    batch.token_ids.push(image_end);
                    batch.is_vision.resize(batch.token_ids.len(), true);
                    let merge = self.preprocessor.merge_size as usize;
                    spans.push(Span::Text(1));
                    spans.push(Span::visual(grid, merge, self.preprocessor.temporal_merge as usize));
                    spans.push(Span::Text(1));
                }
            }
            piece.push_str(&turn.question);
            piece.push_str("\nAssistant:\n");
            say(&mut text, &piece);
            piece.clear();
            flush(batch, &mut spans, &mut text);

            let mut answer = self.tokenizer.encode(&turn.answer);
            // Nobody who answers can know whether another question follows, so every answer ends alike.
            answer.push(end_of_sentence);
            let first = batch.token_ids.len() as u32 - 1;
            batch.supervised.extend(first..first + answer.len() as u32);
            batch.targets.extend(&answer);
            batch.answers.push((batch.targets.len(), index));
            text.append(&mut answer);
        }
        flush(batch, &mut spans, &mut text);
        batch.positions.extend(Positions::walk(&spans).ids);
        batch.cu_seqlens.push(batch.token_ids.len() as u32);
        Ok(())
    }
}
