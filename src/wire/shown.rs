//! What a stranger wrote, as it may be shown.

use std::fmt;

use crate::{domain::id::shown, phrase::counted};

/// Text of a stranger, made safe to log: escaped and cut to 80 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    escaped: Box<str>,
    bytes: usize,
    plain: bool,
    short: bool,
}

impl Shown {
    pub(super) fn new(text: &str) -> Shown {
        const NAME_MAX: usize = 64;
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        let plain = (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(word);
        Shown { escaped: shown(text).into(), bytes: text.len(), plain, short: short(text) }
    }

    /// The text if it looks like a field's name, else only its size.
    pub(super) fn name(&self) -> String {
        if self.plain {
            self.escaped.to_string()
        } else {
            format!("(a name of {})", counted(self.bytes, "byte"))
        }
    }

    /// The text if it is short, else only its size.
    pub(super) fn described(&self) -> String {
        if self.short { self.escaped.to_string() } else { format!("of {}", counted(self.bytes, "byte")) }
    }
}

/// As much as a capability's label holds, which others are told of as well: no room for a sentence.
fn short(text: &str) -> bool {
    const CHARS_MAX: usize = 40;
    const WORDS_MAX: usize = 3;
    let words = text.split(|c: char| !c.is_alphabetic()).filter(|word| word.len() > 2);
    text.chars().count() <= CHARS_MAX && words.count() <= WORDS_MAX
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.escaped)
    }
}
