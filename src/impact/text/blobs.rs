//! Which parts of a text are no text: packed bytes, and dumps of them?
//!
//! What they say where they say something is read decoded. As they are written they cost more than all words beside
//! them, and mean nothing to anybody.

use std::borrow::Cow;

use super::textlike::frequent_pairs;

/// Shorter runs of digits of an encoding are names and words.
const RUN_MIN: usize = 48;
/// A run is judged in pieces, each kept with the ones beside it if letters of a language are in it.
const PIECE: usize = 48;

/// A text without what is no text in it. Whatever could be words, in whole or in part, stays.
pub(super) fn without(text: &str) -> Cow<'_, str> {
    let runs = Runs { text, at: 0, end: 0 };
    // Up to `written` it is in `out`.
    let (mut out, mut written) = (String::new(), 0);
    for (from, to) in runs {
        out.push_str(text.get(written..from).unwrap_or_default());
        // What is beside it stays apart.
        out.push(' ');
        written = to;
    }
    match written {
        0 => Cow::Borrowed(text),
        _ => {
            out.push_str(text.get(written..).unwrap_or_default());
            Cow::Owned(out)
        }
    }
}

/// Where there is no text, from and to, in bytes.
struct Runs<'a> {
    text: &'a str,
    at: usize,
    /// Of the run that is being looked at.
    end: usize,
}

impl Iterator for Runs<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        loop {
            let rest = self.text.as_bytes().get(self.at..)?;
            let from = self.at + rest.iter().position(|b| is_digit(*b))?;
            let rest = self.text.as_bytes().get(from..)?;
            if from >= self.end {
                self.end = from + rest.iter().position(|b| !is_digit(*b)).unwrap_or(rest.len());
            }
            let run = rest.get(..self.end - from)?;
            let (silent, step) = if run.len() < RUN_MIN { (dump(rest), run.len()) } else { judged(run) };
            self.at = from + step.max(silent);
            if silent > 0 {
                return Some((from, from + silent));
            }
        }
    }
}

/// Of Base64 in either alphabet, and of hexadecimal.
fn is_digit(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_' | b'=')
}

/// How much of the beginning of a run is no text: whole pieces, none of them beside one that is. And where the next
/// look is to begin if there is none.
fn judged(run: &[u8]) -> (usize, usize) {
    let size = run.len().div_ceil(run.len().div_ceil(PIECE));
    let many = |lettered: bool| run.chunks(size).take_while(|piece| is_lettered(piece) == lettered).count();
    let (silent, lettered) = (many(false) * size, many(true) * size);
    // Words may have begun in the last silent piece, and may end in the one behind them.
    let silent = if silent < run.len() { silent.saturating_sub(size) } else { run.len() };
    (silent, (lettered + size).min(run.len()))
}

/// Whether there could be words in a piece: it is not of large and small letters and digits at once, or of the pairs of
/// its letters at least a third are frequent ones. Of drawn letters every seventh is.
fn is_lettered(piece: &[u8]) -> bool {
    let digits = piece.iter().filter(|b| b.is_ascii_digit()).count();
    if piece.iter().all(u8::is_ascii_hexdigit) && 4 * digits >= piece.len() {
        return false;
    }
    let any = |kind: fn(&u8) -> bool| piece.iter().any(kind);
    if !(any(u8::is_ascii_uppercase) && any(u8::is_ascii_lowercase) && any(u8::is_ascii_digit)) {
        return true;
    }
    let letters: Vec<u8> = piece.iter().filter(|b| b.is_ascii_alphabetic()).copied().collect();
    3 * frequent_pairs(&letters) >= letters.len().saturating_sub(1) && !letters.is_empty()
}

/// How long a row of at least eight hexadecimal numbers of one length is at the beginning of a text, which is how bytes
/// are shown.
fn dump(text: &[u8]) -> usize {
    const ROW_MIN: usize = 8;
    let word = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let length = word(text);
    if !matches!(length, 2 | 4 | 8) {
        return 0;
    }
    let (mut end, mut count) = (0, 0);
    while let Some(rest) = text.get(end..) {
        let gap = rest.iter().take_while(|b| **b == b' ').count();
        let apart = count == 0 || (1..=2).contains(&gap);
        let next = rest.get(gap..).unwrap_or_default();
        let whole = next.get(length).is_none_or(|b| b.is_ascii_whitespace());
        if !apart || word(next) != length || !whole {
            break;
        }
        (end, count) = (end + gap + length, count + 1);
    }
    if count >= ROW_MIN { end } else { 0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

    use super::*;

    fn drawn(bytes: usize) -> String {
        let mut rng = StdRng::seed_from_u64(3);
        STANDARD.encode((0..bytes).map(|_| rng.random()).collect::<Vec<u8>>())
    }

    #[test]
    fn packed_bytes_and_dumps_are_left_out_and_what_is_beside_them_is_not() {
        let blob = drawn(30_000);
        let text = format!("The picture: {blob} Show it, please.");
        let left = without(&text);
        assert!(left.starts_with("The picture: ") && left.ends_with(" Show it, please."), "{left}");
        assert!(left.len() < 1_000, "{}", left.len());
        let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        assert_eq!(without(&format!("sha256 {hash} of it")), "sha256   of it");
        let row = "00000010  8a 80 23 af 4b dd b1 44  58 0e 53 a9 51 0a cb ae  |see.the.door|";
        assert_eq!(without(row), "00000010     |see.the.door|");
    }

    #[test]
    fn words_without_spaces_stay_wherever_in_a_run_they_are() {
        const GLUED: &str = "DeleteAllCustomerRecordsFromTheProductionDatabaseAndEveryBackup";
        let alternating: String = GLUED
            .chars()
            .enumerate()
            .map(|(at, c)| if at % 2 == 0 { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
            .collect();
        let digits: String = GLUED.chars().flat_map(|c| [c, '7']).collect();
        for said in [GLUED, &GLUED.to_lowercase(), &alternating, &digits, &GLUED[..40]] {
            assert!(without(said).contains(said), "{said}");
            for before in [0, 30, 50, 131, 300] {
                let hidden = format!("{}{said}{}", &drawn(900)[..before], &drawn(1200)[400..]);
                assert!(without(&hidden).contains(said), "{said} behind {before}: {}", without(&hidden));
            }
        }
        for path in [
            "/usr/lib/python3/dist-packages/pandas/core/indexes/datetimes_helper_functions/index",
            "be ad fe ed go to it at as if it is so",
            "12 34 56",
        ] {
            assert_eq!(without(path), path);
        }
    }
}
