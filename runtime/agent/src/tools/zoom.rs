//! `image_zoom_in_tool`: a part of a picture as a picture of its own, as ERNIE-4.5-VL-Thinking was trained to ask
//! for it.

use std::io::Cursor;

use image::{ImageFormat, RgbImage, imageops};
use protocol::agent::{Content, Effect, Origin, Part, PictureId, ToolOutput, Turn};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use vision::{DecodeOptions, Picture};

use crate::LocalFuture;
use crate::pictures::{Pictures, numbered};
use crate::tool::{Context, Tool, ToolSpec, read_arguments};

/// The range of coordinates, whatever the size of the picture.
const SCALE: f64 = 1000.0;

/// Cuts a rectangle out of a picture of the conversation.
#[derive(Debug)]
pub struct ImageZoom {
    spec: ToolSpec,
}

#[derive(Deserialize)]
struct Arguments {
    bbox_2d: [f64; 4],
    picture: Option<usize>,
    label: Option<String>,
}

impl ImageZoom {
    /// The tool.
    #[expect(clippy::new_without_default, reason = "a tool is put in by name, never by default")]
    pub fn new() -> Self {
        let coordinate = json!({ "type": "integer", "minimum": 0, "maximum": 1000 });
        let spec = ToolSpec {
            name: "image_zoom_in_tool".into(),
            description:
                "Shows a part of a picture larger. Coordinates run from 0 to 1000 in both directions, \
                          whatever the size of the picture; [0, 0] is its upper left corner."
                    .into(),
            parameters: json!({
                "type": "object",
                "properties": {
                    "bbox_2d": {
                        "type": "array", "items": coordinate, "minItems": 4, "maxItems": 4,
                        "description": "left, top, right, bottom",
                    },
                    "picture": picture_number(),
                    "label": { "type": "string", "maxLength": 80, "description": "what is to be seen there" },
                },
                "required": ["bbox_2d"],
                "additionalProperties": false,
            }),
        };
        Self { spec }
    }
}

impl Tool for ImageZoom {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn effect(&self, _: &Map<String, Value>) -> Effect {
        Effect::None
    }

    fn call<'a>(
        &'a self,
        arguments: &'a Map<String, Value>,
        context: Context<'a>,
    ) -> LocalFuture<'a, ToolOutput> {
        Box::pin(async move {
            let zoomed = read_arguments::<Arguments>(arguments).and_then(|it| {
                let (n, id) = picked(context.turns, it.picture)?;
                let (png, [x, y, width, height]) = zoom(context.pictures, id, it.bbox_2d)?;
                let label = it.label.map_or(String::new(), |label| format!(" ({label})"));
                Ok((png, format!("Picture {n} from {x},{y}, {width}x{height} pixels{label}:")))
            });
            match zoomed {
                Ok((png, text)) => {
                    let content = Content::Picture(context.pictures.add(png));
                    ToolOutput::picture(text, Part { origin: Origin::Picture, content })
                }
                Err(error) => ToolOutput::error(error),
            }
        })
    }
}

/// The schema of the number that [`picked`] takes.
pub(super) fn picture_number() -> Value {
    json!({
        "type": "integer", "minimum": 1, "maximum": 999,
        "description": "number of the picture; the last one if it is left out",
    })
}

/// The picture of that number, or the last one.
pub(super) fn picked(turns: &[Turn], number: Option<usize>) -> Result<(usize, &PictureId), String> {
    let pictures = numbered(turns);
    let n = number.unwrap_or(pictures.len());
    match n.checked_sub(1).and_then(|i| pictures.get(i)) {
        Some(id) => Ok((n, id)),
        None if pictures.is_empty() => Err("there is no picture in this conversation".into()),
        None => Err(format!("there is no picture {n}; there are {}", pictures.len())),
    }
}

/// A PNG of the part, and its place in pixels: left, top, width, height.
fn zoom(pictures: &Pictures, id: &PictureId, bbox: [f64; 4]) -> Result<(Vec<u8>, [u32; 4]), String> {
    let [left, top, right, bottom] = bbox;
    if bbox.iter().any(|x| !(0.0..=SCALE).contains(x)) || left >= right || top >= bottom {
        return Err(format!(
            "bbox_2d is {bbox:?}, but must be [left, top, right, bottom] with 0 <= left < right <= 1000 and \
             0 <= top < bottom <= 1000"
        ));
    }
    let bytes = pictures.get(id).ok_or("the picture's file is gone")?;
    let picture = vision::decode(bytes, &DecodeOptions::default()).map_err(|error| error.to_string())?;
    let Picture { width, height, rgb, .. } = picture;
    let (x, to_x) = span(left, right, width);
    let (y, to_y) = span(top, bottom, height);
    let whole = RgbImage::from_raw(width, height, rgb).ok_or("the picture has a wrong number of pixels")?;
    let part = imageops::crop_imm(&whole, x, y, to_x - x, to_y - y).to_image();
    let mut png = Cursor::new(Vec::new());
    part.write_to(&mut png, ImageFormat::Png).map_err(|error| error.to_string())?;
    Ok((png.into_inner(), [x, y, to_x - x, to_y - y]))
}

/// From which pixel to before which; at least one.
fn span(from: f64, to: f64, size: u32) -> (u32, u32) {
    let first = ((from / SCALE * f64::from(size)).floor() as u32).min(size - 1);
    let end = ((to / SCALE * f64::from(size)).ceil() as u32).clamp(first + 1, size);
    (first, end)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use protocol::agent::Role;

    fn conversation() -> (Vec<Turn>, Pictures) {
        let mut pictures = Pictures::default();
        let mut parts = Vec::new();
        for (width, height) in [(200, 100), (3, 2)] {
            // Red tells the column, green the row.
            let picture = RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 7]));
            let mut png = Cursor::new(Vec::new());
            picture.write_to(&mut png, ImageFormat::Png).unwrap();
            let id = pictures.add(png.into_inner());
            parts.push(Part { origin: Origin::Picture, content: Content::Picture(id) });
        }
        (vec![Turn::new(Role::User, parts)], pictures)
    }

    fn call(arguments: Value) -> (ToolOutput, Option<RgbImage>) {
        let (turns, mut pictures) = conversation();
        let Value::Object(arguments) = arguments else { unreachable!() };
        let context =
            Context { turns: &turns, pictures: &mut pictures, wait: &mut |_| ControlFlow::Continue(()) };
        let output = pollster::block_on(ImageZoom::new().call(&arguments, context));
        let shown = output.parts.iter().find_map(|part| match &part.content {
            Content::Picture(id) => {
                Some(image::load_from_memory(pictures.get(id).unwrap()).unwrap().to_rgb8())
            }
            _ => None,
        });
        (output, shown)
    }

    #[test]
    fn a_box_is_cut_out_pixel_for_pixel() {
        let (output, part) =
            call(json!({ "bbox_2d": [100, 500, 200, 1000], "picture": 1, "label": "a corner" }));
        let part = part.unwrap();
        assert_eq!(part.dimensions(), (20, 50));
        assert_eq!((part.get_pixel(0, 0).0, part.get_pixel(19, 49).0), ([20, 50, 7], [39, 99, 7]));
        assert_eq!(output.parts[1].origin, Origin::Picture);
        let text = Turn::new(Role::Tool, output.parts).text();
        assert_eq!(text, "Picture 1 from 20,50, 20x50 pixels (a corner):");
    }

    #[test]
    fn a_box_holds_at_least_one_pixel() {
        let (_, part) = call(json!({ "bbox_2d": [999, 0, 1000, 1] }));
        assert_eq!(part.unwrap().get_pixel(0, 0).0, [2, 0, 7]);
        let (_, part) = call(json!({ "bbox_2d": [0, 0, 1000, 1000] }));
        assert_eq!(part.unwrap().dimensions(), (3, 2));
    }

    #[test]
    fn boxes_that_make_no_sense_are_told_to_the_model() {
        for (arguments, expected) in [
            (json!({ "bbox_2d": [0, 0, 1001, 10] }), "1000"),
            (json!({ "bbox_2d": [5, 0, 5, 10] }), "left < right"),
            (json!({ "bbox_2d": [0, 0, 10] }), "arguments"),
            (json!({ "bbox_2d": [0, 0, -1, 1e300] }), "bbox_2d"),
            (json!({}), "bbox_2d"),
            (json!({ "bbox_2d": [0, 0, 9, 9], "picture": 3 }), "no picture 3; there are 2"),
            (json!({ "bbox_2d": [0, 0, 9, 9], "picture": 0 }), "no picture 0"),
        ] {
            let (output, _) = call(arguments.clone());
            let text = Turn::new(Role::Tool, output.parts).text();
            assert!(output.failed && text.contains(expected), "{arguments}: {text}");
        }
    }
}
