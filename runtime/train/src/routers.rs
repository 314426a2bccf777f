//! What ERNIE 4.5 does to its routers beside the loss: orthogonality and even load.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_backend::Candle;
use candle_core::{Device, Tensor, Var};
use tensor::{Backend as _, Tapped, Taps};

use crate::learner::ready;
use crate::parameters::{Kind, Parameter};

/// The experts that rows were sent to, by router.
#[derive(Debug, Default)]
pub(crate) struct Choices(BTreeMap<String, Vec<u32>>);

impl Choices {
    /// Reads the choices that a forward pass left in `taps`.
    ///
    /// # Errors
    /// Those of candle.
    pub(crate) fn new(taps: Taps<Candle>) -> Result<Self> {
        let mut choices = Self::default();
        for (name, tapped) in taps.into_captured() {
            if let Tapped::Routing(routing) = tapped {
                choices.0.insert(name, ready(Candle::cpu().read_ids(&routing.expert_ids))?);
            }
        }
        Ok(choices)
    }

    /// Takes in the choices of other rows.
    pub(crate) fn add(&mut self, other: Self) {
        for (name, ids) in other.0 {
            self.0.entry(name).or_default().extend(ids);
        }
    }
}

/// The routers of a model, one a layer and modality.
#[derive(Debug)]
pub(crate) struct Routers {
    routers: Vec<Router>,
}

#[derive(Debug)]
struct Router {
    /// The tap its choices are captured under.
    tap: String,
    /// `[n_experts, hidden_size]`
    weight: Var,
    /// `[1, n_experts]`
    correction_bias: Var,
    /// Rows each expert got since the last report.
    load: Vec<u64>,
}

impl Routers {
    /// Finds the routers among all parameters.
    #[must_use]
    pub(crate) fn new(parameters: &[Parameter]) -> Self {
        let of_kind = |kind| parameters.iter().filter(move |p| p.kind == kind);
        let router = |p: &Parameter| {
            let (mlp, vision) = p.name.split_once(".gate.weight").expect("routers are named so");
            let (bank, row) = if vision.is_empty() { ("text", 0) } else { ("vision", 1) };
            let bias = format!("{mlp}.moe_statics.e_score_correction_bias");
            let bias = of_kind(Kind::CorrectionBias).find(|b| b.name == bias && b.rows.start == row);
            let layer = mlp.trim_start_matches("model.layers.").trim_end_matches(".mlp");
            Router {
                tap: format!("router.layers.{layer}.{bank}_moe.selected"),
                weight: p.var.clone(),
                correction_bias: bias.expect("every router has its bias row").var.clone(),
                load: vec![0; p.shape[0]],
            }
        };
        Self { routers: of_kind(Kind::Router).map(router).collect() }
    }

    /// Moves every correction bias by `step` towards even load, given the choices of one optimiser step.
    ///
    /// # Errors
    /// Those of candle.
    pub(crate) fn balance(&mut self, choices: &Choices, step: f32) -> Result<()> {
        for router in &mut self.routers {
            let Some(ids) = choices.0.get(&router.tap) else { continue };
            let mut load = vec![0u64; router.load.len()];
            ids.iter().for_each(|&id| load[id as usize] += 1);
            let mean = load.iter().sum::<u64>() as f32 / load.len() as f32;
            let mut bias = router.correction_bias.flatten_all()?.to_vec1::<f32>()?;
            for (bias, load) in bias.iter_mut().zip(&load) {
                let missing = mean - *load as f32;
                *bias += if missing == 0.0 { 0.0 } else { step * missing.signum() };
            }
            set(&router.correction_bias, &bias)?;
            router.load.iter_mut().zip(load).for_each(|(all, new)| *all += new);
        }
        Ok(())
    }

    /// Takes `weight` times the gradient of the orthogonality loss off every router.
    ///
    /// `mean((ŴŴᵀ − I)²)` over unit-norm expert rows, beside the optimiser and without learning rate, as
    /// ERNIE 4.5 pre-trains. Source: PaddlePaddle/ERNIE, pre-training callback for router orthogonality.
    ///
    /// # Errors
    /// Those of candle.
    pub(crate) fn orthogonalise(&self, weight: f32) -> Result<()> {
        for router in &self.routers {
            let mut rows = router.weight.to_vec2::<f32>()?;
            for (row, gradient) in
                rows.iter_mut().zip(orthogonality_gradient(&router.weight.to_vec2::<f32>()?))
            {
                row.iter_mut().zip(gradient).for_each(|(w, g)| *w -= weight * g);
            }
            set(&router.weight, &rows.concat())?;
        }
        Ok(())
    }

    /// For every router since the last call: entropy of the load over its maximum, and the largest cosine
    /// between two experts' rows.
    ///
    /// # Errors
    /// Those of candle.
    pub(crate) fn report(&mut self) -> Result<BTreeMap<String, [f32; 2]>> {
        let mut report = BTreeMap::new();
        for router in &mut self.routers {
            let total = router.load.iter().sum::<u64>().max(1) as f32;
            let entropy: f32 =
                router.load.iter().map(|&n| n as f32 / total).filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum();
            let cosines = cosines(&unit_rows(&router.weight.to_vec2::<f32>()?).0);
            let largest = cosines.iter().flatten().fold(0.0f32, |max, c| max.max(c.abs()));
            let name = router.tap.trim_start_matches("router.layers.").trim_end_matches("_moe.selected");
            report.insert(name.to_owned(), [entropy / (router.load.len() as f32).ln(), largest]);
            router.load.fill(0);
        }
        Ok(report)
    }
}

fn set(var: &Var, values: &[f32]) -> Result<()> {
    Ok(var.set(&Tensor::from_slice(values, var.shape(), &Device::Cpu)?)?)
}

/// Rows of length one, and the lengths they had.
fn unit_rows(rows: &[Vec<f32>]) -> (Vec<Vec<f32>>, Vec<f32>) {
    let norms: Vec<f32> =
        rows.iter().map(|row| row.iter().map(|w| w * w).sum::<f32>().sqrt().max(1e-12)).collect();
    let unit = rows.iter().zip(&norms).map(|(row, norm)| row.iter().map(|w| w / norm).collect()).collect();
    (unit, norms)
}

/// Cosines between different unit rows; zero on the diagonal.
fn cosines(unit: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    (0..unit.len())
        .map(|e| (0..unit.len()).map(|f| if e == f { 0.0 } else { dot(&unit[e], &unit[f]) }).collect())
        .collect()
}

/// Gradient of the orthogonality loss with respect to the expert rows.
fn orthogonality_gradient(rows: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let (unit, norms) = unit_rows(rows);
    let cosines = cosines(&unit);
    let factor = 4.0 / (rows.len() * rows.len()) as f32;
    (0..rows.len())
        .map(|e| {
            let mut v = vec![0.0; rows[e].len()];
            for (f, cosine) in cosines[e].iter().enumerate() {
                v.iter_mut().zip(&unit[f]).for_each(|(v, u)| *v += factor * cosine * u);
            }
            // Only the part across the row turns it; the part along it would change its length.
            let along: f32 = v.iter().zip(&unit[e]).map(|(v, u)| v * u).sum();
            v.iter().zip(&unit[e]).map(|(v, u)| (v - along * u) / norms[e]).collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(rows: &[Vec<f32>]) -> f64 {
        let cosines = cosines(&unit_rows(rows).0);
        let squares: f64 = cosines.iter().flatten().map(|c| f64::from(*c).powi(2)).sum();
        squares / (rows.len() * rows.len()) as f64
    }

    #[test]
    fn the_orthogonality_gradient_is_the_slope_of_the_loss() {
        let rows = vec![vec![0.5, 1.0, -0.3], vec![1.5, 0.2, 0.4], vec![-0.7, 0.9, 1.1]];
        let gradient = orthogonality_gradient(&rows);
        for e in 0..3 {
            for i in 0..3 {
                let shifted = |by: f32| {
                    let mut rows = rows.clone();
                    rows[e][i] += by;
                    loss(&rows)
                };
                let slope = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
                assert!((slope - f64::from(gradient[e][i])).abs() < 1e-4, "{slope} {}", gradient[e][i]);
            }
        }
    }
}
