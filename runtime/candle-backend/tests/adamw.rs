//! The optimiser does what its formula says, value by value.

use candle_backend::optim::{AdamW, AdamWConfig, Param, ParamState};
use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};

/// The formula in `f64`, one value at a time. Source: arXiv 1711.05101, algorithm 2.
#[derive(Clone)]
struct Scalar {
    w: f64,
    mean: f64,
    square: f64,
    ema: f64,
}

impl Scalar {
    fn step(&mut self, config: AdamWConfig, grad: f64, lr: f64, weight_decay: f64, t: i32) {
        let (beta1, beta2) = (f64::from(config.beta1), f64::from(config.beta2));
        self.mean = beta1 * self.mean + (1.0 - beta1) * grad;
        self.square = beta2 * self.square + (1.0 - beta2) * grad * grad;
        let (mean, square) = (self.mean / (1.0 - beta1.powi(t)), self.square / (1.0 - beta2.powi(t)));
        self.w -= lr * (mean / (square.sqrt() + f64::from(config.eps)) + weight_decay * self.w);
    }

    fn follow(&mut self, decay: f64) {
        self.ema = decay * self.ema + (1.0 - decay) * self.w;
    }
}

const LR: f32 = 1e-2;

fn value(i: usize, step: usize) -> f32 {
    ((i * 37 + step * 101 + 13) as f32 * 0.618).sin()
}

/// Three parameters: one of more than one chunk, one without decay, one that never has a gradient.
fn params() -> Vec<Param> {
    let param = |shape: &[usize], lr_scale, weight_decay| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|i| value(i, 1000)).collect();
        let var = Var::from_vec(values, shape, &Device::Cpu).unwrap();
        Param { var, lr_scale, weight_decay, orthogonal: false }
    };
    vec![param(&[50, 401], 1.0, 0.1), param(&[7], 0.3, 0.0), param(&[5, 2], 1.0, 0.1)]
}

fn gradient(param: usize, step: usize, n: usize, scale: f32) -> Vec<f32> {
    (0..n).map(|i| scale * value(i + param * 11, step)).collect()
}

/// Gradients of all parameters but the last; they arrive as a transposed view.
fn gradients(params: &[Param], step: usize, scale: f32) -> GradStore {
    let mut loss = Tensor::zeros((), candle_core::DType::F32, &Device::Cpu).unwrap();
    for (p, Param { var, .. }) in params[..params.len() - 1].iter().enumerate() {
        let grad =
            Tensor::from_vec(gradient(p, step, var.elem_count(), scale), var.shape(), &Device::Cpu).unwrap();
        let along = match var.rank() {
            2 => var.t().unwrap().mul(&grad.t().unwrap().contiguous().unwrap()),
            _ => var.mul(&grad),
        };
        loss = loss.add(&along.unwrap().sum_all().unwrap()).unwrap();
    }
    loss.backward().unwrap()
}

fn flat(var: &Var) -> Vec<f32> {
    var.flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn close(what: &str, found: &[f32], expected: impl Iterator<Item = f64>) {
    for (i, (&f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(f) - e).abs() < 2e-6 * e.abs().max(0.1), "{what}[{i}] is {f}, not {e}");
    }
}

/// Runs both and compares weights, states and norms after every step.
#[track_caller]
fn check(config: AdamWConfig, scale: f32) {
    let mut optimizer = AdamW::new(params(), config).unwrap();
    let start = |w: f32| Scalar { w: w.into(), mean: 0.0, square: 0.0, ema: w.into() };
    let mut expected: Vec<Vec<Scalar>> =
        optimizer.params().iter().map(|param| flat(&param.var).into_iter().map(start).collect()).collect();
    for step in 1..=12 {
        let lr = LR / step as f32;
        let grads = gradients(optimizer.params(), step, scale);
        let norm = optimizer.step(&grads, lr).unwrap();

        let grads: Vec<Vec<f32>> = (0..2).map(|p| gradient(p, step, expected[p].len(), scale)).collect();
        let expected_norm = grads.iter().flatten().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        close("norm", &[norm], [expected_norm].into_iter());
        let clip = config.max_grad_norm.map_or(1.0, |max| (f64::from(max) / expected_norm).min(1.0));
        for (p, param) in optimizer.params().iter().enumerate() {
            let lr = f64::from(lr) * f64::from(param.lr_scale);
            for (i, value) in expected[p].iter_mut().enumerate() {
                if let Some(grads) = grads.get(p) {
                    value.step(
                        config,
                        clip * f64::from(grads[i]),
                        lr,
                        param.weight_decay.into(),
                        step as i32,
                    );
                }
                value.follow(config.ema_decay.unwrap_or(0.0).into());
            }
            let state = &optimizer.states()[p];
            close("weight", &flat(&param.var), expected[p].iter().map(|v| v.w));
            close("mean", &state.mean, expected[p].iter().map(|v| v.mean));
            close("square", &state.square, expected[p].iter().map(|v| v.square));
            match config.ema_decay {
                Some(_) => close("average", &state.ema, expected[p].iter().map(|v| v.ema)),
                None => assert!(state.ema.is_empty()),
            }
        }
    }
    assert_eq!(optimizer.n_steps(), 12);
}

#[test]
fn steps_follow_the_formula() {
    check(AdamWConfig { max_grad_norm: None, ..AdamWConfig::default() }, 0.7);
}

#[test]
fn large_gradients_are_clipped_and_small_ones_are_not() {
    check(AdamWConfig::default(), 3.0);
    check(AdamWConfig { eps: 1e-3, ..AdamWConfig::default() }, 1e-3);
}

#[test]
fn the_average_follows_every_weight() {
    check(AdamWConfig { ema_decay: Some(0.9), beta1: 0.8, beta2: 0.999, ..AdamWConfig::default() }, 0.5);
}

#[test]
fn training_continues_from_saved_states() {
    let config = AdamWConfig { ema_decay: Some(0.99), ..AdamWConfig::default() };
    let run = |optimizer: &mut AdamW, steps: std::ops::Range<usize>| {
        for step in steps {
            let grads = gradients(optimizer.params(), step, 1.0);
            optimizer.step(&grads, LR).unwrap();
        }
    };
    let mut whole = AdamW::new(params(), config).unwrap();
    run(&mut whole, 0..6);

    let mut first = AdamW::new(params(), config).unwrap();
    run(&mut first, 0..3);
    let copies = first.params().iter().map(|param| Param {
        var: Var::from_vec(flat(&param.var), param.var.shape(), &Device::Cpu).unwrap(),
        ..*param
    });
    let mut second = AdamW::new(copies.collect(), config).unwrap();
    second.load(first.states().to_vec(), first.n_steps()).unwrap();
    run(&mut second, 3..6);

    assert_eq!(second.states(), whole.states());
    for (a, b) in second.params().iter().zip(whole.params()) {
        assert_eq!(flat(&a.var), flat(&b.var));
    }
}

#[test]
fn a_state_of_another_model_is_refused() {
    let mut optimizer = AdamW::new(params(), AdamWConfig::default()).unwrap();
    let state = ParamState { mean: vec![0.0; 3], square: vec![0.0; 3], ema: Vec::new() };
    assert!(optimizer.load(vec![state], 1).is_err());
    let with_average = AdamWConfig { ema_decay: Some(0.9), ..AdamWConfig::default() };
    let states = AdamW::new(params(), with_average).unwrap().states().to_vec();
    assert!(optimizer.load(states, 1).is_err());
}

#[test]
fn nothing_changes_when_the_norm_is_not_finite() {
    let mut optimizer = AdamW::new(params(), AdamWConfig::default()).unwrap();
    let before = (optimizer.states().to_vec(), flat(&optimizer.params()[0].var));
    for scale in [f32::NAN, f32::INFINITY] {
        let grads = gradients(optimizer.params(), 1, scale);
        assert!(!optimizer.step(&grads, LR).unwrap().is_finite());
    }
    assert_eq!((optimizer.states().to_vec(), flat(&optimizer.params()[0].var)), before);
    assert_eq!(optimizer.n_steps(), 0);
}

#[test]
fn an_optimiser_descends() {
    let var = Var::from_vec(vec![3.0f32, -2.0, 5.0], (1, 3), &Device::Cpu).unwrap();
    let param = Param { var: var.clone(), lr_scale: 1.0, weight_decay: 0.0, orthogonal: false };
    let mut optimizer = AdamW::new(vec![param], AdamWConfig::default()).unwrap();
    for _ in 0..400 {
        let loss = (var.as_tensor() - 1.0).unwrap().sqr().unwrap().sum_all().unwrap();
        optimizer.step(&loss.backward().unwrap(), 0.05).unwrap();
    }
    assert!(flat(&var).iter().all(|w| (w - 1.0).abs() < 1e-2), "{:?}", flat(&var));
}

/// A first step along a gradient of one singular value goes to the orthogonal factor, however large it is.
#[test]
fn an_orthogonal_step_has_one_size_in_all_directions() {
    let config = AdamWConfig { max_grad_norm: None, ..AdamWConfig::default() };
    for scale in [1e-3f32, 10.0] {
        let var = Var::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let param = Param { var: var.clone(), lr_scale: 1.0, weight_decay: 0.0, orthogonal: true };
        let mut optimizer = AdamW::new(vec![param], config).unwrap();
        // Two directions, one ten times as steep: the update takes both alike.
        let slope = Tensor::new(&[[scale, 0.0, 0.0], [0.0, 0.0, 10.0 * scale]], &Device::Cpu).unwrap();
        let loss = var.mul(&slope).unwrap().sum_all().unwrap();
        optimizer.step(&loss.backward().unwrap(), LR).unwrap();
        let w = flat(&var);
        let size = LR * 0.2 * 3f32.sqrt();
        for (i, w) in w.iter().enumerate() {
            let expected = if [0, 5].contains(&i) { -size } else { 0.0 };
            assert!((w - expected).abs() < 0.35 * size, "{i}: {w}, not {expected}");
        }
    }
}
