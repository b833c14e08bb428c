//! Which headers does what leaves a node bear? The ones that others go by, once each.

use std::borrow::Cow;

use async_nats::{HeaderMap, header::HeaderValue};
use bytes::Bytes;

use crate::{
    domain::Cause,
    lanes::{DeadLetter, Delivery, Notice, OutcomeStage, Submission},
    review::{Address, Letter, Redriven},
    state::{Digest, MessageKey},
};

/// Of a message's content, in hex.
pub(super) const DIGEST: &str = "Agentbus-Digest";
/// What became of a message: each answer of the bus has it.
pub(super) const VERDICT: &str = "Agentbus-Verdict";
/// Which decision has queued, delivered or refused it.
pub(super) const DECISION: &str = "Agentbus-Decision";
pub(crate) const REDRIVEN: &str = "Agentbus-Redriven";
pub(crate) const TRACEPARENT: &str = "traceparent";
// Of a message that was given up.
const REASON: &str = "Agentbus-Reason";
const DETAIL: &str = "Agentbus-Detail";
const ATTEMPTS: &str = "Agentbus-Attempts";
const DIED_AT: &str = "Agentbus-Died-At";

/// What the policy says of a message, for its recipient.
const NOTE: &str = "Agentbus-Note";

/// What led to a message, for its recipient; mostly nothing did.
const CAUSE: &str = "Agentbus-Cause";

/// Bytes that the headers of a delivery take at most.
pub(super) const HEADERS_MAX: usize = 1792;
/// Of the notes among them.
const NOTE_BYTES_MAX: usize = 400;
/// Of a sentence in a header.
const SENTENCE_MAX: usize = 512;
/// A W3C trace context has 55.
const TRACEPARENT_MAX: usize = 128;
/// A decision id has 48 at most.
const DECISION_MAX: usize = 64;

/// Names and values, as they are written.
pub(super) type Fields<'a> = Vec<(&'static str, Cow<'a, str>)>;

/// As the codec takes them.
pub(super) fn slices<'a>(fields: &'a [(&'static str, Cow<'_, str>)]) -> Vec<(&'a str, &'a str)> {
    fields.iter().map(|(name, value)| (*name, &**value)).collect()
}

/// The same of what is seldom.
pub(super) fn slices_of(headers: &HeaderMap) -> Vec<(&str, &str)> {
    let all = headers.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    all.map(|(name, value)| (name.as_ref(), value.as_str())).collect()
}

/// Of a message that waits to be governed.
pub(super) fn submitted<'a>(submission: &'a Submission<'_>) -> Fields<'a> {
    let Submission { key, digest, decision_id, traceparent, payload: _ } = submission;
    let mut headers: Fields<'_> = vec![
        ("Nats-Msg-Id", format!("{}.{}", key.sender, key.message).into()),
        (DIGEST, hex::encode(digest).into()),
        (DECISION, Cow::Borrowed(*decision_id)),
    ];
    let traceparent = traceparent.as_deref().filter(|value| traced(value).is_some());
    headers.extend(traceparent.map(|value| (TRACEPARENT, value.into())));
    headers
}

/// Of a delivery, into a live inbox or a durable one: all that the recipient learns beside the payload, and nothing of
/// the sender's own headers. The recipient's name counts: by a chosen reply subject an agent can have what is in its
/// durable inbox sent into another's live one.
pub(super) fn delivery<'a>(
    (key, decision_id, delivery_id): (&'a MessageKey, &'a str, &'a str),
    traceparent: &'a str,
    delivery: &'a Delivery,
    (cause, note): (&'a str, &'a str),
) -> DeliveryFields<'a> {
    // What is mostly absent stands last.
    let seldom =
        if cause.is_empty() { [(NOTE, note), (CAUSE, cause)] } else { [(CAUSE, cause), (NOTE, note)] };
    let [first, second] = seldom;
    DeliveryFields([
        ("Agentbus-Delivery", delivery_id),
        (DECISION, decision_id),
        ("Agentbus-Message-Id", key.message.as_str()),
        ("Agentbus-Tenant", key.tenant.as_str()),
        ("Agentbus-Sender", key.sender.as_str()),
        ("Agentbus-Recipient", delivery.permit.recipient().as_str()),
        ("Content-Type", delivery.encoding.content_type()),
        (TRACEPARENT, traceparent),
        first,
        second,
    ])
}

/// The empty ones last.
pub(super) struct DeliveryFields<'a>([(&'static str, &'a str); 10]);

impl<'a> DeliveryFields<'a> {
    /// Without those that are empty.
    pub(super) fn as_slice(&self) -> &[(&'static str, &'a str)] {
        match &self.0 {
            [fields @ .., (_, ""), (_, "")] => fields,
            [fields @ .., (_, "")] => fields,
            fields => fields,
        }
    }
}

/// What the policy says of a message to its recipient; mostly nothing.
pub(super) fn note(delivery: &Delivery) -> String {
    crate::phrase::plain_line(delivery.permit.obligations().note_lines(), NOTE_BYTES_MAX)
}

/// As a recipient reads it; nothing of what begins a chain.
pub(super) fn cause(cause: Option<&Cause>) -> String {
    let Some(Cause { conversation, hops, chain }) = cause.filter(|cause| cause.hops > 0) else {
        return String::new();
    };
    let parent = chain.last().map_or(String::new(), |link| format!("; parent={}", link.decision));
    format!("hops={hops}; conversation={conversation}{parent}")
}

/// What distinguishes one delivery of a decision from the others.
pub(super) fn delivery_id(decision_id: &str, index: usize) -> String {
    format!("{decision_id}-{index}")
}

/// Of what is left of a delivery whose content has gone: what was found of it while it was there.
pub(super) fn receipt(delivered: &HeaderMap) -> Vec<(&'static str, &str)> {
    delivered.get(DECISION).map(|id| (DECISION, id.as_str())).into_iter().collect()
}

/// Of a hint that a message has come into the durable inbox. It names no recipient and is no delivery, so an
/// agent that knows no hints drops it.
pub(super) fn nudge(key: &MessageKey) -> [(&'static str, &str); 3] {
    [
        ("Agentbus-Kept", "message"),
        ("Agentbus-Message-Id", key.message.as_str()),
        ("Agentbus-Sender", key.sender.as_str()),
    ]
}

/// Of a verdict. Never `Agentbus-Delivery`.
pub(super) fn outcome(notice: &Notice) -> Fields<'_> {
    let Notice { key, to, verdict, .. } = notice;
    let mut headers: Fields<'_> = vec![
        (VERDICT, verdict.status.as_str().into()),
        (DECISION, verdict.decision_id.as_str().into()),
        ("Content-Type", notice.encoding.content_type().into()),
        ("Agentbus-Recipient", to.as_str().into()),
        ("Agentbus-Sender", key.sender.as_str().into()),
        ("Agentbus-Message-Id", key.message.as_str().into()),
    ];
    if let OutcomeStage::Repeated(_) = notice.stage {
        headers.push(("Agentbus-Repeat", "true".into()));
    }
    // Only its sender knows all of a message that was redacted for others.
    if let (Some(digest), true) = (notice.digest, notice.to == notice.key.sender) {
        headers.push((DIGEST, hex::encode(digest).into()));
    }
    headers
}

pub(super) fn dead_letter(letter: &DeadLetter, died_at: u128) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(REASON, letter.reason.as_str());
    headers.insert(DETAIL, sentence(&letter.detail));
    headers.insert(ATTEMPTS, letter.attempts.to_string());
    headers.insert(REDRIVEN, letter.redriven.to_string());
    headers.insert(DIED_AT, died_at.to_string());
    trace(&mut headers, letter.traceparent.as_deref());
    headers
}

/// What is read of a dead letter again.
pub(crate) fn given_up(headers: &HeaderMap, address: Address, payload: Bytes, place: u64) -> Letter {
    let text = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
    let number = |name: &str| text(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Letter {
        address,
        reason: text(REASON).unwrap_or_default(),
        detail: text(DETAIL).unwrap_or_default(),
        attempts: number(ATTEMPTS),
        redriven: u32::try_from(number(REDRIVEN)).unwrap_or(u32::MAX),
        died_at: number(DIED_AT),
        traceparent: text(TRACEPARENT),
        payload,
        place,
    }
}

/// Of a dead letter that waits to be governed anew.
pub(crate) fn redriven(message: &Redriven) -> HeaderMap {
    let Redriven { key, digest, times, traceparent, .. } = message;
    let mut headers = HeaderMap::new();
    headers.insert(REDRIVEN, times.to_string());
    headers.insert(DIGEST, hex::encode(digest));
    // Twice at one time is once.
    headers.insert("Nats-Msg-Id", format!("{}.{}.{times}", key.sender, key.message));
    trace(&mut headers, traceparent.as_deref());
    headers
}

/// By which decision a waiting message was queued.
pub(super) fn queued_by(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(DECISION)?.as_str();
    let is_one = id.len() <= DECISION_MAX && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_one.then(|| id.to_owned())
}

pub(super) fn digest(headers: &HeaderMap) -> Option<Digest> {
    let hex = headers.get(DIGEST)?;
    let mut digest = Digest::default();
    hex::decode_to_slice(hex.as_str(), &mut digest).ok()?;
    Some(digest)
}

/// A stranger's value goes on only as far as it can be one.
fn traced(traceparent: &str) -> Option<HeaderValue> {
    let value = Some(traceparent).filter(|value| value.len() <= TRACEPARENT_MAX)?;
    value.parse().ok()
}

fn trace(headers: &mut HeaderMap, traceparent: Option<&str>) {
    if let Some(value) = traceparent.and_then(traced) {
        headers.insert(TRACEPARENT, value);
    }
}

/// One line, of bounded length.
fn sentence(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut length = 0;
    line.take_while(|c| {
        length += c.len_utf8();
        length <= SENTENCE_MAX
    })
    .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::{Duration, Instant};

    use super::*;
    use crate::domain::{Encoding, Reason, Status, Verdict};

    fn map(fields: &Fields<'_>) -> HeaderMap {
        map_of(&slices(fields))
    }

    fn map_of(fields: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        fields.iter().for_each(|(name, value)| map.insert(*name, *value));
        map
    }

    fn same(form: &str, headers: &HeaderMap) {
        let mut lines: Vec<String> = headers
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| format!("{name}: {value}")))
            .collect();
        // The library keeps them in no order.
        lines.sort_unstable();
        crate::golden::same(form, lines.join("\n").as_bytes());
    }

    #[test]
    fn what_is_kept_bears_the_headers_that_other_versions_know() {
        let (tenant, sender) = ("acme".parse().unwrap(), "planner".parse().unwrap());
        let key = MessageKey { tenant, sender, message: "m-1".parse().unwrap() };
        let traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
        let submission = Submission {
            key: &key,
            digest: &[7; 32],
            decision_id: "kwgBtD6dd5f4LfCUqfSfEk",
            traceparent: traceparent.clone(),
            payload: Bytes::new(),
        };
        let submitted = map(&submitted(&submission));
        same("headers-submitted-by.txt", &submitted);
        assert_eq!(digest(&submitted), Some([7; 32]));
        assert_eq!(queued_by(&submitted).as_deref(), Some("kwgBtD6dd5f4LfCUqfSfEk"));
        let before = crate::golden::read("headers-submitted.txt");
        let before: HeaderMap = String::from_utf8(before)
            .unwrap()
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        assert_eq!((digest(&before), queued_by(&before)), (Some([7; 32]), None));
        let verdict = Verdict {
            message_id: None,
            status: Status::Delivered,
            reason: Reason::Delivered,
            detail: String::new(),
            retryable: false,
            retry_after: None,
            decision_id: "d-1".to_owned(),
            policy_revision: None,
            impact: None,
            reach: None,
            deliberation_id: None,
            node: "node-1".to_owned(),
            elapsed: Duration::ZERO,
        };
        let notice = Notice {
            to: key.sender.clone(),
            key,
            stage: OutcomeStage::Repeated(1),
            after: 0,
            not_after: Instant::now(),
            digest: Some([7; 32]),
            verdict,
            encoding: Encoding::Json,
        };
        same("headers-outcome.txt", &map(&outcome(&notice)));
        let letter = DeadLetter {
            tenant: "acme".to_owned(),
            sender: "planner".to_owned(),
            message: "m-1".to_owned(),
            payload: "{}".into(),
            traceparent,
            reason: "no_capable_agent".to_owned(),
            detail: "nobody can".to_owned(),
            attempts: 5,
            redriven: 1,
        };
        same("headers-receipt.txt", &map_of(&receipt(&submitted)));
        same("headers-dead-letter.txt", &dead_letter(&letter, 1_790_000_000_000));
    }

    #[test]
    fn a_sentence_is_one_bounded_line() {
        assert_eq!(sentence("two\r\nlines\0"), "two  lines ");
        let long = sentence(&"ü".repeat(1_000));
        assert!(long.len() <= SENTENCE_MAX && long.len() > SENTENCE_MAX - 2);
    }
}
