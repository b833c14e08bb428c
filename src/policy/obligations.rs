//! What can a policy demand of a message that it allows? The words are those of `policies/agentbus/shape.rego`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::domain::ConversationLabel;

/// What an allowing decision demands besides. As JSON it is what `data.agentbus.decision.obligations` is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Obligations {
    #[serde(skip_serializing_if = "is_false")]
    pub deliberate: bool,
    /// 1 to [`Self::APPROVALS_MAX`].
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "approvals")]
    pub min_approvals: Option<u32>,
    /// Paths below `content`, such as `payment.iban`, whose values the recipient must not see.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub redact: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    /// The impact is scored by the model even where no score could change the verdict.
    #[serde(skip_serializing_if = "is_false")]
    pub score: bool,
    /// By module: how often its sender may.
    #[serde(rename = "rate", skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "few")]
    pub rates: BTreeMap<String, Rate>,
    /// By module: what reviewers and the recipient are told.
    #[serde(rename = "note", skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "notes")]
    pub notes: BTreeMap<String, String>,
    /// By module: why the sender is stopped, on all nodes and until an operator lets it go on. The message goes nowhere.
    #[serde(rename = "freeze", skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "notes")]
    pub freezes: BTreeMap<String, String>,
    /// What the conversation is labelled with.
    #[serde(rename = "label", skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<ConversationLabel>,
}

/// A way through the bus that the policy can demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    Durable,
}

/// So many messages of one sender in so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    #[serde(deserialize_with = "messages")]
    messages: u32,
    #[serde(deserialize_with = "seconds")]
    seconds: u32,
}

impl Obligations {
    /// Every word, for error messages.
    pub const WORDS: [&str; 9] =
        ["deliberate", "min_approvals", "redact", "lane", "score", "rate", "note", "freeze", "label"];
    pub const APPROVALS_MAX: u32 = 100;
    /// Paths that one module may redact.
    pub const REDACT_MAX: usize = 64;
    /// Characters of one note; it has at least one.
    pub const NOTE_CHARS_MAX: usize = 200;
    /// Labels that one module may give.
    pub const LABELS_MAX: usize = 16;
    /// Modules that one answer may be of: a policy has no more files.
    const MODULES_MAX: usize = 256;

    /// Whether a text can be a note, or say why somebody is stopped.
    pub fn is_note(text: &str) -> bool {
        (1..=Self::NOTE_CHARS_MAX).contains(&text.chars().count())
    }

    /// Each note with its module.
    pub fn note_lines(&self) -> impl Iterator<Item = String> {
        self.notes.iter().map(|(module, note)| format!("{module}: {note}"))
    }
}

impl Rate {
    pub const MESSAGES_MAX: u32 = 1_000_000;
    /// A day.
    pub const SECONDS_MAX: u32 = 86_400;

    /// `None`: out of bounds.
    pub fn new(messages: u32, seconds: u32) -> Option<Self> {
        let within =
            (1..=Self::MESSAGES_MAX).contains(&messages) && (1..=Self::SECONDS_MAX).contains(&seconds);
        within.then_some(Self { messages, seconds })
    }

    pub fn messages(self) -> u32 {
        self.messages
    }

    /// The time in which so many are let through.
    pub fn window(self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    /// What one of them takes of it.
    pub fn each(self) -> Duration {
        self.window() / self.messages.max(1)
    }

    /// The one that lets fewer through.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        if other.each() > self.each() { other } else { self }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {} s", crate::phrase::counted(self.messages, "message"), self.seconds)
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// A whole number, however it is spelled, within these bounds.
fn whole<'de, D: Deserializer<'de>>(json: D, most: u32) -> Result<u32, D::Error> {
    let found = f64::deserialize(json)?;
    match found.fract() == 0.0 && (1.0..=f64::from(most)).contains(&found) {
        // Whole, and within 32 bits.
        true => Ok(found as u32),
        false => Err(de::Error::custom(format!("found {found}, expected 1 to {most}"))),
    }
}

fn approvals<'de, D: Deserializer<'de>>(json: D) -> Result<Option<u32>, D::Error> {
    whole(json, Obligations::APPROVALS_MAX).map(Some)
}

fn messages<'de, D: Deserializer<'de>>(json: D) -> Result<u32, D::Error> {
    whole(json, Rate::MESSAGES_MAX)
}

fn seconds<'de, D: Deserializer<'de>>(json: D) -> Result<u32, D::Error> {
    whole(json, Rate::SECONDS_MAX)
}

/// What each of some modules demands.
fn few<'de, D: Deserializer<'de>, T: Deserialize<'de>>(json: D) -> Result<BTreeMap<String, T>, D::Error> {
    let all = BTreeMap::<String, T>::deserialize(json)?;
    match all.len() <= Obligations::MODULES_MAX {
        true => Ok(all),
        false => Err(de::Error::custom(format!("expected at most {} modules", Obligations::MODULES_MAX))),
    }
}

fn notes<'de, D: Deserializer<'de>>(json: D) -> Result<BTreeMap<String, String>, D::Error> {
    let all: BTreeMap<String, String> = few(json)?;
    match all.values().all(|note| Obligations::is_note(note)) {
        true => Ok(all),
        false => Err(de::Error::custom(format!(
            "expected notes of 1 to {} characters",
            Obligations::NOTE_CHARS_MAX
        ))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn read(json: &str) -> Result<Obligations, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_is_read_back_and_whole_numbers_may_be_spelled_as_floats() {
        let json = r#"{"deliberate":true,"min_approvals":2,"redact":["a.b"],"lane":"durable","score":true,"rate":{"own":{"messages":10,"seconds":60}},"note":{"own":"why"},"freeze":{"own":"why"},"label":["pii"]}"#;
        let all = read(json).unwrap();
        assert_eq!(serde_json::to_string(&all).unwrap(), json);
        assert_eq!(read(&json.replace(":10,", ":10.0,").replace(":2,", ":2.0,")).unwrap(), all);
        assert_eq!(serde_json::to_string(&read("{}").unwrap()).unwrap(), "{}");
        assert_eq!(all.note_lines().collect::<Vec<_>>(), ["own: why"]);
    }

    #[test]
    fn what_is_out_of_bounds_or_unknown_is_refused() {
        let note = |length: usize| format!(r#"{{"note": {{"own": "{}"}}}}"#, "ü".repeat(length));
        assert!(read(&note(200)).is_ok());
        for bad in [
            r#"{"encrypt": true}"#,
            r#"{"min_approvals": 0}"#,
            r#"{"min_approvals": 1.5}"#,
            r#"{"lane": "fast"}"#,
            r#"{"rate": {"own": {"messages": 0, "seconds": 60}}}"#,
            r#"{"rate": {"own": {"messages": 1, "seconds": 86401}}}"#,
            r#"{"rate": {"own": {"messages": 1, "seconds": 0.5}}}"#,
            r#"{"rate": {"own": {"messages": 1}}}"#,
            r#"{"rate": {"own": {"messages": 1, "seconds": 1, "burst": 2}}}"#,
            r#"{"label": ["Not A Label"]}"#,
            r#"{"label": "pii"}"#,
            r#"{"note": "why"}"#,
            r#"{"freeze": true}"#,
            r#"{"freeze": {"own": ""}}"#,
            r#"{"freeze": {"own": {"agent": "other"}}}"#,
            &note(0),
            &note(201),
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn of_two_rates_the_one_that_lets_fewer_through_holds() {
        let [ten, hundred] = [10, 100].map(|messages| Rate::new(messages, 60).unwrap());
        assert_eq!((ten.stricter(hundred), hundred.stricter(ten)), (ten, ten));
        assert_eq!(Rate::new(1, 86_401), None);
    }
}
