//! What the trainer gets: pictures, and a short chat about them.

use image::RgbImage;

use super::cells::Cell;

/// Pictures and a chat about them; the pictures belong to the first question.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// None for small talk, one for most samples, two for comparisons.
    pub pictures: Vec<RgbImage>,
    /// What the cells of each picture show; may be empty if nobody knows.
    pub cells: Vec<Vec<Cell>>,
    /// A system prompt, rarely.
    pub system: Option<String>,
    /// At least one.
    pub turns: Vec<Turn>,
}

/// A question and the one answer that counts as right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What the user says.
    pub question: String,
    /// What the model should say; each kind of question has one form of answer.
    pub answer: String,
    /// What the question tests.
    pub skill: Skill,
}

impl Turn {
    pub(crate) fn new(skill: Skill, question: impl Into<String>, answer: impl Into<String>) -> Self {
        Self { question: question.into(), answer: answer.into(), skill }
    }
}

/// What a question tests; accuracy is reported for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Skill {
    /// "Describe this picture." of a composed scene.
    Caption,
    /// The things only, without colours and background.
    Things,
    /// How many.
    Count,
    /// What colour.
    Colour,
    /// Is there one; half the answers are yes.
    Exists,
    /// Left, right, above, below.
    Relation,
    /// Where in the frame.
    Position,
    /// What the background is.
    Background,
    /// Small or large; which is bigger.
    Size,
    /// Photo or drawing.
    Medium,
    /// Questions that the picture does not answer.
    Unanswerable,
    /// Frames without any thing.
    Blank,
    /// A photograph that one of our words fits.
    Photo,
    /// A photograph that none of our words fits.
    PhotoUnsure,
    /// Comparisons of two pictures.
    TwoPictures,
    /// Chat without a picture.
    Text,
}

impl Skill {
    /// All skills, in the order of reports.
    pub const ALL: [Skill; 16] = [
        Skill::Caption,
        Skill::Things,
        Skill::Count,
        Skill::Colour,
        Skill::Exists,
        Skill::Relation,
        Skill::Position,
        Skill::Background,
        Skill::Size,
        Skill::Medium,
        Skill::Unanswerable,
        Skill::Blank,
        Skill::Photo,
        Skill::PhotoUnsure,
        Skill::TwoPictures,
        Skill::Text,
    ];

    /// A short name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Skill::Caption => "caption",
            Skill::Things => "things",
            Skill::Count => "count",
            Skill::Colour => "colour",
            Skill::Exists => "exists",
            Skill::Relation => "relation",
            Skill::Position => "position",
            Skill::Background => "background",
            Skill::Size => "size",
            Skill::Medium => "medium",
            Skill::Unanswerable => "unanswerable",
            Skill::Blank => "blank",
            Skill::Photo => "photo",
            Skill::PhotoUnsure => "photo-unsure",
            Skill::TwoPictures => "two-pictures",
            Skill::Text => "text",
        }
    }
}

/// Which part of the generated world a sample comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Split {
    /// For training; never shows a held-out combination or an evaluation-only style.
    Train,
    /// At least one pair of things, or a thing in a colour, that training never shows together.
    HeldOutCombination,
    /// What training shows, in arrangements that it did not.
    SeenCombinationNewLayout,
    /// Drawn by hands that training never shows.
    UnseenStyle,
    /// Photographs of the validation zip.
    Photos,
}

impl Split {
    /// The splits that judge a model.
    pub const EVALUATION: [Split; 4] =
        [Split::SeenCombinationNewLayout, Split::HeldOutCombination, Split::UnseenStyle, Split::Photos];

    /// A short name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::HeldOutCombination => "held-out-combination",
            Split::SeenCombinationNewLayout => "new-layout",
            Split::UnseenStyle => "unseen-style",
            Split::Photos => "photos",
        }
    }
}
