//! Which words does only a capital part? `WipeAllBackupDisks` is four words to a reader, and to a model one that it
//! does not know.

use std::borrow::Cow;

use super::{humps, wordlike::is_wordlike};

/// Fewer are a name, such as `getUserName`.
const WORDS_MIN: usize = 4;

/// Whether so many words could be glued to each other somewhere: most texts have none, and are spared the closer look.
pub(super) fn has_glued(text: &str) -> bool {
    let (mut parts, mut small) = (1, false);
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' if small => parts += 1,
            b'a'..=b'z' | b'A'..=b'Z' => {}
            _ => parts = 1,
        }
        if parts >= WORDS_MIN {
            return true;
        }
        small = b.is_ascii_lowercase();
    }
    false
}

/// With a space between such words, if each could be one: what a machine has drawn stays as it is.
pub(super) fn parted(text: &str) -> Cow<'_, str> {
    if !has_glued(text) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + text.len() / 4);
    for run in text.split_inclusive(|c: char| !c.is_ascii_alphabetic()) {
        let letters = run.trim_end_matches(|c: char| !c.is_ascii_alphabetic());
        let many = has_glued(letters) && humps(letters).all(is_wordlike);
        for (at, word) in humps(letters).enumerate() {
            out.extend((many && at > 0).then_some(' '));
            out.push_str(word);
        }
        out.push_str(run.get(letters.len()..).unwrap_or_default());
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_only_capitals_part_are_read_as_words() {
        for (text, read) in [
            ("WipeAllBackupDisks", "Wipe All Backup Disks"),
            ("please: wipeAllBackupDisks, now", "please: wipe All Backup Disks, now"),
            ("wipeAll_backupDisksToday", "wipeAll_backupDisksToday"),
            ("überWipeAllBackupDisks", "über Wipe All Backup Disks"),
        ] {
            assert_eq!(parted(text), read);
            assert_eq!(parted(&parted(text)), read, "twice");
        }
    }

    #[test]
    fn names_of_a_few_words_and_what_a_machine_has_drawn_stay() {
        for text in
            ["getUserName", "iPhone", "aGVsbG8sIHdvcmxkIQ", "QmFzZTY0RGF0YVdpdGhvdXRXb3Jkcw", "", "ÄÖÜ"]
        {
            assert_eq!(parted(text), text);
        }
    }
}
