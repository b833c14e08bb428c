//! Which words is a text, a key or a name made of?

use super::classes::alphabetic;

/// The runs of letters in a text: `audit_log` is two words.
pub(in crate::impact) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !alphabetic(c)).filter(|word| !word.is_empty())
}

/// As [`words`], and `totalAmount` is two as well.
pub(in crate::impact) fn key_words(key: &str) -> impl Iterator<Item = &str> {
    words(key).flat_map(humps)
}

/// The words that capitals separate.
pub(super) fn humps(mut rest: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let humps = rest.as_bytes().windows(2);
        let end = humps
            .enumerate()
            .find(|(_, pair)| matches!(pair, [a, b] if a.is_ascii_lowercase() && b.is_ascii_uppercase()))
            .map_or(rest.len(), |(at, _)| at + 1);
        let (word, after) = rest.split_at_checked(end)?;
        rest = after;
        (!word.is_empty()).then_some(word)
    })
}
