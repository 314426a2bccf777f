//! From a scene to words: captions, questions, and the one right answer to each.

use super::colour::Colour;
use super::drawings::{Drawing, Ink};
use super::photos::PHOTO_WORDS;
use super::random::Random;
use super::sample::{Skill, Turn};
use super::scene::{Ground, Object, Place, Scene, Size, rivals};
use super::things::{Category, THINGS, ThingId, with_article};

/// What `ocelli caption` asks.
pub const CAPTION_PROMPT: &str = "Describe this picture.";

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
pub(crate) const CANNOT_TELL: &str = "I can't tell.";

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
fn sentence(words: &str) -> String {
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
            Skill::Exists => self.exists(random),
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

    fn things(&self, random: &mut Random) -> Turn {
        let question = random.pick(&[
            "Name the things in this picture.",
            "List what you see.",
            "Which things are here?",
            "What things are in this picture?",
            "Name what you see.",
            "What objects are here?",
        ]);
        // Two groups of one thing in two colours count as one here.
        let mut totals: Vec<(ThingId, usize)> = Vec::new();
        for group in &self.groups {
            match totals.iter_mut().find(|(thing, _)| *thing == group.thing) {
                Some((_, total)) => *total += group.members.len(),
                None => totals.push((group.thing, group.members.len())),
            }
        }
        let parts: Vec<String> = totals.iter().map(|(thing, total)| amount(*thing, *total)).collect();
        Turn::new(Skill::Things, question, sentence(&joined(&parts)))
    }

    fn count(&self, random: &mut Random) -> Option<Turn> {
        // Most scenes show one thing; asked about all of them, "One." would be a good guess.
        if self.scene.objects.len() == 1 && random.chance(0.6) {
            return None;
        }
        if self.groups.is_empty() || random.chance(0.2) {
            let question = random.pick(&[
                "How many things are there?",
                "How many objects are in this picture?",
                "Count the things.",
                "How many things do you see?",
                "How many things are in the picture?",
                "What is the number of objects?",
            ]);
            return Some(Turn::new(Skill::Count, question, sentence(number(self.scene.objects.len()))));
        }
        let thing = match random.chance(0.12) {
            true => self.absent(random),
            false => self.groups[random.below(self.groups.len())].thing,
        };
        let total = self.scene.objects.iter().filter(|o| o.thing == thing).count();
        let question = ask(
            random,
            &[
                "How many {} are there?",
                "How many {} do you see?",
                "How many {} are in this picture?",
                "Count the {}.",
                "How many {} can you see?",
                "What is the number of {}?",
            ],
            THINGS[thing].plural,
        );
        Some(Turn::new(Skill::Count, question, sentence(number(total))))
    }

    fn colour(&self, random: &mut Random) -> Option<Turn> {
        let known: Vec<(&Group<'_>, Colour)> = self
            .groups
            .iter()
            .filter(|g| self.groups.iter().filter(|other| other.thing == g.thing).count() == 1)
            .filter_map(|g| match (g.colour, self.drawings[g.members[0].drawing].ink) {
                (Some(colour), _) | (None, Ink::Plain(colour)) => Some((g, colour)),
                _ => None,
            })
            .collect();
        if known.is_empty() {
            return None;
        }
        let (group, colour) = known[random.below(known.len())];
        let question = match group.members.len() {
            1 => ask(
                random,
                &[
                    "What colour is the {}?",
                    "What color is the {}?",
                    "Which colour is the {}?",
                    "What is the colour of the {}?",
                    "The {} is what colour?",
                    "Tell me the colour of the {}.",
                ],
                THINGS[group.thing].noun,
            ),
            _ => ask(
                random,
                &[
                    "What colour are the {}?",
                    "What color are the {}?",
                    "Which colour are the {}?",
                    "What is the colour of the {}?",
                    "The {} are what colour?",
                    "Tell me the colour of the {}.",
                ],
                THINGS[group.thing].plural,
            ),
        };
        Some(Turn::new(Skill::Colour, question, sentence(colour.word())))
    }

    fn exists(&self, random: &mut Random) -> Option<Turn> {
        const PHRASINGS: [&str; 6] = [
            "Is there {}?",
            "Is there {} in this picture?",
            "Do you see {}?",
            "Can you see {}?",
            "Does this picture show {}?",
            "Is {} here?",
        ];
        let yes = random.chance(0.5) && !self.groups.is_empty();
        let coloured: Vec<&Group<'_>> = self.groups.iter().filter(|g| g.colour.is_some()).collect();
        let words = if !coloured.is_empty() && random.chance(0.4) {
            // With a colour: the wrong one is the hard negative.
            let group = random.pick(&coloured);
            let colour = match yes {
                true => group.colour?,
                false => random.pick(&Colour::PAINTS),
            };
            let thing = group.thing;
            if yes != self.groups.iter().any(|g| g.thing == thing && g.colour == Some(colour)) {
                return None;
            }
            with_article(&format!("{} {}", colour.word(), THINGS[thing].noun))
        } else if random.chance(0.15) {
            let category = random.pick(&[
                Category::Animal,
                Category::Vehicle,
                Category::Plant,
                Category::Food,
                Category::Shape,
            ]);
            if yes != self.groups.iter().any(|g| THINGS[g.thing].category == category) {
                return None;
            }
            category.phrase().to_string()
        } else if yes {
            let group = &self.groups[random.below(self.groups.len())];
            with_article(THINGS[group.thing].noun)
        } else {
            with_article(THINGS[self.absent(random)].noun)
        };
        Some(Turn::new(Skill::Exists, ask(random, &PHRASINGS, &words), yes_no(yes)))
    }

    fn relation(&self, random: &mut Random) -> Option<Turn> {
        let single: Vec<&Group<'_>> = self.groups.iter().filter(|g| g.members.len() == 1).collect();
        if single.len() < 2 {
            return None;
        }
        let first = random.below(single.len());
        let second = (first + 1 + random.below(single.len() - 1)) % single.len();
        let (a, b) = (single[first], single[second]);
        let (dx, dy) = (a.members[0].x - b.members[0].x, a.members[0].y - b.members[0].y);
        let clear = 0.18 * self.scene.width.min(self.scene.height) as f32;
        // Ambiguous diagonals are not asked about.
        let sideways = dx.abs() > 1.4 * dy.abs() && dx.abs() > clear;
        let upright = dy.abs() > 1.4 * dx.abs() && dy.abs() > clear;
        if !sideways && !upright {
            return None;
        }
        let (name_a, name_b) = (self.reference(a), self.reference(b));
        let holds = if sideways {
            if dx < 0.0 { "left" } else { "right" }
        } else if dy < 0.0 {
            "above"
        } else {
            "below"
        };
        let opposite = match holds {
            "left" => "right",
            "right" => "left",
            "above" => "below",
            _ => "above",
        };
        // "left of", but "above".
        let spoken = |relation: &str| if sideways { format!("{relation} of") } else { relation.to_string() };
        Some(match random.below(if self.scene.objects.len() == 2 { 3 } else { 2 }) {
            0 => {
                let yes = random.chance(0.5);
                let relation = spoken(if yes { holds } else { opposite });
                let question = random
                    .pick(&[
                        "Is the A R the B?",
                        "Do you see the A R the B?",
                        "Is there {} R the B?",
                        "In this picture, is the A R the B?",
                        "Can you see the A R the B?",
                        "Is it true that the A is R the B?",
                    ])
                    .replace('R', &relation)
                    .replace('B', &name_b)
                    .replace('A', &name_a)
                    .replace("{}", &with_article(&name_a));
                Turn::new(Skill::Relation, question, yes_no(yes))
            }
            1 => {
                let (one, two) = if sideways { ("left", "right of") } else { ("above", "below") };
                let question = random
                    .pick(&[
                        "Is the A R the B?",
                        "Where is the A, R the B?",
                        "Tell me: is the A R the B?",
                        "Which is it: is the A R the B?",
                        "Do you see the A R the B?",
                        "In this picture, is the A R the B?",
                    ])
                    .replace('R', &format!("{one} or {two}"))
                    .replace('B', &name_b)
                    .replace('A', &name_a);
                Turn::new(Skill::Relation, question, sentence(holds))
            }
            _ => {
                let question = random
                    .pick(&[
                        "What is R the B?",
                        "What do you see R the B?",
                        "Which thing is R the B?",
                        "Name the thing R the B.",
                        "Tell me what is R the B.",
                        "What is there R the B?",
                    ])
                    .replace('R', &spoken(holds))
                    .replace('B', &name_b);
                Turn::new(Skill::Relation, question, sentence(&with_article(&name_a)))
            }
        })
    }

    fn position(&self, random: &mut Random) -> Option<Turn> {
        let single: Vec<&Group<'_>> = self.groups.iter().filter(|g| g.members.len() == 1).collect();
        if single.is_empty() {
            return None;
        }
        let group = random.pick(&single);
        let object = group.members[0];
        let (u, v) = (object.x / self.scene.width as f32 - 0.5, object.y / self.scene.height as f32 - 0.5);
        let words = if u.abs() < 0.1 && v.abs() < 0.1 {
            "in the middle"
        } else if u.abs() > 0.15 && u.abs() > 1.6 * v.abs() {
            if u < 0.0 { "on the left" } else { "on the right" }
        } else if v.abs() > 0.15 && v.abs() > 1.6 * u.abs() {
            if v < 0.0 { "at the top" } else { "at the bottom" }
        } else {
            return None;
        };
        let question = ask(
            random,
            &[
                "Where is the {}?",
                "Where is the {} in this picture?",
                "Where do you see the {}?",
                "In which part of the picture is the {}?",
                "Where can I find the {}?",
                "Tell me where the {} is.",
            ],
            &self.reference(group),
        );
        Some(Turn::new(Skill::Position, question, sentence(words)))
    }

    fn background(&self, random: &mut Random) -> Turn {
        let question = random.pick(&[
            "What is the background?",
            "What is in the background?",
            "What is behind?",
            "Describe the background.",
            "What does the background show?",
            "What kind of background is it?",
        ]);
        let answer = match self.scene.ground {
            Ground::Plain(colour) => sentence(colour.word()),
            Ground::Striped(..) => "Stripes.".into(),
            Ground::Checked(..) => "Checks.".into(),
            Ground::Noise => "Noise.".into(),
            Ground::Place(place) => place_words(place).1.into(),
            Ground::Photo(..) => "A photo.".into(),
        };
        Turn::new(Skill::Background, question, answer)
    }

    fn size(&self, random: &mut Random) -> Option<Turn> {
        if let [object] = self.scene.objects.as_slice() {
            let answer = match self.scene.size {
                Size::Small => "Small.",
                Size::Medium => return None,
                Size::Large => "Large.",
            };
            let question = ask(
                random,
                &[
                    "Is the {} small or large?",
                    "Is the {} large or small?",
                    "How big is the {}?",
                    "What size is the {}?",
                    "How large is the {}?",
                    "Tell me the size of the {}.",
                ],
                THINGS[object.thing].noun,
            );
            return Some(Turn::new(Skill::Size, question, answer));
        }
        let [a, b] = self.groups.as_slice() else { return None };
        if a.members.len() + b.members.len() != 2 {
            return None;
        }
        let ratio = a.members[0].side / b.members[0].side;
        if ratio.max(1.0 / ratio) < 1.4 {
            return None;
        }
        let (name_a, name_b) = (self.reference(a), self.reference(b));
        let larger = random.chance(0.5);
        let question = random
            .pick(&[
                "Which is R, the A or the B?",
                "Which one is R, the A or the B?",
                "What is R, the A or the B?",
                "Is the A or the B R?",
                "Tell me which is R: the A or the B.",
                "R: the A or the B?",
            ])
            .replace('R', if larger { "bigger" } else { "smaller" });
        let question = match random.chance(0.5) {
            true => question.replace('B', &name_b).replace('A', &name_a),
            false => question.replace('B', &name_a).replace('A', &name_b),
        };
        let answer = if (ratio > 1.0) == larger { name_a } else { name_b };
        Some(Turn::new(Skill::Size, capitalised(&question), sentence(&format!("the {answer}"))))
    }

    fn unanswerable(&self, random: &mut Random) -> Turn {
        let absent = self.absent(random);
        let question = match random.chance(0.6) {
            true => ask(
                random,
                &[
                    "What colour is the {}?",
                    "Where is the {}?",
                    "Is the {} small or large?",
                    "What is left of the {}?",
                    "What is above the {}?",
                    "Tell me where the {} is.",
                ],
                THINGS[absent].noun,
            ),
            false => random
                .pick(&[
                    "Who made this picture?",
                    "When was this made?",
                    "What will happen next?",
                    "How much does it cost?",
                    "What is its name?",
                    "How old is it?",
                    "Where was this made?",
                    "What is the weather tomorrow?",
                ])
                .to_string(),
        };
        Turn::new(Skill::Unanswerable, question, CANNOT_TELL)
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

fn capitalised(words: &str) -> String {
    let mut chars = words.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Photo or drawing.
pub(crate) fn medium(random: &mut Random, photo: bool) -> Turn {
    let question = random.pick(&[
        "Is this a photo or a drawing?",
        "Is it a drawing or a photo?",
        "Is this picture a photo or a drawing?",
        "Drawing or photo?",
        "What kind of picture is this?",
        "Is this drawn or photographed?",
    ]);
    Turn::new(Skill::Medium, question, if photo { "A photo." } else { "A drawing." })
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

/// The caption of a whole photograph.
pub(crate) fn photo_caption(word: Option<usize>) -> Turn {
    match word {
        Some(word) => {
            Turn::new(Skill::Photo, CAPTION_PROMPT, format!("A photo of {}.", PHOTO_WORDS[word].phrase))
        }
        None => Turn::new(Skill::PhotoUnsure, CAPTION_PROMPT, "A photo, but I am not sure of what."),
    }
}

/// "Is there a dog?" about a photograph; only asked where yes and no are both beyond doubt.
pub(crate) fn photo_exists(random: &mut Random, word: usize) -> Option<Turn> {
    // A street shows cars beside its bus, so no vehicle is denied in a photo of a vehicle.
    const BEASTS: [&str; 8] = ["dog", "cat", "bird", "frog", "fish", "spider", "butterfly", "monkey"];
    const VEHICLES: [&str; 5] = ["car", "truck", "bus", "train", "boat"];
    let noun = PHOTO_WORDS[word].noun;
    let (beast, vehicle) = (BEASTS.contains(&noun), VEHICLES.contains(&noun));
    if !beast && !vehicle {
        return None;
    }
    let yes = random.chance(0.5);
    let asked = match yes {
        true => noun,
        false if beast && random.chance(0.2) => random.pick(&VEHICLES),
        false => random.pick(&BEASTS),
    };
    if !yes && asked == noun {
        return None;
    }
    let question = ask(
        random,
        &[
            "Is there {}?",
            "Is there {} in this picture?",
            "Do you see {}?",
            "Can you see {}?",
            "Does this picture show {}?",
            "Is {} here?",
        ],
        &with_article(asked),
    );
    Some(Turn::new(Skill::Exists, question, yes_no(yes)))
}

/// Two scenes, one after the other.
pub(crate) fn compare(random: &mut Random, first: &Talk<'_>, second: &Talk<'_>) -> Turn {
    match random.below(4) {
        0 => Turn::new(Skill::TwoPictures, "Describe picture 1.", first.caption()),
        1 => Turn::new(Skill::TwoPictures, "Describe picture 2.", second.caption()),
        _ => {
            let shown =
                |random: &mut Random, talk: &Talk<'_>| talk.groups[random.below(talk.groups.len())].thing;
            let thing = match random.below(9) {
                0..=3 => shown(random, first),
                4..=7 => shown(random, second),
                _ => first.absent(random),
            };
            let answer = match (first.shows(thing), second.shows(thing)) {
                (true, true) => "Both.",
                (true, false) => "Picture 1.",
                (false, true) => "Picture 2.",
                (false, false) => "Neither.",
            };
            let question = ask(
                random,
                &[
                    "Which picture has {}?",
                    "Which picture shows {}?",
                    "Where is {}?",
                    "In which picture do you see {}?",
                    "Which of the two shows {}?",
                    "Which one has {}?",
                ],
                &with_article(THINGS[thing].noun),
            );
            Turn::new(Skill::TwoPictures, question, answer)
        }
    }
}
