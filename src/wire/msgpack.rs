//! How MessagePack is read: one bounded pass over the bytes.
//!
//! Any length of integer or string header is read, since client libraries differ; what is hashed
//! is the canonical form. Binary and extension values are refused: JSON has nothing equal.

use std::borrow::Cow;

use rmp::Marker;

use super::{
    DecodeError, Limits,
    reader::{Budget, Open, Read, Reader, Token},
};

pub(crate) struct MessagePack<'a> {
    rest: &'a [u8],
    length: usize,
    first: Option<u8>,
    budget: Budget,
}

impl<'a> MessagePack<'a> {
    pub(crate) fn new(bytes: &'a [u8], limits: &Limits) -> Self {
        Self { rest: bytes, length: bytes.len(), first: bytes.first().copied(), budget: Budget::new(limits) }
    }

    fn at(&self) -> usize {
        self.length - self.rest.len()
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(DecodeError::Truncated { at: self.length });
        };
        self.rest = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Read<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Read<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn text(&mut self, length: usize) -> Read<Cow<'a, str>> {
        let at = self.at();
        let Some((head, rest)) = self.rest.split_at_checked(length) else {
            return Err(DecodeError::Truncated { at: self.length });
        };
        self.rest = rest;
        match std::str::from_utf8(head) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(error) => Err(DecodeError::BadUtf8 { at: at + error.valid_up_to() }),
        }
    }

    fn float(&self, float: f64, at: usize) -> Read<Token<'a>> {
        if float.is_finite() { Ok(Token::Float(float, None)) } else { Err(DecodeError::NotFinite { at }) }
    }

    fn list(&mut self, left: usize) -> Read<Token<'a>> {
        self.budget.open(left)?;
        Ok(Token::List(Open::new(left)))
    }

    fn map(&mut self, left: usize) -> Read<Token<'a>> {
        self.budget.open(left)?;
        Ok(Token::Map(Open::new(left)))
    }
}

/// A length of four bytes always fits where this runs; where it did not, it would be over any limit.
fn wide(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

impl<'a> Reader<'a> for MessagePack<'a> {
    fn token(&mut self) -> Read<Token<'a>> {
        let at = self.at();
        self.budget.value()?;
        let unsupported = |kind| Err(DecodeError::UnsupportedKind { at, kind });
        match Marker::from_u8(self.u8()?) {
            Marker::Null => Ok(Token::Null),
            Marker::True => Ok(Token::Bool(true)),
            Marker::False => Ok(Token::Bool(false)),
            Marker::FixPos(it) => Ok(Token::Int(it.into())),
            Marker::FixNeg(it) => Ok(Token::Int(it.into())),
            Marker::U8 => Ok(Token::Int(self.u8()?.into())),
            Marker::U16 => Ok(Token::Int(self.u16()?.into())),
            Marker::U32 => Ok(Token::Int(self.u32()?.into())),
            Marker::U64 => Ok(Token::Int(u64::from_be_bytes(self.array()?).into())),
            Marker::I8 => Ok(Token::Int(i8::from_be_bytes(self.array()?).into())),
            Marker::I16 => Ok(Token::Int(i16::from_be_bytes(self.array()?).into())),
            Marker::I32 => Ok(Token::Int(i32::from_be_bytes(self.array()?).into())),
            Marker::I64 => Ok(Token::Int(i64::from_be_bytes(self.array()?).into())),
            Marker::F32 => {
                let float = f32::from_be_bytes(self.array()?);
                self.float(float.into(), at)
            }
            Marker::F64 => {
                let float = f64::from_be_bytes(self.array()?);
                self.float(float, at)
            }
            Marker::FixStr(length) => self.text(length.into()).map(Token::Text),
            Marker::Str8 => {
                let length = self.u8()?;
                self.text(length.into()).map(Token::Text)
            }
            Marker::Str16 => {
                let length = self.u16()?;
                self.text(length.into()).map(Token::Text)
            }
            Marker::Str32 => {
                let length = self.u32()?;
                self.text(wide(length)).map(Token::Text)
            }
            Marker::FixArray(left) => self.list(left.into()),
            Marker::Array16 => {
                let left = self.u16()?;
                self.list(left.into())
            }
            Marker::Array32 => {
                let left = self.u32()?;
                self.list(wide(left))
            }
            Marker::FixMap(left) => self.map(left.into()),
            Marker::Map16 => {
                let left = self.u16()?;
                self.map(left.into())
            }
            Marker::Map32 => {
                let left = self.u32()?;
                self.map(wide(left))
            }
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => unsupported("binary"),
            Marker::FixExt1
            | Marker::FixExt2
            | Marker::FixExt4
            | Marker::FixExt8
            | Marker::FixExt16
            | Marker::Ext8
            | Marker::Ext16
            | Marker::Ext32 => unsupported("extension"),
            Marker::Reserved => {
                Err(DecodeError::Syntax { at, expected: "the first byte of a value", found: 0xc1 })
            }
        }
    }

    fn more(&mut self, list: &mut Open) -> Read<bool> {
        match list.left.checked_sub(1) {
            Some(left) => {
                list.left = left;
                Ok(true)
            }
            None => {
                self.budget.close();
                Ok(false)
            }
        }
    }

    fn key(&mut self, map: &mut Open) -> Read<Option<Cow<'a, str>>> {
        if !self.more(map)? {
            return Ok(None);
        }
        let at = self.at();
        let length = match Marker::from_u8(self.u8()?) {
            Marker::FixStr(length) => length.into(),
            Marker::Str8 => self.u8()?.into(),
            Marker::Str16 => self.u16()?.into(),
            Marker::Str32 => wide(self.u32()?),
            other => return Err(DecodeError::KeyNotText { at, found: kind(other) }),
        };
        self.text(length).map(Some)
    }

    fn null(&mut self) -> Read<bool> {
        match self.rest.first() {
            Some(first) if Marker::from_u8(*first) == Marker::Null => self.token().map(|_| true),
            _ => Ok(false),
        }
    }

    fn taken_for_msgpack(&self) -> Option<u8> {
        self.first
    }

    fn finish(&mut self) -> Read<()> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(DecodeError::TrailingBytes { bytes }),
        }
    }
}

/// The word for a kind of value that is not text.
fn kind(marker: Marker) -> &'static str {
    match marker {
        Marker::Null => "null",
        Marker::True | Marker::False => "boolean",
        Marker::F32 | Marker::F64 => "float",
        Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => "list",
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => "map",
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => "binary",
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => "text",
        Marker::FixPos(_)
        | Marker::FixNeg(_)
        | Marker::U8
        | Marker::U16
        | Marker::U32
        | Marker::U64
        | Marker::I8
        | Marker::I16
        | Marker::I32
        | Marker::I64 => "integer",
        Marker::FixExt1
        | Marker::FixExt2
        | Marker::FixExt4
        | Marker::FixExt8
        | Marker::FixExt16
        | Marker::Ext8
        | Marker::Ext16
        | Marker::Ext32 => "extension",
        Marker::Reserved => "reserved",
    }
}
