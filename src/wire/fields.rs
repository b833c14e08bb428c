//! How a named field of a known type is read, so that every refusal names its field.

use std::{borrow::Cow, str::FromStr, time::Duration};

use super::{
    DecodeError,
    error::{Place, Shown},
    json,
    reader::{Open, Read, Reader, Token},
};
use crate::domain::{Encoding, IdError, Reason, Timestamp};

/// Reads a named field of the map `of` once: a second occurrence is a duplicate key. A null is a field that is
/// absent, as many writers put it, and has occurred all the same.
pub(crate) fn once<'a, R: Reader<'a>, T>(
    reader: &mut R,
    of: &mut Open,
    slot: &mut Option<T>,
    field: &'static str,
    read: impl FnOnce(&mut R, &'static str) -> Read<T>,
) -> Read<()> {
    if slot.is_some() || of.nulls.contains(&field) {
        return Err(DecodeError::DuplicateKey { key: Shown::new(field) });
    }
    if reader.null()? {
        of.nulls.push(field);
        return Ok(());
    }
    *slot = Some(read(reader, field).map_err(|error| error.at(field))?);
    Ok(())
}

pub(crate) fn required<T>(slot: Option<T>, field: &'static str) -> Read<T> {
    slot.ok_or(DecodeError::MissingField { field })
}

pub(crate) fn unknown<T>(of: &'static str, field: &str) -> Read<T> {
    Err(DecodeError::UnknownField { of, field: Shown::new(field) })
}

fn wrong(field: Place<'_>, expected: &'static str, found: &Token<'_>) -> DecodeError {
    DecodeError::WrongType { field: field.into(), expected, found: found.found() }
}

/// The map that a body must be.
pub(crate) fn body<'a>(reader: &mut impl Reader<'a>) -> Read<Open> {
    match reader.token()? {
        Token::Map(map) => Ok(map),
        other => {
            Err(DecodeError::NotAMap { found: other.found(), taken_for_msgpack: reader.taken_for_msgpack() })
        }
    }
}

pub(crate) fn map<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<Open> {
    match reader.token()? {
        Token::Map(map) => Ok(map),
        other => Err(wrong(field.into(), "map", &other)),
    }
}

pub(crate) fn list<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<Open> {
    match reader.token()? {
        Token::List(list) => Ok(list),
        other => Err(wrong(field.into(), "list", &other)),
    }
}

pub(crate) fn boolean<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<bool> {
    match reader.token()? {
        Token::Bool(value) => Ok(value),
        other => Err(wrong(field.into(), "boolean", &other)),
    }
}

pub(crate) fn text<'a, 'p>(reader: &mut impl Reader<'a>, field: impl Into<Place<'p>>) -> Read<Cow<'a, str>> {
    match reader.token()? {
        Token::Text(text) => Ok(text),
        other => Err(wrong(field.into(), "text", &other)),
    }
}

/// Text of at most `limit` bytes.
pub(crate) fn short_text<'a, 'p>(
    reader: &mut impl Reader<'a>,
    field: impl Into<Place<'p>>,
    limit: usize,
) -> Read<Cow<'a, str>> {
    let field = field.into();
    let text = text(reader, field)?;
    at_most(field, "bytes", text.len(), limit)?;
    Ok(text)
}

pub(crate) fn at_most<'p>(
    field: impl Into<Place<'p>>,
    unit: &'static str,
    found: usize,
    limit: usize,
) -> Read<()> {
    if found <= limit {
        return Ok(());
    }
    Err(DecodeError::TooLong { field: field.into().into(), unit, found, limit })
}

/// An integer, however it is spelled: JavaScript's writers of MessagePack have a float for what is over 32 bits.
pub(crate) fn int<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<i128> {
    match reader.token()? {
        Token::Int(int) => Ok(int),
        Token::Float(float, digits) => whole(float, digits)
            .ok_or_else(|| wrong(field.into(), "a whole number within 2^53", &Token::Float(float, digits))),
        other => Err(wrong(field.into(), "integer", &other)),
    }
}

/// The integer that a float is, where every integer is a float of its own.
fn whole(float: f64, digits: Option<&str>) -> Option<i128> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if float.fract() != 0.0 || float.abs() > EXACT {
        return None;
    }
    match digits {
        // Of what is written in digits the float may be only the nearest.
        Some(digits) => json::whole(digits).filter(|whole| whole.unsigned_abs() <= 1 << 53),
        None => Some(float as i128),
    }
}

/// An integer that is not negative.
pub(crate) fn count<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<u64> {
    let int = int(reader, field)?;
    u64::try_from(int).map_err(|_| wrong(field.into(), "integer of 0 or more", &Token::Int(int)))
}

pub(crate) fn millis<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<Timestamp> {
    count(reader, field).map(Timestamp)
}

pub(crate) fn duration_ms<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<Duration> {
    count(reader, field).map(Duration::from_millis)
}

/// Any number, as a float.
pub(crate) fn number<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<f64> {
    match reader.token()? {
        Token::Float(float, _) => Ok(float),
        // Only scores are read this way; they are small.
        Token::Int(int) => Ok(int as f64),
        other => Err(wrong(field.into(), "number", &other)),
    }
}

/// An identifier, by its own constructor.
pub(crate) fn id<'a, 'p, T>(reader: &mut impl Reader<'a>, field: impl Into<Place<'p>>) -> Read<T>
where
    T: FromStr<Err = IdError>,
{
    let field = field.into();
    let text = text(reader, field)?;
    text.parse().map_err(|error| DecodeError::identifier(field, &error, &text))
}

/// One of a closed set of words.
pub(crate) fn word<'a, T>(
    reader: &mut impl Reader<'a>,
    field: &'static str,
    expected: &'static [&'static str],
    parse: impl FnOnce(&str) -> Option<T>,
) -> Read<T> {
    let text = text(reader, field)?;
    parse(&text).ok_or_else(|| DecodeError::UnknownWord { field, expected, found: Shown::new(&text) })
}

pub(crate) fn reason(field: &'static str, word: &str) -> Read<Reason> {
    let expected = &["a reason of this version"];
    Reason::parse(word).ok_or_else(|| DecodeError::UnknownWord { field, expected, found: Shown::new(word) })
}

pub(crate) fn encoding<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<Encoding> {
    word(reader, field, &["msgpack", "json"], |word| match word {
        "msgpack" => Some(Encoding::MessagePack),
        "json" => Some(Encoding::Json),
        _ => None,
    })
}

pub(crate) fn encoding_word(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::MessagePack => "msgpack",
        Encoding::Json => "json",
    }
}

/// A role: it ends up in policies and logs.
pub(crate) fn role<'a>(reader: &mut impl Reader<'a>, field: &'static str) -> Read<String> {
    tag(reader, field.into(), "1 to 64 of [a-z0-9_:.-]", |b| !b.is_ascii_uppercase())
}

/// A tool's name, as agents have it: `read`, `mcp__fs__write_file`, `bookFlight`.
pub(crate) fn tool<'a>(reader: &mut impl Reader<'a>, place: Place<'_>) -> Read<String> {
    tag(reader, place, "1 to 64 of [A-Za-z0-9_:.-]", |_| true)
}

fn tag<'a>(
    reader: &mut impl Reader<'a>,
    place: Place<'_>,
    expected: &'static str,
    also: impl Fn(u8) -> bool,
) -> Read<String> {
    let text = text(reader, place)?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'.' | b'-');
    if (1..=64).contains(&text.len()) && text.bytes().all(|b| allowed(b) && also(b)) {
        Ok(text.into_owned())
    } else {
        Err(DecodeError::BadIdentifier { field: place.into(), expected, found: Shown::new(&text) })
    }
}
