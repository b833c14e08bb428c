//! A publish that JetStream answers, and what the answer means.
//!
//! What may happen once only is appended by compare-and-set: with the sequence that it expects to be the last on some
//! subjects. Who comes second finds that another has come first.

use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, Request, StatusCode};
use bytes::Bytes;

use crate::{deliberation::LogError, lanes::LaneError};

// What JetStream's errors are called in nats-server's `errors.json`.
/// Wrong last sequence, with and without the sequence in its text.
const WRONG_LAST_SEQUENCE: &[u64] = &[10_071, 10_164];
/// Stream store failed (its limits), storage, memory, account and server resources exceeded.
const NO_ROOM: &[u64] = &[10_077, 10_047, 10_028, 10_002, 10_023];

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::nats) enum Published {
    Kept {
        sequence: u64,
        /// It was there already.
        duplicate: bool,
    },
    /// Something has come first that was expected not to be there.
    Late,
}

/// Why it is not known to be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::nats) enum PublishFailure {
    /// It may be kept or not.
    #[error("JetStream did not confirm in time")]
    Unconfirmed,
    #[error("there is no stream for it; is the bus provisioned?")]
    NoStream,
    #[error("{0}")]
    Full(String),
    #[error("{description} ({code})")]
    Refused { description: String, code: u64 },
    #[error("an acknowledgement: {0}")]
    Unreadable(String),
}

impl From<PublishFailure> for LaneError {
    fn from(failure: PublishFailure) -> Self {
        match failure {
            PublishFailure::Unconfirmed => LaneError::Unconfirmed,
            PublishFailure::Full(description) => LaneError::Full(description),
            PublishFailure::NoStream | PublishFailure::Refused { .. } => {
                LaneError::Refused(failure.to_string())
            }
            PublishFailure::Unreadable(_) => LaneError::Unreadable(failure.to_string()),
        }
    }
}

impl From<PublishFailure> for LogError {
    fn from(failure: PublishFailure) -> Self {
        match failure {
            PublishFailure::Full(description) => LogError::Full(description),
            PublishFailure::Refused { description, .. } => LogError::Refused(description),
            // It is no store that does not answer: the tenant has none.
            PublishFailure::NoStream => LogError::Refused(failure.to_string()),
            // Whether it is appended is found out by reading the log again.
            PublishFailure::Unconfirmed | PublishFailure::Unreadable(_) => {
                tracing::debug!(%failure, "append not confirmed");
                LogError::Unconfirmed
            }
        }
    }
}

#[derive(serde::Deserialize)]
struct Acknowledgement {
    seq: Option<u64>,
    #[serde(default)]
    duplicate: bool,
    error: Option<ApiError>,
}

#[derive(serde::Deserialize)]
struct ApiError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// What the server's answer to a publish says.
pub(in crate::nats) fn published(answer: &Message) -> Result<Published, PublishFailure> {
    match answer.status {
        Some(StatusCode::NO_RESPONDERS) => Err(PublishFailure::NoStream),
        _ => read(&answer.payload),
    }
}

pub(in crate::nats) fn read(answer: &[u8]) -> Result<Published, PublishFailure> {
    let unreadable = |why: String| PublishFailure::Unreadable(why);
    let answer: Acknowledgement =
        serde_json::from_slice(answer).map_err(|error| unreadable(error.to_string()))?;
    match (answer.error, answer.seq) {
        (None, Some(sequence)) => Ok(Published::Kept { sequence, duplicate: answer.duplicate }),
        (None, None) => Err(unreadable("it has no sequence".to_owned())),
        (Some(error), _) if WRONG_LAST_SEQUENCE.contains(&error.err_code) => Ok(Published::Late),
        (Some(error), _) if NO_ROOM.contains(&error.err_code) => Err(PublishFailure::Full(error.description)),
        (Some(ApiError { err_code, description }), _) => {
            Err(PublishFailure::Refused { description, code: err_code })
        }
    }
}

/// Publishes and waits until it is kept.
pub(in crate::nats) async fn publish(
    client: &Client,
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
    within: Duration,
) -> Result<Published, PublishFailure> {
    let request = Request::new().headers(headers).payload(payload).timeout(Some(within));
    match client.send_request(subject, request).await {
        Ok(answer) => published(&answer),
        Err(error) if error.kind() == async_nats::RequestErrorKind::NoResponders => {
            Err(PublishFailure::NoStream)
        }
        Err(error) => {
            tracing::debug!(%error, "a publish is not confirmed");
            Err(PublishFailure::Unconfirmed)
        }
    }
}

/// To be published only while the last on these subjects is the one with this sequence; 0: there is none.
pub(in crate::nats) fn expecting(mut headers: HeaderMap, last: u64, subjects: &str) -> HeaderMap {
    for (name, value) in expected(&last.to_string(), subjects) {
        headers.insert(name, value);
    }
    headers
}

/// The same, as fields.
pub(in crate::nats) fn expected<'a>(last: &'a str, subjects: &'a str) -> [(&'static str, &'a str); 2] {
    [("Nats-Expected-Last-Subject-Sequence", last), ("Nats-Expected-Last-Subject-Sequence-Subject", subjects)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_became_of_a_publish() {
        let kept = Published::Kept { sequence: 7, duplicate: false };
        assert_eq!(read(br#"{"stream":"S","seq":7}"#), Ok(kept));
        let again = Published::Kept { sequence: 7, duplicate: true };
        assert_eq!(read(br#"{"stream":"S","seq":7,"duplicate":true}"#), Ok(again));
        let error = |code: u64| {
            let answer = serde_json::json!({ "error": { "err_code": code, "description": "why" } });
            read(answer.to_string().as_bytes())
        };
        for late in [10_071, 10_164] {
            assert_eq!(error(late), Ok(Published::Late));
        }
        for full in [10_002, 10_023, 10_028, 10_047, 10_077] {
            assert_eq!(error(full), Err(PublishFailure::Full("why".to_owned())));
        }
        let refused = PublishFailure::Refused { description: "why".to_owned(), code: 10_060 };
        assert_eq!(error(10_060), Err(refused));
        for nothing in [&b"{}"[..], b"", b"no JSON", br#"{"stream":"S"}"#] {
            assert!(matches!(read(nothing), Err(PublishFailure::Unreadable(_))), "{nothing:?}");
        }
    }

    #[test]
    fn what_is_appended_by_compare_and_set_names_what_it_expects() {
        let headers = expecting(HeaderMap::new(), 7, "tenant.acme.stored.*.*.planner.m-1");
        let mut lines: Vec<String> = headers
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| format!("{name}: {value}")))
            .collect();
        lines.sort_unstable();
        crate::golden::same("headers-expecting.txt", lines.join("\n").as_bytes());
    }
}
