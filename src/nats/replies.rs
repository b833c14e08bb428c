//! What is said to who asked: a body, and its headers.

use super::Bus;
use crate::{domain::Reason, lanes::Answer, wire};

impl Bus {
    pub(super) fn answer(&self, reply: &[u8], answer: &Answer) {
        let payload = wire::encode_verdict(&answer.verdict, answer.encoding);
        self.verdict(reply, answer, &payload);
    }

    /// `payload` is the verdict, or begins with it.
    pub(super) fn verdict(&self, reply: &[u8], answer: &Answer, payload: &[u8]) {
        let verdict = &answer.verdict;
        let mut headers = vec![
            ("Agentbus-Verdict", verdict.status.as_str()),
            ("Agentbus-Decision", verdict.decision_id.as_str()),
        ];
        if answer.repeat {
            headers.push(("Agentbus-Repeat", "true"));
        }
        self.reply(reply, payload, verdict.reason, headers);
    }

    /// Errors carry the headers of NATS' service API (ADR-32) beside the body.
    pub(super) fn reply(&self, reply: &[u8], payload: &[u8], reason: Reason, headers: Vec<(&str, &str)>) {
        let code = reason.code().to_string();
        let mut headers = headers;
        if !headers.iter().any(|(name, _)| *name == "Agentbus-Verdict") {
            headers.push(("Agentbus-Verdict", if reason.code() < 300 { "ok" } else { "rejected" }));
        }
        if reason.code() >= 300 {
            headers.extend([("Nats-Service-Error", reason.as_str()), ("Nats-Service-Error-Code", &code)]);
        }
        self.send(reply, &headers, payload);
    }

    pub(super) fn send(&self, reply: &[u8], headers: &[(&str, &str)], payload: &[u8]) {
        let sent = self.intakes.get().map(|intakes| intakes.here().publish(reply, headers, payload));
        // The sender asks again with the same message id, and gets the stored verdict.
        if let Some(Err(error)) = sent {
            self.lanes.metrics.nats.unanswered();
            tracing::debug!(%error, "answer not sent");
        }
    }
}
