//! Which characters does a person not see, or take for others? They are written as their code points.

use std::fmt::Write as _;

use agentbus::domain::unseen::unseen;
use unicode_width::UnicodeWidthChar as _;

mod letters;

use letters::{ascii, drawn_as_latin, fits_latin};

/// So many blanks in a row are counted instead of drawn.
const BLANKS: usize = 4;
/// Accents upon one letter; more would cover the lines around it.
const ACCENTS: usize = 3;
/// Letters of a word that is drawn as a Latin one and has no Latin letter. Shorter ones are found in every
/// sentence of some languages.
const DRAWN_LETTERS: usize = 3;

/// How a character is written that is not drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `\u{202e}`, in plain text.
    Text,
    /// `\u202e`, in JSON for people.
    Shown,
    /// `\u202e`, in JSON that is to remain the same value.
    Json,
}

/// The text with everything written out that is not seen as what it is.
pub(super) fn marked(text: &str, form: Form) -> String {
    // Most text is plain.
    if text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') && !text.contains(&" ".repeat(BLANKS)) {
        return text.to_owned();
    }
    let chars: Vec<char> = text.chars().collect();
    let foreign = foreign(&chars, form);
    let mut out = String::with_capacity(text.len());
    let (mut blanks, mut accents) = (0, None);
    for (&c, foreign) in chars.iter().zip(foreign) {
        if c == ' ' {
            blanks += 1;
            accents = None;
            continue;
        }
        write_blanks(&mut out, std::mem::take(&mut blanks), form);
        let accent = c.width() == Some(0);
        let drawn = visible(c) && !foreign && (!accent || accents.is_some_and(|above| above < ACCENTS));
        if drawn {
            out.push(c)
        } else {
            write_point(&mut out, c, form)
        }
        accents = match (drawn, accent) {
            (true, true) => accents.map(|above| above + 1),
            (true, false) => c.is_alphanumeric().then_some(0),
            (false, _) => None,
        };
    }
    write_blanks(&mut out, blanks, form);
    out
}

fn write_blanks(out: &mut String, blanks: usize, form: Form) {
    match form {
        _ if blanks < BLANKS => out.extend(std::iter::repeat_n(' ', blanks)),
        Form::Text | Form::Shown => {
            let _ = write!(out, "[{blanks} blanks]");
        }
        Form::Json => out.extend(std::iter::repeat_n("\\u0020", blanks)),
    }
}

fn write_point(out: &mut String, c: char, form: Form) {
    match form {
        Form::Text => out.extend(c.escape_unicode()),
        Form::Shown | Form::Json => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
    }
}

/// Whether a terminal draws it, and it is not blank, not a part of a frame, and not a stroke through others.
fn visible(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    let blank = matches!(
        c,
        '\u{2800}' | '\u{303f}' | '\u{fffc}' | '\u{13441}'..='\u{13442}' | '\u{16fe4}' | '\u{1d159}'
    );
    let frame = matches!(c, '\u{2500}'..='\u{259f}' | '\u{23b8}'..='\u{23bf}' | '\u{1fb00}'..='\u{1fbff}');
    let over = matches!(c,
        '\u{334}'..='\u{338}' | '\u{488}'..='\u{489}' | '\u{20d0}'..='\u{20f0}' | '\u{fe20}'..='\u{fe2f}');
    if blank || frame || over || unseen(c) || c.is_whitespace() {
        return false;
    }
    // What the standard library would print as it is: no control or format characters, no separators, nothing
    // private or unassigned. Of a first character it would say more.
    let mut text = String::from("a");
    text.push(c);
    text.escape_debug().nth(2).is_none()
}

/// Which letters are drawn as others: foreign ones in a Latin word, and words that only look Latin, where
/// most words are.
fn foreign(chars: &[char], form: Form) -> Vec<bool> {
    let mut foreign = vec![false; chars.len()];
    let words = words(chars, form);
    let of = |word: &std::ops::Range<usize>| chars.get(word.clone()).unwrap_or_default();
    let latin = |word: &[char]| word.iter().any(|c| ascii(*c));
    let drawn = |word: &[char]| {
        let letters = word.iter().filter(|c| c.is_alphabetic());
        letters.clone().count() >= DRAWN_LETTERS && letters.clone().all(|c| drawn_as_latin(*c))
    };
    let latins = words.iter().filter(|word| latin(of(word))).count();
    let others = words.iter().filter(|word| !latin(of(word)) && !drawn(of(word))).count();
    for word in &words {
        let (is_latin, only_drawn) = (latin(of(word)), drawn(of(word)) && latins >= others);
        for at in word.clone() {
            if let (Some(c), Some(place)) = (chars.get(at), foreign.get_mut(at)) {
                *place = is_latin && !fits_latin(*c) || only_drawn && drawn_as_latin(*c);
            }
        }
    }
    foreign
}

/// Runs of letters, digits and accents. The letter of an escape in JSON belongs to no word.
fn words(chars: &[char], form: Form) -> Vec<std::ops::Range<usize>> {
    let mut words = Vec::new();
    let (mut begin, mut skip) = (None, 0_usize);
    for (at, &c) in chars.iter().enumerate() {
        let escape = form != Form::Text && c == '\\' && skip == 0;
        let member = skip == 0 && (c.is_alphanumeric() || c.width() == Some(0) && !c.is_control());
        skip = match (escape, chars.get(at + 1)) {
            (true, Some('u')) => 5,
            (true, _) => 1,
            (false, _) => skip.saturating_sub(1),
        };
        match (member, begin) {
            (true, None) => begin = Some(at),
            (false, Some(from)) => {
                words.push(from..at);
                begin = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
    words.extend(begin.map(|from| from..chars.len()));
    words
}
