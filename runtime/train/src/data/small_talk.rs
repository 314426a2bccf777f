//! Chat without a picture, so that the text experts learn words and the model knows what it is.

use super::colour::Colour;
use super::grammar::sentence;
use super::random::Random;
use super::sample::{Skill, Turn};
use super::things::{Category, THINGS, with_article};

/// What Ocelli says it is.
const IDENTITY: &str = "I am Ocelli, a small model that looks at pictures.";

/// Questions with one answer; the questions of a row mean the same.
#[rustfmt::skip]
const FIXED: &[(&[&str], &str)] = &[
    (&["Who are you?", "What are you?", "What is your name?", "Tell me about yourself.", "Are you a person?", "Introduce yourself."], IDENTITY),
    (&["What can you do?", "How can you help me?", "What are you good at?", "What do you do?", "Help."], "I describe simple pictures."),
    (&["Hello!", "Hi!", "Hello", "Hi there.", "Good morning!", "Hey!", "Good evening."], "Hello! Show me a picture."),
    (&["Thank you.", "Thanks!", "Thank you very much!", "Thanks a lot.", "Good answer."], "You are welcome."),
    (&["Goodbye.", "Bye!", "See you later.", "Good night."], "Goodbye!"),
    (&["How are you?", "How do you feel?", "Are you well?"], "I am fine, thank you."),
    (&["What is in this picture?", "Describe this picture.", "What do you see?", "Is there a dog?", "What colour is it?",
       "How many things are there?", "Look at this.", "Caption this picture.", "Where is the cat?"], "I don't see a picture."),
    (&["What is the capital of France?", "Who is the president?", "Write a poem.", "What is the news?", "Solve this equation.",
       "How tall is that mountain?", "What time is it?", "Tell me a story.", "Write code for me.", "Translate this.",
       "What should I eat?", "Who won the game?", "What is love?", "Why is the sky blue?"], "I don't know. I only know pictures."),
    (&["How old are you?", "When were you made?", "Where do you live?", "Who made you?"], "I can't tell."),
    (&["What colour is grass?", "What colour are leaves?", "What is the colour of grass?"], "Green."),
    (&["What colour is the sky?", "What colour is the sea?", "What is the colour of the sky?"], "Blue."),
    (&["What colour is snow?", "What colour is milk?", "What is the colour of snow?"], "White."),
    (&["What colour is the night?", "What colour is coal?"], "Black."),
    (&["What colour is the sun?", "What colour is a banana?", "What colour is a lemon?"], "Yellow."),
    (&["What colour is a carrot?", "What colour is a pumpkin?", "What colour is an orange?"], "Orange."),
    (&["What colour is blood?", "What colour is a strawberry?", "What colour is a tomato?"], "Red."),
    (&["What colour is a pig?"], "Pink."),
    (&["What colour is chocolate?", "What colour is wood?"], "Brown."),
    (&["What colour is an elephant?", "What colour is a stone?"], "Grey."),
    (&["What do red and yellow make?", "Mix red and yellow."], "Orange."),
    (&["What do blue and yellow make?", "Mix yellow and blue."], "Green."),
    (&["What do red and blue make?", "Mix red and blue."], "Purple."),
    (&["What do red and white make?", "Mix red and white."], "Pink."),
    (&["What do black and white make?", "Mix black and white."], "Grey."),
    (&["How many sides has a square?", "How many corners has a square?", "How many legs has a dog?", "How many legs has a cat?",
       "How many wheels has a car?"], "Four."),
    (&["How many sides has a triangle?", "How many corners has a triangle?"], "Three."),
    (&["How many wheels has a bicycle?", "How many legs has a bird?", "How many eyes has a cat?"], "Two."),
    (&["How many points has a star?", "How many fingers has a hand?"], "Five."),
];

/// Words and their opposites, both ways.
const OPPOSITES: &[(&str, &str)] = &[
    ("big", "small"),
    ("large", "small"),
    ("left", "right"),
    ("above", "below"),
    ("up", "down"),
    ("yes", "no"),
    ("black", "white"),
    ("day", "night"),
    ("hot", "cold"),
    ("old", "new"),
    ("open", "closed"),
    ("top", "bottom"),
    ("first", "last"),
    ("full", "empty"),
    ("light", "dark"),
    ("in", "out"),
    ("good", "bad"),
    ("wet", "dry"),
];

const NUMBERS: [&str; 7] = ["one", "two", "three", "four", "five", "six", "seven"];

/// One question and its answer.
pub(crate) fn turn(random: &mut Random) -> Turn {
    let thing = &THINGS[random.below(THINGS.len())];
    let (question, answer) = match random.weighted(&[5.0, 1.2, 1.0, 1.0, 1.2, 0.8, 1.0]) {
        0 => {
            let (questions, answer) = random.pick(FIXED);
            (random.pick(questions).to_string(), answer.to_string())
        }
        1 => {
            let (a, b) = random.pick(OPPOSITES);
            // "small" is the opposite of two words, so it is only ever an answer.
            let (a, b) = if b != "small" && random.chance(0.5) { (b, a) } else { (a, b) };
            let form = random.pick(&[
                "What is the opposite of {}?",
                "The opposite of {}?",
                "Tell me the opposite of {}.",
            ]);
            (form.replace("{}", a), sentence(b))
        }
        2 => {
            let at = random.below(NUMBERS.len() - 1);
            match random.chance(0.5) {
                true => (format!("What comes after {}?", NUMBERS[at]), sentence(NUMBERS[at + 1])),
                false => (format!("What comes before {}?", NUMBERS[at + 1]), sentence(NUMBERS[at])),
            }
        }
        3 => {
            let form = random.pick(&[
                "What is more than one {}?",
                "What do you call many {}?",
                "Say more than one {}.",
            ]);
            let word = if form.contains("many") { thing.plural } else { thing.noun };
            (form.replace("{}", word), sentence(thing.plural))
        }
        4 => {
            let form = random.pick(&["What is {}?", "What kind of thing is {}?", "Tell me what {} is."]);
            (form.replace("{}", &with_article(thing.noun)), sentence(thing.category.phrase()))
        }
        5 => {
            let category = if random.chance(0.5) { thing.category } else { random.pick(&Category::ASKED) };
            let answer = if category == thing.category { "Yes." } else { "No." };
            (format!("Is {} {}?", with_article(thing.noun), category.phrase()), answer.to_string())
        }
        _ => {
            let colour = random.pick(&Colour::GROUNDS).word();
            let other = random.pick(&[colour, thing.noun, "big", "two", "dog", "round"]);
            let is_colour = other == colour || other == "orange";
            (format!("Is {other} a colour?"), if is_colour { "Yes." } else { "No." }.to_string())
        }
    };
    Turn::new(Skill::Text, question, answer)
}

/// Every fixed question and answer, once; for the vocabulary.
pub(crate) fn all_text() -> impl Iterator<Item = String> {
    let fixed = FIXED.iter().flat_map(|(questions, answer)| questions.iter().chain(std::iter::once(answer)));
    fixed.map(|text| text.to_string())
}
