//! What would a reader see? Compatibility forms, invisible characters, look-alike letters and white
//! space are undone, so that a text cannot be one thing to people and another to the model.

use std::borrow::Cow;

use unicode_normalization::{UnicodeNormalization as _, char::canonical_combining_class};

use super::{
    TooMuch, confusables, deobfuscate, glued,
    work::{DRAWING, SEEING, Work},
};
use crate::domain::unseen::unseen;

/// NFKC (UAX #15), without default-ignorable characters (UAX #44), letters in signs and look-alikes of
/// Latin letters in Latin words as those letters, at most [`MARKS_MAX`] marks on a letter, words spelled
/// letter by letter as words, words that only capitals part as words, every run of white space or control
/// characters one space, none at the ends; a space within longer words than [`WORD_MAX`]. Normalising twice changes
/// nothing.
pub fn normalized(text: &str) -> String {
    plain(&seen(text)).into_owned()
}

/// As [`normalized`], as far as there is room for what comes out; takes from it what that weighs.
pub(in crate::impact) fn normalized_within(text: &str, room: &mut usize) -> Option<String> {
    seen_within(text, room, &mut Work::of(usize::MAX)).ok().map(|seen| plain(&seen).into_owned())
}

/// As [`normalized`], of what [`seen`] gave.
pub(super) fn plain(seen: &str) -> Cow<'_, str> {
    let latin = if seen.is_ascii() { Cow::Borrowed(seen) } else { Cow::Owned(confusables::latinised(seen)) };
    if is_spaced(&latin) { latin } else { Cow::Owned(spaced(&latin)) }
}

/// The first and costly half: compatibility forms and what is not seen. White space stays.
pub(super) fn seen(text: &str) -> Cow<'_, str> {
    // Room that is never used up, nor work.
    let mut room = usize::MAX;
    seen_within(text, &mut room, &mut Work::of(usize::MAX)).unwrap_or(Cow::Borrowed(text))
}

/// As [`seen`], which stops where the room or the work is used up: a character may stand for eighteen, and what
/// they cost is counted as they come. Takes from `room` what the text weighs.
pub(super) fn seen_within<'a>(
    text: &'a str,
    room: &mut usize,
    work: &mut Work,
) -> Result<Cow<'a, str>, TooMuch> {
    work.allows(SEEING * text.len());
    work.all(())?;
    if text.is_ascii() {
        let weight = if text.len() > *room { usize::MAX } else { weight_of(text) };
        *room = room.checked_sub(weight).ok_or(TooMuch)?;
        return Ok(Cow::Borrowed(text));
    }
    let (mut out, mut scale, mut rest) =
        (String::with_capacity(text.len().min(*room)), Scale::default(), text);
    while !rest.is_empty() {
        let (plain, other, after) = plain_first(rest);
        let weight = plain.chars().map(|c| scale.put(c)).fold(0, usize::saturating_add);
        *room = room.checked_sub(weight).ok_or(TooMuch)?;
        out.push_str(plain);
        let drawn = other.chars().filter(|c| !unseen(*c)).map(|c| confusables::unsigned(c).unwrap_or(c));
        // Marks are sorted, so that a run of thousands costs more than its length.
        let drawn = few_marks(drawn).nfkc().filter(|c| !unseen(*c));
        *room = room.checked_sub(if other.is_empty() { 0 } else { LOOK_WEIGHT }).ok_or(TooMuch)?;
        for c in few_marks(drawn) {
            if !work.allows(DRAWING) {
                return Err(TooMuch);
            }
            *room = room.checked_sub(scale.put(c).max(LOOKED_AT_WEIGHT)).ok_or(TooMuch)?;
            out.push(c);
        }
        rest = after;
    }
    Ok(Cow::Owned(out))
}

/// The ASCII that a text begins with, which stands for itself; what is to be looked at; and the rest, which
/// begins with ASCII again. A mark belongs to the letter before it.
fn plain_first(text: &str) -> (&str, &str, &str) {
    /// Fewer are looked at with what is beside them.
    const ROW_MIN: usize = 4;
    let bytes = text.as_bytes();
    let first = bytes.iter().position(|b| !b.is_ascii()).unwrap_or(bytes.len());
    let start = if first == bytes.len() { first } else { first.saturating_sub(1) };
    let mut row = 0;
    let after = bytes.iter().enumerate().skip(first).find(|(_, b)| {
        row = if b.is_ascii() { row + 1 } else { 0 };
        row == ROW_MIN
    });
    let end = after.map_or(bytes.len(), |(at, _)| at + 1 - ROW_MIN);
    let cut = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
    (cut(0..start), cut(start..end), cut(end..bytes.len()))
}

/// What a text counts for where it is bounded by what windows hold. In letters: a token is one of up to
/// some twenty, and never more than a word.
pub(super) fn weight_of(text: &str) -> usize {
    let mut scale = Scale::default();
    text.chars().map(|c| scale.put(c)).fold(0, usize::saturating_add)
}

/// What is not ASCII takes time to look at: so much for each row of it, and for each character in it.
const LOOK_WEIGHT: usize = 12;
const LOOKED_AT_WEIGHT: usize = 3;

/// What every word of two letters or more counts for, at least.
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
        const IN_A_ROW: usize = 5;
        /// A line is looked at by itself.
        const LINE: usize = 4;
        // Within a long word, as most characters are.
        if self.letters > 1 && self.weight >= WORD_WEIGHT && c.is_ascii_alphanumeric() {
            (self.letters, self.weight) = (self.letters + 1, self.weight + 1);
            return 1;
        }
        let own = match c {
            '\n' | '\r' => LINE,
            'a'..='z' | 'A'..='Z' | ' ' | '\t'..='\x0c' => 1,
            '0'..='9' if self.letters > 0 => 1,
            // They may stand between the letters of a spelled word; in a row each is a token.
            '.' | '-' | '_' | '*' | '|' if self.letters > 0 => 1,
            '.' | '-' | '_' | '*' | '|' => IN_A_ROW,
            '\0'..='\x7f' => WORD_WEIGHT,
            '\u{ac00}'..='\u{d7a3}' => SYLLABLE,
            _ => OTHER,
        };
        if c.is_ascii() && !c.is_ascii_alphanumeric() {
            (self.letters, self.weight) = (0, 0);
            return own;
        }
        // Six letters that stand apart are a word.
        const APART: usize = 3;
        let own = if self.letters == 0 { own.max(APART) } else { own };
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
    let text = glued::parted(text);
    let single = match deobfuscate::joined(&text, WORD_MAX) {
        Some(apart) => collapsed(&apart),
        None => collapsed(&text),
    };
    match deobfuscate::joined(&single, WORD_MAX) {
        // A word that was joined may be a longer one with what stands beside it.
        Some(joined) => collapsed(&joined),
        None => single,
    }
}

/// Whether [`spaced`] would change nothing; most lines are so.
fn is_spaced(text: &str) -> bool {
    let (mut gap, mut word) = (true, 0);
    for c in text.chars() {
        let space = c == ' ';
        word = if space { 0 } else { word + 1 };
        let other = !space && (c.is_whitespace() || c.is_control());
        if space && gap || other || word > WORD_MAX {
            return false;
        }
        gap = space;
    }
    (!gap || text.is_empty()) && !deobfuscate::has_apart(text) && !glued::has_glued(text)
}

/// WordPiece makes one unknown token of a longer run of characters, whatever is in it.
const WORD_MAX: usize = 100;

fn collapsed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        let mut rest = word;
        while !rest.is_empty() {
            let cut = if rest.len() > WORD_MAX { rest.char_indices().nth(WORD_MAX) } else { None };
            let end = cut.map_or(rest.len(), |(at, _)| at);
            let (part, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(part);
            rest = after;
        }
    }
    out
}
