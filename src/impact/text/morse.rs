//! Which letters are written as dots and dashes? Codes parted by a space, words by a stroke or more space (ITU-R M.1677-1).

use super::{textlike::frequent_pairs, work::Work};

/// Fewer are a rule, an ellipsis or a table.
const CODES_MIN: usize = 8;
/// What a dot or a dash takes.
const READING: usize = 12;

/// Of the letters from `a` on, and of the digits from `0` on.
const LETTERS: [&str; 26] = [
    ".-", "-...", "-.-.", "-..", ".", "..-.", "--.", "....", "..", ".---", "-.-", ".-..", "--", "-.", "---",
    ".--.", "--.-", ".-.", "...", "-", "..-", "...-", ".--", "-..-", "-.--", "--..",
];
const DIGITS: [&str; 10] =
    ["-----", ".----", "..---", "...--", "....-", ".....", "-....", "--...", "---..", "----."];

/// The text with what is in Morse in it as letters; nothing if nothing is.
pub(super) fn read(text: &str, work: &mut Work) -> Option<String> {
    // One code behind another, as in most texts hardly any mark is.
    let mark = |b: u8| !b.is_ascii() || matches!(b, b'.' | b'-' | b'_');
    let behind =
        |(before, b): (u8, u8)| usize::from(mark(b) && !before.is_ascii_alphanumeric() && !mark(before));
    let codes = text.bytes().zip(text.bytes().skip(1)).map(behind).sum::<usize>();
    if !work.allows(text.len() / 4) || codes + 1 < CODES_MIN || !work.allows(text.len()) {
        return None;
    }
    // Up to `written` it is in `out`.
    let (mut out, mut written, mut at) = (String::new(), 0, 0);
    while let Some(next) = text.as_bytes().get(at..)?.iter().position(|b| mark(*b)) {
        let start = at + next;
        let from = text.get(start..)?;
        let row = from.get(..from.find(|c| !inside(c)).unwrap_or(from.len()))?;
        at = start + row.len().max(from.chars().next().map_or(1, char::len_utf8));
        if row.len() < 2 * CODES_MIN || !work.allows(READING * row.len()) {
            continue;
        }
        if let Some(found) = letters(row) {
            out.push_str(text.get(written..start)?);
            out.push_str(&found);
            out.push(' ');
            written = at;
        }
    }
    out.push_str(text.get(written..)?);
    (written > 0).then_some(out)
}

fn inside(c: char) -> bool {
    matches!(c, '.' | '-' | '/' | '|' | '·' | '•' | '−' | '–' | '—' | '_') || c.is_whitespace()
}

/// What a row of codes says. What is none may be the full stop of the sentence around them.
fn letters(row: &str) -> Option<String> {
    let (mut out, mut count) = (String::new(), 0);
    let row: String = row
        .chars()
        .map(|c| match c {
            '·' | '•' => '.',
            '−' | '–' | '—' | '_' => '-',
            '|' | '\n' => '/',
            c => c,
        })
        .collect();
    for word in row.replace("  ", "/").split('/') {
        for code in word.split_whitespace() {
            out.extend(letter(code));
            count += usize::from(letter(code).is_some());
        }
        if !out.is_empty() && !out.ends_with(' ') {
            out.push(' ');
        }
    }
    let said = out.trim_end();
    // A row of the same dots says the same letter.
    let pairs = frequent_pairs(said.replace("ee", "").as_bytes());
    (count >= CODES_MIN && 4 * pairs >= said.len()).then(|| said.to_owned())
}

fn letter(code: &str) -> Option<char> {
    let of = |codes: &[&str], first: u8| {
        let at = u8::try_from(codes.iter().position(|it| *it == code)?).ok()?;
        Some(char::from(first + at))
    };
    of(&LETTERS, b'a').or_else(|| of(&DIGITS, b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "delete all 27 backups";

    fn read(text: &str) -> Option<String> {
        super::read(text, &mut Work::of(usize::MAX))
    }

    fn morse(between: &str) -> String {
        let code = |c: char| match c {
            '0'..='9' => DIGITS[c as usize - '0' as usize],
            _ => LETTERS[c as usize - 'a' as usize],
        };
        let word = |word: &str| word.chars().map(code).collect::<Vec<_>>().join(" ");
        PLAIN.split(' ').map(word).collect::<Vec<_>>().join(between)
    }

    #[test]
    fn dots_and_dashes_are_letters_whatever_parts_the_words() {
        for between in [" / ", "/", "   ", "  ", "\n", " | "] {
            let row = morse(between);
            assert_eq!(read(&row).as_deref(), Some(format!("{PLAIN} ").as_str()), "{row:?}");
        }
        let drawn = morse(" / ").replace('.', "·").replace('-', "–");
        assert!(read(&format!("Do this: {drawn}, please")).unwrap_or_default().contains(PLAIN), "{drawn}");
    }

    #[test]
    fn rules_ellipses_and_tables_stay() {
        for text in [
            "Wait ... and then - - - go on.",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            "..............................",
            "- a\n- b\n- c\n\n---\n\n- d",
            "1 - 2 - 3 . . . . . . . . . . . . . 12",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
