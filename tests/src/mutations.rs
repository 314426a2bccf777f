//! Proof that the recorded cases notice mistakes: the model is built wrong on purpose and must miss its
//! record by far more than the tolerance.

use std::ops::Range;
use std::sync::Arc;

use engine::{Capture, Loaded, ModelInput, Traceable};
use model::Config;
use model::config::RopeKind;
use tensor::{Backend, Reference, Result, Weights};

use crate::recorded::{TOLERANCE, case, relative_error};

/// One mistake.
enum Mistake {
    /// In reading the configuration.
    Config(fn(&mut Config)),
    /// In naming parameters: which one is given for the one asked for.
    Name(fn(&str) -> String),
    /// In which row of a table is given for row `r`.
    Row(&'static str, fn(usize) -> usize),
    /// In the prompt, its positions or patches.
    Input(fn(&mut ModelInput)),
}

use Mistake::{Config as Read, Input, Name, Row};

const MISTAKES: &[(&str, &str, Mistake)] = &[
    ("dense", "half rotation", Read(half_rotation)),
    ("moe", "half rotation", Read(half_rotation)),
    ("vl_image", "half rotation", Read(half_rotation)),
    ("dense", "theta ten thousand", Read(|c| c.text.rope_theta = 1e4)),
    ("dense", "eps of another size", Read(|c| c.text.rms_norm_eps = 1e-3)),
    ("dense_bias", "head from the embedding", Read(|c| c.text.tie_word_embeddings = true)),
    ("dense_bias", "no biases", Read(|c| c.text.use_bias = false)),
    ("moe_interval", "no head bias", Read(|c| c.text.lm_head_bias = false)),
    ("dense", "gate and up swapped", Name(|n| swap(n, "gate_proj", "up_proj"))),
    ("dense", "norms swapped", Name(|n| swap(n, "input_layernorm", "post_attention_layernorm"))),
    ("moe", "no correction bias", Read(|c| moe(c).use_correction_bias = false)),
    ("moe", "one expert fewer", Read(|c| moe(c).top_k -= 1)),
    ("moe", "no shared experts", Read(|c| moe(c).n_shared_experts = 0)),
    ("moe_interval", "experts sorted as text", Name(experts_sorted_as_text)),
    ("moe", "experts moved by one", Name(|n| expert(n, |e| (e + 1) % 8))),
    ("vl_image", "no correction bias", Read(|c| moe(c).use_correction_bias = false)),
    ("vl_image", "bias rows swapped", Row("e_score_correction_bias", |r| 1 - r)),
    ("vl_untied", "bias rows swapped", Row("e_score_correction_bias", |r| 1 - r)),
    ("vl_image", "routers swapped", Name(routers_swapped)),
    ("vl_text", "routers swapped", Name(routers_swapped)),
    ("vl_image", "delimiters to text", Read(no_delimiters)),
    ("vl_two_images", "delimiters to text", Read(no_delimiters)),
    ("vl_image", "time on all frequencies", Read(|c| c.text.rope = RopeKind::Interleaved1d)),
    ("vl_image", "one frequency fewer of height and width", Read(one_frequency_fewer)),
    ("vl_image", "sequence positions", Input(|i| i.position_ids = Some(sequence(i)))),
    ("vl_image_video", "sequence positions", Input(|i| i.position_ids = Some(sequence(i)))),
    ("vl_given_positions", "given positions ignored", Input(|i| i.position_ids = None)),
    ("vl_image", "patches in raster order", Input(|i| patches(i, raster_order))),
    ("vl_image", "columns before rows in a block", Input(|i| patches(i, columns_first))),
    ("vl_image", "colours last", Input(colours_last)),
    ("vl_video", "later frame first", Input(|i| patches(i, later_frame_first))),
    ("vl_long_video", "later frame first", Input(|i| patches(i, later_frame_first))),
    (
        "vl_two_images",
        "rows of a block as one image",
        Input(|i| patches(i, |p, [_, h, w]| p ^ usize::from(h * w > 4))),
    ),
    ("vl_image", "queries and keys of the tower swapped", Row("attn.qkv", |r| [1, 0, 2][r])),
    ("vl_image", "one head in the tower", Read(|c| c.vision.as_mut().unwrap().n_heads = 1)),
    ("vl_image", "theta of the tower", Read(|c| c.vision.as_mut().unwrap().rope_theta = 100.0)),
    ("vl_image", "eps of the tower", Read(|c| c.vision.as_mut().unwrap().norm_eps = 1e-2)),
    ("vl_image", "norms of the tower swapped", Name(|n| swap(n, ".norm1.", ".norm2."))),
];

fn moe(config: &mut Config) -> &mut model::config::MoeConfig {
    config.text.moe.as_mut().unwrap()
}

fn half_rotation(config: &mut Config) {
    config.text.rope = RopeKind::HalvesThw { sections: [config.text.head_dim / 2, 0, 0] };
}

fn one_frequency_fewer(config: &mut Config) {
    let RopeKind::InterleavedHwt { hw } = &mut config.text.rope else {
        panic!("VL models turn by three axes")
    };
    *hw -= 2;
}

fn no_delimiters(config: &mut Config) {
    let tokens = &mut config.tokens;
    for id in [&mut tokens.image_start, &mut tokens.image_end, &mut tokens.video_start, &mut tokens.video_end]
    {
        *id = u32::MAX;
    }
}

fn swap(name: &str, a: &str, b: &str) -> String {
    match name.contains(a) {
        true => name.replace(a, b),
        false => name.replace(b, a),
    }
}

fn routers_swapped(name: &str) -> String {
    match name.strip_suffix("gate.weight_1") {
        Some(prefix) => format!("{prefix}gate.weight"),
        None => name.replace("mlp.gate.weight", "mlp.gate.weight_1"),
    }
}

/// Renames `….experts.e.…`.
fn expert(name: &str, to: fn(usize) -> usize) -> String {
    let Some((prefix, rest)) = name.split_once(".experts.") else { return name.to_owned() };
    let (e, projection) = rest.split_once('.').unwrap();
    format!("{prefix}.experts.{}.{projection}", to(e.parse().unwrap()))
}

fn experts_sorted_as_text(name: &str) -> String {
    expert(name, |e| {
        let mut order: Vec<usize> = (0..12).collect();
        order.sort_by_key(usize::to_string);
        order[e]
    })
}

fn sequence(input: &ModelInput) -> Vec<[u32; 3]> {
    (0..input.token_ids.len() as u32).map(|p| [p; 3]).collect()
}

/// Puts patch `from(p, grid)` of each visual in place of patch `p`.
fn patches(input: &mut ModelInput, from: fn(usize, [usize; 3]) -> usize) {
    for visual in &mut input.visuals {
        let grid = visual.grid_thw.map(|n| n as usize);
        let n = grid.iter().product::<usize>();
        let len = visual.patches.len() / n;
        let moved = (0..n).flat_map(|p| visual.patches[from(p, grid) * len..][..len].to_vec());
        visual.patches = moved.collect();
    }
}

/// Patch `p` in raster order, as the block order numbers it.
fn raster_order(p: usize, [_, h, w]: [usize; 3]) -> usize {
    let (frame, y, x) = (p / (h * w), p / w % h, p % w);
    frame * h * w + (y / 2 * (w / 2) + x / 2) * 4 + y % 2 * 2 + x % 2
}

fn columns_first(p: usize, _: [usize; 3]) -> usize {
    p / 4 * 4 + [0, 2, 1, 3][p % 4]
}

fn later_frame_first(p: usize, [_, h, w]: [usize; 3]) -> usize {
    let (frame, rest) = (p / (h * w), p % (h * w));
    (frame ^ 1) * h * w + rest
}

fn colours_last(input: &mut ModelInput) {
    for visual in &mut input.visuals {
        let mut moved = Vec::new();
        for patch in visual.patches.chunks_exact(588) {
            moved.extend((0..588).map(|i| patch[i % 3 * 196 + i / 3]));
        }
        visual.patches = Arc::from(moved);
    }
}

/// Weights with one mistake.
struct Wrong<'a, W> {
    weights: W,
    mistake: &'a Mistake,
}

impl<W: Weights<Reference>> Weights<Reference> for Wrong<'_, W> {
    fn get(&self, name: &str, shape: &[usize]) -> Result<<Reference as Backend>::Weight> {
        match self.mistake {
            Name(rename) => self.weights.get(&rename(name), shape),
            _ => self.weights.get(name, shape),
        }
    }

    fn get_rows(
        &self,
        name: &str,
        shape: &[usize],
        rows: Range<usize>,
    ) -> Result<<Reference as Backend>::Weight> {
        let rows = match self.mistake {
            Row(part, to) if name.contains(part) => {
                let row = to(rows.start / rows.len());
                row * rows.len()..(row + 1) * rows.len()
            }
            _ => rows,
        };
        self.weights.get_rows(name, shape, rows)
    }

    fn has(&self, name: &str) -> bool {
        self.weights.has(name)
    }
}

/// How far the case is missed when the model is built with `mistake`.
fn error(name: &str, mistake: &Mistake) -> f32 {
    let case = case(name);
    let checkpoint = case.checkpoint();
    let mut config = checkpoint.config.clone();
    let mut input = case.prompt(&config);
    match mistake {
        Read(change) => change(&mut config),
        Input(change) => change(&mut input),
        Name(_) | Row(..) => {}
    }
    let weights = Wrong { weights: checkpoint.weights(&Reference), mistake };
    let mut model = Loaded::load(Reference, &weights, config).unwrap();
    let rows: Vec<usize> = (0..input.token_ids.len()).collect();
    let trace = pollster::block_on(model.trace(&input, 512, &rows, Capture::default())).unwrap();
    relative_error(&trace.logits, &case.expected_f32("logits"))
}

#[test]
fn every_mistake_is_noticed() {
    let missed: Vec<String> = MISTAKES
        .iter()
        .filter_map(|(case, what, mistake)| {
            let error = error(case, mistake);
            (error < 10.0 * TOLERANCE).then(|| format!("{case}, {what}: only {error:.1e}"))
        })
        .collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn without_a_mistake_the_same_path_agrees() {
    for name in ["dense", "dense_bias", "moe", "moe_interval", "vl_image", "vl_untied", "vl_video"] {
        let error = error(name, &Input(|_| {}));
        assert!(error <= TOLERANCE, "{name}: {error:.1e}");
    }
}

/// With a rope delta of zero the prompt is right and the answer is not.
#[test]
fn decoding_at_the_sequence_index_is_noticed() {
    for name in ["vl_image", "vl_image_video", "vl_untied"] {
        let case = case(name);
        let mut model = case.load(engine::Device::Cpu);
        let mut input = case.prompt(model.config());
        let n = input.token_ids.len();
        let trace = pollster::block_on(model.trace(&input, 512, &[], Capture::default())).unwrap();
        let vocab_size = trace.logits.len();
        let best = (0..vocab_size).max_by(|&a, &b| trace.logits[a].total_cmp(&trace.logits[b])).unwrap();

        let mut positions = trace.position_ids;
        positions.push([n as u32; 3]);
        input.position_ids = Some(positions);
        input.token_ids.push(best as u32);
        let wrong = pollster::block_on(model.trace(&input, 512, &[n], Capture::default())).unwrap();
        let expected = &case.expected_f32("greedy_logits")[vocab_size..2 * vocab_size];
        let error = relative_error(&wrong.logits, expected);
        assert!(error > 10.0 * TOLERANCE, "{name}: only {error:.1e}");
    }
}
