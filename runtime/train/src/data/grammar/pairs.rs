//! Questions about two pictures.

use super::{Talk, ask};
use crate::data::random::Random;
use crate::data::sample::{Skill, Turn};
use crate::data::things::{THINGS, with_article};

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
