//! How does the name of a decision say where its record stands?

use std::{fmt, sync::Arc};

/// Sixteen hex digits, two dashes, and the digits of the greatest numbers.
const BYTES_MAX: usize = 16 + 2 + 20 + 10;

/// `<session>-<turn>-<index>`: of one process, one turn of one of its lanes, and one decision in it. All decisions of a
/// turn are recorded together, and what comes before the last dash names that batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DecisionId(Arc<str>);

impl DecisionId {
    /// `session`: by chance, so that no two processes have the same.
    pub fn new(session: u64, turn: u64, index: u32) -> Self {
        Self(format!("{session:016x}-{turn}-{index}").into())
    }

    /// `None`: it is the id of a decision whose record stands by itself, or none at all.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split('-');
        let (session, turn, index) = (words.next()?, words.next()?, words.next()?);
        let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        let is_session = session.len() == 16
            && session.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let is_whole = text.len() <= BYTES_MAX && words.next().is_none();
        (is_session && is_number(turn) && is_number(index) && is_whole).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `<session>-<turn>`
    pub fn batch(&self) -> &str {
        self.0.rsplit_once('-').map_or(&*self.0, |(batch, _)| batch)
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_decision_names_its_batch_and_what_is_no_such_name_names_none() {
        let id = DecisionId::new(0x5f3a, 7, 12);
        assert_eq!((id.as_str(), id.batch()), ("0000000000005f3a-7-12", "0000000000005f3a-7"));
        assert_eq!(DecisionId::parse(id.as_str()).unwrap(), id);
        let most = DecisionId::new(u64::MAX, u64::MAX, u32::MAX);
        assert_eq!(DecisionId::parse(most.as_str()), Some(most));
        for other in [
            "",
            "kwgBtD6dd5f4LfCUqfSfEk",
            "0000000000005f3a-7",
            "0000000000005f3a-7-",
            "0000000000005f3a--12",
            "0000000000005f3a-7-12-1",
            "0000000000005F3A-7-12",
            "5f3a-7-12",
            "0000000000005f3a-7-*",
            "0000000000005f3a-7.x-1",
            "0000000000005f3a-7-0000000000000000000000000000000",
        ] {
            assert_eq!(DecisionId::parse(other), None, "{other}");
        }
    }
}
