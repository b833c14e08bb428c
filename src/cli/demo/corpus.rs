//! What do the agents of the demo say? Short texts, each with its source and licence.

use serde::Deserialize;

/// The corpus as it is committed; `examples/demo/README.md` names its licences.
const CORPUS: &str = include_str!("../../../examples/demo/corpus.jsonl");

/// One text of the corpus.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Text {
    pub(super) id: String,
    pub(super) text: String,
    /// 0 reads, 1 changes something small, 2 something that matters, 3 is harmful.
    pub(super) level: u8,
    #[cfg_attr(not(test), expect(dead_code, reason = "kept beside the text it licenses"))]
    source: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "kept beside the text it licenses"))]
    license: String,
}

pub(super) fn texts() -> Result<Vec<Text>, serde_json::Error> {
    CORPUS.lines().map(serde_json::from_str).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn every_text_of_the_corpus_names_its_source_and_a_free_licence() {
        let texts = texts().unwrap();
        assert!(texts.len() >= 290, "{}", texts.len());
        for text in texts {
            assert!(!text.text.trim().is_empty() && text.level <= 3, "{}", text.id);
            assert!(!text.source.is_empty(), "{}", text.id);
            assert!(["Apache-2.0", "MIT", "CC0/project"].contains(&text.license.as_str()), "{}", text.id);
        }
    }
}
