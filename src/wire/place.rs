//! Where in a body something is wrong, and what stands there, in words for an error.

use std::fmt;

use super::shown::Shown;

/// Where a value stands, while it is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'p> {
    Field(&'static str),
    Entry(&'static str, &'p str),
    Item(&'static str, usize),
}

impl From<&'static str> for Place<'_> {
    fn from(field: &'static str) -> Self {
        Place::Field(field)
    }
}

/// The same in an error: `metadata.note`, `tools[1]`, `content.rows[3].when`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(pub(super) Box<str>);

impl Path {
    const BYTES_MAX: usize = 160;

    /// This path, seen from one map or list further out. The innermost is what is left of a long one.
    pub(super) fn below(self, outer: &str) -> Path {
        let Path(inner) = self;
        if outer.len() + inner.len() > Self::BYTES_MAX || inner.starts_with("...") {
            return Path(format!("...{}", inner.trim_start_matches('.')).into());
        }
        let dot = if inner.starts_with('[') { "" } else { "." };
        Path(format!("{outer}{dot}{inner}").into())
    }
}

impl From<Place<'_>> for Path {
    fn from(place: Place<'_>) -> Path {
        Path(match place {
            Place::Field(field) => field.into(),
            Place::Entry(field, key) => format!("{field}.{}", name(key)).into(),
            Place::Item(field, index) => format!("{field}[{index}]").into(),
        })
    }
}

impl From<&'static str> for Path {
    fn from(field: &'static str) -> Path {
        Path(field.into())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key as a sender may be told of it.
pub(super) fn name(key: &str) -> String {
    Shown::new(key).name().trim_matches('"').to_owned()
}

/// What stands where something else was expected.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// A boolean, a number, or the kind of what is not shown.
    Plain(String),
    Text(Shown),
}

impl Found {
    /// For the sender.
    pub(super) fn described(&self) -> String {
        match self {
            Found::Plain(words) => words.clone(),
            Found::Text(text) => format!("the text {}", text.described()),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Plain(words) => f.write_str(words),
            Found::Text(text) => write!(f, "the text {text}"),
        }
    }
}
