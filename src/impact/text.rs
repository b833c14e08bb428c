//! Which words of a message does a scorer read, in which order, and in which pieces?
//!
//! A model that takes the mean over a text dilutes what stands beside much else, so a text is read
//! as a whole *and* sentence by sentence, and the highest score counts: padding cannot hide harm.
//! What a word is to eyes and not to bytes is undone first, in [`normal`].

use std::collections::BTreeSet;

use super::signals;
use crate::domain::{Message, MessageType, Value};

mod brief;
mod leaves;
mod letters;
mod normal;
mod sentences;
mod spelled;

use brief::{Brief, is_brief};
use leaves::{Leaf, label, leaves};
pub use normal::normalized;
use sentences::{count, sentences};

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

/// More text than the windows of one message could hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMuch;

/// Bytes of text for each window, generously: 128 tokens, and hardly a token is longer. What a few
/// bytes on the wire can be made to say is bounded by this, on a thread that others wait for.
const WINDOW_BYTES: usize = 128 * 64;

/// All that a model reads of a message: [`whole`], and if that is long, each sentence of it alone,
/// and what is too short to be one together. Normalised, none empty, none twice, at most
/// `windows_max`; the work is linear in the message and bounded by `windows_max`.
pub fn passages(message: &Message, windows_max: usize) -> Result<Vec<String>, TooMuch> {
    let bytes_max = windows_max.saturating_mul(WINDOW_BYTES);
    let leaves = leaves(message, bytes_max)?;
    let mut read = Passages::new(windows_max);
    let whole = whole(message, &leaves, bytes_max)?;
    let short = is_short(&whole);
    read.add(whole)?;
    if short {
        return Ok(read.found);
    }
    let (mut labels, mut brief) = (BTreeSet::new(), Brief::default());
    for Leaf { label, value, number } in &leaves {
        // A word or two alone mean nothing to the model, and a number less.
        let spoken = if *number || is_brief(value) { Vec::new() } else { sentences(value) };
        if spoken.is_empty() && !number {
            brief.add(label, value);
        }
        read.all(spoken)?;
        // Of keys of few words nobody's harm is made.
        if labels.insert(label) {
            read.all(sentences(label))?;
        }
    }
    read.all(brief.passages())?;
    Ok(read.found)
}

/// Whether no sentence of a text can hide in it. A short text is read as a whole only, for of "Dry run
/// only. Drop the table." neither half tells what the whole does.
fn is_short(whole: &str) -> bool {
    const WORDS_MAX: usize = 24;
    // Not every language has spaces between words.
    const BYTES_MAX: usize = 240;
    whole.len() <= BYTES_MAX && count(whole) <= WORDS_MAX
}

struct Passages {
    found: Vec<String>,
    known: BTreeSet<String>,
    max: usize,
}

impl Passages {
    fn new(max: usize) -> Self {
        Self { found: Vec::new(), known: BTreeSet::new(), max }
    }

    fn all(&mut self, texts: Vec<String>) -> Result<(), TooMuch> {
        texts.into_iter().try_for_each(|text| self.add(text))
    }

    /// Each is a window at least.
    fn add(&mut self, text: String) -> Result<(), TooMuch> {
        if text.is_empty() || self.known.contains(&text) {
            return Ok(());
        }
        if self.found.len() >= self.max {
            return Err(TooMuch);
        }
        self.known.insert(text.clone());
        self.found.push(text);
        Ok(())
    }
}

fn labelled(label: &str, value: &str) -> String {
    match (label, value) {
        ("", value) => normalized(value),
        (label, "") => normalized(label),
        (label, value) => normalized(&format!("{label}: {value}")),
    }
}

/// The text of a message as a whole, normalised: the content's one text as it stands if it is under a
/// key that says nothing, else every value behind its key; then what the type and the tools add, if
/// they do. Equal messages give equal texts.
fn whole(message: &Message, leaves: &[Leaf<'_>], bytes_max: usize) -> Result<String, TooMuch> {
    let mut out = String::new();
    for Leaf { label, value, .. } in leaves {
        append(&mut out, &labelled(label, value));
        // Normalising may have made a text longer.
        if out.len() > bytes_max {
            return Err(TooMuch);
        }
    }
    append(&mut out, type_words(message.message_type));
    // Asking to read says nothing about what the words want.
    let telling: Vec<String> = message
        .tools
        .iter()
        .filter(|tool| signals::permission_of_tool(tool) > signals::PERMISSION_READ)
        .map(|tool| label(tool, usize::MAX).0)
        .collect();
    if !telling.is_empty() {
        append(&mut out, &normalized(&format!("tools: {}", telling.join(", "))));
    }
    Ok(out)
}

fn append(out: &mut String, part: &str) {
    if part.is_empty() {
        return;
    }
    match out.chars().next_back() {
        None => {}
        Some('.' | '!' | '?' | ';' | ':' | ',') => out.push(' '),
        Some(_) => out.push_str("; "),
    }
    out.push_str(part);
}

/// What a type says beyond what every message says.
fn type_words(message_type: MessageType) -> &'static str {
    match message_type {
        MessageType::GovernanceRequest => "governance request",
        MessageType::GovernanceResponse => "governance response",
        MessageType::ConstitutionalValidation => "constitutional validation",
        MessageType::Command
        | MessageType::Query
        | MessageType::Response
        | MessageType::Event
        | MessageType::Notification
        | MessageType::Heartbeat
        | MessageType::TaskRequest
        | MessageType::TaskResponse
        | MessageType::AuditLog => "",
    }
}

/// The runs of letters in a text: `audit_log` is two words.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty())
}

/// As [`words`], and `totalAmount` is two as well.
pub(super) fn key_words(key: &str) -> impl Iterator<Item = &str> {
    words(key).flat_map(humps)
}

/// The words that capitals separate.
fn humps(mut rest: &str) -> impl Iterator<Item = &str> {
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
}

#[cfg(test)]
mod tests;
