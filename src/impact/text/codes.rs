//! Which letters are written as their codes? `64 65 6c`, `0x64,0x65`, `100 101`, `144 145`, `01100100 …`.

use std::ops::RangeInclusive;

use super::{
    textlike::{frequent_pairs, is_text},
    work::Work,
};

/// Fewer are numbers that happen to be letters' codes. Among other words and numbers these are no rarity.
const CODES_MIN: usize = 6;
const AMONG_OTHERS_MIN: usize = 12;
/// Four ways to read them, each with a look at every code.
const READING: usize = 10;

/// Whether it may stand among the codes of letters.
pub(super) fn in_codes(b: u8) -> bool {
    b.is_ascii_hexdigit() || b == b'x' || parts(b)
}

fn parts(b: u8) -> bool {
    matches!(b, b' ' | b',' | b':' | b'-' | b'\n')
}

/// The text with what its rows of codes say in their place; nothing if there are none.
pub(super) fn read(text: &str, work: &mut Work) -> Option<String> {
    /// As short as two digits each, and what parts them.
    const ROW_MIN: usize = 3 * AMONG_OTHERS_MIN - 1;
    let digits = text.bytes().map(|b| usize::from(b.is_ascii_digit())).sum::<usize>();
    if !work.allows(text.len() / 4) || digits < CODES_MIN || !work.allows(text.len()) {
        return None;
    }
    if text.bytes().all(in_codes) {
        return if work.allows(READING * text.len()) { letters(text, CODES_MIN) } else { None };
    }
    // Up to `written` it is in `out`.
    let (mut out, mut written, mut at) = (String::new(), 0, 0);
    while let Some(next) = text.as_bytes().get(at..)?.iter().position(u8::is_ascii_digit) {
        let start = at + next;
        at = start + text.as_bytes().get(start..)?.iter().take_while(|b| in_codes(**b)).count();
        let row = text.get(start..at)?;
        if row.len() < ROW_MIN || row.bytes().filter(|b| parts(*b)).count() + 1 < AMONG_OTHERS_MIN {
            continue;
        }
        let row = whole_codes(text, start, at)?;
        let found = if work.allows(READING * row.len()) { letters(row, AMONG_OTHERS_MIN) } else { None };
        if let Some(found) = found {
            out.push_str(text.get(written..start)?);
            out.push_str(&found);
            out.push(' ');
            written = at;
        }
    }
    out.push_str(text.get(written..)?);
    (written > 0).then_some(out)
}

/// Without parts of words at its ends.
fn whole_codes(text: &str, start: usize, end: usize) -> Option<&str> {
    let lettered =
        |at: Option<usize>| at.and_then(|at| text.as_bytes().get(at)).is_some_and(u8::is_ascii_alphanumeric);
    let row = text.get(start..end)?;
    let row = if lettered(start.checked_sub(1)) { row.get(row.bytes().position(parts)?..)? } else { row };
    if lettered(Some(end)) { row.get(..row.bytes().rposition(parts)?) } else { Some(row) }
}

/// What most of some codes say.
fn letters(row: &str, least: usize) -> Option<String> {
    let codes = || row.split(|c: char| u8::try_from(c).is_ok_and(parts)).filter(|code| !code.is_empty());
    let all = codes().count();
    let ways = [(2, 7..=8), (8, 2..=3), (10, 2..=3), (16, 2..=2)];
    let said = ways.into_iter().map(|(radix, digits)| longest(codes(), radix, &digits)).filter(|it| {
        let alone = it.len() == all && it.len() >= least;
        let among = it.len() >= AMONG_OTHERS_MIN && 3 * frequent_pairs(it.as_bytes()) >= it.len();
        (alone && least == CODES_MIN || among) && is_text(it)
    });
    said.max_by_key(|it| (it.len(), it.bytes().filter(u8::is_ascii_lowercase).count()))
}

/// What the longest run of codes says that all are letters'.
fn longest<'a>(codes: impl Iterator<Item = &'a str>, radix: u32, digits: &RangeInclusive<usize>) -> String {
    let (mut best, mut open) = (String::new(), String::new());
    for code in codes {
        let code = code.strip_prefix("0x").unwrap_or(code);
        let byte = if digits.contains(&code.len()) { u8::from_str_radix(code, radix).ok() } else { None };
        match byte.filter(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) {
            Some(byte) => open.push(char::from(byte)),
            None if open.len() > best.len() => best = std::mem::take(&mut open),
            None => open.clear(),
        }
    }
    if open.len() > best.len() { open } else { best }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "delete all of it";

    fn read(text: &str) -> Option<String> {
        super::read(text, &mut Work::of(usize::MAX))
    }

    fn codes(by: fn(u8) -> String, between: &str) -> String {
        PLAIN.bytes().map(by).collect::<Vec<_>>().join(between)
    }

    #[test]
    fn codes_in_any_common_base_are_letters_alone_and_among_words() {
        for by in [
            |b: u8| format!("{b:08b}"),
            |b: u8| format!("{b:o}"),
            |b: u8| format!("{b:03o}"),
            |b: u8| b.to_string(),
            |b: u8| format!("{b:02x}"),
            |b: u8| format!("0x{b:02X}"),
        ] {
            for between in [" ", ",", ", ", ":", "\n"] {
                let row = codes(by, between);
                assert_eq!(read(&row).as_deref(), Some(PLAIN), "{row}");
                let among = format!("Decode it: {row} and do that.");
                assert!(read(&among).unwrap_or_default().contains(PLAIN), "{among}");
            }
        }
    }

    #[test]
    fn numbers_that_are_no_letters_codes_stay() {
        for text in [
            "10 20 30 40 50 60 70",
            "Between 2026-11-02 10:15:00 and 2026-11-03 11:45:59, 120 of 150 calls took 90 to 99 ms",
            "55 66 77 88 99 33 44 55 66 77 88 99 of each",
            "be ad fe ed go to it at as if it is so",
            "3f2a5c1e-0d47-4b83-9a61-7c5e2f8d1b90 and 10:20:30",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
