//! `train`: makes the small model that ships with Ocelli.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tokenizer::Tokenizer;
use train::data::{DataOptions, Generator, Split};
use train::recipe::{Ids, PIXELS, Shape, Training, preprocessor_json};
use train::{Budget, Lesson, Plan, Run, WeightKind, export, overall};

/// Trains the small model that ships with Ocelli.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train, going on from the run's checkpoint if there is one.
    Run {
        #[command(flatten)]
        place: Place,
        /// Teach the vision tower and the resampler alone, by what the cells of pictures show.
        #[arg(long)]
        eyes: bool,
        /// Stop after this many steps in all.
        #[arg(long, conflicts_with = "minutes")]
        steps: Option<u64>,
        /// Stop after this many minutes of training in all; the learning rate follows the clock.
        #[arg(long)]
        minutes: Option<f64>,
        /// Chats a step.
        #[arg(long)]
        batch: Option<usize>,
        /// Learning rate.
        #[arg(long)]
        lr: Option<f32>,
        /// What the cells of a picture weigh beside its answers.
        #[arg(long)]
        cells_weight: Option<f32>,
        /// Share of the whole run, at its end, in which the learning rate falls.
        #[arg(long)]
        tail: Option<f32>,
        /// Questions a split in each evaluation.
        #[arg(long, default_value_t = 500)]
        questions: usize,
        /// Minutes between evaluations.
        #[arg(long, default_value_t = 10.0)]
        evaluate_minutes: f64,
    },
    /// Score the run's checkpoint, skill by skill.
    Evaluate {
        #[command(flatten)]
        place: Place,
        /// Which of the weights.
        #[arg(long, value_enum, default_value = "averaged")]
        weights: Weights,
        /// Questions a split.
        #[arg(long, default_value_t = 500)]
        questions: usize,
    },
    /// Write the model: gates folded, bf16.
    Export {
        #[command(flatten)]
        place: Place,
        /// Which of the weights.
        #[arg(long, value_enum, default_value = "averaged")]
        weights: Weights,
        /// Folder for the model's files.
        #[arg(long)]
        out: PathBuf,
    },
    /// Write some samples as pictures and text, to look at.
    Show {
        #[command(flatten)]
        place: Place,
        /// Folder for the samples.
        #[arg(long)]
        out: PathBuf,
        /// How many of each split.
        #[arg(long, default_value_t = 12)]
        count: u64,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Weights {
    /// Those that train.
    Live,
    /// Their moving average.
    Averaged,
}

impl From<Weights> for WeightKind {
    fn from(weights: Weights) -> Self {
        match weights {
            Weights::Live => Self::Live,
            Weights::Averaged => Self::Averaged,
        }
    }
}

#[derive(Args)]
struct Place {
    /// Folder of the run: vocabulary, checkpoint, log.
    #[arg(long, default_value = "runs/ship")]
    run: PathBuf,
    /// Folder for the drawing packages.
    #[arg(long, default_value = "runs/pictures")]
    pictures: PathBuf,
    /// Folder with `train-0.zip`, `train-1.zip` and `val.zip`; without it there are no photographs.
    #[arg(long)]
    photos: Option<PathBuf>,
    /// Share of training samples that are photographs.
    #[arg(long)]
    photo_share: Option<f32>,
    /// Share of training samples without a picture.
    #[arg(long)]
    text_share: Option<f32>,
    /// Share of training samples that show one thing and ask what it is.
    #[arg(long)]
    naming_share: Option<f32>,
    /// Share of those in which the thing fills the frame.
    #[arg(long)]
    portrait_share: Option<f32>,
    /// Seed of data and weights.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Place {
    fn generator(&self) -> Result<Generator> {
        let defaults = DataOptions::default();
        Generator::open(&DataOptions {
            pictures: self.pictures.clone(),
            photos: self.photos.clone(),
            seed: self.seed,
            photo_share: self.photo_share.unwrap_or(defaults.photo_share),
            text_share: self.text_share.unwrap_or(defaults.text_share),
            naming_share: self.naming_share.unwrap_or(defaults.naming_share),
            portrait_share: self.portrait_share.unwrap_or(defaults.portrait_share),
            ..defaults
        })
    }
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run {
            place,
            eyes,
            steps,
            minutes,
            batch,
            lr,
            cells_weight,
            tail,
            questions,
            evaluate_minutes,
        } => {
            let budget = match (steps, minutes) {
                (Some(steps), _) => Budget::Steps(steps),
                (None, minutes) => Budget::Time(duration(minutes.unwrap_or(100.0))),
            };
            let plan = Plan {
                lesson: if eyes { Lesson::Eyes } else { Lesson::Chats },
                budget,
                save_every: Duration::from_secs(300),
                evaluate_every: duration(evaluate_minutes),
                questions,
            };
            let defaults = Training { seed: place.seed, ..Training::default() };
            let batch = batch.unwrap_or(defaults.batch);
            let training = Training {
                batch,
                lr: lr.unwrap_or(defaults.lr),
                tail: tail.unwrap_or(defaults.tail),
                cells_weight: cells_weight.unwrap_or(defaults.cells_weight),
                tokens_per_batch: defaults.tokens_per_batch * batch as f32 / defaults.batch as f32,
                ..defaults
            };
            let generator = Arc::new(place.generator()?);
            let mut run = Run::open(&place.run)?;
            let mut trainer = run.trainer(&generator, Shape::SHIPPED, training)?;
            run.train(&mut trainer, &generator, &plan)
        }
        Command::Evaluate { place, weights, questions } => score(&place, weights.into(), questions),
        Command::Export { place, weights, out } => write_model(&place, weights.into(), &out),
        Command::Show { place, out, count } => show(&place.generator()?, &out, count),
    }
}

fn duration(minutes: f64) -> Duration {
    Duration::from_secs_f64(minutes * 60.0)
}

/// Prints a table for each split: the whole answer right, with a grey frame, with another picture, and what
/// the commonest answer would get.
#[expect(clippy::print_stdout, reason = "the table is what this command is for")]
fn score(place: &Place, weights: WeightKind, questions: usize) -> Result<()> {
    let run = Run::open(&place.run)?;
    let generator = place.generator()?;
    let trainer = run.trainer(&generator, Shape::SHIPPED, Training::default())?;
    for (split, scores) in trainer.evaluate(&generator, questions, weights)? {
        println!("\n{split}: {:.1} % of {questions}", 100.0 * overall(&scores));
        println!("| skill | questions | exact | grey frame | other picture | commonest answer |");
        println!("|---|---|---|---|---|---|");
        for (skill, s) in scores {
            let [exact, blank, swapped, majority] =
                [s.exact, s.blank, s.swapped, s.majority].map(|share| format!("{:.1} %", 100.0 * share));
            println!("| {skill} | {} | {exact} | {blank} | {swapped} | {majority} |", s.questions);
        }
    }
    Ok(())
}

fn write_model(place: &Place, weights: WeightKind, out: &Path) -> Result<()> {
    let run = Run::open(&place.run)?;
    let generator = place.generator()?;
    let trainer = run.trainer(&generator, Shape::SHIPPED, Training::default())?;
    ensure!(trainer.n_steps() > 0, "{} has no checkpoint; train first", place.run.display());
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let tokenizer_json = run.tokenizer_json(&generator)?;
    let tokenizer = Tokenizer::from_json(tokenizer_json.as_bytes())?;
    let config = Shape::SHIPPED.config_json(tokenizer.vocab_size(), Ids::new(&tokenizer));
    export::write(&trainer.exported(weights)?, &out.join("model.safetensors"))?;
    fs::write(out.join("tokenizer.json"), tokenizer_json)?;
    fs::write(out.join("config.json"), serde_json::to_string_pretty(&config)?)?;
    fs::write(out.join("preprocessor_config.json"), serde_json::to_string_pretty(&preprocessor_json())?)?;
    fs::write(out.join("chat_template.jinja"), train::recipe::CHAT_TEMPLATE)?;
    Ok(())
}

fn show(generator: &Generator, out: &Path, count: u64) -> Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    for split in Split::EVALUATION.into_iter().chain([Split::Train]) {
        for index in 0..count {
            let sample = generator.sample(split, PIXELS, index);
            let name = format!("{}-{index:03}", split.name());
            let mut text = String::new();
            for turn in &sample.turns {
                text.push_str(&format!("[{}] {} -> {}\n", turn.skill.name(), turn.question, turn.answer));
            }
            fs::write(out.join(format!("{name}.txt")), text)?;
            for (number, picture) in sample.pictures.iter().enumerate() {
                picture.save(out.join(format!("{name}-{number}.png")))?;
            }
        }
    }
    Ok(())
}
