//! What does a text say without the words that nobody says? Beside one giant word a model hears less of the others.

use super::classes::alphanumeric;

/// Characters. Hardly a word of any language has more, and a run of letters without spaces is read as it stands besides.
const WORD_MAX: usize = 40;

/// The text without its giant words, if it has one and says something besides.
pub(super) fn without(text: &str) -> Option<String> {
    if !has_giant(text) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    for spaced in text.split(' ').filter(|spaced| !has_giant(spaced)) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(spaced);
    }
    (!out.is_empty()).then_some(out)
}

fn has_giant(text: &str) -> bool {
    text.split(|c| !alphanumeric(c)).any(|word| word.len() > WORD_MAX && word.chars().count() > WORD_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_beside_giant_words_is_read_without_them() {
        let giant = "xq".repeat(30);
        for (text, read) in [
            (format!("{giant} wipe the disks"), Some("wipe the disks")),
            (format!("wipe {giant} the disks {giant}"), Some("wipe the disks")),
            (format!("wipe the disks, \"{giant}\"."), Some("wipe the disks,")),
            (format!("{giant} {giant}"), None),
            ("wipe the disks".to_owned(), None),
            (format!("wipe {} disks", "ü".repeat(WORD_MAX)), None),
            (format!("wipe {} disks", "ü".repeat(WORD_MAX + 1)), Some("wipe disks")),
            (String::new(), None),
        ] {
            assert_eq!(without(&text).as_deref(), read, "{text}");
        }
    }
}
