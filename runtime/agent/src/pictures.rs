//! The pictures of a conversation.

use std::collections::HashMap;
use std::sync::Arc;

use protocol::agent::{Content, Origin, Part, PictureId, Turn};

/// The bytes of pictures by their names.
#[derive(Debug, Clone, Default)]
pub struct Pictures {
    files: HashMap<PictureId, Arc<[u8]>>,
}

impl Pictures {
    /// Keeps a picture file.
    pub fn add(&mut self, bytes: impl Into<Arc<[u8]>>) -> PictureId {
        let bytes = bytes.into();
        let id = PictureId::of(&bytes);
        self.files.entry(id.clone()).or_insert(bytes);
        id
    }

    /// Keeps a picture file, as a part of a message.
    ///
    /// # Errors
    /// If it is none that can be decoded.
    pub fn part(&mut self, origin: Origin, bytes: Vec<u8>) -> vision::Result<Part> {
        vision::decode(&bytes, &vision::DecodeOptions::default())?;
        Ok(Part { origin, content: Content::Picture(self.add(bytes)) })
    }

    /// The bytes of a picture.
    pub fn get(&self, id: &PictureId) -> Option<&Arc<[u8]>> {
        self.files.get(id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&PictureId, &Arc<[u8]>)> {
        self.files.iter()
    }
}

/// The pictures of a transcript in the order in which the model sees them: the first is number 1.
pub fn numbered(turns: &[Turn]) -> Vec<&PictureId> {
    turns.iter().flat_map(Turn::pictures).collect()
}
