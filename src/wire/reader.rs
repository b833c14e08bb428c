//! How a body is read, whichever encoding it has: value by value, within a budget.
//!
//! A pull reader and not serde: every refusal keeps its own reason and place, duplicate keys are
//! seen at any depth, and nothing is allocated on the word of a length prefix.

use std::{
    borrow::Cow,
    collections::{BTreeMap, btree_map::Entry},
};

use super::{
    DecodeError, Limits,
    error::{Found, Shown},
};
use crate::domain::Value;

pub(crate) type Read<T> = Result<T, DecodeError>;

/// One encoding's reader. MessagePack and JSON implement it.
pub(crate) trait Reader<'a> {
    /// The next value, or the opening of the next list or map.
    fn token(&mut self) -> Read<Token<'a>>;

    /// Whether the list has another element; it is read by the next `token`.
    fn more(&mut self, list: &mut Open) -> Read<bool>;

    /// The next key of the map, whose value is read by the next `token`; `None` closes the map.
    fn key(&mut self, map: &mut Open) -> Read<Option<Cow<'a, str>>>;

    /// Reads past a null, if that is the next value.
    fn null(&mut self) -> Read<bool>;

    /// The first byte of a body that is read as MessagePack, and so was not taken for JSON.
    fn taken_for_msgpack(&self) -> Option<u8>;

    /// Nothing may follow the body's one value.
    fn finish(&mut self) -> Read<()>;
}

/// One value, or the opening of one.
#[derive(Debug)]
pub(crate) enum Token<'a> {
    Null,
    Bool(bool),
    Int(i128),
    /// And its digits, where it was written with some.
    Float(f64, Option<&'a str>),
    Text(Cow<'a, str>),
    List(Open),
    Map(Open),
}

impl Token<'_> {
    /// The word for this kind of value in errors.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Token::Null => "null",
            Token::Bool(_) => "boolean",
            Token::Int(_) => "integer",
            Token::Float(..) => "float",
            Token::Text(_) => "text",
            Token::List(_) => "list",
            Token::Map(_) => "map",
        }
    }

    /// What an error says that it is.
    pub(crate) fn found(&self) -> Found {
        match self {
            Token::Text(text) => Found::Text(Shown::new(text)),
            Token::Bool(it) => Found::Plain(it.to_string()),
            Token::Int(it) => Found::Plain(format!("the integer {it}")),
            Token::Float(it, _) => Found::Plain(format!("the float {it:?}")),
            Token::Null => Found::Plain("null".to_owned()),
            Token::List(_) | Token::Map(_) => Found::Plain(format!("a {}", self.kind())),
        }
    }
}

/// A list or map whose end has not been read. For MessagePack `left` is the number of entries to
/// come; for JSON it is 1 until the first entry has been read, because no comma precedes that.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) left: usize,
    /// Named fields of a map that were null: absent, but they have occurred.
    pub(crate) nulls: Vec<&'static str>,
}

impl Open {
    pub(crate) fn new(left: usize) -> Open {
        Open { left, nulls: Vec::new() }
    }
}

/// What a body may still use of its limits.
#[derive(Debug)]
pub(crate) struct Budget {
    depth_max: usize,
    values_max: usize,
    depth: usize,
    values: usize,
}

impl Budget {
    pub(crate) fn new(limits: &Limits) -> Budget {
        Budget { depth_max: limits.depth, values_max: limits.values, depth: 0, values: 0 }
    }

    pub(crate) fn value(&mut self) -> Read<()> {
        self.values += 1;
        if self.values > self.values_max { Err(self.too_many()) } else { Ok(()) }
    }

    /// `claimed` values are promised by a length prefix; a promise beyond the limit is refused
    /// before anything is read or allocated for it.
    pub(crate) fn open(&mut self, claimed: usize) -> Read<()> {
        self.depth += 1;
        if self.depth > self.depth_max {
            return Err(DecodeError::TooDeep { limit: self.depth_max });
        }
        if claimed > self.values_max - self.values.min(self.values_max) {
            return Err(self.too_many());
        }
        Ok(())
    }

    pub(crate) fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn too_many(&self) -> DecodeError {
        DecodeError::TooManyValues { limit: self.values_max }
    }
}

/// Reads one value whole. The recursion is as deep as the budget allows, no deeper.
pub(crate) fn value<'a>(reader: &mut impl Reader<'a>) -> Read<Value> {
    Ok(match reader.token()? {
        Token::Null => Value::Null,
        Token::Bool(it) => Value::Bool(it),
        Token::Int(it) => Value::Int(it),
        Token::Float(it, _) => Value::Float(it),
        Token::Text(it) => Value::Text(it.into_owned()),
        Token::List(mut list) => {
            let mut items = Vec::new();
            while reader.more(&mut list)? {
                let item = value(reader).map_err(|error| error.within_item(items.len()))?;
                items.push(item);
            }
            Value::List(items)
        }
        Token::Map(map) => Value::Map(entries(reader, map)?),
    })
}

/// Reads the rest of an opened map.
pub(crate) fn entries<'a>(reader: &mut impl Reader<'a>, mut map: Open) -> Read<BTreeMap<String, Value>> {
    let mut entries = BTreeMap::new();
    while let Some(key) = reader.key(&mut map)? {
        // Looked for once: in a map of thousands that is what reading costs.
        match entries.entry(key.into_owned()) {
            Entry::Occupied(found) => {
                return Err(DecodeError::DuplicateKey { key: Shown::new(found.key()) });
            }
            Entry::Vacant(place) => {
                let key = place.key();
                let value = value(reader).map_err(|error| error.within(key))?;
                place.insert(value);
            }
        }
    }
    Ok(entries)
}

/// Reads past one value.
pub(crate) fn skip<'a>(reader: &mut impl Reader<'a>) -> Read<()> {
    match reader.token()? {
        Token::Null | Token::Bool(_) | Token::Int(_) | Token::Float(..) | Token::Text(_) => {}
        Token::List(mut list) => {
            while reader.more(&mut list)? {
                skip(reader)?;
            }
        }
        Token::Map(mut map) => {
            while reader.key(&mut map)?.is_some() {
                skip(reader)?;
            }
        }
    }
    Ok(())
}
