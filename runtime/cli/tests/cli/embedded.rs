//! The model inside the program, end to end: picture files in, recorded words out.

use std::path::Path;

use crate::support::ocelli;

/// What greedy decoding says about the pictures of the repository, right or wrong. A new model brings new words.
const CAPTIONS: [(&str, &str); 8] = [
    ("car-on-grass.png", "A large red car on grass."),
    ("cup.jpg", "A large white cup on a blue background."),
    ("fish-in-the-sea.png", "A large orange fish on the sea."),
    ("star-and-heart.png", "A yellow star and a red heart on a black background."),
    ("three-hearts.png", "Three purple hearts on a white background."),
    ("tree-and-car.png", "A green tree and a blue car on grass."),
    ("two-apples.png", "Two red apples on a white background."),
    ("umbrella.webp", "A large purple umbrella on a yellow background."),
];

#[test]
fn it_captions_the_pictures_of_the_repository_as_recorded() {
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/images");
    let run = ocelli(&pictures, &["caption", "--json", "."]).expect(0);
    let found: Vec<(String, String)> = run
        .json()
        .iter()
        .map(|line| ["path", "caption"].map(|key| line[key].as_str().unwrap_or_default().to_owned()))
        .map(|[path, caption]| (path.trim_start_matches("./").to_owned(), caption))
        .collect();
    assert_eq!(found, CAPTIONS.map(|(path, caption)| (path.to_owned(), caption.to_owned())));
}

#[test]
fn it_looks_at_two_pictures() {
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/images");
    let ask = |args: &[&str]| ocelli(&pictures, &[&["ask"], args].concat()).expect(0).stdout;
    assert!(!ask(&["cup.jpg", "three-hearts.png", "What is in picture 2?"]).trim().is_empty());
}
