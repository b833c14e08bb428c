//! Where does one thought of a text end? Punctuation and lines, and the length of a breath.

use std::borrow::Cow;

use unicode_normalization::char::is_combining_mark;

use super::{TooMuch, normal::plain};

/// Fewer words are no thought of their own; they go with what follows.
const WORDS_MIN: usize = 3;
/// A sentence of more words is read in pieces as well: harm could hide in a run of words without an
/// end. Each piece begins [`PIECE_STEP`] words after the one before.
const SENTENCE_WORDS: usize = 32;
const PIECE_WORDS: usize = 16;
const PIECE_STEP: usize = 8;
/// Letters without an end count as a word for each so many.
const WORD_CHARS: usize = 16;

/// Hands over the sentences of a text that is seen, normalised; none if it has fewer than [`WORDS_MIN`] words.
/// A text that is one sentence gives that one. How many there were; no more are made than are taken.
pub(super) fn sentences(
    text: &str,
    take: &mut impl FnMut(String) -> Result<(), TooMuch>,
) -> Result<usize, TooMuch> {
    // Lines end sentences, and white space is collapsed by normalising, so lines come first.
    let lines: Vec<Cow<'_, str>> = text.split(['\n', '\r', '\u{2028}', '\u{2029}']).map(plain).collect();
    let mut found =
        Sentences { taken: Taken { take, count: 0, last: String::new() }, open: vec![], short: vec![] };
    for line in &lines {
        for word in words(line) {
            found.open.push(word);
            if word.ends {
                found.end()?;
            }
        }
        found.end()?;
    }
    found.conclude()
}

/// What has no sentences, normalised, in pieces that are short enough.
pub(super) fn pieces(
    text: &str,
    take: &mut impl FnMut(String) -> Result<(), TooMuch>,
) -> Result<(), TooMuch> {
    Taken { take, count: 0, last: String::new() }.read(&words(text).collect::<Vec<_>>())
}

/// How many words a normalised text has: a space is not all that may stand between two.
pub(super) fn count(text: &str) -> usize {
    words(text).count()
}

/// A run of letters and digits with the punctuation beside it.
#[derive(Debug, Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    /// No space before it.
    glued: bool,
    /// It ends a sentence.
    ends: bool,
}

fn words(line: &str) -> impl Iterator<Item = Word<'_>> {
    line.split(' ').filter(|spaced| !spaced.is_empty()).flat_map(|spaced| {
        let mut rest = spaced;
        std::iter::from_fn(move || {
            let glued = rest.len() < spaced.len();
            let (text, after) =
                rest.split_at_checked(first_run(rest)).filter(|(text, _)| !text.is_empty())?;
            rest = after;
            Some(Word { text, glued, ends: after.is_empty() && ends(text) })
        })
    })
}

/// Where the next run of a word begins, in bytes: `the-weather` is two, `don't` and `10:30` are one.
fn first_run(word: &str) -> usize {
    // The last letter or digit, and how many characters of another kind came since.
    let (mut last, mut since, mut between) = (None::<char>, 0, ' ');
    for (chars, (at, c)) in word.char_indices().enumerate() {
        if chars == WORD_CHARS {
            return at;
        }
        if !(c.is_alphanumeric() || is_combining_mark(c)) {
            (since, between) = (since + 1, c);
            continue;
        }
        if let Some(last) = last {
            let inner = matches!(between, '\'' | '’') || last.is_ascii_digit() && c.is_ascii_digit();
            let hump = since == 0 && last.is_ascii_lowercase() && c.is_ascii_uppercase();
            if hump || since > 1 || since == 1 && !inner {
                return at;
            }
        }
        (last, since) = (Some(c), 0);
    }
    word.len()
}

/// What has been handed over.
struct Taken<'t, T> {
    take: &'t mut T,
    count: usize,
    last: String,
}

struct Sentences<'a, 't, T> {
    taken: Taken<'t, T>,
    /// The words since the last end.
    open: Vec<Word<'a>>,
    /// Ends before that came too soon.
    short: Vec<Word<'a>>,
}

impl<T: FnMut(String) -> Result<(), TooMuch>> Sentences<'_, '_, T> {
    fn end(&mut self) -> Result<(), TooMuch> {
        let open = std::mem::take(&mut self.open);
        if open.len() >= WORDS_MIN {
            // Alone, so that no short one before it dilutes it; and with it, so that none is unread.
            self.taken.read(&open)?;
            if !self.short.is_empty() {
                self.short.extend(open);
                self.taken.read(&std::mem::take(&mut self.short))?;
            }
            return Ok(());
        }
        self.short.extend(open);
        if self.short.len() >= WORDS_MIN {
            self.taken.read(&std::mem::take(&mut self.short))?;
        }
        Ok(())
    }

    /// What is left over is read with the end of what came before.
    fn conclude(mut self) -> Result<usize, TooMuch> {
        if self.taken.count > 0 && !self.short.is_empty() {
            let last = std::mem::take(&mut self.taken.last);
            let last: Vec<Word<'_>> = words(&last).collect();
            let tail = last.get(last.len().saturating_sub(PIECE_WORDS)..).unwrap_or_default();
            self.taken.one(format!("{} {}", join(tail), join(&self.short)))?;
        }
        Ok(self.taken.count)
    }
}

fn ends(word: &str) -> bool {
    let bare = word.trim_end_matches(['"', '\'', ')', ']', '}', '”', '’', '»']);
    bare.ends_with(['.', '!', '?', ';', ':', '。', '।', '؟', '…'])
}

fn join(words: &[Word<'_>]) -> String {
    let mut out = String::new();
    for word in words {
        if !word.glued && !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word.text);
    }
    out
}

impl<T: FnMut(String) -> Result<(), TooMuch>> Taken<'_, T> {
    fn read(&mut self, words: &[Word<'_>]) -> Result<(), TooMuch> {
        if words.len() <= SENTENCE_WORDS {
            return self.one(join(words));
        }
        let mut rest = words;
        while !rest.is_empty() {
            let piece = rest.get(..PIECE_WORDS).unwrap_or(rest);
            self.one(join(piece))?;
            if piece.len() == rest.len() {
                break;
            }
            rest = rest.get(PIECE_STEP..).unwrap_or_default();
        }
        Ok(())
    }

    fn one(&mut self, text: String) -> Result<(), TooMuch> {
        self.last.clone_from(&text);
        self.count += 1;
        (self.take)(text)
    }
}
