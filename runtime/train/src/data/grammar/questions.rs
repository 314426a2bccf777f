//! Questions about one scene; `None` where a scene does not allow the question.

use super::{CANNOT_TELL, Group, Talk, amount, ask, joined, number, place_words, sentence, yes_no};
use crate::data::colour::Colour;
use crate::data::drawings::Ink;
use crate::data::random::Random;
use crate::data::sample::{Skill, Turn};
use crate::data::scene::{Ground, Size};
use crate::data::things::{Category, THINGS, ThingId, with_article};

impl Talk<'_> {
    pub(super) fn things(&self, random: &mut Random) -> Turn {
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

    pub(super) fn count(&self, random: &mut Random) -> Option<Turn> {
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

    pub(super) fn colour(&self, random: &mut Random) -> Option<Turn> {
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

    pub(super) fn exists(&self, random: &mut Random) -> Turn {
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
        let holds = |thing: ThingId, colour: Colour| {
            self.groups.iter().any(|g| g.thing == thing && g.colour == Some(colour))
        };
        let words = match random.weighted(&[0.4, 0.1, 0.5]) {
            // With a colour: the wrong one is the hard negative.
            0 if !coloured.is_empty() => {
                let group = random.pick(&coloured);
                let colour =
                    if yes { group.colour } else { None }.unwrap_or_else(|| random.pick(&Colour::PAINTS));
                (holds(group.thing, colour) == yes)
                    .then(|| with_article(&format!("{} {}", colour.word(), THINGS[group.thing].noun)))
            }
            1 => {
                let category = match yes {
                    true => THINGS[self.groups[random.below(self.groups.len())].thing].category,
                    false => random.pick(&Category::ASKED),
                };
                let shown = self.groups.iter().any(|g| THINGS[g.thing].category == category);
                (shown == yes && Category::ASKED.contains(&category)).then(|| category.phrase().to_string())
            }
            _ => None,
        };
        // The answer is decided first and kept, so that yes and no stay balanced.
        let words = words.unwrap_or_else(|| {
            let thing = match yes {
                true => self.groups[random.below(self.groups.len())].thing,
                false => self.absent(random),
            };
            with_article(THINGS[thing].noun)
        });
        Turn::new(Skill::Exists, ask(random, &PHRASINGS, &words), yes_no(yes))
    }

    pub(super) fn relation(&self, random: &mut Random) -> Option<Turn> {
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
        let fill = |phrasing: &str, relation: &str| {
            phrasing.replace("{a}", &name_a).replace("{b}", &name_b).replace("{is}", relation)
        };
        Some(match random.below(if self.scene.objects.len() == 2 { 3 } else { 2 }) {
            0 => {
                let yes = random.chance(0.5);
                let phrasing = random.pick(&[
                    "Is the {a} {is} the {b}?",
                    "Do you see the {a} {is} the {b}?",
                    "Can you see the {a} {is} the {b}?",
                    "In this picture, is the {a} {is} the {b}?",
                    "Is it true that the {a} is {is} the {b}?",
                    "Does the picture show the {a} {is} the {b}?",
                ]);
                let relation = spoken(if yes { holds } else { opposite });
                Turn::new(Skill::Relation, fill(phrasing, &relation), yes_no(yes))
            }
            1 => {
                let phrasing = random.pick(&[
                    "Is the {a} {is} the {b}?",
                    "Where is the {a}, {is} the {b}?",
                    "Tell me: is the {a} {is} the {b}?",
                    "Which is it: is the {a} {is} the {b}?",
                    "Do you see the {a} {is} the {b}?",
                    "In this picture, is the {a} {is} the {b}?",
                ]);
                let choice = if sideways { "left or right of" } else { "above or below" };
                Turn::new(Skill::Relation, fill(phrasing, choice), sentence(holds))
            }
            _ => {
                let phrasing = random.pick(&[
                    "What is {is} the {b}?",
                    "What do you see {is} the {b}?",
                    "Which thing is {is} the {b}?",
                    "Name the thing {is} the {b}.",
                    "Tell me what is {is} the {b}.",
                    "What is there {is} the {b}?",
                ]);
                Turn::new(Skill::Relation, fill(phrasing, &spoken(holds)), sentence(&with_article(&name_a)))
            }
        })
    }

    pub(super) fn position(&self, random: &mut Random) -> Option<Turn> {
        let single: Vec<&Group<'_>> = self.groups.iter().filter(|g| g.members.len() == 1).collect();
        if single.is_empty() {
            return None;
        }
        let group = random.pick(&single);
        let object = group.members[0];
        // What fills the frame is always in the middle; that is worth few questions.
        if self.scene.objects.len() == 1 && self.scene.size == Size::Large && random.chance(0.7) {
            return None;
        }
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

    pub(super) fn background(&self, random: &mut Random) -> Turn {
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

    pub(super) fn size(&self, random: &mut Random) -> Option<Turn> {
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
        let (one, two) = if random.chance(0.5) { (&name_a, &name_b) } else { (&name_b, &name_a) };
        let question = random
            .pick(&[
                "Which is {is}, the {a} or the {b}?",
                "Which one is {is}, the {a} or the {b}?",
                "What is {is}, the {a} or the {b}?",
                "Is the {a} or the {b} {is}?",
                "Tell me which is {is}: the {a} or the {b}.",
                "What do you think is {is}, the {a} or the {b}?",
            ])
            .replace("{is}", if larger { "bigger" } else { "smaller" })
            .replace("{a}", one)
            .replace("{b}", two);
        let answer = if (ratio > 1.0) == larger { name_a } else { name_b };
        Some(Turn::new(Skill::Size, question, sentence(&format!("the {answer}"))))
    }

    pub(super) fn unanswerable(&self, random: &mut Random) -> Turn {
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
