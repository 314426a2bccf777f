//! What a call of another program's tool gave, for the model to read.

use agent::{Origin, Part, Pictures, ToolOutput};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};

/// Bytes of text that the model reads of one result, and pictures that it sees.
const MAX_TEXT: usize = 32 << 10;
const MAX_PICTURES: usize = 8;

pub(crate) fn output(result: CallToolResult, pictures: &mut Pictures) -> ToolOutput {
    let mut parts = Parts { parts: Vec::new(), room: MAX_TEXT, n_cut: 0, n_pictures: 0 };
    for block in result.content {
        match block {
            ContentBlock::Text(text) => parts.say(&text.text),
            ContentBlock::Image(image) => parts.show(&image.data, pictures),
            ContentBlock::Resource(resource) => match resource.resource {
                ResourceContents::TextResourceContents { text, .. } => parts.say(&text),
                _ => parts.note("[a file that is no text]"),
            },
            ContentBlock::ResourceLink(link) => parts.say(&link.uri),
            _ => parts.note("[something that is neither text nor a picture]"),
        }
    }
    if parts.parts.is_empty()
        && let Some(value) = &result.structured_content
    {
        parts.say(&value.to_string());
    }
    if parts.parts.is_empty() {
        parts.note("done");
    }
    if parts.n_cut > 0 {
        parts.note(&format!("… {} bytes more were cut off", parts.n_cut));
    }
    ToolOutput { parts: parts.parts, failed: result.is_error == Some(true) }
}

struct Parts {
    parts: Vec<Part>,
    room: usize,
    n_cut: usize,
    n_pictures: usize,
}

impl Parts {
    fn say(&mut self, text: &str) {
        let end = text.floor_char_boundary(text.len().min(self.room));
        self.room -= end;
        self.n_cut += text.len() - end;
        if end > 0 {
            self.parts.push(Part::text(Origin::Tool, &text[..end]));
        }
    }

    fn show(&mut self, base64: &str, pictures: &mut Pictures) {
        self.n_pictures += 1;
        if self.n_pictures > MAX_PICTURES {
            return self.note("[one picture more than is shown]");
        }
        let bytes = STANDARD.decode(base64).ok();
        match bytes.and_then(|bytes| pictures.part(Origin::Tool, bytes).ok()) {
            Some(part) => self.parts.push(part),
            None => self.note("[a picture that cannot be read]"),
        }
    }

    fn note(&mut self, text: &str) {
        self.parts.push(Part::text(Origin::Computed, text));
    }
}

#[cfg(test)]
mod tests {
    use agent::{Content, Role, Turn};

    use super::*;

    fn read(content: Vec<ContentBlock>) -> (ToolOutput, Pictures) {
        let mut pictures = Pictures::default();
        let output = output(CallToolResult::success(content), &mut pictures);
        (output, pictures)
    }

    #[test]
    fn text_and_pictures_are_from_a_tool() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/images/two-apples.png");
        let png = std::fs::read(path).unwrap();
        let image = ContentBlock::image(STANDARD.encode(&png), "image/png");
        let (output, pictures) = read(vec![ContentBlock::text("look:"), image]);
        assert!(output.parts.iter().all(|part| part.origin == Origin::Tool), "{output:?}");
        let Content::Picture(id) = &output.parts[1].content else { panic!("{output:?}") };
        assert_eq!(**pictures.get(id).unwrap(), *png);
    }

    #[test]
    fn what_is_too_much_or_broken_is_said() {
        let words = |content| Turn::new(Role::Tool, read(content).0.parts).text();
        let long = words(vec![ContentBlock::text("ü".repeat(MAX_TEXT)), ContentBlock::text("more")]);
        assert!(
            long.len() < MAX_TEXT + 100
                && long.ends_with(&format!("… {} bytes more were cut off", MAX_TEXT + 4))
        );
        for broken in ["?", "AQI="] {
            let text = words(vec![ContentBlock::image(broken, "image/png")]);
            assert_eq!(text, "[a picture that cannot be read]");
        }
        assert_eq!(words(Vec::new()), "done");
        let failed = output(CallToolResult::error(vec![ContentBlock::text("no")]), &mut Pictures::default());
        assert!(failed.failed);
    }
}
