//! Accuracy for each skill, beside what a model that sees nothing would get.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use image::{Rgb, RgbImage};
use rayon::prelude::*;
use serde::Serialize;

use crate::batch::Packer;
use crate::data::{Generator, Sample, Skill, Split};
use crate::learner::Learner;
use crate::recipe::PIXELS;

/// Samples in one forward pass.
const BATCH: usize = 64;

/// What the model is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// The pictures of the question.
    Own,
    /// A grey frame.
    Blank,
    /// The pictures of another question.
    Swapped,
}

/// How often the whole answer was right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Score {
    /// Questions asked.
    pub questions: usize,
    /// Share answered exactly.
    pub exact: f32,
    /// The same with a grey frame in place of the picture.
    pub blank: f32,
    /// The same with another question's picture.
    pub swapped: f32,
    /// Share that the commonest answer of this skill would get.
    pub majority: f32,
}

/// Scores by split and skill.
pub type Report = BTreeMap<&'static str, BTreeMap<&'static str, Score>>;

/// Asks `n` questions of every evaluation split.
///
/// An answer counts when greedy decoding says exactly the expected words.
///
/// # Errors
/// Those of the backend.
pub fn evaluate(learner: &Learner, packer: &Packer, generator: &Generator, n: usize) -> Result<Report> {
    let mut report = Report::new();
    for split in Split::EVALUATION {
        let samples: Vec<Sample> =
            (0..n as u64).into_par_iter().map(|index| generator.sample(split, PIXELS, index)).collect();
        let [own, blank, swapped] =
            [Sight::Own, Sight::Blank, Sight::Swapped].map(|sight| right(learner, packer, &samples, sight));
        let (own, blank, swapped) = (own?, blank?, swapped?);
        let mut skills: BTreeMap<Skill, Vec<usize>> = BTreeMap::new();
        for (index, sample) in samples.iter().enumerate() {
            skills.entry(sample.turns[0].skill).or_default().push(index);
        }
        let scores = skills.into_iter().map(|(skill, indices)| {
            let share =
                |right: &[bool]| indices.iter().filter(|i| right[**i]).count() as f32 / indices.len() as f32;
            let mut answers: HashMap<&str, usize> = HashMap::new();
            for &i in &indices {
                *answers.entry(&samples[i].turns[0].answer).or_default() += 1;
            }
            let commonest = answers.values().max().copied().unwrap_or(0);
            let score = Score {
                questions: indices.len(),
                exact: share(&own),
                blank: share(&blank),
                swapped: share(&swapped),
                majority: commonest as f32 / indices.len() as f32,
            };
            (skill.name(), score)
        });
        report.insert(split.name(), scores.collect());
    }
    Ok(report)
}

/// The share of all questions that were answered exactly.
#[must_use]
pub fn overall(scores: &BTreeMap<&'static str, Score>) -> f32 {
    let right: f32 = scores.values().map(|s| s.exact * s.questions as f32).sum();
    right / scores.values().map(|s| s.questions).sum::<usize>().max(1) as f32
}

fn right(learner: &Learner, packer: &Packer, samples: &[Sample], sight: Sight) -> Result<Vec<bool>> {
    let mut right = Vec::with_capacity(samples.len());
    for chunk in samples.chunks(BATCH) {
        let seen: Vec<Sample> = match sight {
            Sight::Own => chunk.to_vec(),
            Sight::Blank => chunk.iter().map(blanked).collect(),
            Sight::Swapped => chunk.iter().enumerate().map(|(i, sample)| swapped(chunk, i, sample)).collect(),
        };
        right.extend(learner.says(&packer.pack(&seen)?)?);
    }
    Ok(right)
}

fn blanked(sample: &Sample) -> Sample {
    let grey = |p: &RgbImage| RgbImage::from_pixel(p.width(), p.height(), Rgb([128; 3]));
    Sample { pictures: sample.pictures.iter().map(grey).collect(), cells: Vec::new(), ..sample.clone() }
}

/// `sample` with the pictures of the next one that has as many.
fn swapped(chunk: &[Sample], index: usize, sample: &Sample) -> Sample {
    let others = (1..chunk.len()).map(|by| &chunk[(index + by) % chunk.len()]);
    let other = others.into_iter().find(|other| other.pictures.len() == sample.pictures.len());
    let pictures = other.unwrap_or(sample).pictures.clone();
    Sample { pictures, cells: Vec::new(), ..sample.clone() }
}
