//! A training run on disk: weights, optimiser and progress, so that it can go on after a stop.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use candle_backend::optim::ParamState;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::export::f32_bytes;

/// Everything a run needs to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Steps taken.
    pub step: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Values of all parameters.
    pub weights: Vec<Vec<f32>>,
    /// What the optimiser remembers of the trained ones.
    pub states: Vec<ParamState>,
}

impl Checkpoint {
    /// Writes the checkpoint beside `path` and renames it, so that a cut write leaves the old one.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut arrays: Vec<(String, Vec<u8>)> = Vec::new();
        let mut push = |name: String, values: &[f32]| arrays.push((name, f32_bytes(values)));
        for (i, weights) in self.weights.iter().enumerate() {
            push(format!("weights.{i:05}"), weights);
        }
        for (i, state) in self.states.iter().enumerate() {
            push(format!("mean.{i:05}"), &state.mean);
            push(format!("square.{i:05}"), &state.square);
            push(format!("ema.{i:05}"), &state.ema);
        }
        let views = arrays
            .iter()
            .map(|(name, bytes)| Ok((name, TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes)?)))
            .collect::<Result<Vec<_>>>()?;
        let metadata = HashMap::from([
            ("step".into(), self.step.to_string()),
            ("seconds".into(), self.seconds.to_string()),
        ]);
        let unfinished = path.with_extension("part");
        fs::write(&unfinished, safetensors::serialize(views, Some(metadata))?)
            .with_context(|| format!("cannot write {}", unfinished.display()))?;
        Ok(fs::rename(&unfinished, path)?)
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// If the file is missing or something else.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let context = || format!("{} is not a checkpoint of a training run", path.display());
        let (_, header) = SafeTensors::read_metadata(&bytes).with_context(context)?;
        let file = SafeTensors::deserialize(&bytes).with_context(context)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let number = |key: &str| metadata.get(key).and_then(|v| v.parse::<f64>().ok()).with_context(context);
        let arrays = |part: &str| -> Result<Vec<Vec<f32>>> {
            let mut names: Vec<&str> = file.names().into_iter().filter(|n| n.starts_with(part)).collect();
            names.sort_unstable();
            names.into_iter().map(|name| Ok(floats(file.tensor(name)?.data()))).collect()
        };
        let (means, squares, emas) = (arrays("mean.")?, arrays("square.")?, arrays("ema.")?);
        ensure!(means.len() == squares.len() && means.len() == emas.len(), "{}", context());
        let states = means
            .into_iter()
            .zip(squares)
            .zip(emas)
            .map(|((mean, square), ema)| ParamState { mean, square, ema })
            .collect();
        Ok(Self {
            step: number("step")? as u64,
            seconds: number("seconds")?,
            weights: arrays("weights.")?,
            states,
        })
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read_back() {
        let state = ParamState { mean: vec![1.0, 2.0], square: vec![3.0, 4.0], ema: vec![5.0, 6.0] };
        let saved = Checkpoint {
            step: 7,
            seconds: 1.5,
            weights: vec![vec![0.5], vec![1.5; 3]],
            states: vec![state.clone(), state],
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.safetensors");
        saved.save(&path).unwrap();
        assert_eq!(Checkpoint::open(&path).unwrap(), saved);
    }

    #[test]
    fn another_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other");
        std::fs::write(&path, b"not a checkpoint").unwrap();
        assert!(Checkpoint::open(&path).unwrap_err().to_string().contains("not a checkpoint"));
    }
}
