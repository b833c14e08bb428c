//! Which letters stand for others by rule: backwards, thirteen on, digits for letters?
//!
//! Only where the text itself tells: by the small words that every English text has, or by digits
//! within words. Read beside what was written.

use super::{is_wordlike, work::Work};

/// The text turned back, if it is written backwards or thirteen on.
pub(super) fn turned(text: &str, work: &mut Work) -> Option<String> {
    /// Every word is looked at, and a text turned round.
    const LOOKS: usize = 6;
    if !work.allows(LOOKS * text.len()) {
        return None;
    }
    let mut backwards = false;
    for word in text.as_bytes().split(|b| !b.is_ascii_alphabetic()) {
        match small_word(word) {
            Some(Guise::Rotated) => return Some(text.chars().map(thirteen_on).collect()),
            Some(Guise::Backwards) => backwards = true,
            None => {}
        }
    }
    backwards.then(|| text.chars().rev().collect())
}

enum Guise {
    Rotated,
    Backwards,
}

/// `the and for with all this that from will every not you are` by ROT13, and backwards; but for what is a
/// word of its own.
fn small_word(word: &[u8]) -> Option<Guise> {
    let lower = |at: usize| word.get(at).map_or(b' ', u8::to_ascii_lowercase);
    // Of chemistry, and `and` backwards.
    if !(3..=4).contains(&word.len()) || word == b"DNA" {
        return None;
    }
    match &[lower(0), lower(1), lower(2), lower(3)] {
        b"gur " | b"naq " | b"sbe " | b"jvgu" | b"nyy " | b"guvf" | b"gung" | b"sebz" | b"jvyy" | b"abg "
        | b"lbh " | b"ner " | b"bhe " | b"nal " => Some(Guise::Rotated),
        b"eht " | b"dna " | b"htiw" | b"lla " | b"siht" | b"taht" | b"morf" | b"lliw" | b"uoy " | b"ruo "
        | b"yna " | b"otni" => Some(Guise::Backwards),
        _ => None,
    }
}

fn thirteen_on(c: char) -> char {
    match c {
        'a'..='m' | 'A'..='M' => char::from_u32(u32::from(c) + 13).unwrap_or(c),
        'n'..='z' | 'N'..='Z' => char::from_u32(u32::from(c) - 13).unwrap_or(c),
        c => c,
    }
}

/// `d3l3te` as `delete`: with one such digit, a text needs two such words, for `k8s` is a name.
pub(super) fn lettered(text: &str, work: &mut Work) -> Option<String> {
    /// A word with digits is written anew.
    const WRITING: usize = 12;
    if !text.bytes().any(|b| matches!(b, b'0' | b'1' | b'3' | b'4' | b'5' | b'7' | b'8' | b'@' | b'$')) {
        return None;
    }
    // Up to `written` it is in `out`.
    let (mut out, mut written, mut at, mut found) = (String::new(), 0, 0, 0);
    let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'@' | b'$');
    while let Some(next) = text.get(at..)?.bytes().position(inside) {
        let from = text.get(at + next..)?;
        let length = from.bytes().position(|b| !inside(b)).unwrap_or(from.len());
        at += next + length;
        let word = from.get(..length)?;
        if !may_be_lettered(word) {
            continue;
        }
        if !work.allows(WRITING * length) {
            return None;
        }
        if let Some((plain, digits)) = plain(word) {
            found += digits;
            out.push_str(text.get(written..at - length)?);
            out.push_str(&plain);
            written = at;
        }
    }
    out.push_str(text.get(written..)?);
    (found >= 2).then_some(out)
}

fn may_be_lettered(word: &str) -> bool {
    const LENGTHS: std::ops::RangeInclusive<usize> = 3..=20;
    LENGTHS.contains(&word.len()) && !word.bytes().all(|b| b.is_ascii_alphabetic())
}

/// Whether a word with digits in it is one without them.
pub(super) fn may_be_word(word: &str) -> bool {
    may_be_lettered(word) && plain(word).is_some()
}

/// A word without digits, and how many groups of them stood between its letters.
fn plain(word: &str) -> Option<(String, usize)> {
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
