//! Which values does a message hold, each behind which words, and when is it too much?

use std::{borrow::Cow, collections::HashSet, rc::Rc};

use super::{
    TooMuch,
    decoded::{decoded, is_encoded},
    humps,
    normal::{seen_within, weight_of},
};
use crate::domain::{Message, Value};

/// One value of the content that is no list and no map.
pub(super) struct Leaf<'a> {
    /// The words of its keys, from the outermost; empty where they say nothing.
    pub(super) label: Rc<str>,
    /// As it is seen: compatibility forms and what is invisible are undone.
    pub(super) value: Cow<'a, str>,
    pub(super) kind: Kind,
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
        let value = read(self.form, text, self.left, &mut self.encoded)?;
        self.add(label, value, Kind::Text)
    }

    pub(super) fn add(&mut self, label: &Rc<str>, value: Cow<'a, str>, kind: Kind) -> Result<(), TooMuch> {
        if label.is_empty() && value.is_empty() {
            return Ok(());
        }
        const BETWEEN: usize = 4;
        let weight = weight_of(label) + weight_of(&value) + BETWEEN;
        self.left = self.left.checked_sub(weight).ok_or(TooMuch)?;
        self.found.push(Leaf { label: Rc::clone(label), value, kind });
        Ok(())
    }

    /// The label of what is below a key.
    pub(super) fn below(&mut self, above: &Rc<str>, key: &'a str) -> Result<Rc<str>, TooMuch> {
        if above.is_empty() && NEUTRAL.contains(&key) {
            return Ok(Rc::clone(above));
        }
        let seen = read(self.form, key, self.keys_left, &mut self.encoded)?;
        self.keys_left = self.keys_left.checked_sub(weight_of(&seen)).ok_or(TooMuch)?;
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

fn read<'a>(form: Form, text: &'a str, room: usize, encoded: &mut bool) -> Result<Cow<'a, str>, TooMuch> {
    let mut room = room;
    let seen = seen_within(text, &mut room)?;
    match form {
        Form::Written => {
            *encoded = *encoded || is_encoded(&seen);
            Ok(seen)
        }
        // What was encoded may be many more characters to the eye as well.
        Form::Decoded => match decoded(&seen) {
            Some(plain) => seen_within(&plain, &mut room).map(|it| Cow::Owned(it.into_owned())),
            None => Ok(seen),
        },
    }
}

/// The words of a key in at most so many bytes, and whether that is all of them.
pub(super) fn label(key: &str, bytes_max: usize) -> (String, bool) {
    let mut out = String::new();
    for word in key.split(|c: char| !c.is_alphanumeric()).flat_map(humps) {
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
