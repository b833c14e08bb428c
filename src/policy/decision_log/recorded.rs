//! How is an event read back? Of this log, and of OPA's own where it answered the same question.

use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::event::PATH;
use crate::policy::{Decision, Obligations, comparison::Answer, reads::Fields, rego::RecordedInput};

/// A decision of the past: what was asked, and the answer.
pub struct Recorded {
    pub decision_id: String,
    pub input: RecordedInput,
    /// SHA-256 of the input as it is written: where it is the same, so is the question.
    pub question: [u8; 32],
    pub answer: Answer,
    /// What of the input was taken out, replaced or never looked up: nobody knows what it was.
    pub unknown: Fields,
}

/// Why a line is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("it is no event of a decision log: {0}")]
    NoEvent(String),
    #[error("it is about {0}, not about {PATH}")]
    OtherPath(String),
    #[error("its input was taken out by a mask")]
    NoInput,
    #[error("its result was taken out by a mask")]
    NoResult,
    #[error("there was no decision, as the node was too busy: {0}")]
    Unavailable(String),
    #[error("its result: {0}")]
    Result(String),
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(default)]
    decision_id: String,
    #[serde(default)]
    path: String,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<Failure>,
    #[serde(default)]
    erased: Vec<String>,
    #[serde(default)]
    masked: Vec<String>,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What `data.agentbus.decision` was.
#[derive(Deserialize)]
struct Answered {
    allow: bool,
    #[serde(default)]
    reasons: Vec<String>,
    #[serde(default)]
    obligations: Obligations,
}

impl Recorded {
    /// Reads one line of JSON.
    pub fn read(line: &[u8]) -> Result<Self, Unreadable> {
        let event: Event<'_> =
            serde_json::from_slice(line).map_err(|error| Unreadable::NoEvent(error.to_string()))?;
        match event.path.trim_start_matches('/') {
            PATH => {}
            "" => return Err(Unreadable::NoEvent("it has no path".to_owned())),
            other => return Err(Unreadable::OtherPath(crate::domain::id::shown(other))),
        }
        let input = event.input.ok_or(Unreadable::NoInput)?.get();
        let answer = match (event.result, event.error) {
            (Some(result), _) => Ok(decision(result.get()).map_err(Unreadable::Result)?),
            (None, Some(error)) if error.code == "policy_unavailable" => {
                return Err(Unreadable::Unavailable(error.message));
            }
            (None, Some(error)) => Err(error.message),
            (None, None) => return Err(Unreadable::NoResult),
        };
        let hidden = event.erased.iter().chain(&event.masked);
        if hidden.clone().any(|pointer| pointer.starts_with("/result")) {
            return Err(Unreadable::NoResult);
        }
        let question = Sha256::digest(input).into();
        let input = RecordedInput::parse(input).map_err(Unreadable::NoEvent)?;
        let unknown = hidden.fold(Fields::NONE, |all, pointer| all.with(field(pointer)));
        let unknown = match input.has("conversation", "labels") {
            true => unknown,
            false => unknown.with(Fields::CONVERSATION_LABELS),
        };
        Ok(Self { decision_id: event.decision_id, input, question, answer, unknown })
    }
}

/// What of the input a pointer of OPA's names.
fn field(pointer: &str) -> Fields {
    let Some(path) = pointer.strip_prefix("/input") else { return Fields::NONE };
    Fields::under(&path.trim_start_matches('/').replace('/', "."))
}

/// Why it is none that this version knows, for people.
pub(in crate::policy) fn decision(result: &str) -> Result<Decision, String> {
    let Answered { allow, reasons, obligations } =
        serde_json::from_str(result).map_err(|error| error.to_string())?;
    if !allow {
        return Ok(Decision::Denied { reasons });
    }
    Ok(Decision::Allowed(obligations))
}
