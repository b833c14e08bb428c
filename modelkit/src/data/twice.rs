//! Does one text have two labels? Then one of them is wrong, and only who wrote them knows which.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    path::{Path, PathBuf},
};

use agentbus::impact::for_each_text;
use sha2::{Digest as _, Sha256};

use super::Labelled;

/// What is read alike is known by it.
type Key = [u8; 32];

/// The labels of all texts so far.
#[derive(Default)]
pub(super) struct Labels {
    first: HashMap<Key, Place>,
    twice: Option<[Place; 2]>,
    more: usize,
}

/// Where a label stands.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Of the files that are read.
    file: usize,
    line: usize,
    high: bool,
    level: Option<u8>,
}

/// One text with two labels, and how many more there are.
#[derive(Debug)]
pub struct Twice {
    first: (PathBuf, Place),
    second: (PathBuf, Place),
    more: usize,
}

impl Labels {
    /// What people judged is left out: each judgement counts, also of what they judged otherwise before.
    pub(super) fn add(&mut self, text: &Labelled, file: usize, line: usize) {
        if text.judged {
            return;
        }
        let place = Place { file, line, high: text.high, level: text.level };
        match self.first.entry(key(text)) {
            Entry::Vacant(free) => {
                free.insert(place);
            }
            Entry::Occupied(taken) if taken.get().agrees(&place) => {}
            Entry::Occupied(taken) => match self.twice {
                None => self.twice = Some([*taken.get(), place]),
                Some(_) => self.more += 1,
            },
        }
    }

    pub(super) fn twice(self, files: &[PathBuf]) -> Option<Twice> {
        let [first, second] = self.twice?;
        let placed = |place: Place| Some((files.get(place.file)?.clone(), place));
        Some(Twice { first: placed(first)?, second: placed(second)?, more: self.more })
    }
}

impl Place {
    fn agrees(&self, other: &Self) -> bool {
        match (self.level, other.level) {
            (Some(one), Some(other)) => one == other,
            _ => self.high == other.high,
        }
    }

    fn label(&self) -> String {
        match self.level {
            Some(level) => format!("\"level\": {level}"),
            None => format!("\"high\": {}", u8::from(self.high)),
        }
    }
}

/// Equal but for capitals and white space, which the model does not see. Tools are words as well.
fn key(text: &Labelled) -> Key {
    let mut hash = Sha256::new();
    let mut add = |words: &str| {
        words.split_whitespace().for_each(|word| hash.update(word.to_lowercase() + " "));
        hash.update([0]);
    };
    match &text.message {
        None => add(&text.text),
        Some(message) => {
            for_each_text(message, &mut add);
            message.tools.iter().for_each(|tool| add(tool));
            add(message.message_type.as_str());
        }
    }
    hash.finalize().into()
}

impl fmt::Display for Twice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first: (before, first), second: (path, second), more } = self;
        write!(
            f,
            "{}, line {}: {} for the text of {}, line {}, which has {} there; keep the right one",
            path.display(),
            second.line,
            second.label(),
            name(before),
            first.line,
            first.label(),
        )?;
        if *more > 0 { write!(f, " (and {more} more like it)") } else { Ok(()) }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::read;

    #[test]
    fn a_text_with_two_labels_is_refused_by_both_of_its_lines() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one.jsonl"), folder.path().join("other.jsonl"));
        let told = |first: &str, second: &str| {
            std::fs::write(&one, format!("{{\"text\": \"fine\", \"level\": 0}}\n{first}\n")).unwrap();
            std::fs::write(&other, format!("{second}\n")).unwrap();
            read(&[one.clone(), other.clone()])
                .map(|(texts, _)| texts.len())
                .map_err(|error| error.to_string())
        };
        for (first, second) in [
            (r#"{"text": "Pay it.", "level": 1}"#, r#"{"text": "Pay it.", "level": 2}"#),
            (r#"{"text": "Pay it.", "level": 2}"#, r#"{"text": " pay  IT.", "level": 3}"#),
            (r#"{"text": "Pay it.", "high": 0}"#, r#"{"text": "Pay it.", "level": 2}"#),
            (
                r#"{"message": {"content": {"do": "pay it"}, "tools": ["pay"]}, "level": 2}"#,
                r#"{"message": {"tools": ["pay"], "content": {"do": "pay it"}}, "level": 0}"#,
            ),
        ] {
            let error = told(first, second).unwrap_err();
            assert!(error.contains("other.jsonl, line 1: "), "{error}");
            assert!(error.contains("for the text of one.jsonl, line 2, which has "), "{error}");
        }
        let twice = r#"{"text": "fine", "level": 3}"#;
        let error = told(r#"{"text": "b", "high": 1}"#, &format!("{twice}\n{twice}")).unwrap_err();
        assert!(
            error.contains("\"level\": 3 for the text of one.jsonl, line 1, which has \"level\": 0"),
            "{error}"
        );
        assert!(error.ends_with("keep the right one (and 1 more like it)"), "{error}");
    }

    #[test]
    fn a_text_may_stand_twice_with_one_label_and_people_may_change_their_minds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.jsonl");
        for lines in [
            [r#"{"text": "a", "level": 2}"#, r#"{"text": "a", "level": 2, "part": "dev"}"#],
            [r#"{"text": "a", "level": 2}"#, r#"{"text": "a", "high": 1}"#],
            [
                r#"{"message": {"content": {"text": "a"}}, "level": 2}"#,
                r#"{"message": {"content": {"text": "a"}, "tools": ["read"]}, "level": 0}"#,
            ],
            [
                r#"{"message": {"content": {"text": "a"}}, "high": 1, "judgement": "denied"}"#,
                r#"{"message": {"content": {"text": "a"}}, "high": 0, "judgement": "approved"}"#,
            ],
        ] {
            std::fs::write(&path, lines.join("\n")).unwrap();
            assert_eq!(read(std::slice::from_ref(&path)).unwrap().0.len(), 2, "{lines:?}");
        }
    }
}
