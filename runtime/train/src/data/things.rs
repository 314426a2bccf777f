//! The things our pictures can show: their words and their emoji.

use Category::{Animal, Clothes, Food, Object, Plant, Shape, Vehicle};

/// What a thing is a kind of; near things make hard questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Category {
    Animal,
    Food,
    Plant,
    Vehicle,
    Clothes,
    Object,
    Shape,
}

impl Category {
    /// Those that are asked about; the others are too vague.
    pub(crate) const ASKED: [Category; 5] = [Animal, Food, Plant, Vehicle, Shape];

    /// With its article, as in "a dog is an animal".
    pub(crate) fn phrase(self) -> &'static str {
        match self {
            Animal => "an animal",
            Food => "food",
            Plant => "a plant",
            Vehicle => "a vehicle",
            Clothes => "something to wear",
            Object => "an object",
            Shape => "a shape",
        }
    }
}

/// One thing: a word people use, and the drawings that show it.
#[derive(Debug)]
pub(crate) struct Thing {
    /// Singular, without article.
    pub(crate) noun: &'static str,
    /// Plural.
    pub(crate) plural: &'static str,
    /// What it is a kind of.
    pub(crate) category: Category,
    /// Whether we repaint it; captions then say its colour.
    pub(crate) painted: bool,
    /// Code points, each with the icon name shared by the drawing packages.
    pub(crate) glyphs: &'static [(char, &'static str)],
}

/// An index into [`THINGS`].
pub(crate) type ThingId = usize;

/// Shorthand for the table below.
const fn thing(
    noun: &'static str,
    plural: &'static str,
    category: Category,
    glyphs: &'static [(char, &'static str)],
) -> Thing {
    Thing { noun, plural, category, painted: false, glyphs }
}

/// A thing that we repaint.
const fn painted(
    noun: &'static str,
    plural: &'static str,
    category: Category,
    glyphs: &'static [(char, &'static str)],
) -> Thing {
    Thing { noun, plural, category, painted: true, glyphs }
}

/// All things. Twins were left out: a fox beside a dog, a watch beside a clock, a tomato beside an apple.
#[rustfmt::skip]
pub(crate) const THINGS: &[Thing] = &[
    thing("dog", "dogs", Animal, &[('🐶', "dog-face"), ('🐕', "dog")]),
    painted("cat", "cats", Animal, &[('🐱', "cat-face"), ('🐈', "cat")]),
    thing("pig", "pigs", Animal, &[('🐷', "pig-face"), ('🐖', "pig")]),
    thing("frog", "frogs", Animal, &[('🐸', "frog")]),
    thing("penguin", "penguins", Animal, &[('🐧', "penguin")]),
    painted("bird", "birds", Animal, &[('🐦', "bird")]),
    painted("butterfly", "butterflies", Animal, &[('🦋', "butterfly")]),
    thing("turtle", "turtles", Animal, &[('🐢', "turtle")]),
    thing("snake", "snakes", Animal, &[('🐍', "snake")]),
    painted("fish", "fish", Animal, &[('🐟', "fish"), ('🐠', "tropical-fish")]),
    painted("elephant", "elephants", Animal, &[('🐘', "elephant")]),
    thing("cactus", "cactuses", Plant, &[('🌵', "cactus")]),
    thing("tree", "trees", Plant, &[('🌲', "evergreen-tree"), ('🌳', "deciduous-tree")]),
    painted("flower", "flowers", Plant, &[('🌷', "tulip"), ('🌹', "rose")]),
    thing("mushroom", "mushrooms", Plant, &[('🍄', "mushroom")]),
    painted("apple", "apples", Food, &[('🍎', "red-apple"), ('🍏', "green-apple")]),
    thing("orange", "oranges", Food, &[('🍊', "tangerine")]),
    thing("banana", "bananas", Food, &[('🍌', "banana")]),
    thing("strawberry", "strawberries", Food, &[('🍓', "strawberry")]),
    thing("pizza", "pizzas", Food, &[('🍕', "pizza")]),
    thing("ice cream", "ice creams", Food, &[('🍦', "soft-ice-cream")]),
    painted("car", "cars", Vehicle, &[('🚗', "automobile"), ('🚙', "sport-utility-vehicle")]),
    painted("bus", "buses", Vehicle, &[('🚌', "bus")]),
    thing("bicycle", "bicycles", Vehicle, &[('🚲', "bicycle")]),
    thing("plane", "planes", Vehicle, &[('✈', "airplane")]),
    thing("rocket", "rockets", Vehicle, &[('🚀', "rocket")]),
    thing("boat", "boats", Vehicle, &[('⛵', "sailboat"), ('🚤', "speedboat")]),
    thing("house", "houses", Object, &[('🏠', "house"), ('🏡', "house-with-garden")]),
    painted("book", "books", Object, &[('📕', "closed-book"), ('📗', "green-book"), ('📘', "blue-book")]),
    painted("key", "keys", Object, &[('🔑', "key")]),
    painted("umbrella", "umbrellas", Object, &[('☂', "umbrella"), ('☔', "umbrella-with-rain-drops")]),
    painted("balloon", "balloons", Object, &[('🎈', "balloon")]),
    thing("ball", "balls", Object, &[('⚽', "soccer-ball"), ('🏀', "basketball")]),
    painted("guitar", "guitars", Object, &[('🎸', "guitar")]),
    thing("clock", "clocks", Object, &[('⏰', "alarm-clock")]),
    painted("chair", "chairs", Object, &[('🪑', "chair")]),
    painted("cup", "cups", Object, &[('☕', "hot-beverage")]),
    thing("snowman", "snowmen", Object, &[('⛄', "snowman-without-snow"), ('☃', "snowman")]),
    painted("shirt", "shirts", Clothes, &[('👕', "t-shirt")]),
    painted("shoe", "shoes", Clothes, &[('👟', "running-shoe")]),
    painted("hat", "hats", Clothes, &[('🎩', "top-hat"), ('👒', "womans-hat")]),
    painted("circle", "circles", Shape, &[]),
    painted("square", "squares", Shape, &[]),
    painted("triangle", "triangles", Shape, &[]),
    painted("star", "stars", Shape, &[]),
    painted("heart", "hearts", Shape, &[]),
    painted("cross", "crosses", Shape, &[]),
];

/// The word with "a" or "an" before it.
pub(crate) fn with_article(words: &str) -> String {
    let vowel = words.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {words}", if vowel { "an" } else { "a" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn words_and_glyphs_are_used_once() {
        let nouns: HashSet<_> = THINGS.iter().map(|t| t.noun).collect();
        let glyphs: HashSet<_> = THINGS.iter().flat_map(|t| t.glyphs).map(|g| g.0).collect();
        assert_eq!(nouns.len(), THINGS.len());
        assert_eq!(glyphs.len(), THINGS.iter().map(|t| t.glyphs.len()).sum::<usize>());
    }
}
