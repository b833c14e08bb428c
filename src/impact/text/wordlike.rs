//! Is this a word, or a run of letters that a machine has drawn?

use super::{
    classes::{alphabetic, alphanumeric},
    humps,
};

const VOWELS: &[char] = &['a', 'e', 'i', 'o', 'u', 'y'];

/// Whether letters could be a word of a language: of some length, with vowels where they must be.
pub(super) fn is_wordlike(word: &str) -> bool {
    const LENGTHS: std::ops::RangeInclusive<usize> = 2..=20;
    /// `Knightsbridge` has five.
    const CONSONANTS_MAX: usize = 5;
    let lower = word.to_lowercase();
    let mut letters = 0;
    let mut row = 0;
    let mut vowels = 0;
    for c in lower.chars() {
        if !alphabetic(c) {
            return false;
        }
        letters += 1;
        // What is no Latin letter has its own vowels.
        if VOWELS.contains(&c) || !c.is_ascii() {
            vowels += 1;
            row = 0;
        } else {
            row += 1;
        }
        if row > CONSONANTS_MAX {
            return false;
        }
    }
    LENGTHS.contains(&letters) && vowels > 0
}

/// The words that a name is made of, such as `deleteAll` or `wipe_disks-now`: of what a machine has drawn
/// (a UUID, digits, a timestamp) and of a counter, nothing.
pub(super) fn spelled_words(name: &str) -> impl Iterator<Item = &str> {
    // A part with a digit in it is a counter or drawn, whatever its letters say.
    let parts = name.split(|c: char| !alphanumeric(c)).filter(|part| part.chars().all(alphabetic));
    parts.flat_map(humps).filter(|word| is_wordlike(word))
}
