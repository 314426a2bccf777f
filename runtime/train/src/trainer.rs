//! The training loop.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use candle_backend::optim::{AdamW, AdamWConfig, Param};
use candle_core::backprop::GradStore;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde_json::json;
use tensor::Taps;
use tokenizer::Tokenizer;

use crate::batch::{Batch, Packer};
use crate::checkpoint::Checkpoint;
use crate::data::{Generator, Sample, Split, train_vocabulary};
use crate::evaluate::{Report, evaluate, overall};
use crate::export::{Tensors, fold_gpas, join};
use crate::eyes::{self, Named};
use crate::learner::{Learner, Loss, LossWeights};
use crate::parameters::{Kind, Parameters};
use crate::recipe::{PIXELS, Shape, Training, preprocessor};
use crate::routers::{Choices, Routers};

/// Most pieces the vocabulary may have; the corpus needs fewer.
const MAX_PIECES: usize = 2048;
/// A gate beyond these bounds turns its stream around, or nearly closes it.
const GATE_BOUNDS: [f32; 2] = [-1.278, 1.17];
/// Steps between two lines of the log.
const LOG_EVERY: u64 = 50;
/// Parts of a batch, each learnt by its own thread and made by another.
const PARTS: u64 = 2;

/// How long a run lasts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// Until this many steps are done.
    Steps(u64),
    /// Until it has trained for this long; the learning rate then follows the clock.
    Time(Duration),
}

impl Budget {
    /// The share of the run that is done.
    fn progress(self, step: u64, trained: Duration) -> f32 {
        match self {
            Self::Steps(steps) => step as f32 / steps.max(1) as f32,
            Self::Time(time) => trained.as_secs_f32() / time.as_secs_f32().max(1e-3),
        }
    }
}

/// A model in training.
pub struct Trainer {
    training: Training,
    shape: Shape,
    tokenizer: Tokenizer,
    parameters: Parameters,
    learner: Learner,
    optimizer: AdamW,
    routers: Routers,
    /// One thread for every part of a batch.
    pools: Vec<ThreadPool>,
    step: u64,
    trained: Duration,
}

/// Which weights of a training run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightKind {
    /// Those that train.
    Live,
    /// Their moving average.
    Averaged,
}

/// What one part of a batch teaches.
struct Part {
    words: f32,
    cells: f32,
    named: Named,
    gradients: GradStore,
    choices: Choices,
}

impl Part {
    fn learn(learner: &Learner, batch: &Batch, weights: LossWeights) -> Result<Self> {
        let taps = Taps::default();
        let Loss { words, cells, named } = learner.loss(batch, weights, Some(&taps))?;
        let gradients = (&words + &cells)?.backward()?;
        let (words, cells) = (words.to_scalar()?, cells.to_scalar()?);
        Ok(Self { words, cells, named, gradients, choices: Choices::new(taps)? })
    }

    fn add(&mut self, other: Self, params: &[Param]) -> Result<()> {
        for param in params {
            let both = match (self.gradients.get(&param.var), other.gradients.get(&param.var)) {
                (Some(a), Some(b)) => (a + b)?,
                (None, Some(b)) => b.clone(),
                _ => continue,
            };
            self.gradients.insert(&param.var, both);
        }
        self.words += other.words;
        self.cells += other.cells;
        self.named.cells += other.named.cells;
        self.named.right += other.named.right;
        self.choices.add(other.choices);
        Ok(())
    }
}

/// What one step did.
#[derive(Debug, Clone, Copy)]
pub struct StepReport {
    /// Mean cross-entropy of the answers' tokens.
    pub loss: f32,
    /// Cross-entropy of the cells, by their weights.
    pub cells_loss: f32,
    /// Share of the cells with something in them that the eyes' own head names rightly.
    pub named: f32,
    /// Norm of all gradients before clipping.
    pub grad_norm: f32,
}

impl Trainer {
    /// A model with fresh weights.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn new(shape: Shape, training: Training, tokenizer: Tokenizer) -> Result<Self> {
        let parameters = Parameters::new(training.seed, 2 * shape.depth);
        let text = shape.text(tokenizer.vocab_size(), true);
        let learner = Learner::load(&parameters, &text, &shape.tower())?;
        let config = AdamWConfig { ema_decay: Some(training.ema_decay), ..AdamWConfig::default() };
        let optimizer = AdamW::new(parameters.trained(&training), config)?;
        let routers = Routers::new(&parameters.list());
        let pool = |_| ThreadPoolBuilder::new().num_threads(1).build();
        let pools = (0..PARTS).map(pool).collect::<Result<_, _>>()?;
        Ok(Self {
            training,
            shape,
            tokenizer,
            parameters,
            learner,
            optimizer,
            routers,
            pools,
            step: 0,
            trained: Duration::ZERO,
        })
    }

    /// Number of trained values and correction biases.
    #[must_use]
    pub fn n_parameters(&self) -> usize {
        self.parameters.count()
    }

    /// Steps taken.
    #[must_use]
    pub fn n_steps(&self) -> u64 {
        self.step
    }

    /// The model as it trains.
    #[must_use]
    pub fn learner(&self) -> &Learner {
        &self.learner
    }

    /// Turns samples into batches for this model.
    #[must_use]
    pub fn packer(&self) -> Packer {
        Packer::new(self.tokenizer.clone(), preprocessor())
    }

    /// Learns from the parts of one batch at the learning rate `lr`.
    ///
    /// Each part has a thread of its own: threads then meet once a step, not once an operation.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn learn(&mut self, parts: &[Batch], lr: f32) -> Result<StepReport> {
        let weights = LossWeights {
            token: 1.0 / self.training.tokens_per_batch,
            cell: self.training.cells_weight / self.training.batch as f32,
        };
        let learner = &self.learner;
        let learned: Vec<Result<Part>> = std::thread::scope(|scope| {
            let threads: Vec<_> = parts
                .iter()
                .zip(&self.pools)
                .map(|(part, pool)| scope.spawn(|| pool.install(|| Part::learn(learner, part, weights))))
                .collect();
            threads.into_iter().map(|t| t.join().expect("learning does not panic")).collect()
        });
        let mut learned = learned.into_iter().collect::<Result<Vec<_>>>()?;
        let mut sum = learned.remove(0);
        for part in learned {
            sum.add(part, self.optimizer.params())?;
        }
        let grad_norm = self.optimizer.step(&sum.gradients, lr)?;
        self.routers.balance(&sum.choices, self.training.balance_step)?;
        self.routers.orthogonalise(self.training.orthogonality)?;
        self.hold_gates()?;
        self.step += 1;
        let n_targets: usize = parts.iter().map(|part| part.targets.len()).sum();
        Ok(StepReport {
            loss: sum.words / weights.token / n_targets.max(1) as f32,
            cells_loss: sum.cells / self.training.cells_weight,
            named: sum.named.right as f32 / sum.named.cells.max(1) as f32,
            grad_norm,
        })
    }

    /// Keeps every gate where folding is possible.
    fn hold_gates(&self) -> Result<()> {
        for gate in self.parameters.list().iter().filter(|p| p.kind == Kind::GpasGate) {
            let held = gate.var.clamp(GATE_BOUNDS[0], GATE_BOUNDS[1])?;
            gate.var.set(&held)?;
        }
        Ok(())
    }

    /// The gates, first layer first.
    fn gates(&self) -> Result<Vec<f32>> {
        let list = self.parameters.list();
        list.iter().filter(|p| p.kind == Kind::GpasGate).map(|p| Ok(p.var.to_vec1::<f32>()?[0])).collect()
    }

    /// The moving average of all weights; correction biases as they are.
    ///
    /// # Errors
    /// Those of candle.
    pub fn averaged(&self) -> Result<Vec<Vec<f32>>> {
        let mut averages = self.optimizer.states().iter().map(|state| &state.ema);
        let live = self.parameters.values()?;
        let list = self.parameters.list();
        Ok(list
            .iter()
            .zip(live)
            .map(|(p, live)| match p.kind {
                Kind::CorrectionBias => live,
                _ => averages.next().expect("one state a trained parameter").clone(),
            })
            .collect())
    }

    /// The weights of `kind`, in the order of the parameters.
    ///
    /// # Errors
    /// Those of candle.
    pub fn weights(&self, kind: WeightKind) -> Result<Vec<Vec<f32>>> {
        match kind {
            WeightKind::Live => self.parameters.values(),
            WeightKind::Averaged => self.averaged(),
        }
    }

    /// The model with its gates folded away: what is exported.
    ///
    /// # Errors
    /// If a gate cannot be folded.
    pub fn exported(&self, kind: WeightKind) -> Result<Tensors> {
        let mut tensors = join(&self.parameters.list(), &self.weights(kind)?)?;
        tensors.retain(|name, _| !name.starts_with(eyes::PREFIX));
        fold_gpas(&mut tensors, self.shape.depth)?;
        Ok(tensors)
    }

    /// Scores of the model.
    ///
    /// # Errors
    /// Those of the backend.
    pub fn evaluate(&self, generator: &Generator, n: usize, kind: WeightKind) -> Result<Report> {
        let parameters = Parameters::new(0, 1);
        let text = self.shape.text(self.tokenizer.vocab_size(), true);
        let learner = Learner::load(&parameters, &text, &self.shape.tower())?;
        parameters.set(&self.weights(kind)?)?;
        evaluate(&learner, &self.packer(), generator, n)
    }

    /// All that [`resume`](Self::resume) needs.
    ///
    /// # Errors
    /// Those of candle.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        Ok(Checkpoint {
            step: self.step,
            seconds: self.trained.as_secs_f64(),
            weights: self.parameters.values()?,
            states: self.optimizer.states().to_vec(),
        })
    }

    /// Goes on from a checkpoint of the same model.
    ///
    /// # Errors
    /// If it is of another model.
    pub fn resume(&mut self, checkpoint: Checkpoint) -> Result<()> {
        self.parameters.set(&checkpoint.weights)?;
        self.optimizer.load(checkpoint.states, checkpoint.step)?;
        self.step = checkpoint.step;
        self.trained = Duration::from_secs_f64(checkpoint.seconds);
        Ok(())
    }
}

/// A run: a folder that keeps the vocabulary, the checkpoint and the log.
pub struct Run {
    folder: PathBuf,
    log: File,
}

impl Run {
    /// Opens the folder, making it if need be.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let log = OpenOptions::new().create(true).append(true).open(folder.join("log.jsonl"))?;
        Ok(Self { folder: folder.to_owned(), log })
    }

    fn checkpoint(&self) -> PathBuf {
        self.folder.join("checkpoint.safetensors")
    }

    fn vocabulary(&self) -> PathBuf {
        self.folder.join("tokenizer.json")
    }

    /// The vocabulary as a `tokenizer.json`: trained on the first call, then read.
    ///
    /// # Errors
    /// If it cannot be written or read.
    pub fn tokenizer_json(&self, generator: &Generator) -> Result<String> {
        let path = self.vocabulary();
        if !path.exists() {
            fs::write(&path, train_vocabulary(generator.corpus_text(), MAX_PIECES)?)?;
        }
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// The trainer of this run, where its last checkpoint left it.
    ///
    /// # Errors
    /// If the checkpoint is damaged or of another shape.
    pub fn trainer(&self, generator: &Generator, shape: Shape, training: Training) -> Result<Trainer> {
        let tokenizer = Tokenizer::from_json(self.tokenizer_json(generator)?.as_bytes())?;
        let mut trainer = Trainer::new(shape, training, tokenizer)?;
        if self.checkpoint().exists() {
            trainer.resume(Checkpoint::open(&self.checkpoint())?)?;
        }
        Ok(trainer)
    }

    /// Writes one line to the log.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn note(&mut self, line: serde_json::Value) -> Result<()> {
        writeln!(self.log, "{line}")?;
        Ok(self.log.flush()?)
    }

    /// Trains until the budget is used, with a checkpoint every `save_every` and an evaluation of `questions`
    /// a split every `evaluate_every`.
    ///
    /// # Errors
    /// Those of the backend, and of writing.
    pub fn train(&mut self, trainer: &mut Trainer, generator: &Arc<Generator>, plan: &Plan) -> Result<()> {
        self.note(json!({
            "event": "start", "step": trainer.step, "parameters": trainer.n_parameters(),
            "vocabulary": trainer.tokenizer.vocab_size(),
            "training": format!("{:?}", trainer.training), "shape": format!("{:?}", trainer.shape),
        }))?;
        let first = trainer.step;
        let lesson = (plan.lesson, trainer.training.batch as u64, first);
        let parts = parts(generator, &trainer.packer(), lesson);
        let (mut saved, mut evaluated) = (trainer.trained, trainer.trained);
        let (mut sums, mut logged) = ([0.0; 3], trainer.trained);
        loop {
            let progress = plan.budget.progress(trainer.step, trainer.trained);
            if progress >= 1.0 {
                break;
            }
            let started = Instant::now();
            let parts: Vec<Batch> = parts.iter().map(Receiver::recv).collect::<Result<_, _>>()?;
            let lr = trainer.training.lr_at(trainer.step - first, progress);
            let report = trainer.learn(&parts, lr)?;
            trainer.trained += started.elapsed();
            let told = [report.loss, report.cells_loss, report.named];
            (0..told.len()).for_each(|i| sums[i] += told[i] / LOG_EVERY as f32);
            if trainer.step.is_multiple_of(LOG_EVERY) {
                let seconds = (trainer.trained - logged).as_secs_f32();
                self.note(json!({
                    "step": trainer.step, "seconds": trainer.trained.as_secs(), "lr": lr,
                    "loss": sums[0], "cells_loss": sums[1], "named": sums[2], "grad_norm": report.grad_norm,
                    "samples_per_s": LOG_EVERY as f32 * trainer.training.batch as f32 / seconds,
                    "gates": trainer.gates()?,
                }))?;
                (sums, logged) = ([0.0; 3], trainer.trained);
            }
            if trainer.trained - saved >= plan.save_every {
                saved = trainer.trained;
                trainer.checkpoint()?.save(&self.checkpoint())?;
            }
            if plan.lesson == Lesson::Chats && trainer.trained - evaluated >= plan.evaluate_every {
                evaluated = trainer.trained;
                self.judge(trainer, generator, plan.questions)?;
            }
        }
        trainer.checkpoint()?.save(&self.checkpoint())?;
        match plan.lesson {
            Lesson::Eyes => Ok(()),
            Lesson::Chats => self.judge(trainer, generator, plan.questions),
        }
    }

    fn judge(&mut self, trainer: &mut Trainer, generator: &Generator, questions: usize) -> Result<()> {
        let routers = trainer.routers.report()?;
        for kind in [WeightKind::Live, WeightKind::Averaged] {
            let report = trainer.evaluate(generator, questions, kind)?;
            let overall: serde_json::Map<_, _> =
                report.iter().map(|(split, scores)| ((*split).to_owned(), overall(scores).into())).collect();
            self.note(json!({
                "event": "evaluation", "step": trainer.step, "weights": format!("{kind:?}"),
                "overall": overall, "scores": report, "routers": routers,
            }))?;
        }
        Ok(())
    }
}

/// What a run teaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lesson {
    /// Tower and resampler alone, by what the cells of pictures show.
    Eyes,
    /// The whole model, by chats about pictures and by their cells.
    Chats,
}

/// How long to train, and what to do on the way.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What to teach.
    pub lesson: Lesson,
    /// When to stop.
    pub budget: Budget,
    /// Time between checkpoints.
    pub save_every: Duration,
    /// Time between evaluations.
    pub evaluate_every: Duration,
    /// Questions a split in an evaluation.
    pub questions: usize,
}

/// Makes batches of `size` samples ahead of the training, from step `first` on; one channel a part.
fn parts(
    generator: &Arc<Generator>,
    packer: &Packer,
    (lesson, size, first): (Lesson, u64, u64),
) -> Vec<Receiver<Batch>> {
    let maker = |part: u64| {
        let (send, receive) = sync_channel(2);
        let (generator, packer) = (Arc::clone(generator), packer.clone());
        std::thread::spawn(move || {
            for step in first.. {
                let samples: Vec<Sample> = (step * size + part..(step + 1) * size)
                    .step_by(PARTS as usize)
                    .map(|index| generator.sample(Split::Train, PIXELS, index))
                    .collect();
                let batch = match lesson {
                    Lesson::Eyes => packer.pack_pictures(&samples),
                    Lesson::Chats => packer.pack(&samples),
                };
                if send.send(batch.expect("generated pictures have sizes that fit")).is_err() {
                    return;
                }
            }
        });
        receive
    };
    (0..PARTS).map(maker).collect()
}
