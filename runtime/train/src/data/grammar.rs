//! From a scene to words: captions, questions, and the one right answer to each.

mod pairs;
mod photographs;
mod questions;

pub(crate) use pairs::compare;
pub(crate) use photographs::{photo_caption, photo_exists};
pub(crate) use questions::medium;

use engine::CAPTION_PROMPT;

use super::colour::Colour;
use super::drawings::Drawing;
use super::random::Random;
use super::sample::{Skill, Turn};
use super::scene::{Ground, Object, Place, Scene, Size, rivals};
use super::things::{THINGS, ThingId, with_article};

/// Other ways to ask for a caption.
const CAPTION_PROMPTS: [&str; 8] = [
    "Describe the picture.",
    "Describe this image.",
    "What is in this picture?",
    "What do you see?",
    "What does this picture show?",
    "Write a caption.",
    "Caption this picture.",
    "What is this?",
];

/// The honest answer to a question that the picture does not answer.
const CANNOT_TELL: &str = "I can't tell.";

/// Equal objects that the words count together.
#[derive(Debug)]
struct Group<'a> {
    thing: ThingId,
    colour: Option<Colour>,
    members: Vec<&'a Object>,
}

/// A scene as the grammar sees it.
pub(crate) struct Talk<'a> {
    scene: &'a Scene,
    /// From left to right.
    groups: Vec<Group<'a>>,
    drawings: &'a [Drawing],
}

/// A count in words; at most five objects are ever shown.
fn number(count: usize) -> &'static str {
    ["none", "one", "two", "three", "four", "five"][count.min(5)]
}

/// With a capital and a full stop.
pub(crate) fn sentence(words: &str) -> String {
    let mut chars = words.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

/// "a", "a and b", "a, b and c".
fn joined(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [start @ .., last] => format!("{} and {last}", start.join(", ")),
    }
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "Yes." } else { "No." }
}

fn place_words(place: Place) -> (&'static str, &'static str) {
    match place {
        Place::Grass => ("on grass", "Grass."),
        Place::Sky => ("in the sky", "The sky."),
        Place::Sea => ("on the sea", "The sea."),
        Place::Sand => ("on sand", "Sand."),
        Place::Night => ("at night", "The night."),
        Place::Snow => ("on snow", "Snow."),
    }
}

/// A question that asks for a caption; half of the time the one the command line asks.
pub(crate) fn caption_prompt(random: &mut Random) -> &'static str {
    if random.chance(0.5) { CAPTION_PROMPT } else { random.pick(&CAPTION_PROMPTS) }
}

/// One of several phrasings, with `{}` filled in.
fn ask(random: &mut Random, phrasings: &[&str], words: &str) -> String {
    random.pick(phrasings).replace("{}", words)
}

impl<'a> Talk<'a> {
    pub(crate) fn new(scene: &'a Scene, drawings: &'a [Drawing]) -> Self {
        let mut groups: Vec<Group<'a>> = Vec::new();
        for object in &scene.objects {
            match groups.iter_mut().find(|g| g.thing == object.thing && g.colour == object.colour) {
                Some(group) => group.members.push(object),
                None => {
                    groups.push(Group { thing: object.thing, colour: object.colour, members: vec![object] })
                }
            }
        }
        let mean_x = |g: &Group<'_>| g.members.iter().map(|o| o.x).sum::<f32>() / g.members.len() as f32;
        groups.sort_by(|a, b| mean_x(a).total_cmp(&mean_x(b)));
        Self { scene, groups, drawings }
    }

    /// "A small red apple on grass." or "Two dogs and a blue car on a white background."
    pub(crate) fn caption(&self) -> String {
        let alone = self.scene.objects.len() == 1;
        let parts: Vec<String> = self
            .groups
            .iter()
            .map(|group| {
                let size = match self.scene.size {
                    Size::Small if alone => "small ",
                    Size::Large if alone => "large ",
                    _ => "",
                };
                counted(group, size, group.colour)
            })
            .collect();
        let ground = match self.scene.ground {
            Ground::Plain(colour) => format!("on {} background", with_article(colour.word())),
            Ground::Striped(..) => "on a striped background".into(),
            Ground::Checked(..) => "on a checked background".into(),
            Ground::Noise => "on a noisy background".into(),
            Ground::Place(place) => place_words(place).0.into(),
            Ground::Photo(..) => "on a photo".into(),
        };
        sentence(&format!("{} {ground}", joined(&parts)))
    }

    pub(crate) fn caption_turn(&self, random: &mut Random) -> Turn {
        Turn::new(Skill::Caption, caption_prompt(random), self.caption())
    }

    /// A turn that tests `skill`, if this scene allows one.
    pub(crate) fn turn(&self, random: &mut Random, skill: Skill) -> Option<Turn> {
        match skill {
            Skill::Caption => Some(self.caption_turn(random)),
            Skill::Things => Some(self.things(random)),
            Skill::Count => self.count(random),
            Skill::Colour => self.colour(random),
            Skill::Exists => Some(self.exists(random)),
            Skill::Relation => self.relation(random),
            Skill::Position => self.position(random),
            Skill::Background => Some(self.background(random)),
            Skill::Size => self.size(random),
            Skill::Medium => Some(medium(random, false)),
            Skill::Unanswerable => Some(self.unanswerable(random)),
            _ => None,
        }
    }

    /// The words for a group that is the only one of its thing, or else with its colour.
    fn reference(&self, group: &Group<'_>) -> String {
        let noun =
            if group.members.len() == 1 { THINGS[group.thing].noun } else { THINGS[group.thing].plural };
        let alone = self.groups.iter().filter(|g| g.thing == group.thing).count() == 1;
        match group.colour {
            Some(colour) if !alone => format!("{} {noun}", colour.word()),
            _ => noun.to_string(),
        }
    }

    fn shows(&self, thing: ThingId) -> bool {
        self.groups.iter().any(|g| g.thing == thing)
    }

    /// A thing that is not shown; half of the time of the kind of one that is.
    fn absent(&self, random: &mut Random) -> ThingId {
        loop {
            let thing = match self.groups.is_empty() || random.chance(0.5) {
                true => random.below(THINGS.len()),
                false => {
                    let shown = self.groups[random.below(self.groups.len())].thing;
                    random.pick(&rivals(shown))
                }
            };
            if !self.shows(thing) {
                return thing;
            }
        }
    }
}

/// "two red dogs", "a small red dog".
fn counted(group: &Group<'_>, size: &str, colour: Option<Colour>) -> String {
    let colour = colour.map(|c| format!("{} ", c.word())).unwrap_or_default();
    match group.members.len() {
        1 => with_article(&format!("{size}{colour}{}", THINGS[group.thing].noun)),
        many => format!("{} {colour}{}", number(many), THINGS[group.thing].plural),
    }
}

fn amount(thing: ThingId, count: usize) -> String {
    match count {
        1 => with_article(THINGS[thing].noun),
        many => format!("{} {}", number(many), THINGS[thing].plural),
    }
}

/// The caption of a frame without objects.
pub(crate) fn blank_caption(ground: Ground) -> String {
    match ground {
        Ground::Plain(colour) => format!("A plain {} picture.", colour.word()),
        Ground::Striped(..) => "Only stripes.".into(),
        Ground::Checked(..) => "Only checks.".into(),
        Ground::Noise | Ground::Photo(..) => "Only noise.".into(),
        Ground::Place(Place::Grass) => "Only grass.".into(),
        Ground::Place(Place::Sky) => "Only the sky.".into(),
        Ground::Place(Place::Sea) => "Only the sea.".into(),
        Ground::Place(Place::Sand) => "Only sand.".into(),
        Ground::Place(Place::Night) => "Only the night sky.".into(),
        Ground::Place(Place::Snow) => "Only snow.".into(),
    }
}
