//! What does each text of a message say, as it is written and decoded? Each is looked at once, however often
//! it comes, and all of them within a bound.

use std::{
    borrow::Cow,
    cell::OnceCell,
    collections::{HashMap, hash_map::Entry},
    rc::Rc,
};

use super::{
    TooMuch, blobs,
    decoded::{decoded, plainly},
    dumps,
    normal::{plain, seen_within, weight_of},
    rows,
    work::{LOOKING, Work},
};

pub(super) const LINE_ENDS: [char; 4] = ['\n', '\r', '\u{2028}', '\u{2029}'];

/// How texts are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Written,
    Decoded,
}

/// A text in one form, and what has been found out about it.
pub(super) struct Text<'a> {
    /// As it is seen: compatibility forms and what is invisible are undone.
    pub(super) seen: Cow<'a, str>,
    pub(super) weight: usize,
    /// See [`Text::said`].
    said: OnceCell<Option<String>>,
    /// See [`Text::line`].
    line: OnceCell<Option<String>>,
    /// How many sentences were read of it, once they were.
    pub(super) sentences: OnceCell<usize>,
}

impl<'a> Text<'a> {
    pub(super) fn new(seen: Cow<'a, str>) -> Self {
        let weight = weight_of(&seen);
        Self::weighing(seen, weight)
    }

    fn weighing(seen: Cow<'a, str>, weight: usize) -> Self {
        let (said, line, sentences) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self { seen, weight, said, line, sentences }
    }

    /// What is text in it: packed bytes are none, and what they say decoded is read as that.
    pub(super) fn said(&self) -> &str {
        let said = || match blobs::without(&self.seen) {
            Cow::Borrowed(_) => None,
            Cow::Owned(said) => Some(said),
        };
        self.said.get_or_init(said).as_deref().unwrap_or(&self.seen)
    }

    /// It normalised, if it is one line.
    pub(super) fn line(&self) -> Option<&str> {
        let one = || !self.seen.contains(LINE_ENDS);
        self.line.get_or_init(|| one().then(|| plain(self.said()).into_owned())).as_deref()
    }

    /// Its lines, normalised. They end sentences, and white space is collapsed by normalising, so lines come first.
    pub(super) fn lines(&self) -> Vec<Cow<'_, str>> {
        match self.line() {
            Some(line) => vec![Cow::Borrowed(line)],
            None => self.said().split(LINE_ENDS).map(plain).collect(),
        }
    }
}

/// The texts of a message that have been looked at, and what may still be done to decode others.
pub(super) struct Texts<'a> {
    known: HashMap<&'a str, Forms<'a>>,
    /// Whether one of them is another text if it is decoded.
    pub(super) encoded: bool,
    pub(super) work: Work,
}

impl<'a> Texts<'a> {
    pub(super) fn within(work: Work) -> Self {
        Self { known: HashMap::new(), encoded: false, work }
    }

    /// A text in one form, if that has no more weight than there is room for.
    pub(super) fn read(&mut self, text: &'a str, form: Form, room: usize) -> Result<Rc<Text<'a>>, TooMuch> {
        let forms = match self.known.entry(text) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => free.insert(Forms::of(text, room, &mut self.work)?),
        };
        self.encoded |= forms.plain.is_some();
        match form {
            Form::Written => Ok(Rc::clone(&forms.written)),
            Form::Decoded => forms.decoded(room, &mut self.work),
        }
    }
}

struct Forms<'a> {
    written: Rc<Text<'a>>,
    /// What it says decoded, if that is another text.
    plain: Option<String>,
    /// That as it is seen, once it was asked for: what was encoded may be many more characters to the eye as well.
    decoded: Option<Rc<Text<'a>>>,
}

impl<'a> Forms<'a> {
    fn of(text: &'a str, room: usize, work: &mut Work) -> Result<Self, TooMuch> {
        let mut left = room;
        work.allows(LOOKING);
        work.all(())?;
        let seen = match rows::unlike(text, work)? {
            None => seen_within(text, &mut left, work)?,
            Some(rows) => Cow::Owned(seen_within(&rows, &mut left, work)?.into_owned()),
        };
        // For what is no text to be found.
        work.spend(1, &seen)?;
        let found = with_dumps(text, decoded(&seen, work)?, work)?;
        let marks = if found.is_some() { plainly(&seen, work)? } else { None };
        let weight = room - left;
        let (written, plain) = match marks {
            None => (Text::weighing(seen, weight), found),
            Some(marks) => {
                let again = seen_within(&marks, &mut left, work)?.into_owned();
                let other = found.filter(|found| *found != marks);
                (Text::weighing(Cow::Owned(again), room - weight - left), other)
            }
        };
        Ok(Self { written: Rc::new(written), plain, decoded: None })
    }

    fn decoded(&mut self, room: usize, work: &mut Work) -> Result<Rc<Text<'a>>, TooMuch> {
        let Some(plain) = &self.plain else { return Ok(Rc::clone(&self.written)) };
        if let Some(known) = &self.decoded {
            return Ok(Rc::clone(known));
        }
        let mut left = room;
        let seen = seen_within(plain, &mut left, work)?.into_owned();
        let text = Rc::new(Text::weighing(Cow::Owned(seen), room - left));
        Ok(Rc::clone(self.decoded.insert(text)))
    }
}

/// What a text says decoded, with what its dumps say, and the dumps that were encoded in it.
fn with_dumps(text: &str, decoded: Option<String>, work: &mut Work) -> Result<Option<String>, TooMuch> {
    let inner = decoded.as_deref().map(|it| dumps::said(it, work)).transpose()?.flatten();
    let parts = [decoded, dumps::said(text, work)?, inner];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    // Each says what it says by itself.
    Ok((!parts.is_empty()).then(|| parts.join(".\n")))
}
