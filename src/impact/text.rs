//! Which words of a message does a scorer read, in which order, and in which pieces?
//!
//! A model that takes the mean over a text dilutes what stands beside much else, so a text is read
//! as a whole *and* sentence by sentence, and the highest score counts: padding cannot hide harm.
//! What a word is to eyes and not to bytes is undone first, in [`normal`].

use std::{borrow::Cow, collections::BTreeSet};

use super::signals;
use crate::domain::{Message, MessageType, Value};

mod normal;
mod sentences;

pub use normal::normalized;
use sentences::sentences;

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

/// The text that a model reads of a message as a whole, normalised: the content's one text as it
/// stands if it is under a key that says nothing, else every value behind its key; then what the
/// type and the tools add, if they do. Equal messages give equal texts.
pub fn rendered(message: &Message) -> String {
    whole(message, &leaves(message))
}

/// All that a model reads of a message: [`rendered`], and if that is long, each sentence of it alone.
/// Normalised, none empty, none twice.
pub fn passages(message: &Message) -> Vec<String> {
    let leaves = leaves(message);
    let mut read = Passages::default();
    let whole = whole(message, &leaves);
    let short = is_short(&whole);
    read.add(whole);
    if short {
        return read.0;
    }
    // A word or two alone mean nothing to the model, and a number less: they count in the whole.
    for Leaf { label, value } in &leaves {
        sentences(value).into_iter().for_each(|sentence| read.add(sentence));
        // Of keys of few words nobody's harm is made.
        sentences(label).into_iter().for_each(|sentence| read.add(sentence));
    }
    read.0
}

/// As [`passages`], of a text on its own.
pub fn passages_of(text: &str) -> Vec<String> {
    let mut read = Passages::default();
    let whole = normalized(text);
    let short = is_short(&whole);
    read.add(whole);
    if !short {
        sentences(text).into_iter().for_each(|sentence| read.add(sentence));
    }
    read.0
}

/// Whether no sentence of a text can hide in it. A short text is read as a whole only, for of "Dry run
/// only. Drop the table." neither half tells what the whole does.
fn is_short(whole: &str) -> bool {
    const WORDS_MAX: usize = 24;
    // Not every language has spaces between words.
    const BYTES_MAX: usize = 240;
    whole.len() <= BYTES_MAX && whole.split(' ').count() <= WORDS_MAX
}

#[derive(Default)]
struct Passages(Vec<String>, BTreeSet<String>);

impl Passages {
    fn add(&mut self, text: String) {
        if !text.is_empty() && !self.1.contains(&text) {
            self.1.insert(text.clone());
            self.0.push(text);
        }
    }
}

/// One value of the content that is no list and no map.
struct Leaf<'a> {
    /// The words of its keys, from the outermost; empty where they say nothing.
    label: String,
    value: Cow<'a, str>,
}

/// Keys that say no more than that a text follows.
const NEUTRAL: &[&str] =
    &["text", "message", "body", "content", "prompt", "query", "input", "task", "instruction"];

fn leaves(message: &Message) -> Vec<Leaf<'_>> {
    let mut found = Vec::new();
    for (key, value) in &message.content {
        collect(label("", key), value, &mut found);
    }
    found
}

fn collect<'a>(at: String, value: &'a Value, found: &mut Vec<Leaf<'a>>) {
    let value = match value {
        // Nothing, but its key may say something.
        Value::Null => Cow::Borrowed(""),
        Value::Bool(it) => Cow::Borrowed(if *it { "yes" } else { "no" }),
        Value::Int(it) => Cow::Owned(it.to_string()),
        Value::Float(it) => Cow::Owned(it.to_string()),
        Value::Text(it) => Cow::Borrowed(it.as_str()),
        Value::List(items) => {
            items.iter().for_each(|item| collect(at.clone(), item, found));
            return;
        }
        Value::Map(entries) => {
            entries.iter().for_each(|(key, value)| collect(label(&at, key), value, found));
            return;
        }
    };
    found.push(Leaf { label: at, value });
}

/// Keys as deep as the decoder allows, each of them long, would make a text of gigabytes.
const LABEL_BYTES_MAX: usize = 256;

fn label(above: &str, key: &str) -> String {
    let mut out = above.to_owned();
    if above.is_empty() && NEUTRAL.contains(&key) {
        return out;
    }
    if out.len() + key.len() > LABEL_BYTES_MAX {
        // The innermost says most.
        out.clear();
    }
    for word in key.split(|c: char| !c.is_alphanumeric()).flat_map(humps).filter(|word| !word.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}

fn labelled(label: &str, value: &str) -> String {
    match (label, value) {
        ("", value) => normalized(value),
        (label, "") => normalized(label),
        (label, value) => normalized(&format!("{label}: {value}")),
    }
}

fn whole(message: &Message, leaves: &[Leaf<'_>]) -> String {
    let mut out = String::new();
    for Leaf { label, value } in leaves {
        append(&mut out, &labelled(label, value));
    }
    append(&mut out, type_words(message.message_type));
    // Asking to read says nothing about what the words want.
    let telling: Vec<String> = message
        .tools
        .iter()
        .filter(|tool| signals::permission_of_tool(tool) > signals::PERMISSION_READ)
        .map(|tool| label("", tool))
        .collect();
    if !telling.is_empty() {
        append(&mut out, &normalized(&format!("tools: {}", telling.join(", "))));
    }
    out
}

fn append(out: &mut String, part: &str) {
    if part.is_empty() {
        return;
    }
    match out.chars().last() {
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
