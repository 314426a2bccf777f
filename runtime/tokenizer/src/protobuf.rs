//! The little of protobuf's wire format that a SentencePiece model needs.

use crate::error::{Result, damaged};

/// One field of a message.
#[derive(Debug)]
pub(crate) enum Field<'a> {
    /// An integer, enum or bool.
    Varint(u64),
    /// Eight bytes, which no field we read has.
    Fixed64,
    /// A string or a message.
    Bytes(&'a [u8]),
    /// A float, as its bits.
    Fixed32(u32),
}

impl<'a> Field<'a> {
    pub(crate) fn bytes(self) -> Result<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(damaged(format!("expected a string or message, found {other:?}"))),
        }
    }

    pub(crate) fn varint(self) -> Result<u64> {
        match self {
            Self::Varint(value) => Ok(value),
            other => Err(damaged(format!("expected a number, found {other:?}"))),
        }
    }

    pub(crate) fn float(self) -> Result<f32> {
        match self {
            Self::Fixed32(bits) => Ok(f32::from_bits(bits)),
            other => Err(damaged(format!("expected a float, found {other:?}"))),
        }
    }
}

/// The fields of a message, in the order of the file.
pub(crate) struct Message<'a> {
    rest: &'a [u8],
}

impl<'a> Message<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field's number and value; `None` at the end.
    pub(crate) fn next_field(&mut self) -> Result<Option<(u64, Field<'a>)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Varint(self.varint()?),
            1 => self.take(8).map(|_| Field::Fixed64)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| damaged("a length overflows"))?;
                Field::Bytes(self.take(length)?)
            }
            5 => {
                let mut bits = [0; 4];
                bits.copy_from_slice(self.take(4)?);
                Field::Fixed32(u32::from_le_bytes(bits))
            }
            wire => return Err(damaged(format!("the wire type {wire} is unknown"))),
        };
        Ok(Some((key >> 3, field)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (head, rest) =
            self.rest.split_at_checked(length).ok_or_else(|| damaged("the file ends early"))?;
        self.rest = rest;
        Ok(head)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged("a number does not end"))
    }
}
