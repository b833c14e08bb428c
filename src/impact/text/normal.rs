//! What would a reader see? Compatibility forms, invisible characters, look-alike letters and white
//! space are undone, so that a text cannot be one thing to people and another to the model.

use unicode_normalization::UnicodeNormalization as _;

/// NFKC (UAX #15), without default-ignorable characters (UAX #44), look-alikes of Latin letters in
/// Latin words as those letters, every run of white space or control characters one space, none at
/// the ends; a space within longer words than [`WORD_MAX`]. Normalising twice changes nothing.
pub fn normalized(text: &str) -> String {
    if text.is_ascii() {
        return collapsed(text.chars(), text.len());
    }
    let plain: String = text.chars().filter(|c| !ignorable(*c)).nfkc().filter(|c| !ignorable(*c)).collect();
    let spaced = collapsed(plain.chars(), plain.len());
    let latin: String = spaced.split(' ').map(latinised).collect::<Vec<_>>().join(" ");
    // A letter put in place of its look-alike may now join with an accent that follows it.
    latin.nfkc().collect()
}

/// WordPiece makes one unknown token of a longer run of characters, whatever is in it.
const WORD_MAX: usize = 100;

fn collapsed(chars: impl Iterator<Item = char>, bytes: usize) -> String {
    let mut out = String::with_capacity(bytes);
    let (mut gap, mut word) = (false, 0);
    for c in chars {
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

/// Default_Ignorable_Code_Point of Unicode 16: soft hyphen, zero-width, directions, variation
/// selectors, tags, and the rest that is drawn as nothing.
fn ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// A word that is Latin but for look-alikes, with Latin letters in their place. A word of which no
/// letter is Latin stays: it may be Russian or Greek, unless every letter of it is a look-alike.
fn latinised(word: &str) -> String {
    let foreign = |c: char| c.is_alphabetic() && !c.is_ascii() && latin_like(c).is_none();
    if word.is_ascii() || word.chars().any(foreign) {
        return word.to_owned();
    }
    word.chars().map(|c| latin_like(c).unwrap_or(c)).collect()
}

/// The Latin letter that a Cyrillic, Greek or Armenian one is drawn as (Unicode's confusables, the
/// part of it that reads as plain letters).
fn latin_like(c: char) -> Option<char> {
    Some(match c {
        'а' | 'α' => 'a',
        'с' | 'ϲ' => 'c',
        'ԁ' => 'd',
        'е' | 'ҽ' => 'e',
        'ɡ' => 'g',
        'һ' | 'հ' => 'h',
        'і' | 'ı' | 'ι' => 'i',
        'ј' => 'j',
        'κ' | 'к' => 'k',
        'ӏ' | 'ǀ' => 'l',
        'м' => 'm',
        'ո' => 'n',
        'о' | 'ο' | 'օ' | 'σ' => 'o',
        'р' | 'ρ' => 'p',
        'ԛ' => 'q',
        'ѕ' => 's',
        'т' | 'τ' => 't',
        'υ' | 'ս' => 'u',
        'ν' | 'ѵ' => 'v',
        'ԝ' | 'ѡ' => 'w',
        'х' | 'χ' => 'x',
        'у' | 'γ' => 'y',
        'А' | 'Α' => 'A',
        'В' | 'Β' => 'B',
        'С' | 'Ϲ' => 'C',
        'Е' | 'Ε' => 'E',
        'Н' | 'Η' => 'H',
        'І' | 'Ι' | 'Ӏ' => 'I',
        'Ј' => 'J',
        'К' | 'Κ' => 'K',
        'М' | 'Μ' => 'M',
        'Ν' => 'N',
        'О' | 'Ο' => 'O',
        'Р' | 'Ρ' => 'P',
        'Ѕ' => 'S',
        'Т' | 'Τ' => 'T',
        'Υ' | 'У' => 'Y',
        'Х' | 'Χ' => 'X',
        'Ζ' => 'Z',
        'Ԝ' => 'W',
        _ => return None,
    })
}
