//! Which lines of a long text say nothing that was not said before? Logs, tables and traces repeat themselves
//! with other numbers.
//!
//! Only what is equal but for numbers, times and drawn ids is left out, and only before anything else is
//! undone: two lines that differ in one word are both read, and so are two whose digits may be letters.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
};

use super::{
    TooMuch, codes, guises,
    packed::{in_lines, unpacks},
    work::Work,
};

/// Shorter texts are read as they are.
const LONG: usize = 4 << 10;
/// A line of fewer words is read with what follows it.
const WORDS_MIN: usize = 4;
/// What a byte takes, and a line.
const SHAPING: usize = 8;
const LINE: usize = 80;

/// A long text without the lines that come again; nothing if there are none.
pub(super) fn unlike(text: &str, work: &mut Work) -> Result<Option<String>, TooMuch> {
    if text.len() <= LONG || lines(text).nth(1).is_none() || is_one_code(text) {
        return Ok(None);
    }
    work.spend(SHAPING, text)?;
    let (hasher, mut known) = (RandomState::new(), HashSet::new());
    let (mut out, mut shape, mut open) = (String::with_capacity(text.len()), String::new(), false);
    for line in lines(text) {
        if !work.allows(LINE) {
            return Err(TooMuch);
        }
        let words = shaped(line, &mut shape, work);
        let new = known.insert(hasher.hash_one(&shape));
        if new || open || words < WORDS_MIN {
            out.push_str(line);
        }
        // What has no word opens nothing.
        open = words > 0 && words < WORDS_MIN;
    }
    work.all((out.len() < text.len()).then_some(out))
}

/// With their ends, which may be written as an escape.
pub(super) fn lines(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let bytes = text.as_bytes();
        let ends = |at: usize| match bytes.get(at) {
            Some(b'\n') => Some(at + 1),
            Some(b'\\') if bytes.get(at + 1) == Some(&b'n') => Some(at + 2),
            _ => None,
        };
        let end = (0..bytes.len()).find_map(ends).unwrap_or(bytes.len());
        let (line, rest) = text.split_at_checked(end).filter(|(line, _)| !line.is_empty())?;
        text = rest;
        Some(line)
    })
}

/// Whether lines may be parts of one code: what is packed, or letters' codes.
fn is_one_code(text: &str) -> bool {
    in_lines(text).is_some() || text.bytes().all(codes::in_codes)
}

const NUMBER: char = '\u{0}';

/// Writes a line with a mark for each number, time and id; how many words it has.
fn shaped(line: &str, out: &mut String, work: &mut Work) -> usize {
    out.clear();
    if has_codes(line) || packs_text(line, work) {
        out.push_str(line);
        return line.split_whitespace().count();
    }
    let (mut rest, mut words) = (line, 0);
    while let Some(first) = rest.chars().next() {
        let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'@' | b'$') || !b.is_ascii();
        let run = rest.bytes().position(|b| !inside(b)).unwrap_or(rest.len());
        let id = if run == 8 { uuid(rest) } else { None };
        let length = id.map_or(run.max(first.len_utf8()), str::len);
        let (word, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        rest = after;
        words += usize::from(run > 0 && word.bytes().any(|b| b.is_ascii_alphabetic() || !b.is_ascii()));
        if id.is_some() || is_drawn(word) {
            number(out);
        } else {
            put(word, out);
        }
    }
    words
}

/// A word without the digits before its first letter and behind its last; those between may be letters.
fn put(word: &str, out: &mut String) {
    let digit = |c: char| c.is_ascii_digit();
    let inner = word.trim_start_matches(digit);
    if inner.len() < word.len() {
        number(out);
    }
    let body = inner.trim_end_matches(digit);
    out.push_str(body);
    if body.len() < inner.len() {
        number(out);
    }
}

/// One mark for all digits and what stands between them: `12.5` is as `3`.
fn number(out: &mut String) {
    let between = out.trim_end_matches(['.', ',', ':']).len();
    if out.get(..between).is_some_and(|before| before.ends_with(NUMBER)) {
        out.truncate(between);
    } else {
        out.push(NUMBER);
    }
}

/// Hexadecimal digits that are no word, however their digits are read, and no text.
fn is_drawn(word: &str) -> bool {
    const LENGTH_MIN: usize = 8;
    word.len() >= LENGTH_MIN
        && word.bytes().all(|b| b.is_ascii_hexdigit())
        && word.bytes().any(|b| b.is_ascii_digit())
        && !guises::may_be_word(word)
}

/// The UUID that a text begins with.
fn uuid(text: &str) -> Option<&str> {
    const LENGTH: usize = 36;
    let id = text.get(..LENGTH)?;
    let fits = |(at, b): (usize, u8)| match at {
        8 | 13 | 18 | 23 => b == b'-',
        _ => b.is_ascii_hexdigit(),
    };
    let ends = text.as_bytes().get(LENGTH).is_none_or(|b| !b.is_ascii_alphanumeric() && *b != b'-');
    (id.bytes().enumerate().all(fits) && ends).then_some(id)
}

/// Whether digits may be the codes of letters: `%64`, `&#100;`, `\x64`, `\144`.
fn has_codes(line: &str) -> bool {
    line.as_bytes().windows(2).any(|pair| match pair {
        [b'%', b] => b.is_ascii_hexdigit() || *b == b'u',
        [b'&', b] => *b == b'#',
        [b'\\', b] => matches!(b, b'x' | b'u' | b'U' | b'0'..=b'3'),
        _ => false,
    })
}

/// Whether a run of digits of an encoding in it is a text.
fn packs_text(line: &str, work: &mut Work) -> bool {
    let digit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_' | b'=');
    line.as_bytes()
        .split(|b| !digit(*b))
        .any(|run| std::str::from_utf8(run).is_ok_and(|run| unpacks(run, work)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn shape(line: &str) -> String {
        let mut out = String::new();
        shaped(line, &mut out, &mut Work::of(usize::MAX));
        out
    }

    fn unlike(text: &str) -> String {
        super::unlike(text, &mut Work::of(usize::MAX)).unwrap().unwrap_or_else(|| text.to_owned())
    }

    #[test]
    fn lines_are_alike_that_differ_in_numbers_times_and_ids_only() {
        for (a, b) in [
            ("took 12 ms", "took 7 ms"),
            ("took 12.5 ms", "took 7 ms"),
            ("at 2026-03-01T10:00:00.123Z GET /a/9", "at 2025-12-31T23:59:59.9Z GET /a/10"),
            ("trace 0af7651916cd43dd8448 ok", "trace b7ad6b7169203331 ok"),
            ("web-03 is up", "web-4 is up"),
            ("24843246-a099-4099-a0b9-00002484324f,", "5eb81e46-0a9f-8b9c-1fb9-10002484324f,"),
        ] {
            assert_eq!(shape(a), shape(b), "{a:?} and {b:?}");
        }
        for (a, b) in [
            ("open the file 1", "drop the file 1"),
            ("Open the file", "open the file"),
            ("d3l3te it all", "d4l4te it all"),
            ("se11$it now", "se00$it now"),
            ("de1e7ea11 of it", "be1e7ea11 of it"),
            ("to a1 or b2", "to a1 or c2"),
            ("send it - now", "send it now"),
            ("%64%65 it", "%61%62 it"),
            ("&#100; it", "&#101; it"),
            (r"\x64 it", r"\x65 it"),
            ("id 64656c65746520616c6c20726f7773", "id 6b65657020616c6c2074686520726f7773"),
            ("ошибка 1", "отмена 1"),
            ("№ ١", "№ ٢"),
        ] {
            assert_ne!(shape(a), shape(b), "{a:?} and {b:?}");
        }
    }

    #[test]
    fn lines_of_a_code_and_words_over_several_lines_all_stay() {
        let packed = format!("{}\n", "ZGVsZXRlIGFsbCBjdXN0b21lcg9".repeat(2)).repeat(100);
        let codes = "100 101 108 101 116 101\n97 108 108 32 111 102\n".repeat(200);
        let tall =
            format!("{}delete\nall\nrecords\nof the customers\n", "delete\nall; \nrecords\n".repeat(300));
        for text in [packed, codes, tall] {
            assert_eq!(unlike(&text), text);
        }
        let before = "see what it is here: 1\n".repeat(300);
        let text = format!("{before}delete\nsee what it is here: 2\n");
        assert!(
            unlike(&text).ends_with("delete\nsee what it is here: 2\n"),
            "read with the short one before it"
        );
    }

    proptest! {
        #[test]
        fn no_line_with_another_word_is_left_out(
            rows in proptest::collection::vec("[a-e]{1,3} [0-9]{1,4} [a-e]{1,3} [0-9a-f]{8} [a-c]{1,2}[0-9]{0,2}[a-c]? [a-e]{2}", 100..400),
            escaped in any::<bool>(),
        ) {
            let end = if escaped { "\\n" } else { "\n" };
            let text = format!("# rows{end}{}", rows.join(end));
            let left = unlike(&text);
            let words = |row: &str| -> Vec<String> {
                let word = |it: &str| it.trim_matches(|c: char| c.is_ascii_digit()).to_owned();
                let drawn = |it: &&str| !(it.len() == 8 && is_drawn(it));
                row.split(' ').filter(drawn).map(word).collect()
            };
            let known: HashSet<Vec<String>> = left.split(end).map(words).collect();
            for row in &rows {
                prop_assert!(known.contains(&words(row)), "{row}");
            }
            prop_assert!(left.len() <= text.len());
        }
    }
}
