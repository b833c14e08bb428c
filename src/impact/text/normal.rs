//! What would a reader see? Compatibility forms, invisible characters, look-alike letters and white
//! space are undone, so that a text cannot be one thing to people and another to the model.

use unicode_normalization::UnicodeNormalization as _;

use super::{letters, spelled};
use crate::domain::unseen::unseen;

/// NFKC (UAX #15), without default-ignorable characters (UAX #44), letters in signs and look-alikes of
/// Latin letters in Latin words as those letters, words spelled letter by letter as words, every run
/// of white space or control characters one space, none at the ends; a space within longer words than
/// [`WORD_MAX`]. Normalising twice changes nothing.
pub fn normalized(text: &str) -> String {
    if text.is_ascii() {
        return spaced(text);
    }
    let seen = text.chars().filter(|c| !unseen(*c)).map(|c| letters::unsigned(c).unwrap_or(c));
    let plain: String = seen.nfkc().filter(|c| !unseen(*c)).collect();
    spaced(&letters::latinised(&plain))
}

/// Letters may stand apart by more white space than one space, and then words by more than that;
/// or by any white space.
fn spaced(text: &str) -> String {
    let apart = spelled::joined(text, WORD_MAX);
    let single = spelled::joined(&collapsed(&apart), WORD_MAX);
    // A word that was joined may be a longer one with what stands beside it.
    collapsed(&single)
}

/// WordPiece makes one unknown token of a longer run of characters, whatever is in it.
const WORD_MAX: usize = 100;

fn collapsed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut gap, mut word) = (false, 0);
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() {
            gap = !out.is_empty();
            continue;
        }
        if gap || word == WORD_MAX {
            out.push(' ');
            (gap, word) = (false, 0);
        }
        out.push(c);
        word += 1;
    }
    out
}
