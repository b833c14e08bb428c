//! How a named field of a known type is read, so that every refusal names its field.

use std::{borrow::Cow, str::FromStr, time::Duration};

use super::{
    DecodeError,
    error::Shown,
    reader::{Open, Read, Reader, Token},
};
use crate::domain::{Encoding, IdError, Reason, Timestamp};

/// Reads a field once: a second occurrence is a duplicate key.
pub(super) fn once<T>(
    slot: &mut Option<T>,
    field: &'static str,
    read: impl FnOnce(&'static str) -> Read<T>,
) -> Read<()> {
    if slot.is_some() {
        return Err(DecodeError::DuplicateKey { key: Shown::new(field) });
    }
    *slot = Some(read(field)?);
    Ok(())
}

pub(super) fn required<T>(slot: Option<T>, field: &'static str) -> Read<T> {
    slot.ok_or(DecodeError::MissingField { field })
}

pub(super) fn unknown<T>(of: &'static str, field: &str) -> Read<T> {
    Err(DecodeError::UnknownField { of, field: Shown::new(field) })
}

fn wrong(field: &'static str, expected: &'static str, found: &Token<'_>) -> DecodeError {
    DecodeError::WrongType { field, expected, found: found.kind() }
}

/// The map that a body must be.
pub(super) fn body<'a>(reader: &mut impl Reader<'a>) -> Read<Open> {
    match reader.token()? {
        Token::Map(map) => Ok(map),
        other => Err(DecodeError::NotAMap { found: other.kind() }),
    }
}

pub(super) fn map<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<Open> {
    match reader.token()? {
        Token::Map(map) => Ok(map),
        other => Err(wrong(field, "map", &other)),
    }
}

pub(super) fn list<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<Open> {
    match reader.token()? {
        Token::List(list) => Ok(list),
        other => Err(wrong(field, "list", &other)),
    }
}

pub(super) fn boolean<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<bool> {
    match reader.token()? {
        Token::Bool(value) => Ok(value),
        other => Err(wrong(field, "boolean", &other)),
    }
}

pub(super) fn text<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<Cow<'a, str>> {
    match reader.token()? {
        Token::Text(text) => Ok(text),
        other => Err(wrong(field, "text", &other)),
    }
}

/// Text of at most `limit` bytes.
pub(super) fn short_text<'a>(
    reader: &mut impl Reader<'a>,
    field: &'static str,
    limit: usize,
) -> Read<Cow<'a, str>> {
    let text = text(reader, field)?;
    at_most(field, "bytes", text.len(), limit)?;
    Ok(text)
}

pub(super) fn at_most(field: &'static str, unit: &'static str, found: usize, limit: usize) -> Read<()> {
    if found > limit { Err(DecodeError::TooLong { field, unit, found, limit }) } else { Ok(()) }
}

pub(super) fn int<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<i128> {
    match reader.token()? {
        Token::Int(int) => Ok(int),
        other => Err(wrong(field, "integer", &other)),
    }
}

/// An integer that is not negative.
pub(super) fn count<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<u64> {
    u64::try_from(int(reader, field)?).map_err(|_| DecodeError::WrongType {
        field,
        expected: "integer of 0 or more",
        found: "negative integer",
    })
}

pub(super) fn millis<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<Timestamp> {
    count(reader, field).map(Timestamp)
}

pub(super) fn duration_ms<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<Duration> {
    count(reader, field).map(Duration::from_millis)
}

/// Any number, as a float.
pub(super) fn number<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<f64> {
    match reader.token()? {
        Token::Float(float) => Ok(float),
        // Only scores are read this way; they are small.
        Token::Int(int) => Ok(int as f64),
        other => Err(wrong(field, "number", &other)),
    }
}

/// An identifier, by its own constructor.
pub(super) fn id<'a, T>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<T>
where
    T: FromStr<Err = IdError>,
{
    let text = text(reader, field)?;
    text.parse().map_err(|error| DecodeError::identifier(field, &error, &text))
}

/// One of a closed set of words.
pub(super) fn word<'a, T>(
    reader: &mut impl Reader<'a>,
    field: &'static str,
    expected: &'static [&'static str],
    parse: impl FnOnce(&str) -> Option<T>,
) -> Read<T> {
    let text = text(reader, field)?;
    parse(&text).ok_or_else(|| DecodeError::UnknownWord { field, expected, found: Shown::new(&text) })
}

pub(super) fn reason(field: &'static str, word: &str) -> Read<Reason> {
    let expected = &["a reason of this version"];
    Reason::parse(word).ok_or_else(|| DecodeError::UnknownWord { field, expected, found: Shown::new(word) })
}

pub(super) fn encoding<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<Encoding> {
    word(reader, field, &["msgpack", "json"], |word| match word {
        "msgpack" => Some(Encoding::MessagePack),
        "json" => Some(Encoding::Json),
        _ => None,
    })
}

pub(super) fn encoding_word(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::MessagePack => "msgpack",
        Encoding::Json => "json",
    }
}

/// A word of a user's own, such as a tool or a role: it ends up in policies and logs.
pub(super) fn tag<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<String> {
    let text = text(reader, field)?;
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b':' | b'.' | b'-');
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(text.into_owned())
    } else {
        let expected = "1 to 64 of [a-z0-9_:.-]";
        Err(DecodeError::BadIdentifier { field, expected, found: Shown::new(&text) })
    }
}
