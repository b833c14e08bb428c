//! Which letters are drawn like Latin ones?

pub(super) fn ascii(c: char) -> bool {
    c.is_ascii_alphabetic()
}

/// Whether it may stand in a word with Latin letters: Latin ones with accents, and those of East Asia, where
/// words are not set apart. Anything else there is a look-alike, or of no use to a reader.
pub(super) fn fits_latin(c: char) -> bool {
    // Drawn as a, g and i; small capitals and the like.
    let like = matches!(c, 'ɑ' | 'ɡ' | 'ɩ' | 'ɪ' | 'ʟ' | 'ʀ' | 'ʏ' | 'ǀ' | '\u{1d00}'..='\u{1dbf}');
    let latin = matches!(c,
        '\u{aa}' | '\u{b5}' | '\u{ba}' | '\u{c0}'..='\u{2af}' | '\u{2b9}'..='\u{2c1}'
        | '\u{1e00}'..='\u{1eff}' | '\u{2c60}'..='\u{2c7f}' | '\u{a722}'..='\u{a787}' | '\u{fb00}'..='\u{fb06}');
    let east_asian = matches!(c,
        '\u{1100}'..='\u{11ff}' | '\u{3005}'..='\u{318e}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9f}'
        | '\u{20000}'..='\u{3ffff}');
    !c.is_alphabetic() || ascii(c) || (latin && !like) || east_asian
}

/// Letters of other scripts that are drawn as Latin ones (of Unicode's confusables, those of living scripts).
pub(super) fn drawn_as_latin(c: char) -> bool {
    matches!(c,
        // Cyrillic
        'а' | 'с' | 'ԁ' | 'е' | 'һ' | 'і' | 'ї' | 'ј' | 'к' | 'ӏ' | 'о' | 'р' | 'ԛ' | 'ѕ' | 'у' | 'ѵ' | 'ԝ'
        | 'х' | 'ё' | 'А' | 'В' | 'С' | 'Е' | 'Н' | 'І' | 'Ј' | 'К' | 'М' | 'О' | 'Р' | 'Ѕ' | 'Т' | 'У' | 'Х'
        | 'Ԍ' | 'Ԛ' | 'Ԝ' | 'Ӏ' | 'Ё' | 'Ї' | 'ү' | 'Ү'
        // Greek
        | 'α' | 'γ' | 'ι' | 'κ' | 'ν' | 'ο' | 'ρ' | 'υ' | 'χ' | 'ϲ' | 'ϳ' | 'Α' | 'Β' | 'Ε' | 'Ζ' | 'Η' | 'Ι'
        | 'Κ' | 'Μ' | 'Ν' | 'Ο' | 'Ρ' | 'Τ' | 'Υ' | 'Χ' | 'Ϲ' | 'Ϳ'
        // Armenian
        | 'օ' | 'հ' | 'ո' | 'ս' | 'ց' | 'ք' | 'զ' | 'Օ' | 'Տ' | 'Լ' | 'Ս'
        // Cherokee and Lisu have hardly anything else.
        | '\u{13a0}'..='\u{13f5}' | '\u{ab70}'..='\u{abbf}' | '\u{a4d0}'..='\u{a4f7}')
}
