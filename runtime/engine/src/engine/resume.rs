//! Goes on where an engine of an earlier process stopped.

use super::Engine;
use crate::Result;
use crate::snapshot::{self, Sizes};

impl Engine {
    /// What is cached, as bytes for [`restore`](Self::restore). `model` is the
    /// [`fingerprint`](crate::ModelFiles::fingerprint) of the model's files. `None` if nothing is cached, or the
    /// device keeps its cache to itself.
    ///
    /// # Errors
    /// If the cache cannot be read from the device.
    pub fn snapshot(&mut self, model: u64) -> Result<Option<Vec<u8>>> {
        if self.cached.is_empty() || self.at_given_positions {
            return Ok(None);
        }
        // Behind the chosen tokens there may be guesses that were not.
        self.model.truncate(self.cached.len())?;
        let rows = self.model.read_cache()?.filter(|rows| rows.position_ids.len() == self.cached.len());
        Ok(rows.map(|rows| snapshot::write(model, &self.cached, &rows)))
    }

    /// Takes the cache from a snapshot of the same model, so that a conversation that begins like the one that was
    /// cached reads only what is new. Returns how many tokens that are; 0 if the device cannot take them.
    ///
    /// # Errors
    /// If the bytes are damaged or of another model; then the cache is empty.
    pub fn restore(&mut self, bytes: &[u8], model: u64) -> Result<usize> {
        self.cached.clear();
        self.at_given_positions = false;
        self.model.truncate(0)?;
        let text = &self.config().text;
        let sizes = Sizes {
            n_layers: text.n_layers,
            kv_width: text.heads().kv_width(),
            context_limit: self.context_limit(),
            vocab_size: text.vocab_size,
        };
        let (keys, rows) = snapshot::read(bytes, model, &sizes)?;
        if !self.model.write_cache(rows)? {
            return Ok(0);
        }
        self.cached = keys;
        Ok(self.cached.len())
    }
}
