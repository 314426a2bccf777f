//! What was written, and what it lost.

use std::collections::BTreeMap;
use std::path::Path;

use engine::ModelFiles;
use engine::quantize::{PlannedTensor, Quantization};
use serde::Serialize;

use crate::output::{Output, bytes, count, plural};

#[derive(Serialize)]
pub(super) struct Report {
    model: String,
    out: String,
    #[serde(rename = "type")]
    preset: &'static str,
    model_bytes: u64,
    bytes: u64,
    values: u64,
    bits_per_value: f64,
    /// Tensors that an earlier run had written.
    resumed: usize,
    fallbacks: usize,
    notes: Vec<String>,
    tensors: Vec<Tensor>,
}

#[derive(Serialize)]
pub(super) struct Tensor {
    name: String,
    shape: Vec<usize>,
    from: String,
    to: String,
    /// The type asked for, if it is another: its blocks do not fill the rows, or those stored are no larger.
    #[serde(skip_serializing_if = "Option::is_none")]
    instead_of: Option<String>,
    /// Whether its blocks are those of the model.
    kept: bool,
    bytes: u64,
    relative_rms_error: f64,
}

/// All tensors of one type.
#[derive(Default)]
struct Stored {
    tensors: usize,
    bytes: u64,
    largest: f64,
    largest_name: String,
}

impl Tensor {
    pub(super) fn new(tensor: &PlannedTensor, bytes: u64, relative_rms_error: f64) -> Self {
        Self {
            name: tensor.name().to_owned(),
            shape: tensor.shape().to_vec(),
            from: tensor.stored.to_string(),
            to: tensor.dtype.to_string(),
            instead_of: (tensor.wanted != tensor.dtype).then(|| tensor.wanted.to_string()),
            kept: tensor.is_kept(),
            bytes,
            relative_rms_error,
        }
    }
}

impl Report {
    pub(super) fn new(
        out: &Path,
        files: &ModelFiles,
        plan: &Quantization,
        preset: &'static str,
        resumed: usize,
        tensors: Vec<Tensor>,
    ) -> Self {
        let values = tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>() as u64).sum();
        let tensor_bytes: u64 = tensors.iter().map(|tensor| tensor.bytes).sum();
        Self {
            model: files.name().to_owned(),
            out: out.display().to_string(),
            preset,
            model_bytes: files.sizes().map(|(_, bytes)| bytes as u64).sum(),
            bytes: plan.layout().file_len(),
            values,
            bits_per_value: 8.0 * tensor_bytes as f64 / values as f64,
            resumed,
            fallbacks: tensors.iter().filter(|tensor| tensor.instead_of.is_some() && !tensor.kept).count(),
            notes: plan.notes().to_vec(),
            tensors,
        }
    }

    pub(super) fn write(&self, output: &Output, list: bool) -> anyhow::Result<()> {
        output.row(
            "written",
            &format!(
                "{}: {}, from {} of {}",
                self.out,
                bytes(self.bytes),
                bytes(self.model_bytes),
                self.model
            ),
        )?;
        output.row(
            "type",
            &format!(
                "{}, {:.2} bits for each of {} values",
                self.preset,
                self.bits_per_value,
                count(self.values)
            ),
        )?;
        let mut by_type: BTreeMap<&str, Stored> = BTreeMap::new();
        for tensor in &self.tensors {
            let stored = by_type.entry(&tensor.to).or_default();
            stored.tensors += 1;
            stored.bytes += tensor.bytes;
            if tensor.relative_rms_error >= stored.largest {
                stored.largest = tensor.relative_rms_error;
                stored.largest_name.clone_from(&tensor.name);
            }
        }
        for (dtype, stored) in by_type {
            let tensors = plural(stored.tensors, "tensor");
            let worst = match stored.largest {
                0.0 => "exact".to_owned(),
                error => format!("relative error at most {} ({})", percent(error), stored.largest_name),
            };
            output.row(dtype, &format!("{tensors}, {}, {worst}", bytes(stored.bytes)))?;
        }
        self.write_fallbacks(output)?;
        if list {
            for Tensor { name, shape, from, to, relative_rms_error, .. } in &self.tensors {
                let error = percent(*relative_rms_error);
                output.line(&format!(
                    "{name:<32} {:<18} {from:>4} → {to:<4} {error:>9}",
                    format!("{shape:?}")
                ))?;
            }
        }
        Ok(())
    }

    /// One line for each pair of types.
    fn write_fallbacks(&self, output: &Output) -> anyhow::Result<()> {
        let mut pairs: BTreeMap<(&str, &str, bool), Vec<&Tensor>> = BTreeMap::new();
        for tensor in &self.tensors {
            if let Some(wanted) = &tensor.instead_of {
                pairs.entry((wanted, &tensor.to, tensor.kept)).or_default().push(tensor);
            }
        }
        for ((wanted, to, kept), tensors) in pairs {
            if kept {
                let tensors = plural(tensors.len(), "tensor");
                output.row(
                    "kept",
                    &format!("{tensors} in {to} as the model has them, not {wanted}: no larger, and exact"),
                )?;
                continue;
            }
            let cols = tensors[0].shape.last().copied().unwrap_or(1);
            let text = format!(
                "{} in {to}, not {wanted}: rows such as the {cols} values of {} are no whole blocks",
                plural(tensors.len(), "tensor"),
                tensors[0].name
            );
            output.row("fallback", &text)?;
        }
        Ok(())
    }
}

fn percent(x: f64) -> String {
    format!("{:.3} %", 100.0 * x)
}
