//! What do values too short for a sentence say together?
//!
//! `action: delete database; target: production customers` is harm in pieces of two words. Alone each
//! sounds like anything (`corpus id: handover-00012` like harm), so they are only read side by side.

use super::{
    TooMuch, behind,
    classes::{alphabetic, alphanumeric},
    humps,
    normal::plain,
    sentences::{count, pieces},
    work::{NORMALISING, PARTING, Work},
};

/// Values of fewer words between spaces are no sentence,
const SPACED_MIN: usize = 3;
/// unless what stands between their spaces has as many words as this.
const WORDS_MAX: usize = 16;

pub(super) fn is_brief(value: &str) -> bool {
    value.split_whitespace().take(SPACED_MIN).count() < SPACED_MIN && count(value, WORDS_MAX + 1) <= WORDS_MAX
}

/// The short values of a message, in its order.
#[derive(Default)]
pub(super) struct Brief {
    text: String,
    label: String,
    values: usize,
}

impl Brief {
    pub(super) fn add(&mut self, label: &str, value: &str) {
        let spoken = spoken(value);
        if spoken.is_empty() && !value.is_empty() {
            return;
        }
        // A list has its label once.
        let same = self.values > 0 && self.label == label;
        let part = behind(if same { "" } else { label }, &spoken);
        if part.trim().is_empty() {
            return;
        }
        if self.values > 0 {
            self.text.push_str("; ");
        }
        self.text.push_str(&part);
        self.values += 1;
        if !same {
            label.clone_into(&mut self.label);
        }
    }

    /// Nothing of a single value.
    pub(super) fn passages(
        &self,
        work: &mut Work,
        take: &mut impl FnMut(&str) -> Result<(), TooMuch>,
    ) -> Result<(), TooMuch> {
        if self.values < 2 {
            return Ok(());
        }
        work.spend(NORMALISING + PARTING, &self.text)?;
        pieces(&plain(&self.text), take)
    }
}

/// What is words in a value: of `handover-00012`, which is a name and no words of anybody's, the first half.
fn spoken(value: &str) -> String {
    if value.trim().contains(char::is_whitespace) {
        return value.to_owned();
    }
    let value = plain(value);
    let runs = value.split(|c: char| !alphanumeric(c)).flat_map(humps);
    let words: Vec<&str> =
        runs.filter(|run| run.chars().nth(1).is_some() && run.chars().all(alphabetic)).collect();
    words.join(" ")
}
