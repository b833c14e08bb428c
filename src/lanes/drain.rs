//! The durable lane, second half: governs what was queued, and tells its sender what came of it.
//!
//! A message that was queued is governed until there is a verdict, by whichever node gets it. What is wrong
//! with the message or its recipients is tried five times; what the bus itself lacks is waited for. A node
//! that dies leaves it unacknowledged; the next one first looks what the earlier attempt has stored
//! ([`super::DurableLane::evidence`]), so nothing happens twice.

use std::time::Duration;

use tracing::Instrument as _;

use super::{
    attempt::Attempt,
    durable::{DeadLetter, LaneError, OutcomePolicy, OutcomeStage},
    findings::Outcome,
    measured::Arrival,
    parts::Lanes,
    request::Request,
    retry::{
        ATTEMPT_WITHIN, ATTEMPTS_MAX, FaultOwner, after_giving_up, backoff, fault_owner, frozen,
        never_queued, overdue, pause,
    },
    trace::Source,
};
use crate::{
    domain::{Reason, Verb, Verdict},
    governance::{Purpose, RetryMode},
    rejection::Rejection,
    state::MessageKey,
};

/// A message of the durable lane, as a node got it.
#[derive(Debug)]
pub struct Queued {
    /// As its subject says it, which a node has written.
    pub key: MessageKey,
    pub request: Request,
    /// The decision that its sender was told when it was queued.
    pub submitted_as: Option<String>,
    /// From 1.
    pub attempt: u64,
    /// How often a person has redriven it.
    pub redriven: u32,
    /// The bus was in trouble a short while ago, or this node has just started. Attempts were spent on that,
    /// and agents that lost their registration are not back yet: the message is not given up now.
    pub excused: bool,
}

/// What the lane does with a queued message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It has its verdict, and the sender's outcome is stored. Given up: it is a dead letter as well.
    Done { given_up: bool },
    /// It is given back, not before this has passed.
    Again { after: Duration, fault: FaultOwner },
}

impl Lanes {
    /// One attempt at a verdict.
    pub async fn drain(&self, queued: &Queued) -> Settled {
        let mut attempt = self.attempt_at(queued);
        let span = attempt.span();
        let draining = async {
            let envelope = attempt.envelope();
            let governed = envelope.run_or(attempt.drain(queued), || overdue(queued.attempt)).await;
            attempt.settle(queued, governed).await
        };
        draining.instrument(span).await
    }

    /// For a message whose governing ended in a panic, which may do so again.
    pub async fn failed_to_drain(&self, queued: &Queued) -> Settled {
        let attempt = self.attempt_at(queued);
        let span = attempt.span();
        let failed = Rejection::new(
            Reason::TimedOut,
            format!("governing it failed within the node, at attempt {}", queued.attempt),
        );
        attempt.settle(queued, Err(failed)).instrument(span).await
    }

    fn attempt_at<'a>(&'a self, queued: &'a Queued) -> Attempt<'a> {
        let attempt = Attempt::begin(self, &queued.request, ATTEMPT_WITHIN);
        let mut attempt = attempt.in_turn(&self.queue_turns);
        // Also of what cannot be decoded: its outcome must find its sender's message.
        attempt.findings.message_id = Some(queued.key.message.clone());
        attempt.findings.submitted_as.clone_from(&queued.submitted_as);
        if queued.redriven > 0 {
            attempt.trace_anew();
        }
        attempt
    }
}

impl Attempt<'_> {
    async fn drain(&mut self, queued: &Queued) -> Result<Outcome, Rejection> {
        let admitted = self.admit_unrated()?;
        let decoded = self.decode(admitted).await?;
        if decoded.key().message != queued.key.message {
            self.findings.message_id = Some(queued.key.message.clone());
            return Err(Rejection::new(Reason::Malformed, "kept under another id than its own"));
        }
        // An earlier attempt may have come as far as an effect.
        if !queued.is_first()
            && let Some(earlier) = self.earlier(&decoded, queued.policy()).await?
        {
            return match earlier {
                Outcome::Parked(id, why) => self.remember_parked(&decoded, (id, why)).await,
                earlier => Ok(earlier),
            };
        }
        let plan = self.judge(&decoded, queued.purpose()).await?;
        if let Some(followed) = self.followed(&decoded, &plan) {
            Box::pin(followed).await;
        }
        self.commit(&decoded, plan).await
    }

    /// Tells everybody who must know, or says when it is tried again.
    async fn settle(mut self, queued: &Queued, governed: Result<Outcome, Rejection>) -> Settled {
        if let Some(again) = self.tried_again(queued, &governed) {
            self.ended_by(Source::Queue, &governed);
            return again;
        }
        let again = Settled::Again { after: backoff(queued.attempt), fault: FaultOwner::Bus };
        let given_up = match &governed {
            Err(rejection) => rejection.reason.retryable() || never_queued(rejection.reason),
            Ok(_) => false,
        };
        let stage = queued.stage(&governed);
        let mut answer = self.answer(governed);
        if given_up {
            let Ok(put_aside) = self.put_aside(queued, &answer.verdict).await else { return again };
            if answer.verdict.retryable {
                answer.verdict.detail.push_str(&after_giving_up(queued.attempt, put_aside));
            }
        }
        if answer.repeat {
            self.notify_again(&queued.key, answer.verdict.clone(), queued.is_first()).await;
        } else {
            // It is an outcome: nothing comes of the same id on this lane any more.
            answer.verdict.retryable = false;
            answer.verdict.retry_after = None;
            if let Err(error) = self.notify(&queued.key, &answer, stage, queued.is_first()).await {
                tracing::warn!(%error, "a verdict could not be stored; the message is governed again");
                return again;
            }
            self.stop_sender();
            self.count();
            self.count_in_conversation(&answer);
        }
        self.counted(Verb::Submit, &answer, Arrival::Before);
        Settled::Done { given_up }
    }

    /// When what was refused for now is tried again; `None`: it is not.
    fn tried_again(&self, queued: &Queued, governed: &Result<Outcome, Rejection>) -> Option<Settled> {
        let rejection = governed.as_ref().err().filter(|rejection| rejection.reason.retryable())?;
        let fault = fault_owner(rejection.reason);
        // In the last attempt only what waits for its turn at the model has no score and is not parked.
        let in_turn = rejection.reason == Reason::Unscored;
        let last = queued.attempt >= ATTEMPTS_MAX && !queued.excused && !in_turn;
        if fault == FaultOwner::Message && last {
            return None;
        }
        tracing::debug!(%rejection, attempt = queued.attempt, "tried again later");
        let after = match fault {
            FaultOwner::Message => pause(queued.attempt, self.lanes.limits.give_up_after),
            FaultOwner::Bus => backoff(queued.attempt),
            FaultOwner::Operator => frozen(),
        };
        // A rule of the policy may say tomorrow; what waits here has its place until then.
        let told = rejection.retry_after.unwrap_or_default().min(self.lanes.limits.give_up_after / 4);
        Some(Settled::Again { after: after.max(told), fault })
    }

    /// Makes a dead letter of it. `false`: there is no room for it, and it is lost. An error: what cannot even
    /// be given up is kept until it can.
    async fn put_aside(&self, queued: &Queued, verdict: &Verdict) -> Result<bool, LaneError> {
        match self.lanes.lane.dead_letter(dead_letter(queued, verdict)).await {
            Ok(()) => Ok(true),
            // It would circulate for ever, and slow its tenant down: its sender has the message.
            Err(LaneError::Full(error)) => {
                tracing::error!(
                    error,
                    sender = %queued.key.sender,
                    message = %queued.key.message,
                    reason = verdict.reason.as_str(),
                    "a message that cannot be governed is lost: there is no room for dead letters"
                );
                self.lanes.metrics.lane.unburied();
                Ok(false)
            }
            Err(LaneError::ShareStored { held, left, .. }) => {
                tracing::warn!(
                    held,
                    left,
                    sender = %queued.key.sender,
                    message = %queued.key.message,
                    reason = verdict.reason.as_str(),
                    "a message that cannot be governed is lost: its sender has its share of the dead letters"
                );
                self.lanes.metrics.lane.unburied_of_share();
                Ok(false)
            }
            Err(error) => {
                tracing::error!(%error, "a message that cannot be governed cannot be put aside either");
                Err(error)
            }
        }
    }
}

impl Queued {
    fn is_first(&self) -> bool {
        self.attempt <= 1 && self.redriven == 0
    }

    fn purpose(&self) -> Purpose<'static> {
        let mode = match self.attempt {
            ATTEMPTS_MAX.. => RetryMode::LastOfLane,
            _ => RetryMode::Lane,
        };
        Purpose { redriven: self.redriven > 0, ..Purpose::of(mode) }
    }

    fn policy(&self) -> OutcomePolicy {
        if self.redriven > 0 { OutcomePolicy::Renewed } else { OutcomePolicy::Stands }
    }

    fn stage(&self, governed: &Result<Outcome, Rejection>) -> OutcomeStage {
        match governed {
            _ if self.redriven > 0 => OutcomeStage::Redriven(self.redriven),
            Ok(Outcome::Delivered(_)) => OutcomeStage::Delivered,
            _ => OutcomeStage::Governed,
        }
    }
}

fn dead_letter(queued: &Queued, verdict: &Verdict) -> DeadLetter {
    DeadLetter {
        tenant: queued.key.tenant.to_string(),
        sender: queued.key.sender.to_string(),
        message: queued.key.message.to_string(),
        payload: queued.request.payload.clone(),
        traceparent: queued.request.traceparent.clone(),
        reason: verdict.reason.as_str().to_owned(),
        detail: verdict.detail.clone(),
        attempts: queued.attempt,
        redriven: queued.redriven,
    }
}
