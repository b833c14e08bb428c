//! What is said to who asked: a body, and its headers.

use memchr::memmem;

use super::{
    Bus,
    headers::{DECISION, VERDICT},
    intake::{NotSent, Words},
};
use crate::{domain::Reason, lanes::Answer, wire};

/// Whether an answer of the bus may have come as a request: quicker than reading the headers.
pub(super) fn may_be_verdict(headers: &[u8]) -> bool {
    memmem::find(headers, VERDICT.as_bytes()).is_some()
}

impl Bus {
    pub(super) fn answer(&self, reply: &[u8], answer: &Answer) {
        let payload = wire::encode_verdict(&answer.verdict, answer.encoding);
        self.verdict(reply, answer, &payload);
    }

    /// `payload` is the verdict, or begins with it.
    pub(super) fn verdict(&self, reply: &[u8], answer: &Answer, payload: &[u8]) {
        self.reply(reply, payload, answer.verdict.reason, of(answer));
    }

    /// Errors carry the headers of NATS' service API (ADR-32) beside the body.
    pub(super) fn reply(&self, reply: &[u8], payload: &[u8], reason: Reason, headers: Vec<(&str, &str)>) {
        with_error(headers, reason, |headers| self.send(reply, headers, payload));
    }

    /// An answer that many get.
    pub(super) fn words(answer: &Answer) -> Words {
        let payload = wire::encode_verdict(&answer.verdict, answer.encoding);
        with_error(of(answer), answer.verdict.reason, |headers| Words::new(headers, &payload))
    }

    pub(super) fn send(&self, reply: &[u8], headers: &[(&str, &str)], payload: &[u8]) {
        let sent = self.intakes.get().map(|intakes| intakes.here().publish(reply, headers, payload));
        if let Some(Err(error)) = sent {
            self.unsent(error);
        }
    }

    /// The sender asks again with the same message id, and gets the stored verdict.
    pub(super) fn unsent(&self, error: NotSent) {
        self.lanes.metrics.nats.unanswered();
        tracing::debug!(%error, "answer not sent");
    }
}

fn of(Answer { verdict, repeat, .. }: &Answer) -> Vec<(&str, &str)> {
    let mut headers = vec![(VERDICT, verdict.status.as_str()), (DECISION, verdict.decision_id.as_str())];
    if *repeat {
        headers.push(("Agentbus-Repeat", "true"));
    }
    headers
}

fn with_error<T>(headers: Vec<(&str, &str)>, reason: Reason, tell: impl FnOnce(&[(&str, &str)]) -> T) -> T {
    let code = reason.code().to_string();
    let mut headers = headers;
    if !headers.iter().any(|(name, _)| *name == VERDICT) {
        headers.push((VERDICT, if reason.code() < 300 { "ok" } else { "rejected" }));
    }
    if reason.code() >= 300 {
        headers.extend([("Nats-Service-Error", reason.as_str()), ("Nats-Service-Error-Code", &code)]);
    }
    tell(&headers)
}
