//! Which letters stand for others by rule: backwards, thirteen on, digits for letters?
//!
//! Only where the text itself tells: by the small words that every English text has, or by digits
//! within words. Read beside what was written.

use super::is_wordlike;

/// The text without such a guise; nothing if it has none.
pub(super) fn undone(text: &str) -> Option<String> {
    let (mut rotated, mut backwards) = (0, 0);
    for word in text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| (3..=4).contains(&word.len())) {
        rotated += usize::from(ROTATED.iter().any(|it| it.eq_ignore_ascii_case(word)));
        backwards += usize::from(BACKWARDS.iter().any(|it| it.eq_ignore_ascii_case(word)));
    }
    match (rotated, backwards) {
        (1.., _) => Some(text.chars().map(thirteen_on).collect()),
        (_, 1..) => Some(text.chars().rev().collect()),
        _ => lettered(text),
    }
}

/// `the and for with all this that from will every not you are` by ROT13, and backwards; but for what is a
/// word of its own.
const ROTATED: &[&str] =
    &["gur", "naq", "sbe", "jvgu", "nyy", "guvf", "gung", "sebz", "jvyy", "abg", "lbh", "ner", "bhe", "nal"];
const BACKWARDS: &[&str] =
    &["eht", "dna", "htiw", "lla", "siht", "taht", "morf", "lliw", "uoy", "ruo", "yna", "otni"];

fn thirteen_on(c: char) -> char {
    match c {
        'a'..='m' | 'A'..='M' => char::from_u32(u32::from(c) + 13).unwrap_or(c),
        'n'..='z' | 'N'..='Z' => char::from_u32(u32::from(c) - 13).unwrap_or(c),
        c => c,
    }
}

/// `d3l3te` as `delete`: with one such digit, a text needs two such words, for `k8s` is a name.
fn lettered(text: &str) -> Option<String> {
    const SIGNS: &[char] = &['0', '1', '3', '4', '5', '7', '8', '@', '$'];
    if !text.contains(SIGNS) {
        return None;
    }
    let (mut out, mut rest, mut found) = (String::with_capacity(text.len()), text, 0);
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '@' | '$');
    while let Some(at) = rest.find(inside) {
        let (before, from) = rest.split_at_checked(at)?;
        out.push_str(before);
        let end = from.find(|c| !inside(c)).unwrap_or(from.len());
        let (word, after) = from.split_at_checked(end)?;
        match plain(word) {
            Some((plain, digits)) => {
                found += digits;
                out.push_str(&plain);
            }
            None => out.push_str(word),
        }
        rest = after;
    }
    out.push_str(rest);
    (found >= 2).then_some(out)
}

/// A word without digits, and how many groups of them stood between its letters.
fn plain(word: &str) -> Option<(String, usize)> {
    const LENGTH_MAX: usize = 20;
    if !(3..=LENGTH_MAX).contains(&word.len()) || word.bytes().all(|b| b.is_ascii_alphabetic()) {
        return None;
    }
    let (mut out, mut letters, mut groups, mut open) = (String::new(), 0usize, 0, false);
    for b in word.bytes() {
        let vowel = out.ends_with(['a', 'e', 'i', 'o', 'u', 'A', 'E', 'I', 'O', 'U']);
        let c = match b {
            b'0' => 'o',
            b'1' if vowel || out.ends_with('l') => 'l',
            b'1' => 'i',
            b'3' => 'e',
            b'4' | b'@' => 'a',
            b'5' | b'$' => 's',
            b'7' => 't',
            b'8' => 'b',
            b if b.is_ascii_alphabetic() => {
                letters += 1;
                groups += usize::from(open);
                open = false;
                out.push(char::from(b));
                continue;
            }
            _ => return None,
        };
        open |= letters > 0;
        out.push(c);
    }
    let rare = out.bytes().filter(|b| matches!(b.to_ascii_lowercase(), b'j' | b'q' | b'x' | b'z')).count();
    let drawn = word.starts_with('0') || rare > 1;
    (groups > 0 && letters >= 2 && !drawn && is_wordlike(&out)).then_some((out, groups))
}
