//! Questions about a whole photograph.

use super::{CAPTION_PROMPT, ask, yes_no};
use crate::data::photos::PHOTO_WORDS;
use crate::data::random::Random;
use crate::data::sample::{Skill, Turn};
use crate::data::things::with_article;

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
