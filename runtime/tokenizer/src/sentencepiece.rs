//! SentencePiece model files.
//!
//! Source: google/sentencepiece: src/sentencepiece_model.proto.

mod gguf;

use crate::added::AddedToken;
use crate::error::{Result, damaged, inconsistent, unsupported};
use crate::protobuf::Message;
use crate::sp_bpe::{Flags, Piece, PieceKind, SpBpe};
use crate::vocabulary::{Kind, Spelling, Vocabulary, byte_piece, is_tag};

/// More pieces than any model has.
const MAX_PIECES: usize = 1 << 21;
const MODEL_TYPE_UNIGRAM: u64 = 1;
const MODEL_TYPE_BPE: u64 = 2;

pub(crate) fn load(model: &[u8], added: &[AddedToken]) -> Result<(Vocabulary, SpBpe)> {
    let (mut pieces, flags) = parse(model)?;
    for token in added {
        // An added token that is a piece too says how text treats that piece.
        if let Some(piece) = pieces.get_mut(token.id as usize)
            && piece.text == token.content
            && matches!(piece.kind, PieceKind::Normal | PieceKind::Unused)
        {
            piece.kind = PieceKind::UserDefined;
        }
    }
    let mut vocabulary = vocabulary(&pieces, flags)?;
    let mut extra = Vec::new();
    for token in added {
        let control = token.special || is_tag(&token.content);
        if vocabulary.id(&token.content).is_some_and(|id| id != token.id) {
            return Err(inconsistent(format!("the added token {:?} has two ids", token.content)));
        }
        if control {
            vocabulary.set(token.id, &token.content, Kind::Control { special: token.special })?;
        } else if vocabulary.text(token.id) != Some(&token.content) {
            vocabulary.set(token.id, &token.content, Kind::Verbatim)?;
            extra.push((token.id, token.content.clone()));
        }
    }
    let bpe = SpBpe::new(&pieces, &extra, &vocabulary, flags)?;
    Ok((vocabulary, bpe))
}

/// The table for pieces as SentencePiece and GGUF files list them.
pub(crate) fn vocabulary(pieces: &[Piece], flags: Flags) -> Result<Vocabulary> {
    let mut vocabulary = Vocabulary::new(Spelling::SentencePiece { strip_space: flags.add_dummy_prefix });
    for (id, piece) in pieces.iter().enumerate() {
        let kind = match piece.kind {
            PieceKind::Normal => Kind::Piece,
            PieceKind::UserDefined if is_tag(&piece.text) => Kind::Control { special: true },
            PieceKind::UserDefined => Kind::Piece,
            PieceKind::Control | PieceKind::Unknown => Kind::Control { special: true },
            PieceKind::Unused => Kind::Unused,
            PieceKind::Byte => Kind::Byte(
                byte_piece(&piece.text)
                    .ok_or_else(|| inconsistent(format!("{:?} is no byte", piece.text)))?,
            ),
        };
        vocabulary.set(id as u32, &piece.text, kind)?;
    }
    Ok(vocabulary)
}

fn parse(model: &[u8]) -> Result<(Vec<Piece>, Flags)> {
    let mut flags = Flags {
        add_dummy_prefix: true,
        remove_extra_whitespaces: true,
        escape_whitespaces: true,
        byte_fallback: false,
    };
    let mut pieces = Vec::new();
    let mut model_type = MODEL_TYPE_UNIGRAM;
    let mut message = Message::new(model);
    while let Some((number, field)) = message.next_field()? {
        match number {
            1 if pieces.len() == MAX_PIECES => return Err(damaged("too many pieces")),
            1 => pieces.push(parse_piece(field.bytes()?)?),
            2 => {
                let mut trainer = Message::new(field.bytes()?);
                while let Some((number, field)) = trainer.next_field()? {
                    match number {
                        3 => model_type = field.varint()?,
                        35 => flags.byte_fallback = field.varint()? != 0,
                        _ => {}
                    }
                }
            }
            3 => {
                let mut normalizer = Message::new(field.bytes()?);
                while let Some((number, field)) = normalizer.next_field()? {
                    match number {
                        3 => flags.add_dummy_prefix = field.varint()? != 0,
                        4 => flags.remove_extra_whitespaces = field.varint()? != 0,
                        5 => flags.escape_whitespaces = field.varint()? != 0,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if pieces.is_empty() {
        return Err(damaged("a SentencePiece model without pieces"));
    }
    if model_type != MODEL_TYPE_BPE {
        return Err(unsupported(format!("a SentencePiece model of type {model_type}, not BPE")));
    }
    Ok((pieces, flags))
}

fn parse_piece(bytes: &[u8]) -> Result<Piece> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: PieceKind::Normal };
    let mut message = Message::new(bytes);
    while let Some((number, field)) = message.next_field()? {
        match number {
            1 => {
                let text = std::str::from_utf8(field.bytes()?).map_err(|_| damaged("a piece is no UTF-8"))?;
                piece.text = text.to_owned();
            }
            2 => piece.score = field.float()?,
            3 => piece.kind = PieceKind::from_number(field.varint()?)?,
            _ => {}
        }
    }
    Ok(piece)
}
