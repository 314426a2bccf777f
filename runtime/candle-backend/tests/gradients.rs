//! Every gradient written by hand equals the one candle derives for the composed form.

use std::f64::consts::TAU;

use candle_backend::{Candle, Weight};
use candle_core::{Device, Tensor, Var};
use tensor::{Backend, Error, Experts, Gelu, Heads, Mask, RopePairs, Routing};

/// Largest normalised mean square error between two ways of rounding the same sum.
const BOUND: f64 = 1e-10;

type Op<'a> = &'a (dyn Fn(&Candle, &[Tensor]) -> tensor::Result<Tensor> + Sync);

/// A named input: its shape, and how far its values reach.
struct Input(&'static str, Vec<usize>, f32);

/// Values in `-1..1` that look random and never change.
fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// Σ (found − expected)² / Σ expected².
fn nmse(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let error: f64 = found.iter().zip(expected).map(|(&f, &e)| (f64::from(f) - f64::from(e)).powi(2)).sum();
    let power: f64 = expected.iter().map(|&e| f64::from(e).powi(2)).sum();
    if error == 0.0 { 0.0 } else { error / power.max(f64::MIN_POSITIVE) }
}

fn flat(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn variables(inputs: &[Input]) -> Vec<Var> {
    let var = |(seed, Input(_, shape, scale)): (u64, &Input)| {
        let values: Vec<f32> = noise(seed, shape.iter().product()).iter().map(|v| v * scale).collect();
        Var::from_vec(values, shape.as_slice(), &Device::Cpu).unwrap()
    };
    (1..).zip(inputs).map(var).collect()
}

/// The output, and the gradient of each input under a random gradient of the output.
///
/// That gradient arrives transposed: a view which is not contiguous, as candle hands them out.
fn forward_and_backward(b: &Candle, vars: &[Var], op: Op<'_>) -> (Vec<f32>, Vec<Vec<f32>>) {
    let inputs: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let y = op(b, &inputs).unwrap();
    let toward = Tensor::from_vec(noise(99, y.elem_count()), y.t().unwrap().shape(), &Device::Cpu).unwrap();
    let grads = y.t().unwrap().mul(&toward).unwrap().sum_all().unwrap().backward().unwrap();
    let gradient = |var: &Var| match grads.get(var) {
        Some(grad) => flat(grad),
        None => vec![0.0; var.elem_count()],
    };
    (flat(&y), vars.iter().map(gradient).collect())
}

/// Runs `f` on a pool of its own.
fn with_threads<R: Send>(n_threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap().install(f)
}

/// Compares outputs and gradients with the composed form, and across numbers of threads bit for bit.
#[track_caller]
fn check(case: &str, inputs: &[Input], op: Op<'_>) {
    let vars = variables(inputs);
    let (y, grads) = forward_and_backward(&Candle::cpu(), &vars, op);
    for n_threads in [1, 3] {
        let again = with_threads(n_threads, || forward_and_backward(&Candle::cpu(), &vars, op));
        assert!(again == (y.clone(), grads.clone()), "{case}: {n_threads} threads give another result");
    }
    let (expected_y, expected) = forward_and_backward(&Candle::composed(Device::Cpu), &vars, op);
    let error = nmse(&y, &expected_y);
    assert!(error <= BOUND, "{case}: the output is off by {error:e}");
    for (Input(name, ..), (grad, expected)) in inputs.iter().zip(grads.iter().zip(&expected)) {
        let error = nmse(grad, expected);
        assert!(error <= BOUND, "{case}: the gradient of {name} is off by {error:e}");
    }
}

/// Compares the gradient of input `which` with central differences.
#[track_caller]
fn check_slope(case: &str, inputs: &[Input], which: usize, op: Op<'_>) {
    let b = Candle::cpu();
    let vars = variables(inputs);
    let (y, grads) = forward_and_backward(&b, &vars, op);
    let cols = op(&b, &vars.iter().map(|v| v.as_tensor().clone()).collect::<Vec<_>>()).unwrap().dims()[1];
    let (rows, toward) = (y.len() / cols, noise(99, y.len()));
    let loss = |at: usize, step: f32| -> f64 {
        let mut values: Vec<Tensor> = vars.iter().map(|var| var.as_detached_tensor()).collect();
        let mut moved = flat(&values[which]);
        moved[at] += step;
        values[which] = Tensor::from_vec(moved, values[which].shape(), &Device::Cpu).unwrap();
        let y = flat(&op(&b, &values).unwrap());
        (0..y.len()).map(|i| f64::from(y[i]) * f64::from(toward[i % cols * rows + i / cols])).sum()
    };
    const STEP: f32 = 1.0 / 128.0;
    let slope = |at| ((loss(at, STEP) - loss(at, -STEP)) / f64::from(2.0 * STEP)) as f32;
    let slopes: Vec<f32> = (0..grads[which].len()).map(slope).collect();
    let error = nmse(&grads[which], &slopes);
    assert!(error < 1e-6, "{case}: the gradient of {} is off its slope by {error:e}", inputs[which].0);
}

fn weight(x: &Tensor) -> Weight {
    Weight::from_tensor(x.clone())
}

const LINEAR: [(usize, usize, usize); 6] =
    [(1, 7, 5), (3, 33, 17), (5, 16, 9), (64, 48, 130), (200, 65, 31), (2, 1, 1)];

#[test]
fn linear() {
    for (n, cols, rows) in LINEAR {
        let [x, w, bias] = [
            Input("x", vec![n, cols], 1.0),
            Input("w", vec![rows, cols], 1.0),
            Input("bias", vec![rows], 1.0),
        ];
        check(&format!("linear [{n}, {cols}] to {rows} with bias"), &[x, w, bias], &|b, t| {
            b.linear(&t[0], &weight(&t[1]), Some(&weight(&t[2])))
        });
        let [x, w] = [Input("x", vec![n, cols], 1.0), Input("w", vec![rows, cols], 1.0)];
        check(&format!("linear [{n}, {cols}] to {rows}"), &[x, w], &|b, t| {
            b.linear(&t[0], &weight(&t[1]), None)
        });
    }
    let inputs = [Input("x", vec![6, 20], 1.0), Input("w", vec![9, 20], 1.0), Input("bias", vec![9], 1.0)];
    check("linear of a constant", &inputs[1..], &|b, t| {
        let x = b.tensor(&noise(3, 6 * 20), 20)?;
        b.linear(&x, &weight(&t[0]), Some(&weight(&t[1])))
    });
    check("linear through constants", &inputs[..1], &|b, t| {
        let constant = |shape: &[usize]| {
            Tensor::from_vec(noise(5, shape.iter().product()), shape, &Device::Cpu).unwrap()
        };
        b.linear(&t[0], &weight(&constant(&[9, 20])), Some(&weight(&constant(&[9]))))
    });
    for which in 0..3 {
        check_slope("linear", &inputs, which, &|b, t| b.linear(&t[0], &weight(&t[1]), Some(&weight(&t[2]))));
    }
}

const ROWS: [(usize, usize); 6] = [(1, 3), (3, 5), (7, 33), (5, 16), (1200, 64), (2, 700)];

#[test]
fn rms_norm() {
    for (n, cols) in ROWS {
        for scale in [1.0, 30.0, 1e-3] {
            let inputs = [Input("x", vec![n, cols], scale), Input("w", vec![cols], 1.0)];
            check(&format!("rms_norm [{n}, {cols}] × {scale}"), &inputs, &|b, t| {
                b.rms_norm(&t[0], &weight(&t[1]), 1e-5)
            });
        }
    }
    let inputs = [Input("x", vec![3, 9], 1.0), Input("w", vec![9], 1.0)];
    for which in 0..2 {
        check_slope("rms_norm", &inputs, which, &|b, t| b.rms_norm(&t[0], &weight(&t[1]), 1e-5));
    }
}

#[test]
fn layer_norm() {
    let op: Op<'_> = &|b, t| b.layer_norm(&t[0], &weight(&t[1]), &weight(&t[2]), 1e-6);
    for (n, cols) in ROWS {
        let inputs =
            [Input("x", vec![n, cols], 2.0), Input("w", vec![cols], 1.0), Input("bias", vec![cols], 1.0)];
        check(&format!("layer_norm [{n}, {cols}]"), &inputs, op);
    }
    let inputs = [Input("x", vec![3, 9], 1.0), Input("w", vec![9], 1.0), Input("bias", vec![9], 1.0)];
    for which in 0..3 {
        check_slope("layer_norm", &inputs, which, op);
    }
}

#[test]
fn add_rms_norm() {
    let inputs = [Input("x", vec![9, 33], 1.0), Input("y", vec![9, 33], 1.0), Input("w", vec![33], 1.0)];
    check("add_rms_norm", &inputs, &|b, t| {
        let (sum, normed) = b.add_rms_norm(&t[0], &t[1], &weight(&t[2]), 1e-5)?;
        b.swiglu(&sum, &normed)
    });
}

/// Sizes around and beyond one chunk of a parallel loop.
const POINTS: [(usize, usize); 4] = [(1, 1), (3, 13), (16, 64), (260, 129)];

#[test]
fn add_and_swiglu() {
    for (n, cols) in POINTS {
        let inputs = [Input("gate", vec![n, cols], 8.0), Input("up", vec![n, cols], 1.0)];
        check(&format!("swiglu [{n}, {cols}]"), &inputs, &|b, t| b.swiglu(&t[0], &t[1]));
        check(&format!("add [{n}, {cols}]"), &inputs, &|b, t| b.add(&t[0], &t[1]));
        check(&format!("add [{n}, {cols}] to itself"), &inputs[..1], &|b, t| b.add(&t[0], &t[0]));
    }
    let inputs = [Input("gate", vec![3, 9], 4.0), Input("up", vec![3, 9], 1.0)];
    for which in 0..2 {
        check_slope("swiglu", &inputs, which, &|b, t| b.swiglu(&t[0], &t[1]));
    }
}

#[test]
fn gelu() {
    for kind in [Gelu::Erf, Gelu::Tanh, Gelu::Quick] {
        for (n, cols) in POINTS {
            for scale in [1.0, 12.0] {
                check(
                    &format!("gelu {kind:?} [{n}, {cols}] × {scale}"),
                    &[Input("x", vec![n, cols], scale)],
                    &|b, t| b.gelu(&t[0], kind),
                );
            }
        }
        check_slope(&format!("gelu {kind:?}"), &[Input("x", vec![5, 8], 4.0)], 0, &|b, t| {
            b.gelu(&t[0], kind)
        });
    }
}

#[test]
fn gpas_passes_the_gradient_of_x_through() {
    let op: Op<'_> = &|b, t| b.gpas(&t[0], &weight(&t[1]));
    for (n, cols) in POINTS {
        for scale in [0.1, 3.0] {
            let inputs = [Input("x", vec![n, cols], 1.0), Input("gpas_gate", vec![1], scale)];
            check(&format!("gpas [{n}, {cols}] × {scale}"), &inputs, op);
            let grads = forward_and_backward(&Candle::cpu(), &variables(&inputs), op).1;
            let toward = Tensor::from_vec(noise(99, n * cols), (cols, n), &Device::Cpu).unwrap();
            assert_eq!(grads[0], flat(&toward.t().unwrap()));
        }
    }
    check_slope("gpas", &[Input("x", vec![4, 5], 1.0), Input("gpas_gate", vec![1], 2.0)], 1, op);
}

#[test]
fn rope() {
    for pairs in [RopePairs::Interleaved, RopePairs::Halves] {
        for (n, n_heads, head_dim) in [(1, 1, 2), (5, 3, 8), (300, 4, 20), (7, 2, 128)] {
            let op: Op<'_> = &|b, t| b.rope(&t[0], &angles(b, n, head_dim)?, pairs);
            let inputs = [Input("x", vec![n, n_heads * head_dim], 1.0)];
            check(&format!("rope {pairs:?}, {n} rows of {n_heads} × {head_dim}"), &inputs, op);
        }
        let op: Op<'_> = &|b, t| b.rope(&t[0], &angles(b, 3, 6)?, pairs);
        check_slope(&format!("rope {pairs:?}"), &[Input("x", vec![3, 12], 1.0)], 0, op);
    }
}

fn angles(b: &Candle, n: usize, head_dim: usize) -> tensor::Result<Tensor> {
    let half = head_dim / 2;
    let row = |row: Vec<f32>| {
        let angle = row.into_iter().take(half).map(|turn| f64::from(turn) * TAU).collect::<Vec<_>>();
        let (cos, sin) = (angle.iter().map(|a| a.cos() as f32), angle.iter().map(|a| a.sin() as f32));
        cos.chain(sin).collect::<Vec<f32>>()
    };
    let rows: Vec<f32> = (0..n as u64).flat_map(|i| row(noise(1000 + i, half))).collect();
    b.tensor(&rows, head_dim)
}

#[track_caller]
fn check_attention(case: &str, n: usize, heads: Heads, mask: &Mask<'_>, scale: f32) {
    let inputs = [
        Input("q", vec![n, heads.q_width()], scale),
        Input("k", vec![n, heads.kv_width()], scale),
        Input("v", vec![n, heads.kv_width()], 1.0),
    ];
    let case = format!("{case}: {n} rows, {heads:?}, {mask:?}");
    check(&case, &inputs, &|b, t| b.attention([&t[0], &t[1], &t[2]], heads, mask, None));
}

#[test]
fn attention() {
    let heads = |n_heads, n_kv_heads, head_dim| Heads { n_heads, n_kv_heads, head_dim };
    for heads in [heads(1, 1, 4), heads(4, 4, 16), heads(6, 2, 9), heads(8, 1, 32), heads(16, 2, 3)] {
        for scale in [1.0, 4.0] {
            for n in [1, 2, 9, 64, 65, 131] {
                check_attention("all rows", n, heads, &Mask::Causal, scale);
            }
            for causal in [true, false] {
                let segments: [&[u32]; 5] =
                    [&[0, 1], &[0, 3, 4, 11], &[0, 5, 5, 9], &[0, 150], &[0, 70, 71, 200]];
                for cu_seqlens in segments {
                    let n = cu_seqlens[cu_seqlens.len() - 1] as usize;
                    check_attention("segments", n, heads, &Mask::Segments { cu_seqlens, causal }, scale);
                }
            }
        }
    }
    // More keys than share one block of scores.
    for causal in [true, false] {
        let mask = Mask::Segments { cu_seqlens: &[0, 7, 640], causal };
        check_attention("a long segment", 640, heads(4, 2, 16), &mask, 2.0);
    }
    let inputs = [Input("q", vec![5, 8], 1.0), Input("k", vec![5, 4], 1.0), Input("v", vec![5, 4], 1.0)];
    for which in 0..3 {
        check_slope("attention", &inputs, which, &|b, t| {
            let mask = Mask::Segments { cu_seqlens: &[0, 3, 5], causal: true };
            b.attention([&t[0], &t[1], &t[2]], heads(2, 1, 4), &mask, None)
        });
    }
}

#[test]
fn route_weights() {
    for (n, n_experts, top_k) in [(1, 1, 1), (7, 4, 1), (9, 6, 2), (40, 16, 6), (5, 8, 8), (3, 3, 2)] {
        for scale in [0.3, 5.0] {
            let inputs = [Input("router_logits", vec![n, n_experts], scale)];
            for norm_min in [1e-12, 0.6] {
                let case = format!("route {n} rows to {top_k} of {n_experts}, norm_min {norm_min}");
                // With one probability divided by itself nothing is left to learn: both are zero but for rounding.
                let constant = norm_min < 0.1 && top_k == 1;
                if !constant {
                    check(&case, &inputs, &|b, t| Ok(b.route(&t[0], None, top_k, norm_min)?.weights));
                    check(&case, &inputs, &|b, t| {
                        let bias = Tensor::from_vec(noise(7, n_experts), n_experts, &Device::Cpu).unwrap();
                        Ok(b.route(&t[0], Some(&weight(&bias)), top_k, norm_min)?.weights)
                    });
                }
            }
        }
    }
    let inputs = [Input("router_logits", vec![4, 6], 2.0)];
    check_slope("route", &inputs, 0, &|b, t| Ok(b.route(&t[0], None, 3, 1e-12)?.weights));
}

/// `[x, router_logits]` and three weights an expert.
fn expert_inputs(n: usize, n_experts: usize, hidden: usize, inner: usize) -> Vec<Input> {
    let mut inputs = vec![Input("x", vec![n, hidden], 1.0), Input("router_logits", vec![n, n_experts], 2.0)];
    for _ in 0..n_experts {
        inputs.push(Input("gate_proj", vec![inner, hidden], 1.0));
        inputs.push(Input("up_proj", vec![inner, hidden], 1.0));
        inputs.push(Input("down_proj", vec![hidden, inner], 1.0));
    }
    inputs
}

fn experts(t: &[Tensor]) -> Experts<Candle> {
    let every_third = |start: usize| t[2..].iter().skip(start).step_by(3).map(weight).collect();
    Experts { gate_proj: every_third(0), up_proj: every_third(1), down_proj: every_third(2) }
}

#[test]
fn routed_experts() {
    for (n, n_experts, top_k, hidden, inner) in [
        (1, 2, 1, 5, 3),
        (6, 4, 2, 16, 24),
        (33, 8, 2, 12, 7),
        (200, 4, 1, 32, 40),
        (90, 6, 6, 8, 9),
        (3, 16, 2, 8, 8),
    ] {
        let inputs = expert_inputs(n, n_experts, hidden, inner);
        let case = format!("{n} rows, {top_k} of {n_experts} experts, {hidden} → {inner}");
        check(&case, &inputs, &|b, t| {
            let bias = Tensor::from_vec(noise(5, n_experts), n_experts, &Device::Cpu).unwrap();
            // A divisor above the sum of probabilities leaves the router a gradient with one expert too.
            let routing = b.route(&t[1], Some(&weight(&bias)), top_k, 0.9)?;
            b.expert_mlp(&t[0], &routing, &experts(t))
        });
    }
    let inputs = expert_inputs(4, 3, 5, 6);
    for which in [0, 2, 3, 4] {
        check_slope("experts", &inputs, which, &|b, t| {
            let expert_ids = b.ids(&[0, 1, 1, 0, 2, 1, 0, 2])?;
            let routing = Routing { expert_ids, weights: b.tensor(&noise(8, 8), 2)?, top_k: 2 };
            b.expert_mlp(&t[0], &routing, &experts(t))
        });
    }
}

#[test]
fn experts_without_rows_get_no_gradient() {
    for (top_k, expert_ids) in [(1, [2, 2, 2, 2, 2, 2]), (1, [0, 3, 3, 0, 0, 3]), (2, [0, 3, 3, 0, 0, 3])] {
        let inputs = expert_inputs(6 / top_k, 4, 8, 5);
        check(&format!("experts {expert_ids:?} of 4"), &inputs, &|b, t| {
            let routing =
                Routing { expert_ids: b.ids(&expert_ids)?, weights: b.tensor(&noise(21, 6), top_k)?, top_k };
            b.expert_mlp(&t[0], &routing, &experts(t))
        });
    }
}

#[test]
fn inference_and_training_mix_experts_alike() {
    let b = Candle::cpu();
    let vars = variables(&expert_inputs(50, 5, 24, 33));
    let run = |tensors: Vec<Tensor>| {
        let routing = b.route(&tensors[1], None, 2, 1e-12).unwrap();
        flat(&b.expert_mlp(&tensors[0], &routing, &experts(&tensors)).unwrap())
    };
    let trained = run(vars.iter().map(|var| var.as_tensor().clone()).collect());
    let inferred = run(vars.iter().map(Var::as_detached_tensor).collect());
    assert!(nmse(&inferred, &trained) < 1e-12);
}

#[test]
fn gather_and_embed_sum_over_repeated_rows() {
    for (n, cols, rows) in
        [(1, 1, vec![0]), (4, 7, vec![3, 0, 3, 3, 1]), (9, 33, vec![8, 8, 8, 8]), (3, 5, vec![2])]
    {
        let inputs = [Input("x", vec![n, cols], 1.0)];
        check(&format!("gather {rows:?}"), &inputs, &|b, t| b.gather(&t[0], &b.ids(&rows)?));
        check(&format!("embed {rows:?}"), &inputs, &|b, t| b.embed(&weight(&t[0]), &b.ids(&rows)?));
    }
    check_slope("gather", &[Input("x", vec![4, 3], 1.0)], 0, &|b, t| b.gather(&t[0], &b.ids(&[3, 0, 3])?));
}

#[test]
fn scatter_takes_the_gradient_of_replaced_rows_from_x() {
    for (n, cols, rows) in [(1, 1, vec![0]), (6, 7, vec![4, 0, 5]), (3, 33, vec![2, 1, 0])] {
        let inputs = [Input("x", vec![n, cols], 1.0), Input("src", vec![rows.len(), cols], 1.0)];
        check(&format!("scatter {rows:?}"), &inputs, &|b, t| b.scatter(&t[0], &b.ids(&rows)?, &t[1]));
    }
}

#[test]
fn reshape() {
    check("reshape", &[Input("x", vec![8, 6], 1.0)], &|b, t| b.reshape(&t[0], 24));
    check("reshape", &[Input("x", vec![2, 24], 1.0)], &|b, t| b.reshape(&t[0], 6));
}

#[test]
fn cross_entropy() {
    for (n, vocab, scale) in [(1, 2, 1.0), (7, 33, 5.0), (30, 500, 20.0), (5, 1000, 0.1)] {
        let targets: Vec<u32> = (0..n as u32).map(|i| i * 7919 % vocab as u32).collect();
        let mut weights: Vec<f32> = noise(13, n).iter().map(|w| w.abs()).collect();
        if n > 2 {
            (weights[1], weights[n - 1]) = (0.0, 0.0);
        }
        let inputs = [Input("logits", vec![n, vocab], scale)];
        for factor in [1.0, -0.37] {
            let op: Op<'_> = &|b, t| {
                let loss = b.cross_entropy(&t[0], &targets, &weights)?;
                (loss * factor)
                    .and_then(|loss| loss.reshape((1, 1)))
                    .map_err(|e| Error::shape("loss", e.to_string()))
            };
            check(&format!("cross_entropy [{n}, {vocab}] × {scale}"), &inputs, op);
        }
    }
    let op: Op<'_> = &|b, t| {
        let loss = b.cross_entropy(&t[0], &[2, 0, 4], &[1.0, 0.0, 0.5])?;
        loss.reshape((1, 1)).map_err(|e| Error::shape("loss", e.to_string()))
    };
    check_slope("cross_entropy", &[Input("logits", vec![3, 5], 2.0)], 0, op);
}

#[test]
fn cross_entropy_gives_the_same_gradient_twice() {
    let logits = &variables(&[Input("logits", vec![4, 9], 3.0)])[0];
    let loss = Candle::cpu().cross_entropy(logits, &[1, 8, 0, 3], &[1.0, 0.5, 0.0, 2.0]).unwrap();
    let gradient = || flat(loss.backward().unwrap().get(logits).unwrap());
    assert_eq!(gradient(), gradient());
}

#[test]
fn rows_of_a_larger_tensor_are_inputs_like_any_other() {
    let inputs = [Input("all", vec![12, 16], 1.0), Input("w", vec![16], 1.0), Input("m", vec![16, 16], 1.0)];
    check("a chain of everything over part of the rows", &inputs, &|b, t| {
        let x = t[0].narrow(0, 3, 7).map_err(|e| Error::shape("narrow", e.to_string()))?;
        let h = b.rms_norm(&x, &weight(&t[1]), 1e-5)?;
        let q = b.linear(&h, &weight(&t[2]), None)?;
        let heads = Heads { n_heads: 2, n_kv_heads: 2, head_dim: 8 };
        let q = b.rope(&q, &angles(b, 7, 8)?, RopePairs::Interleaved)?;
        let y = b.attention([&q, &h, &x], heads, &Mask::Causal, None)?;
        let y = b.swiglu(&b.gelu(&y, Gelu::Quick)?, &x)?;
        let y = b.add(&x, &y)?;
        b.layer_norm(&b.reshape(&y, 16)?, &weight(&t[1]), &weight(&t[1]), 1e-6)
    });
}
