//! What did agents say to each other? Recorded contents, one JSON object a line.
//!
//! `content` is what the message holds; `type` and `priority` may stand beside it. Who sent it to whom
//! is not kept: the profile says that.

use std::collections::BTreeMap;

use agentbus::domain::{MessageType, Priority};
use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::profile::Profile;

/// Bytes of one corpus.
pub(crate) const FILE_MAX: u64 = 16 * 1024 * 1024;
const LINES_MAX: usize = 10_000;

/// By the name that the profile gives.
pub(crate) type Corpora = BTreeMap<String, Vec<Recorded>>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recorded {
    pub(crate) content: Map<String, Value>,
    #[serde(default, rename = "type")]
    pub(crate) message_type: Option<MessageType>,
    #[serde(default)]
    pub(crate) priority: Option<Priority>,
}

/// Every corpus that a profile names, read by `open`.
pub(crate) fn load(
    profile: &Profile,
    open: impl Fn(&str) -> anyhow::Result<String>,
) -> anyhow::Result<Corpora> {
    let entries = profile.group.iter().flat_map(|group| &group.mix);
    let mut corpora = Corpora::new();
    for name in entries.filter_map(|entry| entry.corpus.as_ref()) {
        if !corpora.contains_key(name) {
            corpora.insert(name.clone(), parse(&open(name)?).with_context(|| name.clone())?);
        }
    }
    Ok(corpora)
}

fn parse(text: &str) -> anyhow::Result<Vec<Recorded>> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let recorded = lines
        .take(LINES_MAX + 1)
        .map(|(at, line)| serde_json::from_str(line).with_context(|| format!("line {}", at + 1)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let found = recorded.len();
    ensure!((1..=LINES_MAX).contains(&found), "found {found} messages, expected 1 to {LINES_MAX}");
    Ok(recorded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corpus_has_one_message_a_line_and_says_which_line_is_none() {
        let two =
            parse("{\"content\": {\"text\": \"hi\"}}\n\n{\"content\": {}, \"type\": \"query\"}\n").unwrap();
        assert_eq!(two.len(), 2);
        assert_eq!(two[1].message_type, Some(MessageType::Query));
        let error =
            format!("{:#}", parse("{\"content\": {}}\n{\"content\": {}, \"sender\": \"x\"}").unwrap_err());
        assert!(error.contains("line 2") && error.contains("unknown field `sender`"), "{error}");
        let error = format!("{:#}", parse("{\"content\": [1]}").unwrap_err());
        assert!(error.contains("line 1") && error.contains("expected a map"), "{error}");
        assert!(parse("\n").unwrap_err().to_string().contains("found 0 messages, expected 1 to"));
    }
}
