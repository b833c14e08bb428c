//! What would a reader see? Compatibility forms, invisible characters, look-alike letters and white
//! space are undone, so that a text cannot be one thing to people and another to the model.

use std::borrow::Cow;

use unicode_normalization::{UnicodeNormalization as _, char::canonical_combining_class};

use super::{TooMuch, letters, spelled};
use crate::domain::unseen::unseen;

/// NFKC (UAX #15), without default-ignorable characters (UAX #44), letters in signs and look-alikes of
/// Latin letters in Latin words as those letters, at most [`MARKS_MAX`] marks on a letter, words spelled
/// letter by letter as words, every run of white space or control characters one space, none at the
/// ends; a space within longer words than [`WORD_MAX`]. Normalising twice changes nothing.
pub fn normalized(text: &str) -> String {
    plain(&seen(text)).into_owned()
}

/// As [`normalized`], of what [`seen`] gave.
pub(super) fn plain(seen: &str) -> Cow<'_, str> {
    if seen.is_ascii() {
        return if is_spaced(seen) { Cow::Borrowed(seen) } else { Cow::Owned(spaced(seen)) };
    }
    Cow::Owned(spaced(&letters::latinised(seen)))
}

/// The first and costly half: compatibility forms and what is not seen. White space stays.
pub(super) fn seen(text: &str) -> Cow<'_, str> {
    // Room that is never used up.
    let mut room = usize::MAX;
    seen_within(text, &mut room).unwrap_or(Cow::Borrowed(text))
}

/// As [`seen`], which stops where the room is used up: a character may stand for eighteen, and what
/// they cost is counted as they come. Takes from `room` what the text weighs.
pub(super) fn seen_within<'a>(text: &'a str, room: &mut usize) -> Result<Cow<'a, str>, TooMuch> {
    if text.is_ascii() {
        let weight = if text.len() > *room { usize::MAX } else { weight_of(text) };
        *room = room.checked_sub(weight).ok_or(TooMuch)?;
        return Ok(Cow::Borrowed(text));
    }
    let drawn = text.chars().filter(|c| !unseen(*c)).map(|c| letters::unsigned(c).unwrap_or(c));
    // Marks are sorted, so that a run of thousands costs more than its length.
    let drawn = few_marks(drawn).nfkc().filter(|c| !unseen(*c));
    let (mut out, mut scale) = (String::with_capacity(text.len().min(*room)), Scale::default());
    for c in few_marks(drawn) {
        *room = room.checked_sub(scale.put(c)).ok_or(TooMuch)?;
        out.push(c);
    }
    Ok(Cow::Owned(out))
}

/// What a text counts for where it is bounded by what windows hold. In letters: a token is one of up to
/// some twenty, and never more than a word.
pub(super) fn weight_of(text: &str) -> usize {
    let mut scale = Scale::default();
    text.chars().map(|c| scale.put(c)).fold(0, usize::saturating_add)
}

/// What every word of two letters or more counts for, at least. Single ones may be a spelled word.
pub(super) const WORD_WEIGHT: usize = 20;

#[derive(Default)]
struct Scale {
    /// Of the word so far.
    letters: usize,
    weight: usize,
}

impl Scale {
    /// What a character adds.
    fn put(&mut self, c: char) -> usize {
        /// Of other alphabets hardly more than two letters make a token,
        const OTHER: usize = 8;
        /// and a Korean syllable is three letters.
        const SYLLABLE: usize = 24;
        /// A line is looked at by itself.
        const LINE: usize = 4;
        let own = match c {
            '\n' | '\r' => LINE,
            'a'..='z' | 'A'..='Z' | ' ' | '\t'..='\x0c' => 1,
            '0'..='9' if self.letters > 0 => 1,
            // They may stand between the letters of a spelled word.
            '.' | '-' | '_' | '*' | '|' => 1,
            '\0'..='\x7f' => WORD_WEIGHT,
            '\u{ac00}'..='\u{d7a3}' => SYLLABLE,
            _ => OTHER,
        };
        if c.is_ascii() && !c.is_ascii_alphanumeric() {
            (self.letters, self.weight) = (0, 0);
            return own;
        }
        self.letters += 1;
        self.weight += own;
        match self.letters {
            1 => own,
            // The word's least is counted where it turns out to be one.
            2 => WORD_WEIGHT.max(self.weight).saturating_sub(self.weight - own),
            _ if self.weight - own >= WORD_WEIGHT => own,
            _ => self.weight.saturating_sub(WORD_WEIGHT),
        }
    }
}

/// More than any writing puts on one letter. The model's tokenizer drops all of them.
const MARKS_MAX: usize = 8;

/// Without the marks of a letter beyond [`MARKS_MAX`].
fn few_marks(text: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    let mut marks = 0;
    text.filter(move |c| {
        let mark = !c.is_ascii() && canonical_combining_class(*c) != 0;
        marks = if mark { marks + 1 } else { 0 };
        marks <= MARKS_MAX
    })
}

/// Letters may stand apart by more white space than one space, and then words by more than that;
/// or by any white space.
fn spaced(text: &str) -> String {
    let single = match spelled::joined(text, WORD_MAX) {
        Some(apart) => collapsed(&apart),
        None => collapsed(text),
    };
    match spelled::joined(&single, WORD_MAX) {
        // A word that was joined may be a longer one with what stands beside it.
        Some(joined) => collapsed(&joined),
        None => single,
    }
}

/// Whether [`spaced`] would change nothing; most lines are so.
fn is_spaced(ascii: &str) -> bool {
    let (mut gap, mut word) = (true, 0);
    for b in ascii.bytes() {
        let space = b == b' ';
        word = if space { 0 } else { word + 1 };
        if space && gap || b.is_ascii_control() || word > WORD_MAX {
            return false;
        }
        gap = space;
    }
    (!gap || ascii.is_empty()) && !spelled::has_apart(ascii)
}

/// WordPiece makes one unknown token of a longer run of characters, whatever is in it.
const WORD_MAX: usize = 100;

fn collapsed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut gap, mut word) = (false, 0);
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() {
            gap = !out.is_empty();
            continue;
        }
        if gap || word == WORD_MAX {
            out.push(' ');
            (gap, word) = (false, 0);
        }
        out.push(c);
        word += 1;
    }
    out
}
