//! `image_info`: what a picture file says of itself.

use std::io::Cursor;

use protocol::agent::{Effect, Origin, ToolOutput};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use vision::DecodeOptions;

use super::zoom::{picked, picture_number};
use crate::LocalFuture;
use crate::tool::{Context, Tool, ToolSpec, read_arguments};

/// Entries of EXIF data that are told at most, and characters of each.
const MAX_ENTRIES: usize = 40;
const MAX_VALUE: usize = 120;

/// Tells size, format and EXIF data.
#[derive(Debug)]
pub struct ImageInfo {
    spec: ToolSpec,
}

#[derive(Deserialize)]
struct Arguments {
    picture: Option<usize>,
}

impl ImageInfo {
    /// The tool.
    #[expect(clippy::new_without_default, reason = "a tool is put in by name, never by default")]
    pub fn new() -> Self {
        let spec = ToolSpec {
            name: "image_info".into(),
            description:
                "Tells a picture's size in pixels, its format, and what the camera wrote into it: time, \
                          place, lens."
                    .into(),
            parameters: json!({
                "type": "object",
                "properties": { "picture": picture_number() },
                "additionalProperties": false,
            }),
        };
        Self { spec }
    }
}

impl Tool for ImageInfo {
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
            let info = read_arguments::<Arguments>(arguments).and_then(|it| {
                let (n, id) = picked(context.turns, it.picture)?;
                let bytes = context.pictures.get(id).ok_or("the picture's file is gone")?;
                Ok(format!("Picture {n}: {}", describe(bytes)?))
            });
            match info {
                // Whoever took the picture chose what its data say.
                Ok(info) => ToolOutput::text(Origin::Picture, info),
                Err(error) => ToolOutput::error(error),
            }
        })
    }
}

fn describe(bytes: &[u8]) -> Result<String, String> {
    let picture = vision::decode(bytes, &DecodeOptions::default()).map_err(|error| error.to_string())?;
    let format = image::guess_format(bytes).map_or("unknown", |format| format.extensions_str()[0]);
    let mut info = format!("{}x{} pixels, {format}, {} bytes", picture.width, picture.height, bytes.len());
    for note in &picture.notes {
        info += &format!("\n{note}");
    }
    if let Ok(exif) = exif::Reader::new().read_from_container(&mut Cursor::new(bytes)) {
        for field in exif.fields().filter(|field| field.ifd_num == exif::In::PRIMARY).take(MAX_ENTRIES) {
            let value: String =
                field.display_value().with_unit(&exif).to_string().chars().take(MAX_VALUE).collect();
            info += &format!("\n{}: {value}", field.tag);
        }
    }
    Ok(info)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::pictures::Pictures;
    use protocol::agent::{Content, Part, Role, Turn};

    #[test]
    fn size_format_and_camera_are_told() {
        let mut jpeg = Cursor::new(Vec::new());
        image::RgbImage::new(30, 20).write_to(&mut jpeg, image::ImageFormat::Jpeg).unwrap();
        let mut jpeg = jpeg.into_inner();
        // An EXIF segment that names the maker of the camera, behind the start of the image.
        let mut tiff = b"II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\x08\0\0\0\x1a\0\0\0\0\0\0\0Camera!\0".to_vec();
        let mut segment = b"\xff\xe1\0\0Exif\0\0".to_vec();
        segment.append(&mut tiff);
        let len = (segment.len() - 2) as u16;
        segment[2..4].copy_from_slice(&len.to_be_bytes());
        jpeg.splice(2..2, segment);
        let mut pictures = Pictures::default();
        let part = Part { origin: Origin::Picture, content: Content::Picture(pictures.add(jpeg)) };
        let turns = [Turn::new(Role::User, vec![part])];
        let context =
            Context { turns: &turns, pictures: &mut pictures, wait: &mut |_| ControlFlow::Continue(()) };
        let output = pollster::block_on(ImageInfo::new().call(&Map::new(), context));
        assert_eq!(output.parts[0].origin, Origin::Picture);
        let text = Turn::new(Role::Tool, output.parts).text();
        assert!(text.starts_with("Picture 1: 30x20 pixels, jpg, "), "{text}");
        assert!(text.contains("Make: \"Camera!\""), "{text}");
    }
}
