//! Which Latin letter is a character drawn as? Look-alikes of other alphabets, small capitals, letters
//! with a stroke and letters in signs.

use std::sync::LazyLock;

use unicode_normalization::char::{compose, decompose_canonical, is_combining_mark};

use super::classes::alphabetic;

/// A text with Latin letters in place of what is drawn as one, in each run of letters that has a
/// Latin letter; accents that make no letter with theirs are gone there. A run that has none stays: it may be
/// Russian or Greek, unless every letter of it is a look-alike and so is every one of the text's
/// other runs without a Latin letter.
pub(super) fn latinised(text: &str) -> String {
    let runs: Vec<Run<'_>> = runs(text).collect();
    let foreign = runs.iter().any(|run| run.script == Script::Foreign);
    let mut out = String::with_capacity(text.len());
    for Run { text, script } in runs {
        match script {
            Script::Latin => latin(text, &mut out),
            Script::Alike if !foreign => latin(text, &mut out),
            Script::Alike | Script::Foreign | Script::None => out.push_str(text),
        }
    }
    out
}

fn latin(run: &str, out: &mut String) {
    if run.is_ascii() {
        return out.push_str(run);
    }
    let plain = run.bytes().position(|b| !b.is_ascii()).unwrap_or(run.len()).saturating_sub(1);
    let (plain, rest) = run.split_at_checked(plain).unwrap_or(("", run));
    out.push_str(plain);
    // The letter that marks may still join.
    let mut open: Option<char> = None;
    for c in rest.chars() {
        // It is no mark, and joins nothing before it.
        if c.is_ascii() {
            out.extend(open.replace(c));
            continue;
        }
        decompose_canonical(c, |part| {
            let part = latin_like(part).unwrap_or(part);
            match open.and_then(|letter| compose(letter, part)) {
                Some(joined) => open = Some(joined),
                None if is_combining_mark(part) => {}
                None => out.extend(open.replace(part)),
            }
        });
    }
    out.extend(open);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    /// No letters.
    None,
    Latin,
    /// No Latin letter, and all are drawn as one.
    Alike,
    /// No Latin letter, and some are drawn as none.
    Foreign,
}

/// Letters with their accents, or what stands between such.
struct Run<'a> {
    text: &'a str,
    script: Script,
}

fn runs(mut text: &str) -> impl Iterator<Item = Run<'_>> {
    let lettered = |c: char| alphabetic(c) || !c.is_ascii() && is_combining_mark(c);
    std::iter::from_fn(move || {
        let first = text.chars().next()?;
        let plain = plain_length(text);
        let inside = plain == 0 && lettered(first);
        let other = |c: char| c.is_ascii() && !inside || lettered(c) != inside;
        let end = if plain > 0 { plain } else { text.find(other).unwrap_or(text.len()) };
        let (run, rest) = text.split_at_checked(end)?;
        text = rest;
        Some(Run { text: run, script: if inside { script(run) } else { Script::None } })
    })
}

/// How much a text begins with that is ASCII and stands for itself, without the letters before what is not.
fn plain_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let Some(end) = bytes.iter().position(|b| !b.is_ascii()) else { return bytes.len() };
    let plain = bytes.get(..end).unwrap_or_default();
    plain.iter().rposition(|b| !b.is_ascii_alphabetic()).map_or(0, |at| at + 1)
}

fn script(run: &str) -> Script {
    let (mut found, mut latin) = (Script::None, false);
    for c in run.chars() {
        decompose_canonical(c, |c| match (latin_like(c), c) {
            (Some(_), _) if found == Script::None => found = Script::Alike,
            (Some(_), _) => {}
            (None, 'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}') => latin = true,
            (None, c) if is_combining_mark(c) => {}
            (None, _) => found = Script::Foreign,
        });
        if latin {
            return Script::Latin;
        }
    }
    found
}

/// The letter in a sign that compatibility forms leave as it is, or write with brackets.
pub(super) fn unsigned(c: char) -> Option<char> {
    if let '\u{2800}'..='\u{283f}' = c {
        return braille(c);
    }
    let (first, letter) = match c {
        '\u{249c}'..='\u{24b5}' => (0x249c, 'a'),
        '\u{1f110}'..='\u{1f129}' => (0x1f110, 'A'),
        '\u{1f150}'..='\u{1f169}' => (0x1f150, 'A'),
        '\u{1f170}'..='\u{1f189}' => (0x1f170, 'A'),
        '\u{1f1e6}'..='\u{1f1ff}' => (0x1f1e6, 'A'),
        _ => return None,
    };
    char::from_u32(u32::from(c) - first + u32::from(letter))
}

/// The letters and marks of English braille of grade 1; its capital sign says nothing that we need.
fn braille(c: char) -> Option<char> {
    static LETTERS: LazyLock<Vec<Option<char>>> = LazyLock::new(|| {
        const CELLS: &str = "⠁⠃⠉⠙⠑⠋⠛⠓⠊⠚⠅⠇⠍⠝⠕⠏⠟⠗⠎⠞⠥⠧⠺⠭⠽⠵⠂⠲⠦⠖⠤⠀⠠";
        let letters = || CELLS.chars().zip("abcdefghijklmnopqrstuvwxyz,.?!- \u{ad}".chars());
        let of = |cell| letters().find(|pair| pair.0 == cell).map(|(_, letter)| letter);
        ('\u{2800}'..='\u{283f}').map(of).collect()
    });
    LETTERS.get(u32::from(c).checked_sub(0x2800)? as usize).copied()?
}

/// The Latin letter that a Cyrillic, Greek or Armenian one, a small capital or a letter with a stroke is
/// drawn as (Unicode's confusables, the part of it that reads as plain letters).
fn latin_like(c: char) -> Option<char> {
    Some(match c {
        'а' | 'α' | 'ᴀ' | 'ⱥ' => 'a',
        'с' | 'ϲ' | 'ᴄ' | 'ȼ' => 'c',
        'ԁ' | 'ᴅ' | 'đ' => 'd',
        'е' | 'ҽ' | 'ᴇ' | 'ɇ' => 'e',
        'ɡ' | 'ɢ' | 'ǥ' => 'g',
        'һ' | 'հ' | 'ʜ' | 'ħ' => 'h',
        'і' | 'ı' | 'ι' | 'ɪ' | 'ɨ' => 'i',
        'ј' | 'ᴊ' | 'ɉ' => 'j',
        'κ' | 'к' | 'ᴋ' => 'k',
        'ӏ' | 'ǀ' | 'ʟ' | 'ł' | 'ƚ' | 'ɫ' => 'l',
        'м' | 'ᴍ' => 'm',
        'ո' | 'ɴ' => 'n',
        'о' | 'ο' | 'օ' | 'σ' | 'ᴏ' | 'ø' | 'ɵ' => 'o',
        'р' | 'ρ' | 'ᴘ' | 'ᵽ' => 'p',
        'ԛ' => 'q',
        'ѕ' | 'ꜱ' => 's',
        'т' | 'τ' | 'ᴛ' | 'ŧ' => 't',
        'υ' | 'ս' | 'ᴜ' | 'ʉ' => 'u',
        'ν' | 'ѵ' | 'ᴠ' => 'v',
        'ԝ' | 'ѡ' | 'ᴡ' => 'w',
        'х' | 'χ' => 'x',
        'у' | 'γ' | 'ʏ' | 'ɏ' => 'y',
        'А' | 'Α' | 'Ⱥ' => 'A',
        'В' | 'Β' | 'Ƀ' => 'B',
        'С' | 'Ϲ' | 'Ȼ' => 'C',
        'Е' | 'Ε' | 'Ɇ' => 'E',
        'Н' | 'Η' | 'Ħ' => 'H',
        'І' | 'Ι' | 'Ӏ' | 'Ɨ' => 'I',
        'Ј' | 'Ɉ' => 'J',
        'К' | 'Κ' => 'K',
        'М' | 'Μ' => 'M',
        'Ν' => 'N',
        'О' | 'Ο' | 'Ø' | 'Ɵ' => 'O',
        'Р' | 'Ρ' | 'Ᵽ' => 'P',
        'Ѕ' => 'S',
        'Т' | 'Τ' | 'Ŧ' => 'T',
        'Υ' | 'У' | 'Ɏ' => 'Y',
        'Х' | 'Χ' => 'X',
        'Ζ' | 'Ƶ' => 'Z',
        'Ԝ' => 'W',
        'ʙ' | 'ƀ' => 'b',
        'ꜰ' => 'f',
        'ʀ' | 'ɍ' => 'r',
        'ᴢ' | 'ƶ' => 'z',
        'Đ' | 'Ð' => 'D',
        'Ǥ' => 'G',
        'Ł' | 'Ƚ' => 'L',
        'Ɍ' => 'R',
        'Ʉ' => 'U',
        // Of the phonetic alphabet, hooks, and letters upside down.
        'ɑ' | 'ɐ' | 'ɒ' => 'a',
        'ɓ' => 'b',
        'ƈ' | 'ɕ' | 'ɔ' => 'c',
        'ɖ' | 'ɗ' => 'd',
        'ɛ' | 'ə' | 'ǝ' | 'ɘ' | 'ɜ' => 'e',
        'ƒ' | 'ɟ' => 'f',
        'ɠ' | 'ƃ' => 'g',
        'ɦ' | 'ɥ' => 'h',
        'ɩ' | 'ᴉ' => 'i',
        'ȷ' | 'ʝ' | 'ɾ' => 'j',
        'ƙ' | 'ʞ' => 'k',
        'ɭ' | 'ɬ' | 'ꞁ' => 'l',
        'ɱ' | 'ɯ' => 'm',
        'ŋ' | 'ɲ' | 'ɳ' | 'ƞ' => 'n',
        'ƥ' => 'p',
        'ʠ' | 'ɋ' => 'q',
        'ɹ' | 'ɼ' | 'ɽ' => 'r',
        'ʂ' | 'ƨ' => 's',
        'ƭ' | 'ʈ' | 'ʇ' => 't',
        'ʋ' | 'ʌ' | 'ⱱ' => 'v',
        'ʍ' => 'w',
        'ƴ' | 'ʎ' => 'y',
        'ȥ' | 'ʐ' | 'ʑ' => 'z',
        // Lisu and Cherokee.
        'ꓮ' | 'Ꭺ' => 'A',
        'ꓐ' | 'Ᏼ' => 'B',
        'ꓚ' | 'Ꮯ' => 'C',
        'ꓓ' | 'Ꭰ' => 'D',
        'ꓰ' | 'Ꭼ' => 'E',
        'ꓝ' => 'F',
        'ꓖ' | 'Ꮐ' => 'G',
        'ꓧ' | 'Ꮋ' => 'H',
        'ꓲ' => 'I',
        'ꓙ' | 'Ꭻ' => 'J',
        'ꓗ' | 'Ꮶ' => 'K',
        'ꓡ' | 'Ꮮ' => 'L',
        'ꓟ' | 'Ꮇ' => 'M',
        'ꓠ' => 'N',
        'ꓳ' => 'O',
        'ꓑ' | 'Ꮲ' => 'P',
        'ꓣ' | 'Ꮢ' | 'Ꭱ' => 'R',
        'ꓢ' | 'Ꮪ' => 'S',
        'ꓔ' | 'Ꭲ' => 'T',
        'ꓴ' => 'U',
        'ꓦ' | 'Ꮩ' => 'V',
        'ꓪ' | 'Ꮃ' => 'W',
        'ꓫ' => 'X',
        'ꓬ' | 'Ꮍ' => 'Y',
        'ꓜ' | 'Ꮓ' => 'Z',
        _ => return None,
    })
}
