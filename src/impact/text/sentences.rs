//! Where does one thought of a text end? Punctuation and lines, and the length of a breath.

use std::borrow::Cow;

use unicode_normalization::char::is_combining_mark;

use super::{TooMuch, classes::alphanumeric};

/// Fewer words are no thought of their own; they go with what follows.
const WORDS_MIN: usize = 3;
/// A sentence of more words is read in pieces as well: harm could hide in a run of words without an
/// end. Each piece begins [`PIECE_STEP`] words after the one before.
const SENTENCE_WORDS: usize = 32;
const PIECE_WORDS: usize = 16;
const PIECE_STEP: usize = 8;
/// Letters without an end count as a word for each so many.
const WORD_CHARS: usize = 16;

/// Hands over the sentences of normalised lines; none if they have fewer than [`WORDS_MIN`] words.
/// A text that is one sentence gives that one. How many there were; no more are made than are taken.
pub(super) fn sentences(
    lines: &[Cow<'_, str>],
    take: &mut impl FnMut(&str) -> Result<(), TooMuch>,
) -> Result<usize, TooMuch> {
    let mut found =
        Sentences { open: Open::of(Taken { take, count: 0, last: String::new() }), short: vec![] };
    for line in lines {
        for word in words(line) {
            found.open.push(word)?;
            if word.ends {
                found.end()?;
            }
        }
        found.end()?;
    }
    found.conclude()
}

/// What has no sentences, normalised, in pieces that are short enough.
pub(super) fn pieces(text: &str, take: &mut impl FnMut(&str) -> Result<(), TooMuch>) -> Result<(), TooMuch> {
    let mut open = Open::of(Taken { take, count: 0, last: String::new() });
    words(text).try_for_each(|word| open.push(word))?;
    open.end().map(drop)
}

/// How many words a normalised text has, up to so many: a space is not all that may stand between two.
pub(super) fn count(text: &str, most: usize) -> usize {
    words(text).take(most).count()
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
        if !(alphanumeric(c) || !c.is_ascii() && is_combining_mark(c)) {
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
    /// The words since the last end.
    open: Open<'a, 't, T>,
    /// Ends before that came too soon.
    short: Vec<Word<'a>>,
}

impl<T: FnMut(&str) -> Result<(), TooMuch>> Sentences<'_, '_, T> {
    fn end(&mut self) -> Result<(), TooMuch> {
        // Alone, so that no short one before it dilutes it; and with it, so that none is unread.
        let alone = self.open.words.len() >= WORDS_MIN;
        let open = if alone { self.open.end()? } else { std::mem::take(&mut self.open.words) };
        if alone && self.short.is_empty() {
            return Ok(());
        }
        self.short.extend(open);
        if self.short.len() >= WORDS_MIN {
            std::mem::take(&mut self.short).into_iter().try_for_each(|word| self.open.push(word))?;
            self.open.end()?;
        }
        Ok(())
    }

    /// What is left over is read with the end of what came before.
    fn conclude(self) -> Result<usize, TooMuch> {
        let mut taken = self.open.taken;
        if taken.count > 0 && !self.short.is_empty() {
            let last = std::mem::take(&mut taken.last);
            let last: Vec<Word<'_>> = words(&last).collect();
            let tail = last.get(last.len().saturating_sub(PIECE_WORDS)..).unwrap_or_default();
            let short = self.short.iter().enumerate();
            let short = short.map(|(at, word)| Word { glued: word.glued && at > 0, ..*word });
            taken.one(&tail.iter().copied().chain(short).collect::<Vec<_>>())?;
        }
        Ok(taken.count)
    }
}

fn ends(word: &str) -> bool {
    let bare = word.trim_end_matches(['"', '\'', ')', ']', '}', '”', '’', '»']);
    bare.ends_with(['.', '!', '?', ';', ':', '。', '।', '؟', '…'])
}

fn join(words: &[Word<'_>], out: &mut String) {
    for word in words {
        if !word.glued && !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word.text);
    }
}

/// A sentence whose end has not come. A long one is handed over as it comes, so that no more of it is looked
/// at than is taken.
struct Open<'a, 't, T> {
    taken: Taken<'t, T>,
    words: Vec<Word<'a>>,
    /// Where the next piece of a long one begins.
    next: usize,
}

impl<'a, 't, T: FnMut(&str) -> Result<(), TooMuch>> Open<'a, 't, T> {
    fn of(taken: Taken<'t, T>) -> Self {
        Self { taken, words: Vec::new(), next: 0 }
    }

    fn push(&mut self, word: Word<'a>) -> Result<(), TooMuch> {
        self.words.push(word);
        if self.words.len() <= SENTENCE_WORDS {
            return Ok(());
        }
        // There are words beyond it, so that it is not the last.
        while self.words.len() > self.next + PIECE_WORDS {
            self.piece()?;
        }
        Ok(())
    }

    /// The words of the sentence that ended.
    fn end(&mut self) -> Result<Vec<Word<'a>>, TooMuch> {
        match self.words.len() {
            0 => {}
            1..=SENTENCE_WORDS => self.taken.one(&self.words)?,
            _ => self.piece()?,
        }
        self.next = 0;
        Ok(std::mem::take(&mut self.words))
    }

    fn piece(&mut self) -> Result<(), TooMuch> {
        let rest = self.words.get(self.next..).unwrap_or_default();
        self.next += PIECE_STEP;
        self.taken.one(rest.get(..PIECE_WORDS).unwrap_or(rest))
    }
}

impl<T: FnMut(&str) -> Result<(), TooMuch>> Taken<'_, T> {
    fn one(&mut self, words: &[Word<'_>]) -> Result<(), TooMuch> {
        self.last.clear();
        join(words, &mut self.last);
        self.count += 1;
        (self.take)(&self.last)
    }
}
