//! Which words reach the recipient beside the content: in metadata, ids, tools and whom it is for?
//!
//! All of it is delivered. Ids are mostly counters and digits, which differ from message to message and
//! say nothing: only what is spelled in words counts, so that equal words stay equal.

use std::{borrow::Cow, rc::Rc};

use super::{
    TooMuch,
    classes::alphabetic,
    decoded::decoded,
    fields::{Kind, Leaves},
    signals,
    texts::{Form, Texts},
    wordlike::{is_wordlike, spelled_words},
    work::PARTING,
};
use crate::domain::{Message, Recipient};

/// Fewer words are a name, and a name alone can sound like anything.
const WORDS_MIN: usize = 3;

/// The metadata behind its keys, and the names that are made of words; nothing if all of it is fewer than
/// [`WORDS_MIN`] words.
pub(super) struct Around<'a> {
    pub(super) leaves: Leaves<'a>,
    /// Whether there is a text among it and not names only.
    pub(super) speaks: bool,
}

pub(super) fn around<'a>(
    message: &'a Message,
    texts: Texts<'a>,
    form: Form,
    room: usize,
) -> Result<Option<Around<'a>>, TooMuch> {
    let top: Rc<str> = Rc::from("");
    let mut leaves = Leaves::new(texts, form, room);
    let (mut words, mut speaks) = (0, false);
    for (key, value) in &message.metadata {
        let label = leaves.below(&top, key)?;
        let own = label.split(' ').filter(|word| is_wordlike(word)).count();
        // A text has spaces, or letters of another kind; what has neither is a name.
        let said = if value.is_ascii() && !value.trim().contains(' ') {
            leaves.name(&label, value)?
        } else {
            let lettered = |word: &&str| word.contains(alphabetic);
            let said = value.split_whitespace().filter(lettered).count();
            if said > 0 {
                leaves.text(&label, value)?;
            }
            said
        };
        if said == 0 && own >= WORDS_MIN {
            leaves.text(&label, "")?;
        }
        words += if said > 0 || own >= WORDS_MIN { own + said } else { 0 };
        speaks |= said >= WORDS_MIN;
    }
    for name in names(message) {
        let said = leaves.name(&top, name)?;
        words += said;
        speaks |= said >= WORDS_MIN;
    }
    // Those that say something have been read.
    leaves.keys.clear();
    Ok((words >= WORDS_MIN).then_some(Around { leaves, speaks }))
}

impl Leaves<'_> {
    /// The words that a name is made of, if it is made of words, written as they are or encoded. How many.
    fn name(&mut self, label: &Rc<str>, name: &str) -> Result<usize, TooMuch> {
        let work = &mut self.texts.work;
        let decoded = decoded(name, work)?.unwrap_or_default();
        work.spend(PARTING, name)?;
        work.spend(PARTING, &decoded)?;
        let written: Vec<&str> = spelled_words(name).collect();
        let decoded: Vec<&str> = spelled_words(&decoded).collect();
        let words = if decoded.len() > written.len() { decoded } else { written };
        // Of one word only, it is one among many, and nothing without a key.
        if words.is_empty() || label.is_empty() && words.len() < 2 {
            return Ok(0);
        }
        self.add(label, Cow::Owned(words.join(" ")), Kind::Text)?;
        Ok(words.len())
    }
}

/// What senders are free to choose.
fn names(message: &Message) -> impl Iterator<Item = &str> {
    let ids = [Some(&message.id), message.conversation_id.as_ref(), message.in_reply_to.as_ref()];
    let to: [Option<&str>; 2] = match &message.to {
        Recipient::Agent(_) => [None, None],
        Recipient::Capability(it) => [Some(it.as_str()), None],
        Recipient::Broadcast(it) => [it.capability.as_ref().map(|it| it.as_str()), it.role.as_deref()],
    };
    // Those that do more than read are read with the content.
    let tools =
        message.tools.iter().filter(|tool| signals::permission_of_tool(tool) <= signals::PERMISSION_READ);
    ids.into_iter()
        .flatten()
        .map(|id| id.as_str())
        .chain(to.into_iter().flatten())
        .chain(tools.map(String::as_str))
}
