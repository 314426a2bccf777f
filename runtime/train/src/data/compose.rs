//! Paints a scene.

use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{Rgb as Pixel, RgbImage};

use super::colour::{Colour, Rgb, luma};
use super::drawings::{Body, Drawing};
use super::photos::Photos;
use super::random::{Random, grain};
use super::scene::{Ground, Object, Place, Scene};
use super::things::{Category, THINGS};

/// A picture, and which object each of its pixels belongs to.
#[derive(Debug)]
pub(crate) struct Painting {
    pub(crate) picture: RgbImage,
    /// One more than the index of the object, zero for the background; row by row.
    owners: Vec<u8>,
}

impl Painting {
    /// A background.
    pub(crate) fn new(picture: RgbImage) -> Self {
        let n_pixels = (picture.width() * picture.height()) as usize;
        Self { picture, owners: vec![0; n_pixels] }
    }

    /// The object at a pixel.
    pub(crate) fn owner(&self, x: u32, y: u32) -> Option<usize> {
        usize::from(self.owners[(y * self.picture.width() + x) as usize]).checked_sub(1)
    }

    /// Gives a pixel to an object.
    pub(crate) fn own(&mut self, x: u32, y: u32, object: usize) {
        self.owners[(y * self.picture.width() + x) as usize] = object as u8 + 1;
    }
}

/// Paints the background, then the objects, then what cameras and files do to pictures.
pub(crate) fn paint(random: &mut Random, scene: &Scene, drawings: &[Drawing], photos: &Photos) -> Painting {
    let mut painting = Painting::new(paint_ground(random, scene, photos));
    for (index, object) in scene.objects.iter().enumerate() {
        place(random, &mut painting, (index, object), &drawings[object.drawing]);
    }
    Painting { picture: weather(random, painting.picture), ..painting }
}

fn to_pixel(rgb: Rgb) -> Pixel<u8> {
    Pixel(rgb.map(|c| (c.clamp(0.0, 1.0) * 255.0 + 0.5) as u8))
}

fn blend(a: Rgb, b: Rgb, share: f32) -> Rgb {
    [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * share)
}

fn scaled(rgb: Rgb, factor: f32) -> Rgb {
    rgb.map(|c| c * factor)
}

fn paint_ground(random: &mut Random, scene: &Scene, photos: &Photos) -> RgbImage {
    let (width, height) = (scene.width, scene.height);
    let jitter = |random: &mut Random, colour: Colour| -> Rgb {
        let base = colour.shade(random.range(0.45, 0.62));
        base.map(|c| c + random.range(-0.025, 0.025))
    };
    match scene.ground {
        Ground::Plain(colour) => {
            let base = jitter(random, colour);
            // A slight gradient and grain: the word is for the colour, not for its evenness.
            let (slope_x, slope_y) = (random.range(-0.12, 0.12), random.range(-0.12, 0.12));
            let (rough, seed) = (random.unit().powi(3) * 0.12, random.below(1 << 30) as u32);
            RgbImage::from_fn(width, height, |x, y| {
                let (u, v) = (x as f32 / width as f32 - 0.5, y as f32 / height as f32 - 0.5);
                let light = 1.0 + slope_x * u + slope_y * v + (grain(x, y, seed) - 0.5) * rough;
                to_pixel(scaled(base, light))
            })
        }
        Ground::Striped(a, b) => {
            let (a, b) = (jitter(random, a), jitter(random, b));
            let period = random.range(0.14, 0.3) * width.min(height) as f32;
            let (dx, dy) = random.pick(&[(1.0, 0.0), (0.0, 1.0), (0.7, 0.7), (0.7, -0.7)]);
            let phase = random.unit();
            RgbImage::from_fn(width, height, |x, y| {
                let along = (x as f32 * dx + y as f32 * dy) / period + phase;
                to_pixel(if along.rem_euclid(1.0) < 0.5 { a } else { b })
            })
        }
        Ground::Checked(a, b) => {
            let (a, b) = (jitter(random, a), jitter(random, b));
            let cell = random.range(0.09, 0.17) * width.min(height) as f32;
            RgbImage::from_fn(width, height, |x, y| {
                let odd = ((x as f32 / cell) as u32 + (y as f32 / cell) as u32) % 2 == 1;
                to_pixel(if odd { a } else { b })
            })
        }
        Ground::Noise => {
            let (seed, grey, cell) =
                (random.below(1 << 30) as u32, random.chance(0.3), random.pick(&[1, 2, 4]));
            RgbImage::from_fn(width, height, |x, y| {
                let (x, y) = (x / cell, y / cell);
                let first = grain(x, y, seed);
                to_pixel(if grey {
                    [first; 3]
                } else {
                    [first, grain(x, y, seed + 1), grain(x, y, seed + 2)]
                })
            })
        }
        Ground::Place(place) => paint_place(random, width, height, place),
        Ground::Photo(word, index) => fit_photo(random, &photos.decode(word, index), width, height),
    }
}

/// Fills the frame with a part of the photograph, with no more cropping than the frame's shape asks for and a little.
fn fit_photo(random: &mut Random, photo: &RgbImage, width: u32, height: u32) -> RgbImage {
    let scale = (photo.width() as f32 / width as f32).min(photo.height() as f32 / height as f32)
        * random.range(0.84, 1.0);
    let (crop_width, crop_height) = (width as f32 * scale, height as f32 * scale);
    let left = (random.unit() * (photo.width() as f32 - crop_width)) as u32;
    let top = (random.unit() * (photo.height() as f32 - crop_height)) as u32;
    let part = imageops::crop_imm(photo, left, top, crop_width as u32, crop_height as u32).to_image();
    let mut picture = imageops::resize(&part, width, height, FilterType::Triangle);
    if random.chance(0.5) {
        imageops::flip_horizontal_in_place(&mut picture);
    }
    picture
}

fn paint_place(random: &mut Random, width: u32, height: u32, place: Place) -> RgbImage {
    let seed = random.below(1 << 30) as u32;
    let light = random.range(0.92, 1.08);
    let horizon = random.pick(&[0.0, 0.2, 0.3, 0.4, 0.5]) * height as f32;
    let short = width.min(height) as f32;
    let sky = |y: f32| blend([0.50, 0.74, 0.96], [0.82, 0.92, 0.99], y / height as f32);
    // Clouds, or the moon: centre, radius.
    let blobs: Vec<(f32, f32, f32)> = (0..random.below(3) + 3)
        .flat_map(|_| {
            let (x, y) = (random.unit() * width as f32, random.unit() * height as f32);
            let size = random.range(0.07, 0.11) * short;
            [(x, y, size), (x - size, y + size * 0.3, size * 0.75), (x + size, y + size * 0.3, size * 0.75)]
        })
        .collect();
    let moon =
        random.chance(0.5).then(|| (random.unit() * width as f32, random.range(0.1, 0.3) * height as f32));
    let base = scaled(place.rgb(), light);
    let (wave_len, phase) = (random.range(9.0, 14.0) * short / 112.0, random.unit() * 6.0);
    RgbImage::from_fn(width, height, |px, py| {
        let (x, y) = (px as f32, py as f32);
        let below = y >= horizon;
        let rgb = match place {
            Place::Grass if below => {
                // Blades: grain stretched upwards.
                let blade = grain(px, (py + (grain(px, 0, seed) * 7.0) as u32) / 5, seed);
                scaled(base, 0.72 + 0.5 * blade)
            }
            Place::Sea if below => {
                let depth = (y - horizon) / (height as f32 - horizon);
                let wave = ((y / wave_len + 0.35 * (x / wave_len * 0.8 + phase).sin())
                    * std::f32::consts::TAU)
                    .sin();
                blend(scaled(base, 1.25 - 0.4 * depth), [0.75, 0.90, 0.97], (wave - 0.72).max(0.0) * 2.4)
            }
            Place::Sand if below => scaled(base, 0.86 + 0.22 * grain(px, py, seed)),
            Place::Snow if below => scaled(base, 0.95 + 0.05 * grain(px / 2, py / 2, seed)),
            Place::Snow => blend([0.62, 0.68, 0.76], [0.75, 0.80, 0.86], y / height as f32),
            Place::Night => {
                let star = grain(px / 2, py / 2, seed) > 0.982;
                let moonlit = moon.is_some_and(|(mx, my)| (x - mx).hypot(y - my) < 0.09 * short);
                match (moonlit, star) {
                    (true, _) => [0.97, 0.94, 0.78],
                    (_, true) => [0.95, 0.95, 0.85],
                    _ => blend(base, [0.12, 0.13, 0.34], y / height as f32),
                }
            }
            Place::Sky => {
                let cloudy = blobs.iter().any(|(bx, by, r)| (x - bx).hypot((y - by) * 1.4) < *r);
                if cloudy { [0.98, 0.99, 1.0] } else { scaled(sky(y), light.min(1.03)) }
            }
            _ => sky(y),
        };
        // Snowflakes fall over everything.
        let flake =
            place == Place::Snow && grain(px / 3, py / 3, seed + 9) > 0.975 && (px % 3 < 2 && py % 3 < 2);
        to_pixel(if flake { [1.0; 3] } else { rgb })
    })
}

/// Blends one drawing over the picture: turned, mirrored, squeezed, repainted.
fn place(random: &mut Random, painting: &mut Painting, (index, object): (usize, &Object), drawing: &Drawing) {
    let raster = drawing.raster(object.side);
    let side = raster.width() as i32;
    let scale = side as f32 / object.side;
    let (sin, cos) = object.angle.sin_cos();
    let reach = object.side / 2.0 * (sin.abs() + cos.abs());
    let paint = Paint::new(random, object, drawing);
    // Hands differ in how wide and how tall they draw a thing; a square must stay one.
    let squeeze = random.range(0.72, 1.0);
    let (squeeze_x, squeeze_y) = match random.below(3) {
        0 if THINGS[object.thing].category != Category::Shape => (squeeze, 1.0),
        1 if THINGS[object.thing].category != Category::Shape => (1.0, squeeze),
        _ => (1.0, 1.0),
    };
    let (width, height) = painting.picture.dimensions();
    let to_u32 = |v: f32, limit: u32| (v.max(0.0) as u32).min(limit);
    let (left, right) = (to_u32(object.x - reach, width), to_u32(object.x + reach + 1.0, width));
    let (top, bottom) = (to_u32(object.y - reach, height), to_u32(object.y + reach + 1.0, height));
    let texels = raster.as_raw();
    for y in top..bottom {
        for x in left..right {
            let (dx, dy) = (x as f32 + 0.5 - object.x, y as f32 + 0.5 - object.y);
            let (mut u, v) = ((dx * cos + dy * sin) / squeeze_x, (dy * cos - dx * sin) / squeeze_y);
            if object.flip {
                u = -u;
            }
            // Texel centres are at halves.
            let (u, v) = (u * scale + side as f32 / 2.0 - 0.5, v * scale + side as f32 / 2.0 - 0.5);
            let Some(ink) = bilinear(texels, side, u, v) else { continue };
            if ink[3] < 0.004 {
                continue;
            }
            let rgb = scaled(paint.of([0, 1, 2].map(|c| ink[c] / ink[3])), ink[3]);
            if ink[3] > 0.5 {
                painting.own(x, y, index);
            }
            let under = painting.picture.get_pixel_mut(x, y);
            for c in 0..3 {
                under[c] = (rgb[c] * 255.0 + f32::from(under[c]) * (1.0 - ink[3]) + 0.5).min(255.0) as u8;
            }
        }
    }
}

/// What becomes of the colours of a drawing.
struct Paint {
    /// The shades of the new colour, if it gets one.
    ramp: Option<Vec<Rgb>>,
    /// The part that gets it; `None` is all of it.
    body: Option<Body>,
    /// Brightness that becomes the middle of the ramp, 0–1.
    median_luma: f32,
    /// Light on colours that stay.
    light: Rgb,
}

impl Paint {
    fn new(random: &mut Random, object: &Object, drawing: &Drawing) -> Self {
        let ramp = object.repaint.map(|colour| ramp(random, colour));
        // A red car is often red all over, and as often has black wheels.
        let body = drawing.body.filter(|_| random.chance(0.6));
        let median_luma = body.map_or(drawing.median_luma, |body| body.median_luma);
        let light = [0, 1, 2].map(|_| random.range(0.88, 1.08));
        Self { ramp, body, median_luma, light }
    }

    /// What a display value of the drawing becomes.
    fn of(&self, rgb: Rgb) -> Rgb {
        match &self.ramp {
            Some(ramp) if self.body.is_none_or(|body| body.has(rgb)) => {
                let tone = 0.5 + luma(rgb) - self.median_luma;
                ramp[(tone.clamp(0.0, 1.0) * 63.0) as usize]
            }
            _ => [0, 1, 2].map(|c| (rgb[c] * self.light[c]).min(1.0)),
        }
    }
}

/// The shades of a colour, dark to light, a little different each time.
fn ramp(random: &mut Random, colour: Colour) -> Vec<Rgb> {
    let tint = [0, 1, 2].map(|_| random.range(-0.03, 0.03));
    let offset = random.range(-0.06, 0.06);
    (0..64)
        .map(|step| {
            let shade = colour.shade((0.06 + 0.86 * step as f32 / 63.0 + offset).clamp(0.0, 1.0));
            [0, 1, 2].map(|c| (shade[c] + tint[c]).clamp(0.0, 1.0))
        })
        .collect()
}

/// Premultiplied colour in 0–1; `None` outside.
fn bilinear(texels: &[u8], side: i32, u: f32, v: f32) -> Option<[f32; 4]> {
    let (left, top) = (u.floor(), v.floor());
    let (x, y) = (left as i32, top as i32);
    if x < -1 || y < -1 || x >= side || y >= side {
        return None;
    }
    let (fx, fy) = (u - left, v - top);
    let mut sum = [0.0f32; 4];
    for (cx, cy, weight) in [
        (x, y, (1.0 - fx) * (1.0 - fy)),
        (x + 1, y, fx * (1.0 - fy)),
        (x, y + 1, (1.0 - fx) * fy),
        (x + 1, y + 1, fx * fy),
    ] {
        if (0..side).contains(&cx) && (0..side).contains(&cy) {
            let at = ((cy * side + cx) * 4) as usize;
            for (s, texel) in sum.iter_mut().zip(&texels[at..at + 4]) {
                *s += weight / 255.0 * f32::from(*texel);
            }
        }
    }
    Some(sum)
}

/// Brightness, contrast, blur, grain and file compression, each mild and not always.
fn weather(random: &mut Random, mut picture: RgbImage) -> RgbImage {
    let (gain, lift) = (random.range(0.88, 1.1), random.range(-8.0, 8.0));
    let table: Vec<u8> = (0..256).map(|v| (v as f32 * gain + lift).clamp(0.0, 255.0) as u8).collect();
    for value in picture.iter_mut() {
        *value = table[usize::from(*value)];
    }
    if random.chance(0.12) {
        picture = soften(&picture);
    }
    if random.chance(0.15) {
        let (strength, seed) = (random.range(4.0, 22.0), random.below(1 << 30) as u32);
        for (x, y, pixel) in picture.enumerate_pixels_mut() {
            let noise = (grain(x, y, seed) - 0.5) * strength;
            pixel.0 = pixel.0.map(|v| (f32::from(v) + noise).clamp(0.0, 255.0) as u8);
        }
    }
    if random.chance(0.12) {
        let mut file = Vec::new();
        let quality = 35 + random.below(50) as u8;
        let encoded = JpegEncoder::new_with_quality(&mut file, quality).encode_image(&picture);
        let decoded =
            encoded.and_then(|()| image::load_from_memory_with_format(&file, image::ImageFormat::Jpeg));
        // Encoding to memory does not fail; if it did, the clean picture serves.
        if let Ok(decoded) = decoded {
            picture = decoded.to_rgb8();
        }
    }
    picture
}

/// A 3-by-3 blur with weights 1 2 1.
fn soften(picture: &RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    RgbImage::from_fn(width, height, |x, y| {
        let mut sums = [0u32; 3];
        for (dy, wy) in [(0, 1), (1, 2), (2, 1)] {
            for (dx, wx) in [(0, 1), (1, 2), (2, 1)] {
                let at = |p: u32, d: u32, limit: u32| (p + d).saturating_sub(1).min(limit - 1);
                let pixel = picture.get_pixel(at(x, dx, width), at(y, dy, height));
                for c in 0..3 {
                    sums[c] += wx * wy * u32::from(pixel[c]);
                }
            }
        }
        Pixel(sums.map(|s| (s / 16) as u8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_body_is_repainted_if_there_is_one() {
        let (red, black) = (Colour::Red.rgb(), Colour::Black.rgb());
        let ramp = Some(ramp(&mut Random::new(&[1]), Colour::Blue));
        let body = Body::of(&[red, red, black]);
        let mut paint = Paint { ramp, body, median_luma: luma(red), light: [1.0; 3] };
        assert_eq!(Colour::of(paint.of(red)), Some(Colour::Blue));
        assert_eq!(paint.of(black), black);
        paint.body = None;
        assert_ne!(paint.of(black), black);
    }
}
