//! Which texts of a message a scorer reads, in which order, and what a word is.

use crate::domain::{Message, Value};

/// Calls `read` with every text of a message: of the content, by key, each key before its value
/// (harm could hide in a key as well); then the type; then the tools. Equal messages give equal
/// sequences.
pub fn for_each_text<'a>(message: &'a Message, read: &mut impl FnMut(&'a str)) {
    for (key, value) in &message.content {
        read(key);
        in_value(value, read);
    }
    read(message.message_type.as_str());
    for tool in &message.tools {
        read(tool);
    }
}

/// As deep as the decoder lets content be.
fn in_value<'a>(value: &'a Value, read: &mut impl FnMut(&'a str)) {
    match value {
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {}
        Value::Text(text) => read(text),
        Value::List(items) => items.iter().for_each(|item| in_value(item, read)),
        Value::Map(entries) => {
            for (key, value) in entries {
                read(key);
                in_value(value, read);
            }
        }
    }
}

/// The runs of letters in a text: `audit_log` is two words.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty())
}

/// As [`words`], and `totalAmount` is two as well.
pub(super) fn key_words(key: &str) -> impl Iterator<Item = &str> {
    words(key).flat_map(|mut rest| {
        std::iter::from_fn(move || {
            let humps = rest.as_bytes().windows(2);
            let end = humps
                .enumerate()
                .find(|(_, pair)| matches!(pair, [a, b] if a.is_ascii_lowercase() && b.is_ascii_uppercase()))
                .map_or(rest.len(), |(at, _)| at + 1);
            let (word, after) = rest.split_at_checked(end)?;
            rest = after;
            (!word.is_empty()).then_some(word)
        })
    })
}
