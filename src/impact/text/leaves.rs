//! Which values does a message's content hold, each behind which words, and when is it too much?

use std::{borrow::Cow, collections::HashSet, rc::Rc};

use super::{TooMuch, humps};
use crate::domain::{Message, Value};

/// One value of the content that is no list and no map.
pub(super) struct Leaf<'a> {
    /// The words of its keys, from the outermost; empty where they say nothing.
    pub(super) label: Rc<str>,
    pub(super) value: Cow<'a, str>,
    pub(super) number: bool,
}

/// Keys that say no more than that a text follows.
const NEUTRAL: &[&str] =
    &["text", "message", "body", "content", "prompt", "query", "input", "task", "instruction"];

/// Every value below a key is read behind it, so that a long key over many values would make a text
/// of gigabytes. What is cut here is read once, as a value of its own.
const LABEL_BYTES_MAX: usize = 256;

/// All values of a message in the order of their keys, unless they come to more than so many bytes.
pub(super) fn leaves(message: &Message, bytes_max: usize) -> Result<Vec<Leaf<'_>>, TooMuch> {
    let mut leaves =
        Leaves { found: Vec::new(), cut: HashSet::new(), dropped: HashSet::new(), left: bytes_max };
    let top = Rc::from("");
    for (key, value) in &message.content {
        let label = leaves.below(&top, key)?;
        leaves.collect(&label, value)?;
    }
    Ok(leaves.found)
}

struct Leaves<'a> {
    found: Vec<Leaf<'a>>,
    /// Keys too long for a label.
    cut: HashSet<&'a str>,
    /// Labels that had to give way to the ones below them.
    dropped: HashSet<Rc<str>>,
    /// Bytes that may still be collected.
    left: usize,
}

impl<'a> Leaves<'a> {
    fn collect(&mut self, at: &Rc<str>, value: &'a Value) -> Result<(), TooMuch> {
        match value {
            // Nothing, but its key may say something.
            Value::Null => self.add(at, Cow::Borrowed(""), false),
            Value::Bool(it) => self.add(at, Cow::Borrowed(if *it { "yes" } else { "no" }), false),
            Value::Int(it) => self.add(at, Cow::Owned(it.to_string()), true),
            Value::Float(it) => self.add(at, Cow::Owned(it.to_string()), true),
            Value::Text(it) => self.add(at, Cow::Borrowed(it.as_str()), false),
            Value::List(items) => items.iter().try_for_each(|item| self.collect(at, item)),
            Value::Map(entries) => entries.iter().try_for_each(|(key, value)| {
                let label = self.below(at, key)?;
                self.collect(&label, value)
            }),
        }
    }

    fn add(&mut self, label: &Rc<str>, value: Cow<'a, str>, number: bool) -> Result<(), TooMuch> {
        if label.is_empty() && value.is_empty() {
            return Ok(());
        }
        const BETWEEN: usize = 4;
        let bytes = label.len() + value.len() + BETWEEN;
        self.left = self.left.checked_sub(bytes).ok_or(TooMuch)?;
        self.found.push(Leaf { label: Rc::clone(label), value, number });
        Ok(())
    }

    /// The label of what is below a key.
    fn below(&mut self, above: &Rc<str>, key: &'a str) -> Result<Rc<str>, TooMuch> {
        if above.is_empty() && NEUTRAL.contains(&key) {
            return Ok(Rc::clone(above));
        }
        let (own, whole) = label(key, LABEL_BYTES_MAX);
        if !whole && self.cut.insert(key) {
            let (all, _) = label(key, usize::MAX);
            self.add(&Rc::from(""), Cow::Owned(all), false)?;
        }
        if above.is_empty() {
            return Ok(own.into());
        }
        if above.len() + 1 + own.len() <= LABEL_BYTES_MAX {
            return Ok(format!("{above} {own}").trim_end().into());
        }
        // The innermost says most.
        if self.dropped.insert(Rc::clone(above)) {
            self.add(above, Cow::Borrowed(""), false)?;
        }
        Ok(own.into())
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
