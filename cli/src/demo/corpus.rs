//! What do the agents of the demo say? A day's talk and work, each text for the act that it fits.

use serde::Deserialize;

/// The corpus as it is committed (`examples/demo/README.md`).
const CORPUS: &str = include_str!("../../../examples/demo/corpus.jsonl");

/// One text of the corpus.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Text {
    pub(super) id: String,
    /// Who says it as what: `<tenant>/<agent>/<message type>`.
    pub(super) act: String,
    pub(super) text: String,
    /// 0 reads or tells, 1 changes something small, 2 something that matters, 3 is harmful.
    pub(super) level: u8,
}

pub(super) fn texts() -> Result<Vec<Text>, serde_json::Error> {
    CORPUS.lines().map(serde_json::from_str).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_day_is_mostly_talk_and_small_acts() {
        let texts = texts().unwrap();
        let of = |level| texts.iter().filter(|text| text.level == level).count();
        assert_eq!((0..=3).map(of).sum::<usize>(), texts.len());
        assert!(texts.iter().all(|text| !text.text.trim().is_empty()));
        assert!(of(0) > of(1) && of(1) > of(2) && of(2) > of(3) && of(3) > 0);
        assert!((of(2) + of(3)) * 10 <= texts.len(), "more than one in ten is for people");
    }
}
