//! Where does one thought of a text end? Punctuation and lines, and the length of a breath.

use super::normalized;

/// Fewer words are no thought of their own; they go with what follows.
const WORDS_MIN: usize = 3;
/// A sentence of more words is read in pieces as well: harm could hide in a run of words without an
/// end. Each piece begins [`PIECE_STEP`] words after the one before.
const SENTENCE_WORDS: usize = 32;
const PIECE_WORDS: usize = 16;
const PIECE_STEP: usize = 8;

/// The sentences of a text, normalised; none if it has fewer than [`WORDS_MIN`] words. A text that is
/// one sentence gives that one.
pub(super) fn sentences(text: &str) -> Vec<String> {
    // Lines end sentences, and white space is collapsed by normalising, so lines come first.
    let lines: Vec<String> = text.split(['\n', '\r', '\u{2028}', '\u{2029}']).map(normalized).collect();
    let mut found = Sentences::default();
    for line in lines.iter().filter(|line| !line.is_empty()) {
        for word in line.split(' ') {
            found.open.push(word);
            if ends(word) {
                found.end();
            }
        }
        found.end();
    }
    found.conclude()
}

#[derive(Default)]
struct Sentences<'a> {
    found: Vec<String>,
    /// The words since the last end.
    open: Vec<&'a str>,
    /// Ends before that came too soon.
    short: Vec<&'a str>,
}

impl<'a> Sentences<'a> {
    fn end(&mut self) {
        let open = std::mem::take(&mut self.open);
        if open.len() >= WORDS_MIN {
            // Alone, so that no short one before it dilutes it; and with it, so that none is unread.
            read(&open, &mut self.found);
            if !self.short.is_empty() {
                self.short.extend(open);
                read(&std::mem::take(&mut self.short), &mut self.found);
            }
            return;
        }
        self.short.extend(open);
        if self.short.len() >= WORDS_MIN {
            read(&std::mem::take(&mut self.short), &mut self.found);
        }
    }

    /// What is left over is read with the end of what came before.
    fn conclude(mut self) -> Vec<String> {
        if let Some(last) = self.found.last()
            && !self.short.is_empty()
        {
            let mut tail: Vec<&str> = last.rsplit(' ').take(PIECE_WORDS).collect();
            tail.reverse();
            tail.extend(&self.short);
            let joined = tail.join(" ");
            self.found.push(joined);
        }
        self.found
    }
}

fn ends(word: &str) -> bool {
    let bare = word.trim_end_matches(['"', '\'', ')', ']', '}', '”', '’', '»']);
    bare.ends_with(['.', '!', '?', ';', ':', '。', '।', '؟', '…'])
}

fn read(words: &[&str], found: &mut Vec<String>) {
    found.extend((words.len() <= SENTENCE_WORDS).then(|| words.join(" ")));
    let mut rest = if words.len() > SENTENCE_WORDS { words } else { &[] };
    while !rest.is_empty() {
        let piece = rest.get(..PIECE_WORDS).unwrap_or(rest);
        found.push(piece.join(" "));
        if piece.len() == rest.len() {
            return;
        }
        rest = rest.get(PIECE_STEP..).unwrap_or_default();
    }
}
