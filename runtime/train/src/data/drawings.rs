//! Drawings in memory: every thing in every style, at three sizes, ready to be placed.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use image::RgbaImage;
use image::imageops::{self, FilterType};
use rayon::prelude::*;
use resvg::{tiny_skia, usvg};

use super::colour::{Colour, Rgb, hue, luma};
use super::packages::{STYLES, Source, Style};
use super::things::{Category, THINGS, ThingId};

/// Side of the largest raster; the others are for smaller objects.
const SIDE: u32 = 128;
/// Sides of all rasters, largest first.
const SIDES: [u32; 3] = [SIDE, 64, 48];
/// Drawings are rendered at this side before they are cropped to their ink.
const RENDER_SIDE: u32 = 192;

/// One thing drawn in one style.
#[derive(Debug)]
pub(crate) struct Drawing {
    /// What it shows.
    pub(crate) thing: ThingId,
    /// Its row of [`STYLES`]; `None` for the plain shapes, which have no style.
    pub(crate) style: Option<usize>,
    /// Squares with premultiplied alpha, cropped to the ink; sides as in [`SIDES`].
    rasters: [RgbaImage; 3],
    /// Which colour word its ink gets.
    pub(crate) ink: Ink,
    /// Mean colour of its ink.
    pub(crate) mean: Rgb,
    /// Median brightness of its ink, 0–1.
    pub(crate) median_luma: f32,
    /// The part that gives it its colour, if one hue stands out.
    pub(crate) body: Option<Body>,
}

/// The pixels of one hue, which cover most of a drawing: a car without its wheels and windows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Body {
    hue: f32,
    /// Median brightness, 0–1.
    pub(crate) median_luma: f32,
}

impl Body {
    /// Degrees to either side that still count as the same hue.
    const REACH: f32 = 25.0;

    /// The hue that covers at least half of the ink.
    pub(crate) fn of(ink: &[Rgb]) -> Option<Self> {
        let bodies = (0..24).map(|sector| Self { hue: sector as f32 * 15.0, median_luma: 0.5 });
        let share = |body: &Self| ink.iter().filter(|rgb| body.has(**rgb)).count();
        let body = bodies.max_by_key(share).filter(|body| 2 * share(body) >= ink.len())?;
        Some(Self { median_luma: median_luma(ink.iter().filter(|rgb| body.has(**rgb))), ..body })
    }

    /// Whether a display value is a part of it.
    pub(crate) fn has(&self, rgb: Rgb) -> bool {
        let value = rgb[0].max(rgb[1]).max(rgb[2]);
        let saturation = 1.0 - rgb[0].min(rgb[1]).min(rgb[2]) / value.max(f32::EPSILON);
        let apart = (hue(rgb) - self.hue + 180.0).rem_euclid(360.0) - 180.0;
        value > 0.2 && saturation > 0.25 && apart.abs() <= Self::REACH
    }
}

/// 0.5 if there is no ink.
fn median_luma<'a>(ink: impl Iterator<Item = &'a Rgb>) -> f32 {
    let mut lumas: Vec<f32> = ink.map(|rgb| luma(*rgb)).collect();
    lumas.sort_by(f32::total_cmp);
    lumas.get(lumas.len() / 2).copied().unwrap_or(0.5)
}

/// Which colour word a drawing gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    /// One word covers at least two thirds of it.
    Plain(Colour),
    /// Clearly several colours.
    Mixed,
    /// Neither; captions that say or withhold a colour would be a matter of taste.
    Unclear,
}

impl Drawing {
    /// The raster to draw at `side` pixels.
    pub(crate) fn raster(&self, side: f32) -> &RgbaImage {
        match side {
            s if s > 76.0 => &self.rasters[0],
            s if s > 52.0 => &self.rasters[1],
            _ => &self.rasters[2],
        }
    }

    /// A stand-in for tests, which have no packages.
    #[cfg(test)]
    pub(crate) fn blot(thing: ThingId, style: Option<usize>) -> Self {
        static STAR: std::sync::OnceLock<RgbaImage> = std::sync::OnceLock::new();
        let star = STAR.get_or_init(|| shape("star")).clone();
        Self { ink: Ink::Mixed, ..Self::new(thing, style, star) }
    }

    fn new(thing: ThingId, style: Option<usize>, largest: RgbaImage) -> Self {
        let rasters = SIDES.map(|side| match side {
            SIDE => largest.clone(),
            _ => imageops::resize(&largest, side, side, FilterType::Triangle),
        });
        let ink: Vec<Rgb> = rasters[2]
            .pixels()
            .filter(|p| p[3] > 127)
            .map(|p| [0, 1, 2].map(|c| (f32::from(p[c]) / f32::from(p[3])).min(1.0)))
            .collect();
        let count = ink.len().max(1) as f32;
        let mean = [0, 1, 2].map(|c| ink.iter().map(|p| p[c]).sum::<f32>() / count);
        let (median_luma, body) = (median_luma(ink.iter()), Body::of(&ink));
        Self { thing, style, ink: Ink::of(&ink), mean, median_luma, body, rasters }
    }
}

impl Ink {
    fn of(ink: &[Rgb]) -> Self {
        let covers = |share: f32, alike: &dyn Fn(Rgb) -> bool| {
            ink.iter().filter(|p| alike(**p)).count() as f32 >= share * ink.len() as f32
        };
        let plain = Colour::GROUNDS.into_iter().find(|c| covers(0.66, &|p| Colour::of(p) == Some(*c)));
        // A third of the colour circle holds every colour that could pass for one.
        let one_hue = (0..12).any(|sector| {
            covers(0.6, &|p| {
                (hue(p) - sector as f32 * 30.0).rem_euclid(360.0) < 120.0
                    && Colour::of(p) != Some(Colour::White)
            })
        });
        match plain {
            Some(colour) if !ink.is_empty() => Ink::Plain(colour),
            None if !one_hue => Ink::Mixed,
            _ => Ink::Unclear,
        }
    }
}

/// Reads the drawings from `folder`, fetching and rasterising whatever is not there yet.
///
/// # Errors
/// If a package cannot be had, or the folder cannot be written.
pub(crate) fn open(folder: &Path) -> Result<Vec<Drawing>> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let cache = folder.join(format!("drawings-{:016x}.bin", table_hash()));
    let rasters = match fs::read(&cache).ok().and_then(|bytes| unpack(&bytes)) {
        Some(rasters) => rasters,
        None => {
            let rasters = rasterise_all(folder)?;
            // Written beside and renamed, so that a cut write never looks like a cache.
            let unfinished = cache.with_extension("part");
            fs::write(&unfinished, pack(&rasters))
                .with_context(|| format!("cannot write {}", unfinished.display()))?;
            fs::rename(&unfinished, &cache)?;
            rasters
        }
    };
    let mut drawings: Vec<Drawing> = rasters
        .into_par_iter()
        .map(|(thing, style, raster)| Drawing::new(thing, Some(style), raster))
        .collect();
    let shapes = (0..THINGS.len()).filter(|thing| THINGS[*thing].category == Category::Shape);
    drawings.extend(shapes.map(|thing| Drawing::new(thing, None, shape(THINGS[thing].noun))));
    Ok(drawings)
}

/// A thing, its style, and its largest raster.
type Raster = (ThingId, usize, RgbaImage);

fn rasterise_all(folder: &Path) -> Result<Vec<Raster>> {
    let mut all = Vec::new();
    for (style_idx, style) in STYLES.iter().enumerate() {
        let found = style.read(folder)?.into_par_iter().map(|(thing, source)| {
            let raster = rasterise(&source).map(|raster| (thing, style_idx, raster));
            raster.with_context(|| format!("drawing `{}` of style {style_idx}", THINGS[thing].noun))
        });
        all.extend(found.collect::<Result<Vec<_>>>()?);
    }
    Ok(all)
}

/// Renders one drawing, crops it to its ink and centres it in a square.
fn rasterise(source: &Source) -> Result<RgbaImage> {
    let premultiplied = match source {
        Source::Svg(text) => {
            let tree = usvg::Tree::from_str(text, &usvg::Options::default())?;
            let scale = RENDER_SIDE as f32 / tree.size().width().max(tree.size().height());
            let mut pixmap =
                tiny_skia::Pixmap::new(RENDER_SIDE, RENDER_SIDE).context("no memory for a raster")?;
            resvg::render(&tree, tiny_skia::Transform::from_scale(scale, scale), &mut pixmap.as_mut());
            RgbaImage::from_raw(RENDER_SIDE, RENDER_SIDE, pixmap.take()).context("raster has another size")?
        }
        Source::Webp(bytes) => {
            let mut picture = image::load_from_memory(bytes)?.to_rgba8();
            for pixel in picture.pixels_mut() {
                let alpha = u16::from(pixel[3]);
                for c in 0..3 {
                    pixel[c] = (u16::from(pixel[c]) * alpha / 255) as u8;
                }
            }
            picture
        }
    };
    let inked = || premultiplied.enumerate_pixels().filter(|(_, _, p)| p[3] > 24).map(|(x, y, _)| (x, y));
    ensure!(inked().next().is_some(), "the drawing is empty");
    let (left, right) = inked().fold((u32::MAX, 0), |(low, high), (x, _)| (low.min(x), high.max(x)));
    let (top, bottom) = inked().fold((u32::MAX, 0), |(low, high), (_, y)| (low.min(y), high.max(y)));
    let (width, height) = (right - left + 1, bottom - top + 1);
    let side = width.max(height);
    let mut square = RgbaImage::new(side, side);
    let ink = imageops::crop_imm(&premultiplied, left, top, width, height).to_image();
    imageops::replace(&mut square, &ink, i64::from((side - width) / 2), i64::from((side - height) / 2));
    Ok(imageops::resize(&square, SIDE, SIDE, FilterType::Triangle))
}

/// A plain shape in mid grey, which repainting turns into any colour.
fn shape(noun: &str) -> RgbaImage {
    let inside = |x: f32, y: f32| -> bool {
        // Centre at 0, half side 1, y down.
        let radius = x.hypot(y);
        match noun {
            "circle" => radius < 0.98,
            "square" => x.abs() < 0.9 && y.abs() < 0.9,
            "triangle" => y < 0.8 && y > -0.95 && x.abs() < (y + 0.95) * 0.56,
            "star" => {
                let fifth = std::f32::consts::TAU / 5.0;
                let turn = (x.atan2(-y) + fifth / 2.0).rem_euclid(fifth) - fifth / 2.0;
                // The edge of a five-pointed star is a straight line from its tip to its notch.
                let (tip, notch) = (1.0, 0.42);
                let (nx, ny) = ((fifth / 2.0).sin() * notch, (fifth / 2.0).cos() * notch);
                let (px, py) = (turn.abs().sin() * radius, turn.abs().cos() * radius);
                nx * (py - tip) - (ny - tip) * px < 0.0
            }
            "heart" => {
                let (hx, hy) = (x * 1.15, -y * 1.2 + 0.1);
                let a = hx * hx + hy * hy - 1.0;
                a * a * a - hx * hx * hy * hy * hy < 0.0 && radius < 1.2
            }
            _ => (x.abs() < 0.3 && y.abs() < 0.95) || (y.abs() < 0.3 && x.abs() < 0.95),
        }
    };
    const SUB: u32 = 4;
    RgbaImage::from_fn(SIDE, SIDE, |px, py| {
        let hits = (0..SUB * SUB).filter(|s| {
            let at = |p: u32, sub: u32| ((p * SUB + sub) as f32 + 0.5) / (SIDE * SUB) as f32 * 2.0 - 1.0;
            inside(at(px, s % SUB), at(py, s / SUB))
        });
        let alpha = (hits.count() as u32 * 255 / (SUB * SUB)) as u8;
        image::Rgba([alpha / 2, alpha / 2, alpha / 2, alpha])
    })
}

/// Names the cache file, so that another table of things or styles never reads it.
fn table_hash() -> u64 {
    let styles = STYLES.iter().map(Style::fingerprint);
    styles.fold(u64::from(SIDE), |hash, style| super::random::mix(hash ^ style))
}

const RASTER_LEN: usize = (SIDE * SIDE * 4) as usize;

fn pack(rasters: &[Raster]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rasters.len() * (RASTER_LEN + 4));
    for (thing, style, raster) in rasters {
        bytes.extend_from_slice(&(*thing as u16).to_le_bytes());
        bytes.extend_from_slice(&(*style as u16).to_le_bytes());
        bytes.extend_from_slice(raster.as_raw());
    }
    bytes
}

/// `None` if the bytes are not what [`pack`] writes.
fn unpack(bytes: &[u8]) -> Option<Vec<Raster>> {
    let records = bytes.chunks_exact(RASTER_LEN + 4);
    if !records.remainder().is_empty() || bytes.is_empty() {
        return None;
    }
    records
        .map(|record| {
            let number = |at: usize| usize::from(u16::from_le_bytes([record[at], record[at + 1]]));
            let (thing, style) = (number(0), number(2));
            let raster = RgbaImage::from_raw(SIDE, SIDE, record[4..].to_vec())?;
            (thing < THINGS.len() && style < STYLES.len()).then_some((thing, style, raster))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_unpacks() {
        let rasters = vec![(3, 1, shape("heart")), (0, 9, shape("circle"))];
        let bytes = pack(&rasters);
        assert_eq!(unpack(&bytes), Some(rasters));
        assert_eq!(unpack(&bytes[1..]), None);
    }

    #[test]
    fn ink_is_plain_only_if_one_word_is_enough() {
        let (red, green) = (Colour::Red.rgb(), Colour::Green.rgb());
        assert_eq!(Ink::of(&[red, red, red, green]), Ink::Plain(Colour::Red));
        assert_eq!(Ink::of(&[red, Colour::White.rgb(), Colour::Blue.rgb(), green]), Ink::Mixed);
    }

    #[test]
    fn the_body_is_the_hue_of_most_of_the_ink() {
        let (red, black, blue) = (Colour::Red.rgb(), Colour::Black.rgb(), Colour::Blue.rgb());
        let body = Body::of(&[red, black, red, blue, red]).unwrap();
        assert!(body.has(red) && !body.has(black) && !body.has(blue));
        assert_eq!(body.median_luma, luma(red));
        assert!(Body::of(&[red, blue, black]).is_none());
        assert!(Body::of(&[black, black, red]).is_none(), "black is no hue");
    }

    #[test]
    fn a_drawing_is_cropped_to_its_ink() {
        let svg = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"><rect x="2" y="2" width="2" height="2" fill="#f00"/></svg>"##;
        let raster = rasterise(&Source::Svg(svg.into())).unwrap();
        assert_eq!(*raster.get_pixel(64, 64), image::Rgba([255, 0, 0, 255]));
        assert!(raster.get_pixel(8, 8)[3] > 200 && raster.get_pixel(119, 119)[3] > 200);
    }
}
