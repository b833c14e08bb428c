//! Which values does a message hold, each behind which words, and when is it too much?

use std::{borrow::Cow, cell::OnceCell, collections::HashSet, rc::Rc};

use super::{
    TooMuch, behind,
    classes::alphanumeric,
    decoded::{decoded, is_encoded, plainly},
    humps,
    normal::{WORD_WEIGHT, plain, seen_within, weight_of},
};
use crate::domain::{Message, Value};

pub(super) const LINE_ENDS: [char; 4] = ['\n', '\r', '\u{2028}', '\u{2029}'];

/// One value of the content that is no list and no map.
pub(super) struct Leaf<'a> {
    /// The words of its keys, from the outermost; empty where they say nothing.
    pub(super) label: Rc<str>,
    /// As it is seen: compatibility forms and what is invisible are undone.
    pub(super) value: Cow<'a, str>,
    pub(super) kind: Kind,
    /// See [`Leaf::line`].
    line: OnceCell<Option<String>>,
}

impl<'a> Leaf<'a> {
    fn new(label: &Rc<str>, value: Cow<'a, str>, kind: Kind) -> Self {
        Self { label: Rc::clone(label), value, kind, line: OnceCell::new() }
    }

    /// The value normalised, if it is one line.
    fn line(&self) -> Option<&str> {
        let one = || !self.value.contains(LINE_ENDS);
        self.line.get_or_init(|| one().then(|| plain(&self.value).into_owned())).as_deref()
    }

    /// The value behind its label, normalised.
    pub(super) fn whole(&self) -> Cow<'_, str> {
        match self.line() {
            Some(line) if self.label.is_empty() => Cow::Borrowed(line),
            // Beyond ASCII it counts what is beside it.
            Some(line) if !line.is_empty() && self.value.is_ascii() => {
                Cow::Owned(format!("{}: {line}", plain(&self.label)))
            }
            _ => Cow::Owned(plain(&behind(&self.label, &self.value)).into_owned()),
        }
    }

    /// The lines of the value, normalised. They end sentences, and white space is collapsed by normalising, so lines
    /// come first.
    pub(super) fn lines(&self) -> Vec<Cow<'_, str>> {
        match self.line() {
            Some(line) => vec![Cow::Borrowed(line)],
            None => self.value.split(LINE_ENDS).map(plain).collect(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// Yes, no, or nothing at all.
    Flag,
    Number,
    /// A key that is too long to be a label.
    Key,
}

/// How texts are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Written,
    Decoded,
}

/// Keys that say no more than that a text follows.
const NEUTRAL: &[&str] =
    &["text", "message", "body", "content", "prompt", "query", "input", "task", "instruction"];

/// Every value below a key is read behind it, so that a long key over many values would make a text
/// of gigabytes. What is cut here is read once, as a value of its own.
const LABEL_BYTES_MAX: usize = 256;

/// All values of a content in the order of their keys.
pub(super) struct Leaves<'a> {
    pub(super) found: Vec<Leaf<'a>>,
    /// The words of every key, each once, in order.
    pub(super) keys: Vec<Rc<str>>,
    /// Whether a text would be another if it were decoded.
    pub(super) encoded: bool,
    form: Form,
    known: HashSet<&'a str>,
    /// Labels that had to give way to the ones below them.
    dropped: HashSet<Rc<str>>,
    /// Weight that may still be collected.
    left: usize,
    /// Weight of keys that may still be looked at.
    keys_left: usize,
}

impl<'a> Leaves<'a> {
    /// None yet; at most of so much weight.
    pub(super) fn new(form: Form, room: usize) -> Self {
        Self {
            found: Vec::new(),
            keys: Vec::new(),
            encoded: false,
            form,
            known: HashSet::new(),
            dropped: HashSet::new(),
            left: room,
            keys_left: room,
        }
    }

    /// All of a message's content, unless it comes to more than so much.
    pub(super) fn of(message: &'a Message, form: Form, room: usize) -> Result<Self, TooMuch> {
        let mut leaves = Self::new(form, room);
        let top = Rc::from("");
        for (key, value) in &message.content {
            let label = leaves.below(&top, key)?;
            leaves.collect(&label, value)?;
        }
        Ok(leaves)
    }

    /// Weight that could still be collected.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    fn collect(&mut self, at: &Rc<str>, value: &'a Value) -> Result<(), TooMuch> {
        match value {
            // Nothing, but its key may say something.
            Value::Null => self.add(at, Cow::Borrowed(""), Kind::Flag),
            Value::Bool(it) => self.add(at, Cow::Borrowed(if *it { "yes" } else { "no" }), Kind::Flag),
            Value::Int(it) => self.add(at, Cow::Owned(it.to_string()), Kind::Number),
            Value::Float(it) => self.add(at, Cow::Owned(it.to_string()), Kind::Number),
            Value::Text(it) => self.text(at, it),
            Value::List(items) => items.iter().try_for_each(|item| self.collect(at, item)),
            Value::Map(entries) => entries.iter().try_for_each(|(key, value)| {
                let label = self.below(at, key)?;
                self.collect(&label, value)
            }),
        }
    }

    /// A text behind a label.
    pub(super) fn text(&mut self, label: &Rc<str>, text: &'a str) -> Result<(), TooMuch> {
        let (value, weight) = read(self.form, text, self.left, &mut self.encoded)?;
        self.put(label, value, weight, Kind::Text)
    }

    pub(super) fn add(&mut self, label: &Rc<str>, value: Cow<'a, str>, kind: Kind) -> Result<(), TooMuch> {
        let weight = weight_of(&value);
        self.put(label, value, weight, kind)
    }

    fn put(
        &mut self,
        label: &Rc<str>,
        value: Cow<'a, str>,
        weight: usize,
        kind: Kind,
    ) -> Result<(), TooMuch> {
        if label.is_empty() && value.is_empty() {
            return Ok(());
        }
        // The colon after its label, and what separates it from the next.
        let signs = if label.is_empty() { WORD_WEIGHT } else { 2 * WORD_WEIGHT };
        self.left = self.left.checked_sub(weight_of(label) + weight + signs).ok_or(TooMuch)?;
        self.found.push(Leaf::new(label, value, kind));
        Ok(())
    }

    /// The label of what is below a key.
    pub(super) fn below(&mut self, above: &Rc<str>, key: &'a str) -> Result<Rc<str>, TooMuch> {
        if above.is_empty() && NEUTRAL.contains(&key) {
            return Ok(Rc::clone(above));
        }
        let (seen, weight) = read(self.form, key, self.keys_left, &mut self.encoded)?;
        self.keys_left = self.keys_left.checked_sub(weight).ok_or(TooMuch)?;
        let (own, whole) = label(&seen, LABEL_BYTES_MAX);
        if self.known.insert(key) {
            if !whole {
                let (all, _) = label(&seen, usize::MAX);
                self.add(&Rc::from(""), Cow::Owned(all), Kind::Key)?;
            }
            self.keys.push(Rc::from(own.as_str()));
        }
        if above.is_empty() {
            return Ok(own.into());
        }
        if above.len() + 1 + own.len() <= LABEL_BYTES_MAX {
            return Ok(format!("{above} {own}").trim_end().into());
        }
        // The innermost says most.
        if self.dropped.insert(Rc::clone(above)) {
            self.add(above, Cow::Borrowed(""), Kind::Key)?;
        }
        Ok(own.into())
    }
}

/// A text as it is seen, and what it weighs.
fn read<'a>(
    form: Form,
    text: &'a str,
    room: usize,
    encoded: &mut bool,
) -> Result<(Cow<'a, str>, usize), TooMuch> {
    let mut left = room;
    let seen = seen_within(text, &mut left)?;
    let weight = room - left;
    match form {
        Form::Written => {
            let Some(meant) = plainly(&seen) else {
                *encoded = *encoded || is_encoded(&seen);
                return Ok((seen, weight));
            };
            let again = seen_within(&meant, &mut left)?.into_owned();
            *encoded = *encoded || is_encoded(&again);
            Ok((Cow::Owned(again), room - weight - left))
        }
        // What was encoded may be many more characters to the eye as well.
        Form::Decoded => {
            let Some(plain) = decoded(&seen) else { return Ok((seen, weight)) };
            let again = seen_within(&plain, &mut left)?.into_owned();
            Ok((Cow::Owned(again), room - weight - left))
        }
    }
}

/// The words of a key in at most so many bytes, and whether that is all of them.
pub(super) fn label(key: &str, bytes_max: usize) -> (String, bool) {
    let mut out = String::new();
    for word in key.split(|c: char| !alphanumeric(c)).flat_map(humps) {
        if !out.is_empty() && out.len() < bytes_max {
            out.push(' ');
        }
        let room = bytes_max.saturating_sub(out.len());
        if word.len() > room {
            out.push_str(word.get(..word.floor_char_boundary(room)).unwrap_or_default());
            out.truncate(out.trim_end().len());
            return (out, false);
        }
        out.push_str(word);
    }
    (out, true)
}
