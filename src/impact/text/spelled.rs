//! Which words are written letter by letter? `d.e.l.e.t.e` and `d e l e t e` are read as one word each.

/// So many letters are a word; fewer may be initials, as in `U.S.A.`.
const LETTERS_MIN: usize = 4;
/// Longest text between two letters.
const BETWEEN_MAX: usize = 3;

/// Letters that stand alone, each as far from the next by the same few characters, as one word. What is
/// longer than any word is several, of like length.
pub(super) fn joined(text: &str, word_max: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut before) = (text, None);
    while let Some(c) = rest.chars().next() {
        if !before.is_some_and(in_word) && is_letter(c) {
            let (letters, after) = run(rest);
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
    out
}

/// The letters that a text begins with, alone and equally far apart, and what follows them.
fn run(text: &str) -> (Vec<char>, &str) {
    let (mut letters, mut between, mut rest) = (Vec::new(), None, text);
    loop {
        let mut chars = rest.chars();
        let Some(letter) = chars.next().filter(|c| is_letter(*c)) else { return (letters, rest) };
        let after = chars.as_str();
        if after.chars().next().is_some_and(in_word) {
            // The first letter of a word. What stands before it belongs to it.
            let back = text.len() - rest.len() - between.map_or(0, str::len);
            return (letters, text.get(back..).unwrap_or(rest));
        }
        letters.push(letter);
        let gap = after.char_indices().find(|(_, c)| !is_between(*c)).map_or(after.len(), |(at, _)| at);
        let (gap, next) = after.split_at_checked(gap).unwrap_or((after, ""));
        let long = gap.chars().nth(BETWEEN_MAX).is_some();
        let like = between.is_none_or(|between| between == gap);
        if gap.is_empty() || long || !like || !next.starts_with(is_letter) {
            return (letters, after);
        }
        (between, rest) = (Some(gap), next);
    }
}

fn is_letter(c: char) -> bool {
    // Only scripts that are written in words have letters that stand alone.
    c.is_alphabetic() && c < '\u{250}'
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric()
}

fn is_between(c: char) -> bool {
    c.is_whitespace() || matches!(c, '.' | '-' | '_' | '*' | '|' | '·' | '•')
}
