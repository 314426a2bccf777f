//! A scene: which things stand where, in which colours, on what. Words and pixels both come from it.

use super::colour::{Colour, Rgb, distance};
use super::drawings::Drawing;
use super::random::{Random, mix};
use super::things::{Category, THINGS, ThingId};

/// Objects are never drawn smaller than this many pixels; below it nobody can name them.
const MIN_SIDE: f32 = 36.0;

/// A composed picture before it is painted.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    /// Frame width in pixels.
    pub(crate) width: u32,
    /// Frame height in pixels.
    pub(crate) height: u32,
    /// What is behind the objects.
    pub(crate) ground: Ground,
    /// In drawing order.
    pub(crate) objects: Vec<Object>,
    /// The size word of a lone object.
    pub(crate) size: Size,
}

/// One placed drawing.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) thing: ThingId,
    /// Index into the drawings.
    pub(crate) drawing: usize,
    /// The colour to repaint it with.
    pub(crate) repaint: Option<Colour>,
    /// The colour that words give it.
    pub(crate) colour: Option<Colour>,
    /// Centre, in pixels.
    pub(crate) x: f32,
    pub(crate) y: f32,
    /// Side of its square, in pixels.
    pub(crate) side: f32,
    /// Radians.
    pub(crate) angle: f32,
    pub(crate) flip: bool,
}

/// How much of the frame a lone object fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Small,
    Medium,
    Large,
}

/// What is behind the objects.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Ground {
    Plain(Colour),
    Striped(Colour, Colour),
    Checked(Colour, Colour),
    Noise,
    Place(Place),
    /// A photograph: its word (`None`: no word fits) and its index.
    Photo(Option<usize>, usize),
}

/// A drawn place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Grass,
    Sky,
    Sea,
    Sand,
    Night,
    Snow,
}

impl Place {
    pub(crate) const ALL: [Place; 6] =
        [Place::Grass, Place::Sky, Place::Sea, Place::Sand, Place::Night, Place::Snow];

    /// Its main display value.
    pub(crate) fn rgb(self) -> Rgb {
        match self {
            Place::Grass => [0.35, 0.66, 0.26],
            Place::Sky => [0.55, 0.79, 0.97],
            Place::Sea => [0.10, 0.38, 0.66],
            Place::Sand => [0.90, 0.80, 0.55],
            Place::Night => [0.05, 0.07, 0.20],
            Place::Snow => [0.95, 0.97, 1.0],
        }
    }
}

impl Ground {
    /// Whether an object of this mean colour, called `word`, would be hard to see.
    fn hides(self, mean: Rgb, word: Option<Colour>) -> bool {
        let near = |ground: Rgb| distance(mean, ground) < 0.28;
        match self {
            Ground::Plain(c) => word == Some(c) || near(c.rgb()),
            Ground::Striped(a, b) | Ground::Checked(a, b) => {
                [a, b].iter().any(|c| word == Some(*c) || near(c.rgb()))
            }
            Ground::Place(place) => near(place.rgb()),
            Ground::Noise | Ground::Photo(..) => false,
        }
    }
}

/// What one group of equal objects looks like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) thing: ThingId,
    pub(crate) drawing: usize,
    pub(crate) repaint: Option<Colour>,
    pub(crate) colour: Option<Colour>,
}

/// Whether training never shows this thing in this colour.
pub(crate) fn colour_is_held_out(thing: ThingId, colour: Colour) -> bool {
    mix(mix(thing as u64) ^ (0xc010 + colour as u64)).is_multiple_of(10)
}

/// Whether training never shows these two things together.
pub(crate) fn pair_is_held_out(a: ThingId, b: ThingId) -> bool {
    a != b && mix(mix(a.min(b) as u64) ^ (0x9a12_0000 + a.max(b) as u64)).is_multiple_of(10)
}

impl Scene {
    /// Whether it holds a combination that training never shows.
    pub(crate) fn is_held_out(&self) -> bool {
        let colour = |o: &Object| o.colour.is_some_and(|c| colour_is_held_out(o.thing, c));
        let pair = |a: &Object| self.objects.iter().any(|b| pair_is_held_out(a.thing, b.thing));
        self.objects.iter().any(|o| colour(o) || pair(o))
    }

    /// Places `counts[i]` objects that look like `looks[i]`, apart from each other.
    ///
    /// Groups stand in the order of their mean x, clearly apart, so that a caption has one order.
    pub(crate) fn arrange(
        random: &mut Random,
        (width, height): (u32, u32),
        ground: Ground,
        looks: &[Look],
        counts: &[usize],
    ) -> Scene {
        let total: usize = counts.iter().sum();
        let short = width.min(height) as f32;
        let size = [Size::Small, Size::Medium, Size::Large][random.weighted(&[1.0, 1.4, 1.0])];
        let contrast = total == 2 && random.chance(0.3);
        let mut objects = Vec::with_capacity(total);
        for (look, count) in looks.iter().zip(counts) {
            let flip = random.chance(0.5);
            for _ in 0..*count {
                let (low, high) = match (total, size) {
                    (1, Size::Small) => (0.33, 0.39),
                    (1, Size::Medium) => (0.52, 0.60),
                    (1, Size::Large) => (0.80, 0.94),
                    (2, _) if contrast && objects.is_empty() => (0.33, 0.37),
                    (2, _) if contrast => (0.56, 0.63),
                    (2, _) => (0.40, 0.52),
                    (3, _) => (0.36, 0.44),
                    _ => (0.33, 0.37),
                };
                objects.push(Object {
                    thing: look.thing,
                    drawing: look.drawing,
                    repaint: look.repaint,
                    colour: look.colour,
                    x: 0.0,
                    y: 0.0,
                    side: (random.range(low, high) * short).max(MIN_SIDE).min(short),
                    angle: random.range(-0.26, 0.26) * random.unit(),
                    flip,
                });
            }
        }
        let mut scene = Scene { width, height, ground, objects, size };
        for _ in 0..40 {
            if scene.scatter(random) && scene.groups_have_an_order(counts) {
                return scene;
            }
        }
        scene.line_up(random);
        scene
    }

    /// One thing that fills the frame: the easiest picture to name.
    pub(crate) fn portrait(
        random: &mut Random,
        (width, height): (u32, u32),
        ground: Ground,
        look: Look,
    ) -> Scene {
        let short = width.min(height) as f32;
        let side = random.range(0.84, 0.98) * short;
        let slack = |random: &mut Random, length: u32| {
            let room = length as f32 - side;
            side / 2.0 + room * random.range(0.3, 0.7)
        };
        let (x, y) = (slack(random, width), slack(random, height));
        let Look { thing, drawing, repaint, colour } = look;
        let angle = random.range(-0.1, 0.1);
        let flip = random.chance(0.5);
        let object = Object { thing, drawing, repaint, colour, x, y, side, angle, flip };
        Scene { width, height, ground, objects: vec![object], size: Size::Large }
    }

    /// Tries random places; false if objects collide.
    fn scatter(&mut self, random: &mut Random) -> bool {
        let (width, height) = (self.width as f32, self.height as f32);
        // Half of the lone objects stand clearly at a side or in the middle, so that "where" has an answer.
        let corner = if self.objects.len() == 1 && random.chance(0.7) { Some(random.below(5)) } else { None };
        for index in 0..self.objects.len() {
            let half = self.objects[index].side / 2.0;
            let mut placed = false;
            for _ in 0..30 {
                let (mut u, mut v) = (random.unit(), random.unit());
                let centred = 0.5 + (u - 0.5) * 0.2;
                match corner {
                    Some(0) => (u, v) = (u * 0.1, centred),
                    Some(1) => (u, v) = (1.0 - u * 0.1, centred),
                    Some(2) => (u, v) = (centred, v * 0.1),
                    Some(3) => (u, v) = (centred, 1.0 - v * 0.1),
                    Some(_) => (u, v) = (centred, 0.5 + (v - 0.5) * 0.2),
                    None => {}
                }
                let (x, y) = (half + u * (width - 2.0 * half), half + v * (height - 2.0 * half));
                let apart = self.objects[..index]
                    .iter()
                    .all(|o| (o.x - x).abs().max((o.y - y).abs()) > 0.88 * (o.side / 2.0 + half));
                if apart {
                    (self.objects[index].x, self.objects[index].y) = (x, y);
                    placed = true;
                    break;
                }
            }
            if !placed {
                return false;
            }
        }
        true
    }

    fn groups_have_an_order(&self, counts: &[usize]) -> bool {
        let mut start = 0;
        let mut means = Vec::with_capacity(counts.len());
        for count in counts {
            let group = &self.objects[start..start + count];
            means.push(group.iter().map(|o| o.x).sum::<f32>() / *count as f32);
            start += count;
        }
        means.sort_by(f32::total_cmp);
        means.windows(2).all(|pair| pair[1] - pair[0] > 0.12 * self.width as f32)
    }

    /// Two rows from left to right; always possible.
    fn line_up(&mut self, random: &mut Random) {
        let columns = self.objects.len().div_ceil(2).max(2);
        let (cell_width, cell_height) = (self.width as f32 / columns as f32, self.height as f32 / 2.0);
        for (index, object) in self.objects.iter_mut().enumerate() {
            object.side = object.side.min(cell_height).min(cell_width * 1.1).max(MIN_SIDE);
            let (half, low) = (object.side / 2.0, index % 2 == 1);
            let x =
                (index / 2) as f32 * cell_width + cell_width / 2.0 + if low { cell_width * 0.2 } else { 0.0 };
            let slack = (cell_height - object.side).max(0.0);
            let y = half + random.unit() * slack + if low { cell_height } else { 0.0 };
            object.x = x.clamp(
                half.min(self.width as f32 / 2.0),
                (self.width as f32 - half).max(self.width as f32 / 2.0),
            );
            object.y = y.min(self.height as f32 - half);
        }
    }
}

/// A background for objects that look like `looks`: one that hides none of them.
pub(crate) fn ground_for(
    random: &mut Random,
    looks: &[Look],
    drawings: &[Drawing],
    photo: Option<Ground>,
) -> Ground {
    let mean = |look: &Look| look.repaint.map_or(drawings[look.drawing].mean, Colour::rgb);
    for _ in 0..30 {
        let two = |random: &mut Random| {
            let first = random.pick(&Colour::PAINTS);
            let others: Vec<Colour> =
                Colour::PAINTS.into_iter().filter(|c| distance(c.rgb(), first.rgb()) > 0.4).collect();
            (first, random.pick(&others))
        };
        let ground = match random.weighted(&[5.0, 0.5, 0.4, 4.0, 0.8]) {
            0 => Ground::Plain(random.pick(&Colour::GROUNDS)),
            1 => {
                let (a, b) = two(random);
                Ground::Striped(a, b)
            }
            2 => {
                let (a, b) = two(random);
                Ground::Checked(a, b)
            }
            3 => Ground::Place(random.pick(&Place::ALL)),
            _ => match photo {
                Some(photo) => photo,
                None => Ground::Plain(random.pick(&Colour::GROUNDS)),
            },
        };
        if !looks.iter().any(|look| ground.hides(mean(look), look.colour)) {
            return ground;
        }
    }
    // Nothing that we paint is this light brown-grey.
    Ground::Plain(Colour::Grey)
}

/// Things that are easily taken for `thing`, or at least of its kind.
pub(crate) fn rivals(thing: ThingId) -> Vec<ThingId> {
    let category: Category = THINGS[thing].category;
    (0..THINGS.len()).filter(|t| *t != thing && THINGS[*t].category == category).collect()
}
