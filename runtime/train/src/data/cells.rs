//! What each cell of a picture shows: the targets of the eyes' own heads.
//!
//! A cell is what one row of the resampler stands for, a square of [`CELL`] pixels. Words reach the eyes by
//! one token in eight and a long way; cells say for every place what is there.

use super::colour::Colour;
use super::compose::Painting;
use super::photos::PHOTO_WORDS;
use super::scene::{Ground, Object, Place, Scene, Size};
use super::things::THINGS;

/// Side of a cell in pixels: two patches of 14.
pub(crate) const CELL: u32 = 28;
/// An object that covers less of a cell is not what the cell shows.
const LEAST_COVER: f32 = 0.1;

/// What a head tells of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// The thing, the word of a photograph, or nothing.
    Thing,
    /// The colour word of the object.
    Colour,
    /// What is behind the objects.
    Ground,
    /// How many objects are like this one.
    Count,
    /// In which ninth of the frame the object has its centre.
    Place,
    /// The size word of a lone object.
    Size,
    /// Whether an object has its centre here: its cells are many, its centre is one.
    Centre,
}

impl Aspect {
    /// All of them; the order of [`Cell::classes`].
    pub const ALL: [Self; 7] =
        [Self::Thing, Self::Colour, Self::Ground, Self::Count, Self::Place, Self::Size, Self::Centre];

    /// A short name, also of its head.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Thing => "thing",
            Self::Colour => "colour",
            Self::Ground => "ground",
            Self::Count => "count",
            Self::Place => "place",
            Self::Size => "size",
            Self::Centre => "centre",
        }
    }

    /// Number of classes.
    #[must_use]
    pub fn n_classes(self) -> usize {
        match self {
            Self::Thing => NOTHING + 1,
            Self::Colour => Colour::GROUNDS.len(),
            Self::Ground => Colour::GROUNDS.len() + 4 + Place::ALL.len(),
            Self::Count => 5,
            Self::Place => 9,
            Self::Size => 3,
            Self::Centre => 2,
        }
    }

    /// What the aspect of a whole object, or of a whole background, weighs in the loss.
    fn weight(self) -> f32 {
        match self {
            Self::Thing => 1.0,
            Self::Colour | Self::Count | Self::Centre => 0.5,
            Self::Ground | Self::Place | Self::Size => 0.3,
        }
    }
}

/// The class of a photograph that no word fits.
const UNSURE: usize = THINGS.len() + PHOTO_WORDS.len();
/// The class of a cell without object.
const NOTHING: usize = UNSURE + 1;

/// One cell's class of every aspect, and what each weighs: zero where there is nothing to tell.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cell {
    /// In the order of [`Aspect::ALL`].
    pub classes: [u32; Aspect::ALL.len()],
    /// In the order of [`Aspect::ALL`].
    pub weights: [f32; Aspect::ALL.len()],
}

impl Cell {
    /// Says `class` of `aspect`, which is one of `n_cells` cells to say so.
    fn tell(&mut self, aspect: Aspect, class: usize, n_cells: usize) {
        debug_assert!(class < aspect.n_classes(), "{aspect:?} {class}");
        self.classes[aspect as usize] = class as u32;
        self.weights[aspect as usize] = aspect.weight() / n_cells as f32;
    }

    /// Whether an object or a photograph is here.
    #[must_use]
    pub fn shows_something(&self) -> bool {
        let thing = Aspect::Thing as usize;
        self.weights[thing] > 0.0 && self.classes[thing] != NOTHING as u32
    }
}

fn ground_class(ground: Ground) -> usize {
    let n_colours = Colour::GROUNDS.len();
    match ground {
        Ground::Plain(colour) => colour as usize,
        Ground::Striped(..) => n_colours,
        Ground::Checked(..) => n_colours + 1,
        Ground::Noise => n_colours + 2,
        Ground::Photo(..) => n_colours + 3,
        Ground::Place(place) => n_colours + 4 + place as usize,
    }
}

/// The cells of a painted scene, row by row.
pub(crate) fn cells(scene: &Scene, painting: &Painting) -> Vec<Cell> {
    let (columns, rows) = (scene.width / CELL, scene.height / CELL);
    let shown: Vec<Option<usize>> =
        (0..rows * columns).map(|cell| painting.owner_of(cell % columns, cell / columns)).collect();
    let n_shown = |object| shown.iter().filter(|s| **s == object).count();
    let whole_photo = match (scene.ground, scene.objects.is_empty()) {
        (Ground::Photo(word, _), true) => Some(word.map_or(UNSURE, |word| THINGS.len() + word)),
        _ => None,
    };
    let cell_of =
        |o: &Object| (o.y as u32 / CELL).min(rows - 1) * columns + (o.x as u32 / CELL).min(columns - 1);
    let centres: Vec<u32> = scene.objects.iter().map(cell_of).collect();
    shown
        .iter()
        .zip(0..)
        .map(|(&object, at)| {
            let mut cell = Cell::default();
            let n = n_shown(object);
            cell.tell(Aspect::Ground, ground_class(scene.ground), shown.len());
            cell.tell(Aspect::Centre, usize::from(centres.contains(&at)), shown.len());
            match object {
                None => cell.tell(Aspect::Thing, whole_photo.unwrap_or(NOTHING), n),
                Some(index) => tell_object(&mut cell, scene, index, n),
            }
            cell
        })
        .collect()
}

fn tell_object(cell: &mut Cell, scene: &Scene, index: usize, n_cells: usize) {
    let object = &scene.objects[index];
    let alike = |o: &&Object| o.thing == object.thing && o.colour == object.colour;
    let third = |at: f32, length: u32| ((3.0 * at / length as f32) as usize).min(2);
    cell.tell(Aspect::Thing, object.thing, n_cells);
    if let Some(colour) = object.colour {
        cell.tell(Aspect::Colour, colour as usize, n_cells);
    }
    cell.tell(Aspect::Count, scene.objects.iter().filter(alike).count().min(5) - 1, n_cells);
    cell.tell(Aspect::Place, 3 * third(object.y, scene.height) + third(object.x, scene.width), n_cells);
    if scene.objects.len() == 1 {
        let class = match scene.size {
            Size::Small => 0,
            Size::Medium => 1,
            Size::Large => 2,
        };
        cell.tell(Aspect::Size, class, n_cells);
    }
}

impl Painting {
    /// The object that covers most of the cell, if one covers enough of it.
    fn owner_of(&self, column: u32, row: u32) -> Option<usize> {
        let mut pixels = [0u32; 8];
        for y in row * CELL..(row + 1) * CELL {
            for x in column * CELL..(column + 1) * CELL {
                if let Some(owner) = self.owner(x, y) {
                    pixels[owner.min(7)] += 1;
                }
            }
        }
        let (most, owner) = pixels.into_iter().zip(0..).max().unwrap_or_default();
        (most as f32 >= LEAST_COVER * (CELL * CELL) as f32).then_some(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(thing: usize, x: f32, y: f32) -> Object {
        Object {
            thing,
            drawing: 0,
            repaint: None,
            colour: Some(Colour::Blue),
            x,
            y,
            side: 40.0,
            angle: 0.0,
            flip: false,
        }
    }

    /// A frame of four by four cells; each object is painted as a filled square.
    fn scene_and_painting(objects: Vec<Object>) -> (Scene, Painting) {
        let mut painting = Painting::new(image::RgbImage::new(112, 112));
        for (index, o) in objects.iter().enumerate() {
            for y in 0..112 {
                for x in 0..112 {
                    let inside = |at: u32, centre: f32| (at as f32 + 0.5 - centre).abs() < o.side / 2.0;
                    if inside(x, o.x) && inside(y, o.y) {
                        painting.own(x, y, index);
                    }
                }
            }
        }
        let ground = Ground::Place(Place::Sea);
        (Scene { width: 112, height: 112, ground, objects, size: Size::Medium }, painting)
    }

    #[test]
    fn every_cell_says_what_covers_it() {
        let (scene, painting) = scene_and_painting(vec![object(3, 20.0, 20.0), object(5, 85.0, 90.0)]);
        let cells = cells(&scene, &painting);
        let things: Vec<u32> = cells.iter().map(|cell| cell.classes[0]).collect();
        let no = NOTHING as u32;
        assert_eq!(things, [3, 3, no, no, 3, 3, no, no, no, no, 5, 5, no, no, 5, 5]);
        let at = |cell: usize, aspect: Aspect| cells[cell].classes[aspect as usize];
        assert_eq!((at(0, Aspect::Centre), at(1, Aspect::Centre), at(15, Aspect::Centre)), (1, 0, 1));
        assert_eq!((at(0, Aspect::Place), at(10, Aspect::Place)), (0, 8));
        assert!(cells.iter().all(|cell| cell.classes[2] == ground_class(scene.ground) as u32));
        let weighs = |aspect: Aspect| cells.iter().map(|cell| cell.weights[aspect as usize]).sum::<f32>();
        // Two objects and the empty rest; two objects; no lone object.
        assert!((weighs(Aspect::Thing) - 3.0).abs() < 1e-5 && (weighs(Aspect::Place) - 0.6).abs() < 1e-5);
        assert_eq!(weighs(Aspect::Size), 0.0);
    }

    #[test]
    fn objects_alike_are_counted_together() {
        let (scene, painting) =
            scene_and_painting(vec![object(3, 20.0, 20.0), object(3, 85.0, 20.0), object(4, 50.0, 85.0)]);
        let cells = cells(&scene, &painting);
        let count = |cell: usize| cells[cell].classes[Aspect::Count as usize];
        assert_eq!((count(0), count(3), count(9)), (1, 1, 0));
        assert!(cells[0].shows_something() && !cells[15].shows_something());
    }

    #[test]
    fn a_photograph_is_its_word_everywhere() {
        let (mut scene, painting) = scene_and_painting(Vec::new());
        scene.ground = Ground::Photo(Some(2), 0);
        let cells = cells(&scene, &painting);
        assert!(cells.iter().all(|c| c.classes[0] == THINGS.len() as u32 + 2 && c.shows_something()));
    }
}
