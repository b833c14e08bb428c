//! Which words are written letter by letter? `d.e.l.e.t.e` and `d e l e t e` are read as one word each.

use super::classes::{alphabetic, alphanumeric};

/// So many letters are a word; fewer may be initials, as in `U.S.A.`.
const LETTERS_MIN: usize = 4;
/// Longest text between two letters.
const BETWEEN_MAX: usize = 3;

/// Letters that stand alone, each as far from the next by the same few characters, as one word. What is
/// longer than any word is several, of like length. Nothing of a text that has no such letters.
pub(super) fn joined(text: &str, word_max: usize) -> Option<String> {
    if !has_apart(text) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut before, mut letters) = (text, None, Vec::new());
    while let Some(c) = rest.chars().next() {
        if !before.is_some_and(in_word) && is_letter(c) {
            let after = run(rest, &mut letters);
            if letters.len() >= LETTERS_MIN {
                let chunk = letters.len().div_ceil(letters.len().div_ceil(word_max).max(1)).max(1);
                for (at, part) in letters.chunks(chunk).enumerate() {
                    out.extend((at > 0).then_some(' '));
                    out.extend(part);
                }
                before = letters.last().copied();
                rest = after;
                continue;
            }
        }
        out.push(c);
        before = Some(c);
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    Some(out)
}

/// Whether there are as many letters that stand alone in a row, whatever stands between: most texts
/// have not, and are spared the closer look.
pub(super) fn has_apart(text: &str) -> bool {
    if text.is_ascii() {
        let of = |b: u8| (b.is_ascii_alphanumeric(), b.is_ascii_alphabetic());
        are_apart(text.bytes().map(of))
    } else {
        are_apart(text.chars().map(|c| (in_word(c), is_letter(c))))
    }
}

/// Of characters that are in a word, or letters.
fn are_apart(text: impl Iterator<Item = (bool, bool)>) -> bool {
    // How long the run of letters and digits is that ends here, and how many of one letter came before.
    let (mut length, mut alone, mut letter) = (0usize, 0usize, false);
    for (inside, lettered) in text {
        if inside {
            length += 1;
            letter = lettered;
            continue;
        }
        if length > 0 {
            alone = if length == 1 && letter { alone + 1 } else { 0 };
            if alone >= LETTERS_MIN {
                return true;
            }
        }
        length = 0;
    }
    length == 1 && letter && alone + 1 >= LETTERS_MIN
}

/// The letters that a text begins with, alone and equally far apart. Gives what follows them.
fn run<'a>(text: &'a str, letters: &mut Vec<char>) -> &'a str {
    let (mut between, mut rest) = (None, text);
    letters.clear();
    loop {
        let mut chars = rest.chars();
        let Some(letter) = chars.next().filter(|c| is_letter(*c)) else { return rest };
        let after = chars.as_str();
        if after.chars().next().is_some_and(in_word) {
            // The first letter of a word. What stands before it belongs to it.
            let back = text.len() - rest.len() - between.map_or(0, str::len);
            return text.get(back..).unwrap_or(rest);
        }
        letters.push(letter);
        // No further than it may be: a gap of thousands is looked at no longer than a short one.
        let length = after.chars().take(BETWEEN_MAX).take_while(|c| is_between(*c)).map(char::len_utf8).sum();
        let Some((gap, next)) = after.split_at_checked(length) else { return after };
        let like = between.is_none_or(|between| between == gap);
        if gap.is_empty() || !like || !next.starts_with(is_letter) {
            return after;
        }
        (between, rest) = (Some(gap), next);
    }
}

fn is_letter(c: char) -> bool {
    // Only scripts that are written in words have letters that stand alone.
    c < '\u{250}' && alphabetic(c)
}

fn in_word(c: char) -> bool {
    alphanumeric(c)
}

fn is_between(c: char) -> bool {
    c.is_whitespace() || matches!(c, '.' | '-' | '_' | '*' | '|' | '·' | '•')
}
