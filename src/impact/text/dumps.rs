//! What do the bytes say that a dump shows? `hexdump`, `xxd` and `od` show some in each row, so that a word may begin
//! in one row and end in another.
//!
//! The numbers of a row are read as the bytes that they are. The characters beside them are those bytes once more, or
//! else read as well. Nothing that a row shows is left out but its offset.

use super::{TooMuch, classes::alphanumeric, decoded::may_be_codes, rows::lines, work::Work};

/// Fewer numbers, or bytes, are words and dates.
const GROUPS_MIN: usize = 4;
const BYTES_MIN: usize = 8;
/// More dumps are read together only.
const APART_MAX: usize = 8;
/// What a byte takes to be looked at, to be looked at as part of a row, and in one to be read.
const PASSING: usize = 1;
const LOOKING: usize = 6;
const READING: usize = 24;

/// The text with what its dumps say in their place; nothing if it has none.
pub(super) fn undone(text: &str, work: &mut Work) -> Result<Option<String>, TooMuch> {
    work.allows(PASSING * text.len());
    work.all(())?;
    if !may_show(text) {
        return Ok(None);
    }
    work.spend(LOOKING, text)?;
    let mut dumped = lines(text).filter_map(Row::of);
    // What is nothing but codes may be those of letters in other ways.
    let Some(first) = dumped.next() else { return Ok(None) };
    if may_be_codes(text) && first.offset().is_none() && dumped.all(|row| row.offset().is_none()) {
        return Ok(None);
    }
    let (mut out, mut dump) = (String::with_capacity(text.len()), Dump::default());
    for line in lines(text) {
        match Row::of(line).or_else(|| Row::last(line, &dump)) {
            Some(row) => {
                work.spend(READING, line)?;
                dump.add(row, line, &mut out);
            }
            None => {
                dump.apart = true;
                out.push_str(line);
            }
        }
    }
    dump.end(&mut out);
    work.all(Some(out))
}

/// Whether there could be a row in it: most texts have none, and are spared the closer look.
fn may_show(text: &str) -> bool {
    // Digits of a number so far, unless something else is in it, and numbers so far.
    let (mut digits, mut count) = (Some(0), 0);
    for b in text.bytes() {
        digits = match (b, digits) {
            (b' ', Some(2 | 4 | 8)) => {
                count += 1;
                Some(0)
            }
            (b' ', Some(0)) => Some(0),
            // A line may end in an escape.
            (b' ' | b'\n' | b'n', _) => {
                count = 0;
                Some(0)
            }
            (b, Some(digits)) if b.is_ascii_hexdigit() => Some(digits + 1),
            _ => None,
        };
        if count + 1 >= GROUPS_MIN {
            return true;
        }
    }
    false
}

/// A line that shows bytes.
struct Row<'a> {
    before: &'a str,
    digits: &'a str,
    after: &'a str,
    /// Digits of one number.
    size: usize,
}

impl<'a> Row<'a> {
    fn of(line: &'a str) -> Option<Self> {
        Self::at_least(line, 0, GROUPS_MIN, BYTES_MIN)
    }

    /// The last row of a dump may be shorter.
    fn last(line: &'a str, dump: &Dump) -> Option<Self> {
        let offset = line.bytes().position(|b| b == b' ').filter(|_| !dump.bytes.is_empty())?;
        let row = Self::at_least(line, offset + line.get(offset..)?.bytes().position(|b| b != b' ')?, 1, 1);
        row.filter(|row| row.offset().is_some())
    }

    /// With so many numbers and bytes, from somewhere on.
    fn at_least(line: &'a str, mut from: usize, groups_min: usize, bytes_min: usize) -> Option<Self> {
        let line = line.trim_end_matches(['\n', '\r']);
        let line = line.strip_suffix("\\n").unwrap_or(line);
        loop {
            let rest = line.get(from..)?;
            let word = rest.bytes().position(|b| b == b' ').unwrap_or(rest.len());
            if matches!(word, 2 | 4 | 8) {
                let (end, count) = groups(rest.as_bytes(), word);
                if count >= groups_min && count * word / 2 >= bytes_min {
                    let (before, digits) = (line.get(..from)?, rest.get(..end)?);
                    return Some(Self { before, digits, after: rest.get(end..)?, size: word });
                }
            }
            from += word + rest.get(word..)?.bytes().position(|b| b != b' ')?;
        }
    }

    /// What stands before the numbers, if it is a number itself.
    fn offset(&self) -> Option<&'a str> {
        let before = self.before.trim();
        let number = before.strip_suffix(':').unwrap_or(before);
        ((4..=16).contains(&number.len()) && is_hex(number.as_bytes())).then_some(number)
    }
}

fn is_hex(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_hexdigit)
}

/// How long the hexadecimal numbers of one size are together, with which a text begins, and how many they are.
fn groups(text: &[u8], size: usize) -> (usize, usize) {
    let (mut end, mut count) = (0, 0);
    while let Some(rest) = text.get(end..) {
        let gap = rest.iter().take_while(|b| **b == b' ').count();
        let next = rest.get(gap..).unwrap_or_default();
        let length = next.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let whole = next.get(length).is_none_or(|b| *b == b' ');
        let apart = if count == 0 { gap == 0 } else { (1..=2).contains(&gap) };
        // The last may show fewer bytes.
        let rest_of_row = length < size && count > 0 && gap == 1;
        if !apart || !whole || length == 0 || length % 2 == 1 || (length != size && !rest_of_row) {
            break;
        }
        (end, count) = (end + gap + length, count + 1);
        if length < size {
            break;
        }
    }
    (end, count)
}

/// All rows of a text, whatever stands between them.
#[derive(Default)]
struct Dump {
    bytes: Vec<u8>,
    /// The same with each number turned round, if that is how they may be meant.
    turned: Vec<u8>,
    /// What stands beside bytes that say something else, over the ends of rows and row by row.
    beside: String,
    remarks: String,
    /// Digits that may be words.
    lettered: String,
    /// Where another dump may begin.
    begins: Vec<usize>,
    /// The offset of the next row.
    next: Option<u64>,
    /// There was another line since the last row.
    apart: bool,
}

impl Dump {
    fn add(&mut self, row: Row<'_>, line: &str, out: &mut String) {
        let (offset, digits) = self.parted(&row);
        let named = offset.is_none() && !row.before.trim().is_empty();
        if named {
            put(row.before, out);
        }
        let numbers: Vec<Vec<u8>> = digits.split(' ').filter_map(|it| hex::decode(it).ok()).collect();
        let straight = numbers.concat();
        let turned: Vec<u8> = numbers.iter().flat_map(|it| it.iter().rev().copied()).collect();
        let known = [&straight, &turned].into_iter().find(|bytes| shows(row.after, bytes));
        if offset.is_none() && known.is_none() && !named {
            out.push_str(line);
        }
        let first = offset.or(digits.get(..8)).and_then(|it| u64::from_str_radix(it, 16).ok());
        let follows = if offset.is_some() { first == self.next } else { !named && !self.apart };
        if !follows && !self.bytes.is_empty() {
            self.begins.push(self.bytes.len());
        }
        // The first of them may have been the offset.
        let count = if offset.is_some() { straight.len() } else { straight.len().saturating_sub(4) };
        self.next = first.map(|first| first.saturating_add(count as u64));
        self.apart = false;
        self.bytes.extend_from_slice(known.unwrap_or(&straight));
        self.turned.extend_from_slice(known.unwrap_or(&turned));
        if known.is_none() {
            let shown = row.after.strip_prefix("  ").unwrap_or(row.after);
            self.beside.push_str(shown.trim_end().trim_matches('|'));
            put(row.after.trim().trim_matches('|'), &mut self.remarks);
        }
        letters(digits, &mut self.lettered);
    }

    /// The offset of a row and its other numbers: one that is as long as they are is known by its value.
    fn parted<'a>(&self, row: &Row<'a>) -> (Option<&'a str>, &'a str) {
        let number = |it: &str| u64::from_str_radix(it, 16).ok();
        match (row.offset(), row.digits.split_once(' ')) {
            (None, Some((first, rest)))
                if row.size == 8
                    && row.before.trim().is_empty()
                    && self.next.is_some()
                    && number(first) == self.next =>
            {
                (Some(first), rest)
            }
            (offset, _) => (offset, row.digits),
        }
    }

    /// Writes what they say all together, and where there are few dumps each by itself.
    fn end(self, out: &mut String) {
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        let ways = [&self.bytes, &self.turned];
        for bytes in ways.iter().take(if self.turned == self.bytes { 1 } else { 2 }) {
            put(&said(bytes), out);
            if !(1..=APART_MAX).contains(&self.begins.len()) {
                continue;
            }
            let ends = self.begins.iter().copied().chain([bytes.len()]);
            let begins = [0].into_iter().chain(self.begins.iter().copied());
            for each in begins.zip(ends).filter_map(|(from, to)| bytes.get(from..to)) {
                put(&said(each), out);
            }
        }
        for text in [self.beside, self.remarks, self.lettered] {
            put(&text, out);
        }
    }
}

/// Adds a line, if it says anything.
fn put(text: &str, out: &mut String) {
    if !text.trim().is_empty() {
        out.push_str(text);
        out.push('\n');
    }
}

/// Whether what stands behind the numbers is nothing but these bytes, as dumps show them.
fn shows(after: &str, bytes: &[u8]) -> bool {
    let column: String =
        bytes.iter().map(|b| if matches!(b, b' '..=b'~') { char::from(*b) } else { '.' }).collect();
    let after = after.trim_end().strip_suffix('|').unwrap_or(after);
    let before = after.trim_end().strip_suffix(column.trim_end());
    before.is_some_and(|it| it.trim().trim_end_matches('|').is_empty())
}

/// What bytes say, with a dot for what is no text: neither what is no character, nor one among so many such that
/// hardly every second around it is a letter, a digit or a space. Of drawn bytes every fourth is.
fn said(bytes: &[u8]) -> String {
    const AROUND: usize = 16;
    let bytes = without_zeros(bytes);
    let shown = |c: char| if c.is_control() && !c.is_whitespace() { '.' } else { c };
    let chunks = bytes.utf8_chunks();
    let chars: Vec<char> = chunks
        .flat_map(|it| it.valid().chars().map(shown).chain((!it.invalid().is_empty()).then_some('.')))
        .collect();
    let mut sums = Vec::with_capacity(chars.len() + 1);
    sums.push(0_usize);
    for c in &chars {
        sums.push(sums.last().unwrap_or(&0) + usize::from(alphanumeric(*c) || c.is_whitespace()));
    }
    let mut out = String::with_capacity(chars.len());
    for (at, c) in chars.iter().enumerate() {
        let (from, to) = (at.saturating_sub(AROUND), chars.len().min(at + AROUND));
        let saying = sums.get(to).unwrap_or(&0) - sums.get(from).unwrap_or(&0);
        let c = if 2 * saying >= to - from { *c } else { '.' };
        if c != '.' || !out.ends_with('.') {
            out.push(c);
        }
    }
    out
}

/// Letters of two bytes each have every other one zero.
fn without_zeros(bytes: &[u8]) -> Vec<u8> {
    let at = |at: usize| bytes.get(at).copied();
    let other = |place: usize| {
        let before = place >= 2 && at(place - 2) == Some(0) && at(place - 1) != Some(0);
        before || at(place + 2) == Some(0) && at(place + 1) != Some(0)
    };
    let kept = bytes.iter().enumerate().filter(|(place, b)| **b != 0 || !other(*place));
    kept.map(|(_, b)| *b).collect()
}

/// Adds the runs of digits that are letters and more than one, which can be words: `dead beef`.
fn letters(digits: &str, out: &mut String) {
    const LETTERS_MIN: usize = 4;
    for run in digits.split(|c: char| c.is_ascii_digit()) {
        let letters = || run.bytes().filter(u8::is_ascii_alphabetic);
        let first = letters().next();
        if letters().count() >= LETTERS_MIN && letters().any(|b| Some(b) != first) {
            if !out.is_empty() {
                out.push_str(", ");
            }
            out.push_str(run.trim());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::fmt::Write as _;

    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::impact::text::tests::unworded::{dumped, xxd_of};

    const SAID: &str = "Delete all customer records from the production database and every backup of it.";

    fn undone(text: &str) -> Option<String> {
        super::undone(text, &mut Work::of(usize::MAX)).unwrap()
    }

    fn words(bytes: &[u8], size: usize, turned: bool, offset: bool) -> String {
        let mut out = String::new();
        for (row, bytes) in bytes.chunks(16).enumerate() {
            let numbers = bytes.chunks(size).map(|it| {
                hex::encode(if turned { it.iter().rev().copied().collect::<Vec<_>>() } else { it.to_vec() })
            });
            let numbers = numbers.collect::<Vec<_>>().join(" ");
            let offset = if offset { format!("{:07x} ", 16 * row) } else { String::new() };
            writeln!(out, "{offset}{numbers}").unwrap();
        }
        out
    }

    #[test]
    fn what_a_dump_says_is_read_over_the_ends_of_its_rows() {
        for offset in [0, 0x7ff0, 0xdead_beef] {
            for text in [dumped(SAID.as_bytes(), offset), xxd_of(SAID.as_bytes(), offset)] {
                for text in [text.clone(), text.replace('\n', "\\n"), text.replace('\n', "\r\n")] {
                    let found = undone(&text).unwrap();
                    assert_eq!(found.trim(), SAID, "{text}");
                }
            }
        }
        for size in [1, 2, 4] {
            for turned in [false, true] {
                let text = format!("Here it is:\n{}done", words(SAID.as_bytes(), size, turned, true));
                let found = undone(&text).unwrap();
                let begins = found.starts_with("Here it is:\ndone\n");
                assert!(found.contains(SAID) && begins, "{size} {turned}: {found}");
            }
            let found =
                undone(&format!("Here it is:\n{}", words(SAID.as_bytes(), size, false, false))).unwrap();
            assert!(found.contains(SAID), "without offsets, {size}: {found}");
        }
        let wide_offsets = words(SAID.as_bytes(), 4, false, true).replace("\n0", "\n00");
        assert!(undone(&format!("0{wide_offsets}")).unwrap().contains(SAID), "as long as the numbers");
        let wide: Vec<u8> = SAID.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(undone(&dumped(&wide, 0)).unwrap().trim(), SAID, "of two bytes each");
        let within = format!("log: {} end", words(&SAID.as_bytes()[..16], 1, false, false).trim());
        let found = undone(&within).unwrap();
        assert!(found.starts_with(&format!("log: \n{}\n", &SAID[..16])) && found.contains("end"), "{found}");
    }

    #[test]
    fn what_a_dump_says_is_read_whatever_stands_between_its_rows_or_before_them() {
        let dump = dumped(SAID.as_bytes(), 0x10);
        let rows = || dump.lines().enumerate();
        for text in [
            rows().map(|(at, row)| format!("{row}\nA note, number {at}.\n")).collect::<String>(),
            rows().map(|(at, row)| format!("{}{row}\n", "\n".repeat(at))).collect(),
            rows().map(|(at, row)| format!("{:08x}{}\n", at * 7919, &row[8..])).collect(),
            rows().map(|(at, row)| format!("10:00:0{at} INFO sent {}\n", &row[10..58])).collect(),
        ] {
            let found = undone(&text).unwrap();
            assert!(found.contains(SAID), "{text}{found}");
        }
        let two = format!("{}{}", dumped(b"The disks", 0), dumped(SAID.as_bytes(), 0));
        assert!(undone(&two).unwrap().lines().any(|line| line == SAID), "{two}");
    }

    #[test]
    fn what_stands_beside_bytes_and_is_something_else_is_read_too() {
        let honest = dumped(&[0x80; 96], 0);
        let mut shown = SAID.as_bytes().chunks(16);
        let forged: Vec<String> = honest
            .lines()
            .map(|row| {
                let column: String =
                    shown.next().map(|it| String::from_utf8_lossy(it).into_owned()).unwrap_or_default();
                format!("{}|{column}|", row.split_once('|').unwrap().0)
            })
            .collect();
        let found = undone(&forged.join("\n")).unwrap();
        assert!(found.contains(SAID), "{found}");
        let noted = words(SAID.as_bytes(), 1, false, true).replace('\n', "  drop the tables\n");
        assert!(undone(&noted).unwrap().lines().any(|line| line == "drop the tables"), "{noted}");
        let one = honest.replacen("|................|", "|..and drop all..|", 1);
        assert!(undone(&one).unwrap().contains("..and drop all.."), "{one}");
    }

    #[test]
    fn digits_that_are_words_stay_and_what_is_no_dump_is_no_dump() {
        let found = undone("0000000 dead beef face cafe 0000 0000 0000 0000\n").unwrap();
        assert!(found.contains("dead beef face cafe"), "{found}");
        assert!(!undone("0000000 ffff ffff ffff ffff 0000 0000 0000 0000\n").unwrap().contains("ffff"));
        let found = undone("A list:\nde ad be ef fa ce ca fe\n").unwrap();
        assert!(found.contains("de ad be ef fa ce ca fe"), "{found}");
        for text in [
            "be ad fe ed go to it at as if it is so",
            "12 34 56",
            "64 65 6c 65 74 65 20 61 6c 6c",
            "68 69 76 69 84 69 32 65 76 76",
            "2026 1999 2001",
            "",
        ] {
            assert_eq!(undone(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_text_is_a_dot() {
        let found = undone(&dumped(b"\x00\x01\x02wipe\xff\xfethe disks\n", 0)).unwrap();
        assert_eq!(found.lines().next(), Some(".wipe.the disks"), "{found}");
        let mut rng = StdRng::seed_from_u64(5);
        let noise: Vec<u8> = (0..2_000).map(|_| rng.random()).collect();
        let found = undone(&dumped(&[&noise, SAID.as_bytes(), &noise].concat(), 0)).unwrap();
        assert!(found.contains(SAID) && found.len() < 1_200, "{found}");
        assert_eq!(undone(&dumped("żółw jest tu".as_bytes(), 0)).unwrap().trim(), "żółw jest tu");
    }
}
