//! What icon sets call our things; their names differ from those of emoji, and from set to set.

/// The things that icon sets draw, each with the names it goes by. Names that mean something else in one of the
/// sets (`apple` is a trademark in two of them) are left out.
#[rustfmt::skip]
pub(crate) const ICONS: &[(&str, &[&str])] = &[
    ("dog", &["dog", "dog-face", "dog-side"]),
    ("cat", &["cat", "cat-face", "cat-1"]),
    ("pig", &["pig", "pig-face", "pig-variant"]),
    ("frog", &["frog", "frog-face"]),
    ("penguin", &["penguin", "penguin-1", "penguin-2"]),
    ("bird", &["bird", "bird-1", "bird-2"]),
    ("butterfly", &["butterfly"]),
    ("turtle", &["turtle"]),
    ("snake", &["snake", "snake-zodiac"]),
    ("fish", &["fish", "tropical-fish", "fish-one", "fish-simple"]),
    ("elephant", &["elephant"]),
    ("cactus", &["cactus"]),
    ("tree", &["tree", "tree-one", "pine-tree", "tree-evergreen", "tree-2", "tree-3"]),
    ("flower", &["flower-tulip", "rose", "tulip"]),
    ("mushroom", &["mushroom"]),
    ("apple", &["food-apple", "apple-whole", "apple-one", "red-apple"]),
    ("orange", &["tangerine", "orange"]),
    ("banana", &["banana"]),
    ("strawberry", &["strawberry"]),
    ("pizza", &["pizza", "pizza-slice"]),
    ("ice cream", &["ice-cream", "icecream", "icecream-four", "ice-cream-2", "ice-cream-3"]),
    ("car", &["car", "car-side", "car-profile", "automobile"]),
    ("bus", &["bus", "bus-side", "bus-one", "bus-two"]),
    ("bicycle", &["bicycle", "bicycle-bike"]),
    ("plane", &["airplane", "plane", "airplane-tilt"]),
    ("rocket", &["rocket", "rocket-launch", "rocket-one"]),
    ("boat", &["sailboat", "sail-boat", "boat", "sailboat-one", "sail-ship", "speedboat"]),
    ("house", &["house", "home", "home-two", "home-3", "home-4", "house-simple"]),
    ("book", &["book", "book-one"]),
    ("key", &["key", "key-one"]),
    ("umbrella", &["umbrella", "umbrella-one", "open-umbrella", "umbrella-with-rain-drops"]),
    ("balloon", &["balloon"]),
    ("ball", &["soccer", "soccer-ball", "basketball", "ball", "volleyball"]),
    ("guitar", &["guitar", "guitar-electric", "guitar-acoustic"]),
    ("clock", &["alarm-clock", "clock"]),
    ("chair", &["chair", "chair-one"]),
    ("cup", &["coffee", "mug-hot", "mug-saucer", "tea-cup", "coffee-mug"]),
    ("snowman", &["snowman"]),
    ("shirt", &["t-shirt", "tshirt-crew", "tshirt-v", "shirt"]),
    ("shoe", &["sneaker", "shoe-sneaker", "running-shoe"]),
    ("hat", &["tall-hat", "hat-fedora", "hat-cowboy", "cowboy-hat", "magic-hat", "womans-hat"]),
    ("star", &["star", "star-1"]),
    ("heart", &["heart"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::things::THINGS;

    #[test]
    fn every_icon_shows_a_thing() {
        for (noun, _) in ICONS {
            assert!(THINGS.iter().any(|thing| thing.noun == *noun), "{noun}");
        }
    }
}
