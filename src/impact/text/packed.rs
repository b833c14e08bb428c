//! What do packed digits say: hexadecimal, Base64, Base32, Base85?
//!
//! Only where words come out, or what is encoded again. Several ways to read the same digits are tried, and the one
//! counts that has most of a language in it.

use super::{
    textlike::{frequent_pairs, text_of},
    work::Work,
};

/// Shorter ones are words by chance. Of Base32, whose digits are those of all words, the padding counts as well.
const PACKED_MIN: usize = 12;
const BASE32_MIN: usize = 16;
/// A line of so many digits may go on in the next one.
const LINE_MIN: usize = 16;

/// The text with what is packed in it unpacked; nothing if nothing is.
pub(super) fn unpacked(text: &str, work: &mut Work) -> Option<String> {
    if !work.allows(text.len()) {
        return None;
    }
    if let Some(found) = in_lines(text).and_then(|one| said(&one, work)) {
        return Some(found);
    }
    // Up to `written` it is in `out`, and up to `tried` lines were read together.
    let (mut out, mut written, mut at, mut tried) = (String::new(), 0, 0, 0);
    while let Some(next) = text.as_bytes().get(at..)?.iter().position(|b| is_digit(*b)) {
        let start = at + next;
        let from = text.get(start..)?;
        let run = run(from);
        let blocks = if start < tried || run.len() < LINE_MIN { [None; 2] } else { blocks(from, run) };
        tried = tried.max(start + blocks.iter().flatten().map(|lines| lines.len()).max().unwrap_or(0));
        let together = blocks.into_iter().flatten().find_map(|lines| {
            Some((lines.len(), said(&lines.split_whitespace().collect::<String>(), work)?))
        });
        let found = together.or_else(|| Some((run.len(), said(run, work)?)));
        at = start + found.as_ref().map_or(run.len(), |(length, _)| *length);
        if let Some((_, found)) = found {
            out.push_str(text.get(written..start)?);
            out.push_str(&found);
            written = at;
        }
    }
    out.push_str(text.get(written..)?);
    (written > 0).then_some(out)
}

/// Whether it may stand in what is packed.
fn is_digit(b: u8) -> bool {
    SEXTETS.get(usize::from(b)).is_some_and(|value| *value < NONE)
}

/// The digits that a text begins with, and their padding.
fn run(text: &str) -> &str {
    let digits = text.bytes().take_while(|b| is_digit(*b)).count();
    let padding = text.bytes().skip(digits).take_while(|b| *b == b'=').count();
    text.get(..digits + padding).unwrap_or_default()
}

/// The lines that a text begins with, each nothing but digits, of which all but the last are long. Where the last one is
/// short, it may be a word behind them: also without it.
fn blocks<'a>(text: &'a str, first: &str) -> [Option<&'a str>; 2] {
    let (mut end, mut before, mut last) = (first.len(), 0, first);
    while last.len() >= LINE_MIN && !last.ends_with('=') {
        let rest = text.get(end..).unwrap_or_default();
        let gap = rest.len() - rest.trim_start().len();
        let next = run(rest.get(gap..).unwrap_or_default());
        let after = rest.get(gap + next.len()..).unwrap_or_default();
        if gap == 0 || next.is_empty() || after.starts_with(|c: char| !c.is_whitespace()) {
            break;
        }
        (end, before, last) = (end + gap + next.len(), end, next);
    }
    let lines = |end: usize| if end > first.len() { text.get(..end) } else { None };
    [lines(end), if last.len() < LINE_MIN { lines(before) } else { None }]
}

/// What is packed may have been broken into lines, or into groups of one length: without the white space, if nothing
/// else is in it.
pub(super) fn in_lines(text: &str) -> Option<String> {
    const GROUPS_MIN: usize = 4;
    let other = |c: char| !(c.is_ascii() && (is_digit(c as u8) || c == '=') || c.is_whitespace());
    if text.contains(other) {
        return None;
    }
    let pieces: Vec<&str> = text.split_whitespace().collect();
    // A line has an end, and the whole may be of several.
    let long = pieces.iter().any(|line| line.len() > 4 * PACKED_MIN);
    let groups = || {
        let (last, others) = pieces.split_last()?;
        let length = others.first()?.len();
        let even = others.iter().all(|group| group.len() == length) && last.len() <= length;
        Some(even && length > 1 && pieces.len() >= GROUPS_MIN)
    };
    (pieces.len() > 1 && (long || groups() == Some(true))).then(|| pieces.concat())
}

/// Whether it is packed, and words come out.
pub(super) fn unpacks(run: &str, work: &mut Work) -> bool {
    said(run, work).is_some()
}

/// What digits say, with padding or without.
fn said(run: &str, work: &mut Work) -> Option<String> {
    /// Twice undone, and looked at; and what it takes to begin.
    const TRIES: usize = 3;
    const RUN: usize = 30;
    /// The same for Base32, which mostly ends with its first digits.
    const MORE: usize = 2;
    const FIRST: usize = 16;
    let digits = run.trim_end_matches('=');
    if digits.len() < PACKED_MIN || !work.allows(RUN + TRIES * run.len()) {
        return None;
    }
    let mut best = Best::of(digits);
    if digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        best.look(|out| hex::decode(digits).map(|bytes| *out = bytes).ok());
    }
    best.look(|out| bits::<6>(digits, &SEXTETS, out));
    for table in [&BASE32, &BASE32HEX] {
        let may_be = |b: u8| table.get(usize::from(b)) != Some(&NONE);
        if run.len() >= BASE32_MIN && digits.bytes().take(FIRST).all(may_be) && work.allows(MORE * run.len())
        {
            best.look(|out| bits::<5>(digits, table, out));
        }
    }
    best.text
}

/// Of several ways to read some digits the one whose bytes are most of a text, if any are one.
struct Best {
    bytes: Vec<u8>,
    text: Option<String>,
}

impl Best {
    fn of(digits: &str) -> Self {
        Self { bytes: Vec::with_capacity(digits.len()), text: None }
    }

    fn look(&mut self, read: impl FnOnce(&mut Vec<u8>) -> Option<()>) {
        self.bytes.clear();
        let Some(found) = read(&mut self.bytes).and_then(|()| text_of(&self.bytes)) else { return };
        let pairs = |text: &String| frequent_pairs(text.as_bytes());
        if self.text.as_ref().is_none_or(|text| pairs(text) < pairs(&found)) {
            self.text = Some(found);
        }
    }
}

/// The value of each byte as a digit.
type Table = [u8; 256];
const NONE: u8 = u8::MAX;

/// Of alphabets that mean the same.
#[expect(clippy::indexing_slicing, reason = "at compile time")]
const fn table(alphabets: &[&[u8]]) -> Table {
    let mut all = [NONE; 256];
    let mut of = 0;
    while of < alphabets.len() {
        let mut value = 0;
        while value < alphabets[of].len() {
            all[alphabets[of][value] as usize] = value as u8;
            value += 1;
        }
        of += 1;
    }
    all
}

static SEXTETS: Table = table(&[
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
]);
static BASE32: Table = table(&[b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"abcdefghijklmnopqrstuvwxyz"]);
static BASE32HEX: Table = table(&[b"0123456789ABCDEFGHIJKLMNOPQRSTUV", b"0123456789abcdefghijklmnopqrstuv"]);

/// Of digits of so many bits, whatever is left over at the end: meant to be lenient, where the crates for it are strict.
fn bits<const BITS: usize>(digits: &str, table: &Table, out: &mut Vec<u8>) -> Option<()> {
    for digits in digits.as_bytes().chunks(8) {
        let (mut bits, mut any) = (0_u64, 0);
        for digit in digits {
            let value = table.get(usize::from(*digit)).copied().unwrap_or(NONE);
            any |= value;
            bits = bits << BITS | u64::from(value);
        }
        if any >= 1 << BITS {
            return None;
        }
        bits <<= BITS * (8 - digits.len());
        out.extend_from_slice(bits.to_be_bytes().get(8 - BITS..)?.get(..digits.len() * BITS / 8)?);
    }
    Some(())
}

/// Base85 as Adobe, as Python and Git, and as ZeroMQ write it.
static BASE85: [Table; 3] = [
    table(&[b"!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstu"]),
    table(&[b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"]),
    table(&[b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"]),
];

/// The text with what is in Base85 in it unpacked; nothing if nothing is.
pub(super) fn by_85(text: &str, work: &mut Work) -> Option<String> {
    /// Fewer are an address or a name.
    const DIGITS_MIN: usize = 20;
    if !work.allows(text.len()) {
        return None;
    }
    // Up to `written` it is in `out`.
    let (mut out, mut written, mut at) = (String::new(), 0, 0);
    while let Some(next) = text.as_bytes().get(at..)?.iter().position(|b| !b.is_ascii_whitespace()) {
        let start = at + next;
        let from = text.get(start..)?;
        let run = from.get(..from.bytes().position(|b| b.is_ascii_whitespace()).unwrap_or(from.len()))?;
        at = start + run.len();
        if run.len() < DIGITS_MIN {
            continue;
        }
        if let Some(found) = said_by_85(run, work) {
            out.push_str(text.get(written..start)?);
            out.push_str(&found);
            written = at;
        }
    }
    out.push_str(text.get(written..)?);
    (written > 0).then_some(out)
}

fn said_by_85(run: &str, work: &mut Work) -> Option<String> {
    /// Digits of which the first bytes come, and how many of these show; of drawn ones hardly so many do.
    const FIRST: usize = 20;
    const SHOWN_MIN: usize = 10;
    /// What the first digits take in all three.
    const RUN: usize = 120;
    // Hardly any code is without a sign that names, times and addresses have not.
    let plain = |b: u8| is_digit(b) || matches!(b, b'=' | b':' | b'.');
    if run.bytes().all(plain) || !work.allows(RUN) {
        return None;
    }
    let digits = run.strip_prefix("<~").unwrap_or(run);
    let digits = digits.strip_suffix("~>").unwrap_or(digits);
    let mut best = Best::of(digits);
    for table in &BASE85 {
        best.look(|out| {
            fives(digits.get(..digits.len().min(FIRST))?, table, out)?;
            let shown = out.iter().filter(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()).count();
            let rest = digits.get(FIRST..).filter(|_| shown >= SHOWN_MIN && work.allows(digits.len()))?;
            fives(rest, table, out)
        });
    }
    best.text
}

/// Four bytes of each five digits.
fn fives(digits: &str, table: &Table, out: &mut Vec<u8>) -> Option<()> {
    for five in digits.as_bytes().chunks(5) {
        let value = (0..5).try_fold(0_u32, |value, at| {
            let digit = five.get(at).map_or(84, |b| table.get(usize::from(*b)).copied().unwrap_or(NONE));
            if digit == NONE { None } else { value.checked_mul(85)?.checked_add(digit.into()) }
        })?;
        out.extend_from_slice(value.to_be_bytes().get(..five.len() - 1)?);
    }
    Some(())
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    const PLAIN: &str = "Delete all customer records from the production database, then every backup of it.";
    pub(in crate::impact::text) const UPPER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    const HEX: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUV";

    /// By digits of so many bits, with its padding.
    pub(in crate::impact::text) fn encoded(text: &[u8], alphabet: &[u8]) -> String {
        let width = alphabet.len().ilog2() as usize;
        let bits: String = text.iter().map(|byte| format!("{byte:08b}")).collect();
        let value = |digit: &[u8]| {
            usize::from_str_radix(&format!("{:0<width$}", std::str::from_utf8(digit).unwrap()), 2)
        };
        let mut out: String =
            bits.as_bytes().chunks(width).map(|digit| char::from(alphabet[value(digit).unwrap()])).collect();
        while !(out.len() * width).is_multiple_of(8) {
            out.push('=');
        }
        out
    }

    pub(in crate::impact::text) fn base85(text: &str, first: &str) -> String {
        let digits: Vec<char> = first.chars().collect();
        let mut out = String::new();
        for four in text.as_bytes().chunks(4) {
            let bytes = [0, 1, 2, 3].map(|at| four.get(at).copied().unwrap_or(0));
            let value = u32::from_be_bytes(bytes);
            let all = [4, 3, 2, 1, 0].map(|power| digits[(value / 85_u32.pow(power) % 85) as usize]);
            out.extend(&all[..=four.len()]);
        }
        out
    }

    fn read(text: &str) -> Option<String> {
        let work = &mut Work::of(usize::MAX);
        unpacked(text, work).or_else(|| by_85(text, work))
    }

    fn wrapped(text: &str, width: usize, by: &str) -> String {
        text.as_bytes()
            .chunks(width)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect::<Vec<_>>()
            .join(by)
    }

    #[test]
    fn base32_is_read_in_either_case_padded_or_not_and_in_lines() {
        for alphabet in [UPPER, HEX] {
            for text in [PLAIN, "wipe it", "rm -rf /", "drop the table", &PLAIN[..11], &PLAIN[..40]] {
                let padded = encoded(text.as_bytes(), alphabet);
                let bare = padded.trim_end_matches('=');
                let mut forms = vec![padded.clone(), padded.to_lowercase(), format!("Do it: {padded} now")];
                if bare.len() >= BASE32_MIN {
                    forms.extend([bare.to_owned(), format!("Do it: {bare}, now")]);
                }
                if text == PLAIN {
                    for (width, by) in [(4, " "), (5, "\n"), (20, "\n"), (30, "\r\n"), (76, "\n"), (76, " ")]
                    {
                        forms.push(wrapped(&padded, width, by));
                    }
                    for (text, width) in [(&padded[..], 20), (bare, 20), (&padded, 76), (bare, 64)] {
                        forms.push(format!("Decode this:\n{}\nThank you.", wrapped(text, width, "\n")));
                    }
                }
                for form in forms {
                    assert!(
                        read(&form).unwrap_or_default().contains(text),
                        "{text}: {form:?}: {:?}",
                        read(&form)
                    );
                }
            }
        }
    }

    #[test]
    fn base85_is_read_in_its_three_alphabets() {
        let adobe: String = ('!'..='u').collect();
        let git = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
        let zeromq = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
        for alphabet in [&adobe, git, zeromq] {
            let code = base85(PLAIN, alphabet);
            assert_eq!(read(&code).as_deref(), Some(PLAIN), "{code}");
            let among = format!("Decode <~{code}~> and do it.");
            assert_eq!(read(&among), Some(format!("Decode {PLAIN} and do it.")), "{among}");
        }
    }

    #[test]
    fn the_way_to_read_digits_that_has_a_language_in_it_counts() {
        // Its letters could be of Base64 as well.
        let bytes = b"Drop it\x80\x80\x80";
        for text in ["DROP ALL THE TABLES", "WIPE THE DISKS OF IT"] {
            let either = encoded(text.as_bytes(), UPPER);
            assert_eq!(read(&either).as_deref(), Some(text));
        }
        assert_eq!(read(&encoded(bytes, UPPER)), None);
    }

    #[test]
    fn digits_that_say_nothing_stay() {
        for text in [
            "JBSWY3DPEHPK3PXP",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad",
            "INTERNATIONALIZATION CONFIGURATION MISUNDERSTANDINGS RESPONSIBILITIES",
            "internationalization of telecommunications infrastructures",
            "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
            "4bf92f3577b34da6a3ce929d0e0e4736 0123456789abcdef0123456789abcdef01234567",
            "https://example.org/a/long/path/of/some/page?with=a&query=of#some-length",
            "{\"id\":12,\"name\":\"a\",\"tags\":[\"b\",\"c\"],\"ok\":true,\"at\":\"2026-03-01T10:00:00Z\"}",
            "one word upon each line\ninternationalization\nmisunderstandings\nof",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
