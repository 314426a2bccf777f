//! AdamW on flat `f32` data, in place; Muon for matrices that ask for it.

use std::cell::RefCell;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Var, bail};
use rayon::prelude::*;

use crate::kernels::orthogonal::orthogonalized;
use crate::kernels::simd::{self, vectorize};
use crate::ops::values;

/// A variable and what is special about it.
#[derive(Debug, Clone)]
pub struct Param {
    /// The variable.
    pub var: Var,
    /// Factor of the learning rate.
    pub lr_scale: f32,
    /// Decoupled weight decay, times the learning rate a step.
    pub weight_decay: f32,
    /// Whether the update of this matrix is made orthogonal: Muon instead of AdamW.
    pub orthogonal: bool,
}

/// Constants of the optimiser.
#[derive(Debug, Clone, Copy)]
pub struct AdamWConfig {
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squared gradients.
    pub beta2: f32,
    /// Added to the root of the mean of squares.
    pub eps: f32,
    /// Largest global norm of the gradients; larger ones are scaled down to it.
    pub max_grad_norm: Option<f32>,
    /// Decay of the moving average of the weights, if one is kept.
    pub ema_decay: Option<f32>,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, eps: 1e-8, max_grad_norm: Some(1.0), ema_decay: None }
    }
}

/// What is remembered of one parameter: flat, to be saved beside the weights.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamState {
    /// Mean of gradients.
    pub mean: Vec<f32>,
    /// Mean of squared gradients.
    pub square: Vec<f32>,
    /// Moving average of the weights; empty if none is kept.
    pub ema: Vec<f32>,
}

/// AdamW with decoupled weight decay, global norm clipping and a moving average of the weights; for
/// matrices that are [`orthogonal`](Param::orthogonal), Muon with an update as large as AdamW's.
///
/// Variables live on the CPU and are updated where they lie.
///
/// Sources: Decoupled Weight Decay Regularization, arXiv 1711.05101; Muon is Scalable for LLM Training,
/// arXiv 2502.16982, for the size of the orthogonal update.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    params: Vec<Param>,
    states: Vec<ParamState>,
    n_steps: u64,
}

impl AdamW {
    /// An optimiser that has taken no step; the moving average starts at the weights.
    ///
    /// # Errors
    /// If a variable is not contiguous `f32` on the CPU.
    pub fn new(params: Vec<Param>, config: AdamWConfig) -> Result<Self> {
        let state = |param: &Param| {
            let weights = values(&param.var)?;
            let zeros = || vec![0.0; weights.len()];
            let ema = config.ema_decay.map_or_else(Vec::new, |_| weights.to_vec());
            Ok(ParamState { mean: zeros(), square: zeros(), ema })
        };
        let states = params.iter().map(state).collect::<Result<_>>()?;
        Ok(Self { config, params, states, n_steps: 0 })
    }

    /// The parameters, in the order of [`states`](Self::states).
    #[must_use]
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// What is remembered of each parameter.
    #[must_use]
    pub fn states(&self) -> &[ParamState] {
        &self.states
    }

    /// Steps taken.
    #[must_use]
    pub fn n_steps(&self) -> u64 {
        self.n_steps
    }

    /// Continues from saved states.
    ///
    /// # Errors
    /// If the states do not belong to these parameters.
    pub fn load(&mut self, states: Vec<ParamState>, n_steps: u64) -> Result<()> {
        let lens = |state: &ParamState| [state.mean.len(), state.square.len(), state.ema.len()];
        if !states.iter().map(lens).eq(self.states.iter().map(lens)) {
            bail!("the saved optimiser state is of another model or another configuration");
        }
        (self.states, self.n_steps) = (states, n_steps);
        Ok(())
    }

    /// Takes one step of learning rate `lr`; returns the global norm of the gradients before clipping.
    ///
    /// Parameters without gradient keep their weights and state, their moving average still follows.
    /// With a norm that is not finite nothing changes, and the caller is told by the norm.
    ///
    /// # Errors
    /// If a gradient has another size than its variable.
    pub fn step(&mut self, grads: &GradStore, lr: f32) -> Result<f32> {
        let norm = grad_norm(&self.params, grads)?;
        if !norm.is_finite() {
            return Ok(norm);
        }
        self.n_steps += 1;
        let config = self.config;
        let clip = config.max_grad_norm.map_or(1.0, |max| (max / norm.max(f32::MIN_POSITIVE)).min(1.0));
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(self.n_steps as f64);
        let (mean_norm, square_norm) = (correction(config.beta1), correction(config.beta2));
        self.params.par_iter().zip(&mut self.states).try_for_each(|(param, state)| {
            let lr = lr * param.lr_scale;
            let rule = Rule {
                clip,
                beta1: config.beta1,
                beta2: config.beta2,
                step: (f64::from(lr) / mean_norm) as f32,
                square_scale: (1.0 / square_norm) as f32,
                eps: config.eps,
                keep: 1.0 - lr * param.weight_decay,
            };
            if let Some(grad) = grads.get(&param.var) {
                let grad = grad.contiguous()?;
                let state = RefCell::new(&mut *state);
                match param.orthogonal {
                    false => param.var.inplace_op2(&grad, &Update { rule, state })?,
                    true => param.var.inplace_op2(&grad, &OrthogonalUpdate { lr, keep: rule.keep, state })?,
                }
            }
            if let Some(decay) = config.ema_decay {
                follow(&mut state.ema, &values(&param.var)?, decay);
            }
            Result::Ok(())
        })?;
        Ok(norm)
    }
}

/// The norm of all gradients together.
///
/// # Errors
/// If a gradient is not `f32` on the CPU.
pub fn grad_norm(params: &[Param], grads: &GradStore) -> Result<f32> {
    let mut sum = 0.0;
    for grad in params.iter().filter_map(|param| grads.get(&param.var)) {
        let grad = grad.contiguous()?;
        let squares: Vec<f64> =
            values(&grad)?.par_chunks(CHUNK).map(|chunk| f64::from(simd::dot(chunk, chunk))).collect();
        sum += squares.iter().sum::<f64>();
    }
    Ok(sum.sqrt() as f32)
}

/// Values one task works on.
const CHUNK: usize = 1 << 14;

/// The update of one value, decided once a parameter.
#[derive(Clone, Copy)]
struct Rule {
    clip: f32,
    beta1: f32,
    beta2: f32,
    /// Learning rate over the bias correction of the mean.
    step: f32,
    /// One over the bias correction of the mean of squares.
    square_scale: f32,
    eps: f32,
    /// What weight decay leaves.
    keep: f32,
}

/// The values of a variable and of its gradient, one for each.
fn paired<'a>(
    (w, lw): (&'a mut CpuStorage, &Layout),
    (grad, lg): (&'a CpuStorage, &Layout),
) -> Result<(&'a mut [f32], &'a [f32])> {
    let (CpuStorage::F32(w), CpuStorage::F32(grad)) = (w, grad) else { bail!("needs f32 on the CPU") };
    let (Some((start, end)), Some((grad_start, grad_end))) =
        (lw.contiguous_offsets(), lg.contiguous_offsets())
    else {
        bail!("needs contiguous values")
    };
    let (w, grad) = (&mut w[start..end], &grad[grad_start..grad_end]);
    if w.len() != grad.len() {
        bail!("{} gradients for {} weights", grad.len(), w.len());
    }
    Ok((w, grad))
}

struct Update<'a> {
    rule: Rule,
    state: RefCell<&'a mut ParamState>,
}

impl InplaceOp2 for Update<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, w: &mut CpuStorage, lw: &Layout, grad: &CpuStorage, lg: &Layout) -> Result<()> {
        let (w, grad) = paired((w, lw), (grad, lg))?;
        let rule = self.rule;
        let mut state = self.state.borrow_mut();
        let ParamState { mean, square, .. } = &mut **state;
        let moments = mean.par_chunks_mut(CHUNK).zip(square.par_chunks_mut(CHUNK));
        w.par_chunks_mut(CHUNK).zip(grad.par_chunks(CHUNK)).zip(moments).for_each(
            |((w, grad), (mean, square))| {
                vectorize(|| update(rule, w, grad, mean, square));
            },
        );
        Ok(())
    }
}

#[inline(always)]
fn update(rule: Rule, w: &mut [f32], grad: &[f32], mean: &mut [f32], square: &mut [f32]) {
    for (((w, grad), mean), square) in w.iter_mut().zip(grad).zip(mean).zip(square) {
        let grad = grad * rule.clip;
        *mean = rule.beta1 * *mean + (1.0 - rule.beta1) * grad;
        *square = rule.beta2 * *square + (1.0 - rule.beta2) * grad * grad;
        *w = *w * rule.keep - rule.step * *mean / ((*square * rule.square_scale).sqrt() + rule.eps);
    }
}

/// Decay of the mean of gradients of orthogonal updates.
const MOMENTUM: f32 = 0.95;
/// Root mean square of an orthogonal update of learning rate one: about that of AdamW's.
const ORTHOGONAL_RMS: f32 = 0.2;

/// The update of one matrix, with the momentum looked ahead as Nesterov does.
struct OrthogonalUpdate<'a> {
    lr: f32,
    /// What weight decay leaves.
    keep: f32,
    state: RefCell<&'a mut ParamState>,
}

impl InplaceOp2 for OrthogonalUpdate<'_> {
    fn name(&self) -> &'static str {
        "muon"
    }

    fn cpu_fwd(&self, w: &mut CpuStorage, lw: &Layout, grad: &CpuStorage, lg: &Layout) -> Result<()> {
        let (rows, cols) = lw.shape().dims2()?;
        let (w, grad) = paired((w, lw), (grad, lg))?;
        let mut state = self.state.borrow_mut();
        for (mean, grad) in state.mean.iter_mut().zip(grad) {
            *mean = MOMENTUM * *mean + (1.0 - MOMENTUM) * grad;
        }
        let ahead: Vec<f32> =
            state.mean.iter().zip(grad).map(|(m, g)| MOMENTUM * m + (1.0 - MOMENTUM) * g).collect();
        let step = self.lr * ORTHOGONAL_RMS * (rows.max(cols) as f32).sqrt();
        for (w, direction) in w.iter_mut().zip(orthogonalized(&ahead, rows, cols)) {
            *w = *w * self.keep - step * direction;
        }
        Ok(())
    }
}

/// Moves `ema` towards `w`.
fn follow(ema: &mut [f32], w: &[f32], decay: f32) {
    ema.par_chunks_mut(CHUNK).zip(w.par_chunks(CHUNK)).for_each(|(ema, w)| {
        vectorize(|| {
            for (ema, w) in ema.iter_mut().zip(w) {
                *ema += (1.0 - decay) * (w - *ema);
            }
        });
    });
}
