//! The generator: from a split and an index to a sample, always the same one.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::cells::cells;
use super::colour::Colour;
use super::compose::paint;
use super::drawings::{self, Drawing, Ink};
use super::grammar::{self, Talk};
use super::packages::STYLES;
use super::photos::{PHOTO_WORDS, Photos};
use super::random::Random;
use super::sample::{Sample, Skill, Split, Turn};
use super::scene::{
    Ground, Look, Object, Place, Scene, Size, colour_is_held_out, ground_for, pair_is_held_out,
};
use super::small_talk;
use super::things::{Category, THINGS, ThingId};

/// Where data comes from and how it is mixed.
#[derive(Debug, Clone)]
pub struct DataOptions {
    /// Folder for the drawing packages and their rasters; filled on first use, which needs `npm` and a network.
    pub pictures: PathBuf,
    /// Folder with `train-0.zip`, `train-1.zip` and `val.zip`; without it there are no photographs.
    pub photos: Option<PathBuf>,
    /// Everything is a function of this and the sample's index.
    pub seed: u64,
    /// Share of training samples that are photographs, if there are any.
    pub photo_share: f32,
    /// Share of training samples without a picture.
    pub text_share: f32,
    /// Share of training samples with two pictures.
    pub two_picture_share: f32,
    /// Share of training samples that show one thing and ask what it is: the shortest way to see shapes.
    pub naming_share: f32,
    /// Share of those in which the thing fills the frame.
    pub portrait_share: f32,
    /// Share of training pictures that are wider or higher than square; their area is never larger.
    pub oblong_share: f32,
}

impl Default for DataOptions {
    fn default() -> Self {
        Self {
            pictures: "runs/pictures".into(),
            photos: None,
            seed: 1,
            photo_share: 0.28,
            text_share: 0.15,
            two_picture_share: 0.03,
            naming_share: 0.2,
            portrait_share: 0.5,
            oblong_share: 0.4,
        }
    }
}

/// Makes samples; share it between threads.
#[derive(Debug)]
pub struct Generator {
    options: DataOptions,
    drawings: Vec<Drawing>,
    /// By thing: indices of drawings in training styles.
    training: Vec<Vec<usize>>,
    /// By thing: indices of drawings in evaluation-only styles; may be empty.
    unseen: Vec<Vec<usize>>,
    train_photos: Photos,
    val_photos: Photos,
}

/// A sample before its pictures are painted.
struct Draft {
    scenes: Vec<Scene>,
    system: Option<String>,
    turns: Vec<Turn>,
    random: Random,
}

/// How often each skill is asked about a scene.
const SKILLS: [(Skill, f32); 10] = [
    (Skill::Things, 0.08),
    (Skill::Count, 0.20),
    (Skill::Colour, 0.20),
    (Skill::Exists, 0.20),
    (Skill::Relation, 0.40),
    (Skill::Position, 0.12),
    (Skill::Background, 0.08),
    (Skill::Size, 0.08),
    (Skill::Medium, 0.02),
    (Skill::Unanswerable, 0.04),
];

impl Generator {
    /// Loads the drawings (fetching them the first time) and the photographs.
    ///
    /// # Errors
    /// If drawings or photographs cannot be had.
    pub fn open(options: &DataOptions) -> Result<Self> {
        let drawings = drawings::open(&options.pictures)?;
        let open = |folder: &Path, names: &[&str]| Photos::open(folder, names);
        let (train_photos, val_photos) = match &options.photos {
            Some(folder) => (open(folder, &["train-0.zip", "train-1.zip"])?, open(folder, &["val.zip"])?),
            None => (Photos::default(), Photos::default()),
        };
        Self::with(options, drawings, train_photos, val_photos)
    }

    fn with(
        options: &DataOptions,
        drawings: Vec<Drawing>,
        train_photos: Photos,
        val_photos: Photos,
    ) -> Result<Self> {
        let mut training = vec![Vec::new(); THINGS.len()];
        let mut unseen = vec![Vec::new(); THINGS.len()];
        for (index, drawing) in drawings.iter().enumerate() {
            match drawing.style {
                Some(style) if STYLES[style].evaluation_only => unseen[drawing.thing].push(index),
                _ => training[drawing.thing].push(index),
            }
        }
        ensure!(
            training.iter().all(|list| !list.is_empty()),
            "some things have no drawing; delete the pictures folder and try again"
        );
        Ok(Self { options: options.clone(), drawings, training, unseen, train_photos, val_photos })
    }

    /// The sample of this split, size and index; pictures are at most `pixels` × `pixels` in area.
    ///
    /// Evaluation samples have one turn, so that no answer can be read off an earlier one.
    /// Without photographs, [`Split::Photos`] gives what [`Split::SeenCombinationNewLayout`] gives.
    ///
    /// # Panics
    /// If `pixels` is not a positive multiple of 28.
    pub fn sample(&self, split: Split, pixels: u32, index: u64) -> Sample {
        assert!(
            pixels > 0 && pixels.is_multiple_of(28),
            "a picture's side is a positive multiple of 28, not {pixels}"
        );
        let Draft { scenes, system, turns, mut random } = self.draft(split, pixels, index);
        let photos = if split == Split::Photos { &self.val_photos } else { &self.train_photos };
        let mut sample = Sample { system, turns, ..Sample::default() };
        for scene in &scenes {
            let painting = paint(&mut random, scene, &self.drawings, photos);
            sample.cells.push(cells(scene, &painting));
            sample.pictures.push(painting.picture);
        }
        sample
    }

    /// A scene of one thing, in [`DataOptions::portrait_share`] of cases as large as the frame.
    fn lone(&self, random: &mut Random, frame: (u32, u32)) -> Scene {
        let scene = self.scene(random, Split::Train, frame, Some(1));
        if !random.chance(self.options.portrait_share) {
            return scene;
        }
        let Object { thing, drawing, repaint, colour, .. } = scene.objects[0];
        Scene::portrait(random, frame, scene.ground, Look { thing, drawing, repaint, colour })
    }

    /// What the model will read and say, for training a vocabulary.
    pub fn corpus_text(&self) -> impl Iterator<Item = String> {
        let drafts = (0..20_000).map(|index| self.draft(Split::Train, 112, u64::MAX / 2 + index));
        let turns = drafts.flat_map(|draft| {
            draft.system.into_iter().chain(draft.turns.into_iter().flat_map(|t| [t.question, t.answer]))
        });
        turns.chain(small_talk::all_text())
    }

    fn draft(&self, split: Split, pixels: u32, index: u64) -> Draft {
        let mut random = Random::new(&[self.options.seed, split as u64, index]);
        let frame = self.frame(&mut random, pixels);
        let (scenes, mut turns) = match split {
            Split::Train => self.training_draft(&mut random, frame),
            Split::Photos if !self.val_photos.is_empty() => {
                self.photo(&mut random, frame, &self.val_photos, true)
            }
            Split::SeenCombinationNewLayout if random.chance(0.06) => self.blank(&mut random, frame),
            Split::SeenCombinationNewLayout if random.chance(0.06) => {
                (Vec::new(), vec![small_talk::turn(&mut random)])
            }
            Split::SeenCombinationNewLayout if random.chance(0.04) => self.pair(&mut random, split, frame),
            _ => {
                let scene = self.scene(&mut random, split, frame, None);
                let turns = self.scene_turns(&mut random, &scene, 1);
                (vec![scene], turns)
            }
        };
        if split != Split::Train {
            turns.truncate(1);
        }
        let system = random.chance(0.03).then(|| {
            random
                .pick(&[
                    "You are Ocelli, a small model that looks at pictures.",
                    "Answer in few words.",
                    "You describe pictures.",
                ])
                .to_string()
        });
        Draft { scenes, system: system.filter(|_| split == Split::Train), turns, random }
    }

    fn training_draft(&self, random: &mut Random, frame: (u32, u32)) -> (Vec<Scene>, Vec<Turn>) {
        let options = &self.options;
        let photo_share = if self.train_photos.is_empty() { 0.0 } else { options.photo_share };
        let draw = random.unit();
        if draw < options.text_share {
            let count = 1 + random.below(3);
            return (Vec::new(), (0..count).map(|_| small_talk::turn(random)).collect());
        }
        if draw < options.text_share + photo_share {
            return self.photo(random, frame, &self.train_photos, false);
        }
        if draw < options.text_share + photo_share + options.two_picture_share {
            return self.pair(random, Split::Train, frame);
        }
        if draw < options.text_share + photo_share + options.two_picture_share + options.naming_share {
            let scene = self.lone(random, frame);
            let talk = Talk::new(&scene, &self.drawings);
            let skill = if random.chance(0.6) { Skill::Things } else { Skill::Caption };
            let turn = talk.turn(random, skill).expect("every scene allows these");
            return (vec![scene], vec![turn]);
        }
        if random.chance(0.04) {
            return self.blank(random, frame);
        }
        let scene = self.scene(random, Split::Train, frame, None);
        let turns = self.scene_turns(random, &scene, 3);
        (vec![scene], turns)
    }

    /// Width and height; oblong frames keep within the area of the square.
    fn frame(&self, random: &mut Random, pixels: u32) -> (u32, u32) {
        let units = pixels / 28;
        if units < 3 || !random.chance(self.options.oblong_share) {
            return (pixels, pixels);
        }
        let short = units - 1;
        let long = units * units / short;
        if random.chance(0.5) { (long * 28, short * 28) } else { (short * 28, long * 28) }
    }

    fn scene_turns(&self, random: &mut Random, scene: &Scene, count: usize) -> Vec<Turn> {
        let talk = Talk::new(scene, &self.drawings);
        let mut turns: Vec<Turn> = Vec::new();
        // Where a caption comes first, what it says is not asked again: that would train reading, not seeing.
        let caption = random.chance(if count == 1 { 0.4 } else { 0.75 });
        let caption_first = caption && random.chance(0.6);
        let told = [Skill::Things, Skill::Count, Skill::Colour, Skill::Background];
        let questions = match caption {
            // Little is left to ask about a lone object.
            true if caption_first && scene.objects.len() == 1 => (count - 1).min(1),
            true => count - 1,
            false => count,
        };
        while turns.len() < questions {
            let skill = SKILLS[random.weighted(&SKILLS.map(|(_, weight)| weight))].0;
            if turns.iter().any(|t| t.skill == skill) || (caption_first && told.contains(&skill)) {
                continue;
            }
            turns.extend(talk.turn(random, skill));
        }
        if caption {
            let place = if caption_first { 0 } else { turns.len() };
            turns.insert(place, talk.caption_turn(random));
        }
        turns
    }

    /// A scene that this split may show.
    fn scene(&self, random: &mut Random, split: Split, frame: (u32, u32), objects: Option<usize>) -> Scene {
        loop {
            let total = objects.unwrap_or_else(|| 1 + random.weighted(&[0.36, 0.37, 0.15, 0.07, 0.05]));
            // How many of each look: alone, mixed, or several of one kind.
            let counts: Vec<usize> = match total {
                1 => vec![1],
                2 => random.pick(&[[1, 1], [1, 1], [1, 1], [2, 0]]).into_iter().filter(|c| *c > 0).collect(),
                3 => match random.below(4) {
                    0 => vec![1, 1, 1],
                    1 => vec![2, 1],
                    _ => vec![3],
                },
                4 if random.chance(0.3) => vec![3, 1],
                many => vec![many],
            };
            let Some(looks) = self.looks(random, split, counts.len()) else { continue };
            let photo = (!self.train_photos.is_empty()).then(|| {
                let word = random.below(PHOTO_WORDS.len());
                Ground::Photo(Some(word), random.below(self.train_photos.count(Some(word))))
            });
            let ground = ground_for(random, &looks, &self.drawings, photo);
            let scene = Scene::arrange(random, frame, ground, &looks, &counts);
            if scene.is_held_out() == (split == Split::HeldOutCombination) {
                return scene;
            }
        }
    }

    /// `count` different looks, or `None` if this draw has none.
    fn looks(&self, random: &mut Random, split: Split, count: usize) -> Option<Vec<Look>> {
        let drawn = if split == Split::UnseenStyle { &self.unseen } else { &self.training };
        let mut looks: Vec<Look> = Vec::with_capacity(count);
        for at in 0..count {
            // Sometimes the same thing in another colour: which colour is whose must be seen.
            let twin = at == 1 && THINGS[looks[0].thing].painted && random.chance(0.2);
            let thing = if twin { looks[0].thing } else { random.below(THINGS.len()) };
            if drawn[thing].is_empty() {
                return None;
            }
            let mut drawing = random.pick(&drawn[thing]);
            // Three packages are one hand; two of them are drawn again half of the time.
            if self.drawings[drawing].style.is_some_and(|style| style < 2) && random.chance(0.5) {
                drawing = random.pick(&drawn[thing]);
            }
            let look = self.look(random, thing, drawing);
            let clash = looks.iter().any(|l| {
                let same_thing = l.thing == thing && (!twin || l.colour == look.colour);
                same_thing || (split != Split::HeldOutCombination && pair_is_held_out(l.thing, thing))
            });
            let held_out = look.colour.is_some_and(|c| colour_is_held_out(thing, c));
            if clash || (held_out && split != Split::HeldOutCombination) {
                return None;
            }
            looks.push(look);
        }
        Some(looks)
    }

    fn look(&self, random: &mut Random, thing: ThingId, drawing: usize) -> Look {
        let tinted = self.drawings[drawing].style.is_some_and(|style| STYLES[style].tinted);
        if !THINGS[thing].painted && !tinted {
            return Look { thing, drawing, repaint: None, colour: None };
        }
        let own = THINGS[thing].category != Category::Shape && !tinted;
        match self.drawings[drawing].ink {
            Ink::Plain(colour) if own && random.chance(0.35) => {
                Look { thing, drawing, repaint: None, colour: Some(colour) }
            }
            Ink::Mixed if own && random.chance(0.35) => Look { thing, drawing, repaint: None, colour: None },
            _ => {
                let colour = random.pick(&Colour::PAINTS);
                Look { thing, drawing, repaint: Some(colour), colour: Some(colour) }
            }
        }
    }

    /// A frame without objects.
    fn blank(&self, random: &mut Random, frame: (u32, u32)) -> (Vec<Scene>, Vec<Turn>) {
        let ground = match random.below(8) {
            0..=2 => Ground::Plain(random.pick(&Colour::GROUNDS)),
            3 => Ground::Striped(Colour::White, random.pick(&Colour::PAINTS[..7])),
            4 => Ground::Checked(Colour::Black, random.pick(&Colour::PAINTS[..7])),
            5 => Ground::Noise,
            _ => Ground::Place(random.pick(&Place::ALL)),
        };
        let scene =
            Scene { width: frame.0, height: frame.1, ground, objects: Vec::new(), size: Size::Medium };
        let talk = Talk::new(&scene, &self.drawings);
        let mut turns =
            vec![Turn::new(Skill::Blank, grammar::caption_prompt(random), grammar::blank_caption(ground))];
        let skill = random.pick(&[Skill::Exists, Skill::Count, Skill::Background, Skill::Unanswerable]);
        turns.extend(talk.turn(random, skill));
        (vec![scene], turns)
    }

    /// A whole photograph.
    fn photo(
        &self,
        random: &mut Random,
        frame: (u32, u32),
        photos: &Photos,
        natural_rates: bool,
    ) -> (Vec<Scene>, Vec<Turn>) {
        // Training sees rare words more often than there are photographs of them.
        let weights: Vec<f32> = (0..PHOTO_WORDS.len())
            .map(|word| (photos.count(Some(word)) as f32).powf(if natural_rates { 1.0 } else { 0.6 }))
            .collect();
        let word = (!random.chance(0.12)).then(|| random.weighted(&weights));
        let ground = Ground::Photo(word, random.below(photos.count(word)));
        let scene =
            Scene { width: frame.0, height: frame.1, ground, objects: Vec::new(), size: Size::Medium };
        let mut turns = Vec::new();
        let mut caption = grammar::photo_caption(word);
        caption.question = grammar::caption_prompt(random).to_string();
        turns.push(caption);
        if random.chance(0.3) {
            turns.extend(word.and_then(|word| grammar::photo_exists(random, word)));
        }
        if random.chance(0.1) {
            turns.push(grammar::medium(random, true));
        }
        if random.chance(0.4) {
            turns.reverse();
        }
        if natural_rates {
            turns.retain(|t| matches!(t.skill, Skill::Photo | Skill::PhotoUnsure));
        }
        (vec![scene], turns)
    }

    /// Two scenes of one or two objects.
    fn pair(&self, random: &mut Random, split: Split, frame: (u32, u32)) -> (Vec<Scene>, Vec<Turn>) {
        let scenes = [(); 2].map(|()| {
            let objects = 1 + random.below(2);
            self.scene(random, split, frame, Some(objects))
        });
        let talks = [Talk::new(&scenes[0], &self.drawings), Talk::new(&scenes[1], &self.drawings)];
        let mut turns = vec![grammar::compare(random, &talks[0], &talks[1])];
        let second = grammar::compare(random, &talks[0], &talks[1]);
        if second.question != turns[0].question {
            turns.push(second);
        }
        (scenes.into(), turns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every thing as one mixed drawing in a training style and one in an evaluation-only style: no network.
    fn generator() -> Generator {
        let options = DataOptions::default();
        let styles = [Some(5), Some(9)];
        let drawings =
            (0..THINGS.len()).flat_map(|thing| styles.map(|style| Drawing::blot(thing, style))).collect();
        Generator::with(&options, drawings, Photos::default(), Photos::default()).unwrap()
    }

    #[test]
    fn a_sample_depends_on_its_index_only() {
        let (first, second) = (generator(), generator());
        for index in [0, 7, 8, 9] {
            let (a, b) = (first.sample(Split::Train, 112, index), second.sample(Split::Train, 112, index));
            assert_eq!((a.turns, a.pictures), (b.turns, b.pictures));
        }
    }

    #[test]
    fn training_and_evaluation_share_no_held_out_combination() {
        let generator = generator();
        for index in 0..2000 {
            for scene in generator.draft(Split::Train, 112, index).scenes {
                assert!(!scene.is_held_out());
            }
            for scene in generator.draft(Split::HeldOutCombination, 112, index).scenes {
                assert!(scene.is_held_out());
            }
        }
    }

    #[test]
    fn only_one_split_shows_unseen_styles() {
        let generator = generator();
        for split in
            [Split::Train, Split::SeenCombinationNewLayout, Split::HeldOutCombination, Split::UnseenStyle]
        {
            for index in 0..300 {
                for object in generator.draft(split, 112, index).scenes.iter().flat_map(|s| &s.objects) {
                    assert_eq!(
                        generator.drawings[object.drawing].style == Some(9),
                        split == Split::UnseenStyle
                    );
                }
            }
        }
    }

    #[test]
    fn drawings_without_colours_are_always_painted() {
        let mut generator = generator();
        let tinted = STYLES.iter().position(|style| style.tinted);
        generator.drawings.iter_mut().for_each(|drawing| drawing.style = tinted);
        let mut random = Random::new(&[1]);
        for (index, drawing) in generator.drawings.iter().enumerate() {
            let look = generator.look(&mut random, drawing.thing, index);
            assert!(look.repaint.is_some() && look.colour == look.repaint, "{look:?}");
        }
    }

    #[test]
    fn objects_are_large_enough_and_inside() {
        let generator = generator();
        for index in 0..1000 {
            for scene in generator.draft(Split::Train, 112, index).scenes {
                assert!(scene.width * scene.height <= 112 * 112);
                for o in &scene.objects {
                    assert!(o.side >= 35.9, "{o:?}");
                    let inside = |at: f32, limit: u32| {
                        at >= o.side / 2.0 - 0.1 && at <= limit as f32 - o.side / 2.0 + 0.1
                    };
                    assert!(inside(o.x, scene.width) && inside(o.y, scene.height), "{o:?}");
                }
            }
        }
    }

    #[test]
    fn yes_and_no_are_balanced() {
        let generator = generator();
        let turns: Vec<Turn> =
            (0..30_000).flat_map(|i| generator.draft(Split::Train, 112, i).turns).collect();
        for skill in [Skill::Exists, Skill::Relation] {
            let count =
                |answer: &str| turns.iter().filter(|t| t.skill == skill && t.answer == answer).count() as f32;
            let share = count("Yes.") / (count("Yes.") + count("No."));
            assert!((0.47..0.53).contains(&share), "{skill:?}: {share}");
        }
    }

    #[test]
    fn answers_are_short_sentences() {
        let generator = generator();
        for index in 0..3000 {
            for turn in generator.draft(Split::Train, 112, index).turns {
                assert!(turn.answer.starts_with(|c: char| c.is_uppercase()), "{}", turn.answer);
                assert!(turn.answer.ends_with(['.', '!']), "{}", turn.answer);
                assert!(turn.answer.split(' ').count() <= 20, "{}", turn.answer);
            }
        }
    }

    #[test]
    fn evaluation_asks_one_question() {
        let generator = generator();
        for split in Split::EVALUATION {
            assert!((0..200).all(|index| generator.draft(split, 112, index).turns.len() == 1));
        }
    }
}
