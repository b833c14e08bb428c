//! Are some bytes what somebody wrote, and how much of a language is in them?

use std::borrow::Cow;

use super::classes::alphabetic;

/// What bytes say, if they are a text, or so many that they could not be mostly letters, or signs, if they were none.
pub(super) fn text_of(bytes: &[u8]) -> Option<String> {
    const LETTERS_MIN: usize = 16;
    const SIGNS_MIN: usize = 24;
    let bytes = narrowed(bytes);
    let count = |kind: fn(&&u8) -> bool| bytes.iter().filter(kind).count();
    let lettered = || 4 * count(|b| b.is_ascii_alphabetic() || b.is_ascii_whitespace()) >= 3 * bytes.len();
    // An encoding itself is of digits and signs.
    let printable = || 10 * count(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) >= 9 * bytes.len();
    if bytes.len() >= LETTERS_MIN && lettered() || bytes.len() >= SIGNS_MIN && printable() {
        // One byte that is none does not hide the others.
        return Some(String::from_utf8_lossy(&bytes).into_owned());
    }
    std::str::from_utf8(&bytes).ok().filter(|it| is_text(it)).map(str::to_owned)
}

/// Letters of two bytes each as of one, where one of the two is nothing.
fn narrowed(bytes: &[u8]) -> Cow<'_, [u8]> {
    let zeros = bytes.iter().map(|b| usize::from(*b == 0)).sum::<usize>();
    match 5 * zeros >= 2 * bytes.len() && 5 * zeros <= 3 * bytes.len() {
        true => Cow::Owned(bytes.iter().copied().filter(|b| *b != 0).collect()),
        false => Cow::Borrowed(bytes),
    }
}

/// Whether this is what somebody wrote: bytes that were none are hardly ever letters and spaces.
pub(super) fn is_text(text: &str) -> bool {
    let (mut all, mut lettered) = (0, 0);
    if text.is_ascii() {
        let control = |b: u8| b.is_ascii_control() && !char::from(b).is_whitespace();
        if text.bytes().any(control) {
            return false;
        }
        let letter = |b: u8| usize::from(b.is_ascii_alphabetic() || char::from(b).is_whitespace());
        let lettered = text.bytes().map(letter).sum::<usize>();
        return lettered * 4 >= text.len() * 3 && lettered > 0;
    }
    for c in text.chars() {
        if c.is_control() && !c.is_whitespace() {
            return false;
        }
        all += 1;
        lettered += usize::from(alphabetic(c) || c.is_whitespace());
    }
    lettered * 4 >= all * 3 && lettered > 0
}

/// How many pairs of neighbours are frequent in a language.
pub(super) fn frequent_pairs(letters: &[u8]) -> usize {
    let lower = letters.to_ascii_lowercase();
    lower.windows(2).filter(|pair| is_frequent(pair)).count()
}

/// The hundred pairs of letters that make up three quarters of English, and much of its neighbours.
#[rustfmt::skip]
fn is_frequent(pair: &[u8]) -> bool {
    matches!(
        pair,
        b"th" | b"he" | b"in" | b"er" | b"an" | b"re" | b"on" | b"at" | b"en" | b"nd" | b"ti" | b"es" | b"or" | b"te"
            | b"of" | b"ed" | b"is" | b"it" | b"al" | b"ar" | b"st" | b"to" | b"nt" | b"ng" | b"se" | b"ha" | b"as"
            | b"ou" | b"io" | b"le" | b"ve" | b"co" | b"me" | b"de" | b"hi" | b"ri" | b"ro" | b"ic" | b"ne" | b"ea"
            | b"ra" | b"ce" | b"li" | b"ch" | b"ll" | b"be" | b"ma" | b"si" | b"om" | b"ur" | b"ca" | b"el" | b"ta"
            | b"la" | b"ns" | b"di" | b"fo" | b"ho" | b"pe" | b"ec" | b"pr" | b"no" | b"ct" | b"us" | b"ac" | b"ot"
            | b"il" | b"tr" | b"ly" | b"nc" | b"et" | b"ut" | b"ss" | b"so" | b"rs" | b"un" | b"lo" | b"wa" | b"ge"
            | b"ie" | b"wh" | b"ee" | b"wi" | b"em" | b"ad" | b"ol" | b"rt" | b"po" | b"we" | b"na" | b"ul" | b"ni"
            | b"ts" | b"mo" | b"ow" | b"pa" | b"im" | b"mi" | b"ai" | b"sh"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_is_no_text_hides_none_of_the_others() {
        for (bytes, read) in [
            (&b"delete it"[..], Some("delete it")),
            (b"delete all of the records\xff", Some("delete all of the records\u{fffd}")),
            (b"delete all\x01 of the records", Some("delete all\u{1} of the records")),
            (b"{\"a\": [1, 2],\n \"drop\": {\"t\": 3}}", Some("{\"a\": [1, 2],\n \"drop\": {\"t\": 3}}")),
            (b"d\0e\0l\0e\0t\0e\0 \0i\0t\0", Some("delete it")),
            ("стереть всё".as_bytes(), Some("стереть всё")),
            (b"delete\xff", None),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01", None),
            (b"1 + 2 = 3", None),
            (b"", None),
        ] {
            assert_eq!(text_of(bytes).as_deref(), read, "{bytes:?}");
        }
    }
}
