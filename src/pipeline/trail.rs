//! What is known of a message so far: its decision id, how far it came, and its answer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand::Rng as _;

use super::{
    Answer, Courier, Request,
    admission::Slot,
    courier::RecordPlace,
    once::{Claimed, lasting},
};
use crate::{
    domain::{
        AgentId, DeliberationId, Encoding, Impact, Message, MessageId, Reach, Reason, Status, TenantId,
        Timestamp, Verb, Verdict,
    },
    governance::{Permitted, Plan},
    impact::{Observation, Unassessed},
    phrase::counted,
    rejection::Rejection,
    state::MessageKey,
    telemetry::{Metrics, Stage},
    wire::{self, DecodeFailure, Decoded, Record},
};

/// How governing ended when it did not end in a rejection.
pub(super) enum Outcome {
    Delivered(Reach),
    /// Kept on the durable lane.
    Kept,
    /// Waits for its reviewers; why, in a sentence.
    Parked(DeliberationId, String),
    Repeat(Box<Verdict>),
}

pub(super) struct Trail {
    node: String,
    decision_id: String,
    received: Instant,
    deadline: Duration,
    now: Timestamp,
    slot: Option<Slot>,
    encoding: Encoding,
    message: Option<Arc<Message>>,
    message_id: Option<MessageId>,
    digest: Option<[u8; 32]>,
    policy_revision: Option<Arc<str>>,
    impact: Option<Impact>,
    /// Not counted for its sender yet.
    observation: Option<Observation>,
    /// What is counted with it.
    semantic: Option<f64>,
    claim: Option<Claimed>,
    took_over: bool,
    /// An intent to deliver is on record.
    intended: bool,
    /// It stands where verdicts do. Only a live delivery's is looked for when a claim is taken over: what
    /// the durable lane has stored is seen there.
    intended_to_store: bool,
    /// [`super::Evidence::last`], as far as it is known.
    stored_last: u64,
    last: Instant,
    stages: Vec<(Stage, Duration)>,
}

impl Trail {
    /// Answers in the request's encoding from the start: it may be refused before it is decoded.
    pub(super) fn start(node: &str, request: &Request, deadline: Duration, now: Timestamp) -> Self {
        let received = request.received;
        Self {
            node: node.to_owned(),
            decision_id: nuid::next().to_string(),
            received,
            deadline,
            now,
            slot: None,
            encoding: wire::encoding_of(&request.payload),
            message: None,
            message_id: None,
            digest: None,
            policy_revision: None,
            impact: None,
            observation: None,
            semantic: None,
            claim: None,
            took_over: false,
            intended: false,
            intended_to_store: false,
            stored_last: 0,
            last: received,
            stages: Vec::with_capacity(Stage::ALL.len()),
        }
    }

    /// One instant for the whole way, so that its stages agree on what is expired.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// When its sender is told that it timed out.
    pub(super) fn deadline(&self) -> Instant {
        self.received + self.deadline
    }

    /// In it, what is logged on the way, on whichever thread, is found by the verdict's decision id.
    pub(super) fn span(&self, tenant: &TenantId) -> tracing::Span {
        tracing::info_span!("message", decision_id = self.decision_id, tenant = tenant.as_str())
    }

    pub(super) fn decision_id(&self) -> &str {
        &self.decision_id
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    pub(super) fn policy_revision(&self) -> Option<&str> {
        self.policy_revision.as_deref()
    }

    pub(super) fn impact(&self) -> Option<&Impact> {
        self.impact.as_ref()
    }

    /// The message's id, as it is known before its bytes are read.
    pub(super) fn about(&mut self, id: &MessageId) {
        self.message_id = Some(id.clone());
    }

    /// An earlier attempt has delivered it: what follows is told under that decision, which its recipient
    /// has seen.
    pub(super) fn goes_on(&mut self, decision_id: Option<&str>) {
        if let Some(decision_id) = decision_id {
            decision_id.clone_into(&mut self.decision_id);
        }
    }

    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// The place of the last that the durable lane has stored of it.
    pub(super) fn stored(&mut self, last: u64) {
        self.stored_last = last;
    }

    pub(super) fn stored_last(&self) -> u64 {
        self.stored_last
    }

    pub(super) fn digest(&self) -> Option<[u8; 32]> {
        self.digest
    }

    pub(super) fn passed(&mut self, stage: Stage) {
        let now = Instant::now();
        self.stages.push((stage, now.duration_since(self.last)));
        self.last = now;
    }

    /// What has passed since the last stage belongs to none.
    pub(super) fn waited(&mut self) {
        self.last = Instant::now();
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.received.elapsed()
    }

    pub(super) fn hold(&mut self, slot: Slot) {
        self.slot = Some(slot);
    }

    pub(super) fn release_slot(&mut self) -> Option<Slot> {
        self.slot.take()
    }

    pub(super) fn decoded(&mut self, decoded: Result<Decoded, DecodeFailure>) -> Result<Decoded, Rejection> {
        match decoded {
            Ok(letter) => {
                self.encoding = letter.encoding;
                self.message_id = Some(letter.message.id.clone());
                self.digest = Some(letter.digest);
                self.message = Some(Arc::clone(&letter.message));
                Ok(letter)
            }
            Err(failure) => {
                self.encoding = failure.encoding;
                self.message_id = failure.message_id.or(self.message_id.take());
                Err(failure.error.into())
            }
        }
    }

    pub(super) fn permitted(&mut self, permitted: &Permitted<'_>) {
        self.policy_revision = permitted.policy_revision().cloned();
    }

    pub(super) fn planned(&mut self, plan: &Plan<'_>) {
        self.semantic = plan.remember;
    }

    pub(super) fn assessed(&mut self, impact: &Result<Impact, Unassessed>) {
        self.impact = Some(match impact {
            Ok(impact) => impact.clone(),
            Err(unassessed) => (*unassessed.impact).clone(),
        });
    }

    pub(super) fn observed(&mut self, observation: Observation) {
        self.observation = Some(observation);
    }

    pub(super) fn take_observation(&mut self) -> Option<Observation> {
        self.observation.take()
    }

    /// The message counts for its sender: something was done with it, or its verdict stands.
    pub(super) fn count(&mut self) {
        if let Some(observation) = self.observation.take() {
            observation.count(self.semantic);
        }
    }

    /// The same after the claim, unless it is a repeat. What came to nothing may come again as if for the
    /// first time, and is remembered by name.
    pub(super) fn count_after_claim(&mut self, answer: &Answer) {
        let Some(observation) = self.observation.take() else { return };
        match answer.verdict.reason {
            _ if answer.repeat => {}
            _ if lasting(&answer.verdict) => observation.count(self.semantic),
            _ => observation.count_in_doubt(self.semantic),
        }
    }

    pub(super) fn claimed(&mut self, claim: Claimed) {
        self.claim = Some(claim);
    }

    pub(super) fn took_over(&mut self) {
        self.took_over = true;
    }

    pub(super) fn take_claim(&mut self) -> Option<Claimed> {
        self.claim.take()
    }

    pub(super) fn message_key(&self, letter: &Decoded) -> MessageKey {
        MessageKey {
            tenant: letter.message.tenant.clone(),
            sender: letter.message.sender.clone(),
            message: letter.message.id.clone(),
        }
    }

    /// The answer, with everything that is known.
    pub(super) fn answer(&self, outcome: Result<Outcome, Rejection>) -> Answer {
        let verdict = match outcome {
            Ok(Outcome::Repeat(verdict)) => {
                return Answer { verdict: *verdict, encoding: self.encoding, repeat: true };
            }
            Ok(Outcome::Delivered(reach)) => self.delivered(reach),
            Ok(Outcome::Kept) => Verdict {
                status: Status::Stored,
                reason: Reason::Stored,
                detail: "kept; the verdict follows as an outcome".to_owned(),
                ..self.verdict()
            },
            Ok(Outcome::Parked(id, why)) => Verdict {
                status: Status::Deliberating,
                reason: Reason::Deliberating,
                detail: why,
                deliberation_id: Some(id),
                ..self.verdict()
            },
            Err(rejection) => Verdict {
                status: rejection.status(),
                reason: rejection.reason,
                detail: rejection.detail,
                retryable: rejection.reason.retryable(),
                retry_after: rejection.retry_after,
                ..self.verdict()
            },
        };
        Answer { verdict, encoding: self.encoding, repeat: false }
    }

    fn delivered(&self, reach: Reach) -> Verdict {
        let (its, their) = match reach.durable {
            true => (", into its durable inbox", ", into their durable inboxes"),
            false => ("", ""),
        };
        let detail = match (&reach.agent, reach.missed_total) {
            (Some(agent), _) => format!("handed to {agent}{its}"),
            (None, 0) => format!("handed to {}{their}", counted(reach.delivered, "agent")),
            (None, missed) => {
                format!("handed to {}{their}, {missed} missed", counted(reach.delivered, "agent"))
            }
        };
        Verdict { detail, reach: Some(reach), ..self.verdict() }
    }

    fn verdict(&self) -> Verdict {
        Verdict {
            message_id: self.message_id.clone(),
            status: Status::Delivered,
            reason: Reason::Delivered,
            detail: String::new(),
            retryable: false,
            retry_after: None,
            decision_id: self.decision_id.clone(),
            policy_revision: self.policy_revision.as_deref().map(str::to_owned),
            impact: self.impact.clone(),
            reach: None,
            deliberation_id: None,
            node: self.node.clone(),
            elapsed: self.received.elapsed(),
        }
    }

    /// The record that goes ahead of a delivery: the verdict as it will be if it succeeds.
    pub(super) fn intent(&mut self, letter: &Decoded, hoped: &Reach, recipients: &[AgentId]) -> Bytes {
        self.intended = true;
        let verdict = self.delivered(hoped.clone());
        wire::encode_record(&Record {
            kind: wire::RecordKind::Intent,
            at: self.now,
            tenant: &letter.message.tenant,
            sender: &letter.message.sender,
            message_type: Some(letter.message.message_type),
            digest: Some(&letter.digest),
            recipients,
            verdict: &verdict,
        })
        .into()
    }

    /// The same for what is to be stored on the durable lane, and its place.
    pub(super) fn intent_to_store<'a>(
        &'a mut self,
        letter: &Decoded,
        request: &'a Request,
        hoped: &Reach,
        recipients: &[AgentId],
    ) -> (RecordPlace<'a>, Bytes) {
        self.intended_to_store = true;
        let record = self.intent(letter, hoped, recipients);
        let place = RecordPlace {
            tenant: &request.tenant,
            sender: &request.sender,
            message: self.message_id.as_ref(),
            after_intent: false,
        };
        (place, record)
    }

    /// Records a verdict that no intent stands for.
    pub(super) fn record(
        &self,
        request: &Request,
        verdict: &Verdict,
        courier: &dyn Courier,
        metrics: &Metrics,
    ) {
        match (verdict.status, verdict.reason) {
            // Its intent went ahead of the delivery.
            (Status::Delivered, _) if self.intended => return,
            // Not judged yet.
            (Status::Stored, _) => return,
            // Only counted: a flood must not fill the records.
            (Status::Shed, _) => return,
            // Whether the intent came to nothing is not known; it stands.
            (Status::Rejected, Reason::TimedOut) if self.intended => return,
            (Status::Delivered | Status::Deliberating | Status::Rejected, _) => {}
        }
        let (place, record) = self.recorded(request, verdict);
        if let Err(error) = courier.record(place, record) {
            metrics.record_dropped();
            tracing::warn!(%error, decision_id = self.decision_id, "decision not recorded");
        }
    }

    /// The record of a verdict that no intent stands for, and its place.
    pub(super) fn recorded<'a>(
        &'a self,
        request: &'a Request,
        verdict: &Verdict,
    ) -> (RecordPlace<'a>, Bytes) {
        let recipients: Vec<AgentId> = verdict.reach.iter().filter_map(|reach| reach.agent.clone()).collect();
        let record = wire::encode_record(&Record {
            kind: wire::RecordKind::Verdict,
            at: self.now,
            tenant: &request.tenant,
            sender: &request.sender,
            message_type: self.message.as_ref().map(|message| message.message_type),
            digest: self.digest.as_ref(),
            recipients: &recipients,
            verdict,
        });
        let place = RecordPlace {
            tenant: &request.tenant,
            sender: &request.sender,
            message: self.message_id.as_ref(),
            after_intent: self.intended && !self.intended_to_store,
        };
        (place, record.into())
    }

    /// Counts and times.
    pub(super) fn observe(&mut self, metrics: &Metrics, verb: Verb, answer: &Answer) {
        self.passed(Stage::Record);
        for (stage, elapsed) in &self.stages {
            metrics.stage(*stage, *elapsed);
        }
        if answer.repeat {
            metrics.repeated();
        }
        if self.took_over {
            metrics.took_over();
        }
        let verdict = &answer.verdict;
        if let (Some(reach), false) = (&verdict.reach, answer.repeat) {
            metrics.delivered(reach.delivered, reach.missed_total);
        }
        metrics.answered(verb, verdict.status, verdict.reason, self.received.elapsed());
        if matches!(verdict.reason, Reason::TenantMismatch | Reason::SenderMismatch) {
            tracing::warn!(
                decision_id = verdict.decision_id,
                reason = verdict.reason.as_str(),
                "a message claims to be from somebody else than its sender"
            );
        }
        tracing::debug!(
            decision_id = verdict.decision_id,
            status = verdict.status.as_str(),
            reason = verdict.reason.as_str(),
            repeat = answer.repeat,
            "answered"
        );
    }
}

pub(super) fn timed_out(deadline: Duration) -> Rejection {
    Rejection::new(
        Reason::TimedOut,
        format!("not done within {} ms; ask again with the same message_id", deadline.as_millis()),
    )
    .after(Duration::from_millis(100))
}

/// Continues a W3C trace context (level 1), or starts one: same trace, new span.
pub(super) fn traceparent(incoming: Option<&str>) -> String {
    let mut random = rand::rng();
    let span: u64 = random.random_range(1..=u64::MAX);
    let trace = incoming.and_then(trace_and_flags);
    match trace {
        Some((trace, flags)) => format!("00-{trace}-{span:016x}-{flags}"),
        None => format!("00-{:032x}-{span:016x}-00", random.random_range(1..=u128::MAX)),
    }
}

/// Trace id and flags of a well-formed version-00 header.
fn trace_and_flags(header: &str) -> Option<(&str, &str)> {
    let lower_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut parts = header.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let zero = |text: &str| text.bytes().all(|b| b == b'0');
    (parts.next().is_none()
        && version == "00"
        && lower_hex(trace, 32)
        && !zero(trace)
        && lower_hex(span, 16)
        && !zero(span)
        && lower_hex(flags, 2))
    .then_some((trace, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_continued_and_a_malformed_one_is_not() {
        let incoming = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let outgoing = traceparent(Some(incoming));
        assert!(outgoing.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && outgoing.ends_with("-01"));
        assert_ne!(outgoing, incoming, "the span is new");
        for bad in [
            "",
            "x",
            "00-0-0-0",
            &incoming.to_uppercase(),
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            let outgoing = traceparent(Some(bad));
            assert!(trace_and_flags(&outgoing).is_some(), "{outgoing}");
            assert!(!outgoing.contains("0af7651916cd43dd8448eb211c80319c"), "{bad} was continued");
        }
    }
}
