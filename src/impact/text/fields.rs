//! Which values does a message hold, each behind which words, and when is it too much?

use std::{borrow::Cow, collections::HashSet, rc::Rc};

use super::{
    TooMuch, behind,
    classes::alphanumeric,
    humps,
    normal::{WORD_WEIGHT, plain, weight_of},
    texts::{Form, Text, Texts},
    work::{HOLDING, PARTING, SEEING},
};
use crate::domain::{Message, Value};

/// One value of the content that is no list and no map.
pub(super) struct Leaf<'a> {
    /// The words of its keys, from the outermost; empty where they say nothing.
    pub(super) label: Rc<str>,
    pub(super) text: Rc<Text<'a>>,
    pub(super) kind: Kind,
}

impl Leaf<'_> {
    /// As it is seen.
    pub(super) fn value(&self) -> &str {
        &self.text.seen
    }

    /// The value behind its label, normalised.
    pub(super) fn whole(&self) -> Cow<'_, str> {
        match self.text.line() {
            Some(line) if self.label.is_empty() => Cow::Borrowed(line),
            // Beyond ASCII it counts what is beside it.
            Some(line) if !line.is_empty() && self.value().is_ascii() => {
                Cow::Owned(format!("{}: {line}", plain(&self.label)))
            }
            _ => Cow::Owned(plain(&behind(&self.label, self.text.said())).into_owned()),
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
    pub(super) texts: Texts<'a>,
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
    pub(super) fn new(texts: Texts<'a>, form: Form, room: usize) -> Self {
        Self {
            found: Vec::new(),
            keys: Vec::new(),
            texts,
            form,
            known: HashSet::new(),
            dropped: HashSet::new(),
            left: room,
            keys_left: room,
        }
    }

    /// All of a message's content, unless it comes to more than so much.
    pub(super) fn of(
        message: &'a Message,
        texts: Texts<'a>,
        form: Form,
        room: usize,
    ) -> Result<Self, TooMuch> {
        let mut leaves = Self::new(texts, form, room);
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
        let text = self.texts.read(text, self.form, self.left)?;
        self.put(label, text, Kind::Text)
    }

    pub(super) fn add(&mut self, label: &Rc<str>, value: Cow<'a, str>, kind: Kind) -> Result<(), TooMuch> {
        self.put(label, Rc::new(Text::new(value)), kind)
    }

    fn put(&mut self, label: &Rc<str>, text: Rc<Text<'a>>, kind: Kind) -> Result<(), TooMuch> {
        if label.is_empty() && text.seen.is_empty() {
            return Ok(());
        }
        self.texts.work.allows(HOLDING + SEEING * label.len());
        self.texts.work.all(())?;
        // The colon after its label, and what separates it from the next.
        let signs = if label.is_empty() { WORD_WEIGHT } else { 2 * WORD_WEIGHT };
        self.left = self.left.checked_sub(weight_of(label) + text.weight + signs).ok_or(TooMuch)?;
        self.found.push(Leaf { label: Rc::clone(label), text, kind });
        Ok(())
    }

    /// The label of what is below a key.
    pub(super) fn below(&mut self, above: &Rc<str>, key: &'a str) -> Result<Rc<str>, TooMuch> {
        if above.is_empty() && NEUTRAL.contains(&key) {
            return Ok(Rc::clone(above));
        }
        let text = self.texts.read(key, self.form, self.keys_left)?;
        self.keys_left = self.keys_left.checked_sub(text.weight).ok_or(TooMuch)?;
        self.texts.work.allows(PARTING * text.seen.len().min(LABEL_BYTES_MAX));
        let (own, whole) = label(&text.seen, LABEL_BYTES_MAX);
        if self.known.insert(key) {
            if !whole {
                self.texts.work.spend(PARTING + SEEING, &text.seen)?;
                let (all, _) = label(&text.seen, usize::MAX);
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
