//! From a model in training to files that every backend loads: fold the gates, write bf16.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use half::bf16;
use safetensors::tensor::{Dtype, TensorView};

use crate::parameters::{Kind, Parameter};

/// Smallest product of gates that is folded; below it weights would grow beyond reason.
const LEAST_SCALE: f64 = 1e-3;

/// Tensors by name: shape and values.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Joins the parts of fused tensors; `values` are those of `parameters`, in order.
///
/// # Errors
/// If the parts of a tensor do not fill it.
pub fn join(parameters: &[Parameter], values: &[Vec<f32>]) -> Result<Tensors> {
    let mut tensors = Tensors::new();
    for (parameter, part) in parameters.iter().zip(values) {
        let n = parameter.shape.iter().product();
        let (_, whole) = tensors
            .entry(parameter.name.clone())
            .or_insert_with(|| (parameter.shape.clone(), vec![f32::NAN; n]));
        let row = n / parameter.shape[0];
        whole[parameter.rows.start * row..parameter.rows.end * row].copy_from_slice(part);
    }
    for (name, (_, values)) in &tensors {
        ensure!(
            !values.iter().any(|v| v.is_nan()),
            "tensor `{name}` has parts that are missing or not a number"
        );
    }
    Ok(tensors)
}

/// Folds the gates of gradient-preserving activation scaling into the branches they scale.
///
/// A gated stream is a plain one whose branches write with one over the product of all gates before them.
/// The result computes the same function with plain pre-norm layers, but for the norms' eps.
///
/// # Errors
/// If a gate has closed or turned negative.
pub fn fold_gpas(tensors: &mut Tensors, n_layers: usize) -> Result<()> {
    let mut product = 1.0f64;
    for layer in 0..n_layers {
        let prefix = format!("model.layers.{layer}");
        let Some((_, gate)) = tensors.remove(&format!("{prefix}.gpas_gate")) else { continue };
        let a = f64::from(gate[0]);
        let scale = 1.0 - a / (1.0 + (-a).exp());
        let (attention, feed_forward) = (product, product * scale);
        product = feed_forward * scale;
        ensure!(
            scale > LEAST_SCALE && product > LEAST_SCALE,
            "the gate of layer {layer} is {a}: its scale {scale} cannot be folded"
        );
        for (name, (_, values)) in
            tensors.iter_mut().filter(|(name, _)| name.starts_with(&format!("{prefix}.")))
        {
            let divisor = match name {
                _ if name.ends_with("o_proj.weight") => attention,
                _ if name.ends_with("down_proj.weight") => feed_forward,
                _ => continue,
            };
            values.iter_mut().for_each(|v| *v = (f64::from(*v) / divisor) as f32);
        }
    }
    Ok(())
}

/// Writes `model.safetensors`: routers in f32 as the published files, all else in bf16.
///
/// # Errors
/// If the file cannot be written.
pub fn write(tensors: &Tensors, path: &Path) -> Result<()> {
    let encoded: Vec<(&String, Dtype, &[usize], Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            let (dtype, bytes) = match Kind::of(name) {
                Kind::Router | Kind::CorrectionBias => (Dtype::F32, f32_bytes(values)),
                _ => (Dtype::BF16, values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect()),
            };
            (name, dtype, shape.as_slice(), bytes)
        })
        .collect();
    let views = encoded
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(*dtype, shape.to_vec(), bytes)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let bytes = safetensors::serialize(views, Some(metadata))?;
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// Little-endian bytes.
pub(crate) fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}
