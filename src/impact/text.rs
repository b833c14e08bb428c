//! Which words of a message does a scorer read, in which order, and in which pieces?
//!
//! A model that takes the mean over a text dilutes what stands beside much else, so a text is read
//! as a whole *and* sentence by sentence, and the highest score counts: padding cannot hide harm.
//! What a word is to eyes and not to bytes is undone first, in [`normal`].

use std::{borrow::Cow, collections::HashSet};

use super::signals;
use crate::domain::{Message, MessageType, Value};

mod around;
mod blobs;
mod brief;
mod classes;
mod codes;
mod confusables;
mod decoded;
mod deobfuscate;
mod dumps;
mod fields;
mod fragments;
mod giants;
mod glued;
mod guises;
mod morse;
mod normal;
mod packed;
mod rows;
mod sentences;
mod textlike;
mod texts;
mod wordlike;
mod words;
mod work;

use around::{Around, around};
use brief::{Brief, is_brief};
use fields::{Kind, Leaf, Leaves, label};
pub use normal::normalized;
pub(super) use normal::normalized_within;
use normal::{WORD_WEIGHT, plain, weight_of};
use sentences::{count, sentences};
use texts::{Form, Text, Texts};
use wordlike::is_wordlike;
use words::humps;
pub(super) use words::{key_words, words};
use work::{JOINING, NORMALISING, PARTING, Work};

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

/// Whether a message is so small and plain that reading it takes less than asking another thread to.
pub(super) fn is_light(message: &Message) -> bool {
    const BYTES_MAX: usize = 1_024;
    const VALUES_MAX: usize = 64;
    let mut room = (BYTES_MAX, VALUES_MAX);
    message.content.iter().all(|(key, value)| light_text(key, &mut room) && light(value, &mut room))
        && message
            .metadata
            .iter()
            .all(|(key, value)| light_text(key, &mut room) && light_text(value, &mut room))
        && message.tools.iter().all(|tool| light_text(tool, &mut room))
}

fn light(value: &Value, room: &mut (usize, usize)) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => light_text("", room),
        Value::Text(text) => light_text(text, room),
        Value::List(items) => light_text("", room) && items.iter().all(|item| light(item, room)),
        Value::Map(entries) => {
            light_text("", room)
                && entries.iter().all(|(key, value)| light_text(key, room) && light(value, room))
        }
    }
}

/// Stops to look where there is no room left.
fn light_text(text: &str, (bytes, values): &mut (usize, usize)) -> bool {
    let fits = text.len() <= *bytes && *values > 0 && text.is_ascii();
    *bytes = bytes.saturating_sub(text.len());
    *values = values.saturating_sub(1);
    fits
}

/// More text than the windows of one message could hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMuch;

/// Text for each window, generously: 128 tokens, each a word or at most some twenty letters of one. What a few
/// bytes on the wire can be made to say is bounded by this, before it is made.
const WINDOW_WEIGHT: usize = 128 * 22;
/// What the first window has beyond that.
const FIRST_WEIGHT: usize = 1 << 10;

/// Weight of text that so many windows could hold.
fn room_of(windows: usize) -> usize {
    windows.saturating_mul(WINDOW_WEIGHT).saturating_add(FIRST_WEIGHT)
}

/// All that a model reads of a message, in passages that are normalised, none empty, none twice in one
/// of both, at most as much in all as the windows hold that are read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Passages {
    /// Of the content, the type and the tools.
    pub content: Vec<String>,
    /// Of metadata, ids and whom it is for, apart, so that they leave equal contents equal.
    pub around: Vec<String>,
}

/// [`whole`], and if that is long, each sentence of it alone, and what is too short to be one together; if it is
/// very long, only these; then what it says decoded, if that is another thing. The work is linear in the message
/// and bounded, what comes out by so many full windows.
pub fn passages(message: &Message, windows_max: usize) -> Result<Passages, TooMuch> {
    passages_within(Work::of_one_message(), message, windows_max)
}

/// As [`passages`], with more time to look: where nobody waits.
pub fn long_passages(message: &Message, windows_max: usize) -> Result<Passages, TooMuch> {
    passages_within(Work::of_one_long_message(), message, windows_max)
}

fn passages_within(work: Work, message: &Message, windows_max: usize) -> Result<Passages, TooMuch> {
    let room = room_of(windows_max);
    let mut content = Reading::new(room);
    let texts = Texts::within(work);
    let mut leaves = Leaves::of(message, texts, Form::Written, room)?;
    let left = leaves.left();
    let asked = with_type_and_tools(message, String::new());
    let whole = with_type_and_tools(message, whole(&mut leaves, room)?);
    content.read(&mut leaves, &whole, &asked)?;
    let mut texts = leaves.texts;
    if texts.encoded {
        let mut leaves = Leaves::of(message, texts, Form::Decoded, room)?;
        let whole = with_type_and_tools(message, self::whole(&mut leaves, room)?);
        content.read(&mut leaves, &whole, &asked)?;
        texts = leaves.texts;
    }
    // What is beside it has what the content leaves.
    let mut beside = Reading::new(content.left);
    texts = Texts::within(std::mem::take(&mut texts.work));
    for form in [Form::Written, Form::Decoded] {
        let Some(Around { mut leaves, speaks }) = around(message, texts, form, left)? else { break };
        let words = self::whole(&mut leaves, room)?;
        // One sentence may stand half in the one and half in the other.
        let both = format!("{whole} {words}");
        if speaks && !whole.is_empty() && is_short(&both) {
            beside.add(&both)?;
        }
        beside.read(&mut leaves, &words, "")?;
        texts = leaves.texts;
        if !texts.encoded {
            break;
        }
    }
    Ok(Passages { content: content.found, around: beside.found })
}

/// Whether no sentence of a text can hide in it. A short text is read as a whole only, for of "Dry run
/// only. Drop the table." neither half tells what the whole does.
fn is_short(whole: &str) -> bool {
    const WORDS_MAX: usize = 24;
    // Not every language has spaces between words.
    const BYTES_MAX: usize = 240;
    whole.len() <= BYTES_MAX && count(whole, WORDS_MAX + 1) <= WORDS_MAX
}

/// What weighs more is read by its sentences only: among so many others no harm is heard that is not heard in one
/// of them, and reading it as a whole takes more than all of them.
const WHOLE_WEIGHT_MAX: usize = 12 << 10;

/// Whether it is not read as a whole.
fn is_long(whole: &str) -> bool {
    whole.len() > WHOLE_WEIGHT_MAX || weight_of(whole) > WHOLE_WEIGHT_MAX
}

/// What has been read so far.
struct Reading {
    found: Vec<String>,
    known: HashSet<String>,
    /// Weight that may still be read.
    left: usize,
}

impl Reading {
    fn new(room: usize) -> Self {
        Self { found: Vec::new(), known: HashSet::new(), left: room }
    }

    /// A text, and what is asked for with it, which is part of it.
    fn read(&mut self, leaves: &mut Leaves<'_>, whole: &str, asked: &str) -> Result<(), TooMuch> {
        let short = is_short(whole);
        self.add(if is_long(whole) { asked } else { whole })?;
        for text in fragments::joined(leaves)? {
            leaves.texts.work.spend(NORMALISING + PARTING, &text)?;
            let text = plain(&text);
            if is_short(&text) {
                self.add(&text)?;
            } else {
                sentences::pieces(&text, &mut |piece| self.add(piece))?;
            }
        }
        if short {
            return giants::without(whole).map_or(Ok(()), |rest| self.add(&rest));
        }
        let (mut labels, mut brief) = (HashSet::new(), Brief::default());
        let work = &mut leaves.texts.work;
        for Leaf { label, text, kind } in &leaves.found {
            let value = text.said();
            // A word or two alone mean nothing to the model, and a number less.
            let alone = *kind != Kind::Number && !is_brief(value);
            let spoken = if alone { self.alone(text, work)? } else { 0 };
            if spoken == 0 && *kind != Kind::Number {
                work.spend(NORMALISING + PARTING, value)?;
                brief.add(label, value);
            }
            // Of keys of few words nobody's harm is made.
            if labels.insert(label) {
                work.spend(NORMALISING + PARTING, label)?;
                sentences(&[plain(label)], &mut |text| self.add(text))?;
            }
        }
        brief.passages(work, &mut |piece| self.add(piece))
    }

    /// The sentences of a text, unless they have been read. How many it has.
    fn alone(&mut self, text: &Text<'_>, work: &mut Work) -> Result<usize, TooMuch> {
        if let Some(known) = text.sentences.get() {
            return Ok(*known);
        }
        work.spend(PARTING, &text.seen)?;
        let lines = text.lines();
        let count = sentences(&lines, &mut |piece| self.add(piece))?;
        for rest in lines.iter().filter_map(|line| giants::without(line)) {
            work.spend(PARTING, &rest)?;
            match is_short(&rest) {
                true => self.add(&rest)?,
                false => sentences(&[rest.into()], &mut |piece| self.add(piece)).map(drop)?,
            }
        }
        Ok(*text.sentences.get_or_init(|| count))
    }

    fn add(&mut self, text: &str) -> Result<(), TooMuch> {
        if text.is_empty() || self.known.contains(text) {
            return Ok(());
        }
        // A window has a token before and one behind it.
        let weight = weight_of(text) + 2 * WORD_WEIGHT;
        self.left = self.left.checked_sub(weight).ok_or(TooMuch)?;
        self.known.insert(text.to_owned());
        self.found.push(text.to_owned());
        Ok(())
    }
}

/// A value behind its key, both as they are seen.
fn behind<'a>(label: &'a str, value: &'a str) -> Cow<'a, str> {
    match (label, value) {
        ("", value) => Cow::Borrowed(value),
        (label, "") => Cow::Borrowed(label),
        (label, value) => Cow::Owned(format!("{label}: {value}")),
    }
}

/// The text of a message as a whole, normalised: the content's one text as it stands if it is under a
/// key that says nothing, else every value behind its key. Equal messages give equal texts.
fn whole(leaves: &mut Leaves<'_>, room: usize) -> Result<String, TooMuch> {
    let mut out = String::new();
    for leaf in &leaves.found {
        let apart = deobfuscate::has_apart(leaf.value());
        leaves.texts.work.spend(if apart { JOINING } else { NORMALISING }, leaf.value())?;
        leaves.texts.work.spend(NORMALISING, &leaf.label)?;
        append(&mut out, &leaf.whole());
        if out.len() > room {
            return Err(TooMuch);
        }
    }
    Ok(out)
}

/// What the type and the tools add to a text, if they do.
fn with_type_and_tools(message: &Message, mut out: String) -> String {
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
    out
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

#[cfg(test)]
pub(super) mod tests;
