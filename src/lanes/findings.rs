//! What is known of a message so far, and the verdict that follows from it.

use std::sync::Arc;

use super::{measured::Moment, request::Answer};
use crate::{
    audit::Remembered,
    domain::{
        Cause, DecisionId, DeliberationId, Encoding, Impact, MessageId, MessageType, Reach, Reason, Status,
        Verdict,
    },
    governance::Seen,
    impact::Unassessed,
    phrase::counted,
    policy::{Ruling, Source},
    rejection::Rejection,
    state::Digest,
    wire::{DecodeFailure, Decoded},
};

/// How governing ended when it did not end in a rejection.
pub(super) enum Outcome {
    Delivered(Reach),
    /// On the durable lane, to be governed.
    Queued,
    /// Waits for its reviewers; why, in a sentence.
    Parked(DeliberationId, String),
    Repeat(Box<Verdict>),
}

pub(super) struct Findings<'a> {
    pub node: &'a str,
    pub at: Moment,
    pub decision_id: String,
    /// The same, where its record stands in a batch.
    pub named: Option<DecisionId>,
    pub encoding: Encoding,
    /// Known before its bytes are read where a node has queued or parked it.
    pub message_id: Option<MessageId>,
    pub message_type: Option<MessageType>,
    pub digest: Option<Digest>,
    pub policy_revision: Option<Arc<str>>,
    /// What the policy was asked about last, and which it was.
    pub seen: Option<(Seen, Arc<str>)>,
    pub impact: Option<Impact>,
    /// Of what the policy was asked last.
    pub remembered: Option<Remembered>,
    /// By which decision a node has queued it.
    pub submitted_as: Option<String>,
    /// What led to it, if it says that anything did.
    pub cause: Option<Box<Cause>>,
}

impl<'a> Findings<'a> {
    /// Answers in the request's encoding from the start: it may be refused before it is decoded.
    pub(super) fn new(node: &'a str, at: Moment, encoding: Encoding) -> Self {
        Self {
            node,
            at,
            decision_id: nuid::next().to_string(),
            named: None,
            encoding,
            message_id: None,
            message_type: None,
            digest: None,
            policy_revision: None,
            seen: None,
            impact: None,
            remembered: None,
            submitted_as: None,
            cause: None,
        }
    }

    /// It is recorded with others, under this name.
    pub(super) fn named(mut self, name: DecisionId) -> Self {
        name.as_str().clone_into(&mut self.decision_id);
        self.named = Some(name);
        self
    }

    pub(super) fn decoded(&mut self, decoded: Result<Decoded, DecodeFailure>) -> Result<Decoded, Rejection> {
        match decoded {
            Ok(decoded) => {
                self.encoding = decoded.encoding;
                self.message_id = Some(decoded.message.id.clone());
                self.message_type = Some(decoded.message.message_type);
                self.digest = Some(decoded.digest);
                Ok(decoded)
            }
            Err(failure) => {
                self.encoding = failure.encoding;
                self.message_id = failure.message_id.or(self.message_id.take());
                Err(failure.error.into())
            }
        }
    }

    pub(super) fn asked(&mut self, seen: Seen, revision: Arc<str>) {
        self.seen = Some((seen, revision));
        self.remembered = None;
    }

    pub(super) fn ruled(&mut self, rulings: &[Ruling]) {
        let by = |source| rulings.iter().filter(|ruling| ruling.source == source).count() as u64;
        self.remembered = Some(Remembered { cached: by(Source::Cache), shared: by(Source::Shared) });
    }

    pub(super) fn assessed(&mut self, impact: &Result<Impact, Unassessed>) {
        self.impact = Some(match impact {
            Ok(impact) => impact.clone(),
            Err(unassessed) => (*unassessed.impact).clone(),
        });
    }

    /// An earlier attempt has delivered it: what follows is told under that decision, which its recipient
    /// has seen.
    pub(super) fn goes_on(&mut self, decision_id: Option<&str>) {
        if let Some(decision_id) = decision_id {
            decision_id.clone_into(&mut self.decision_id);
            self.named = None;
        }
    }

    /// The answer, with everything that is known.
    pub(super) fn answer(&self, outcome: Result<Outcome, Rejection>) -> Answer {
        let verdict = match outcome {
            Ok(Outcome::Repeat(verdict)) => {
                return Answer { verdict: *verdict, encoding: self.encoding, repeat: true };
            }
            Ok(Outcome::Delivered(reach)) => self.delivered(reach),
            Ok(Outcome::Queued) => Verdict {
                status: Status::Stored,
                reason: Reason::Stored,
                detail: self.kept(),
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

    fn kept(&self) -> String {
        let unread = self.impact.as_ref().is_some_and(|impact| impact.unscored.is_some());
        let why = if unread { ", since reading it takes longer than a sender waits" } else { "" };
        format!("kept{why}; the verdict follows as an outcome")
    }

    /// The verdict as it will be if it reaches them.
    pub(super) fn delivered(&self, reach: Reach) -> Verdict {
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
            node: self.node.to_owned(),
            elapsed: self.at.received.elapsed(),
        }
    }
}
