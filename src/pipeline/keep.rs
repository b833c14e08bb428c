//! The durable lane: keeps a message, governs it later, and tells the sender what came of it.
//!
//! A message that was kept is governed until there is a verdict, by whichever node gets it. What is wrong
//! with the message or its recipients is tried five times; what the bus itself lacks is waited for. A node
//! that dies leaves it unacknowledged; the next one first looks what the earlier attempt has stored
//! ([`super::DurableLane::evidence`]), so nothing happens twice.

use std::time::Duration;

use tracing::Instrument as _;

use super::{
    Accepted, Answer, DeadLetter, LaneError, OutcomeStage, Pipeline, Request, Unless,
    attempts::{
        ATTEMPT_WITHIN, ATTEMPTS_MAX, Because, after_giving_up, backoff, because, never_kept, overdue, pause,
    },
    once, park,
    stored::{Told, unavailable, used_before},
    trail::{self, Outcome, Trail},
};
use crate::{
    domain::{Reason, Verb, Verdict},
    governance::{Decoded, Effect, Purpose, RetryMode},
    rejection::Rejection,
    state::MessageKey,
    telemetry::Stage,
};

/// A message of the durable lane, as a node got it.
#[derive(Debug)]
pub struct Kept {
    /// As its subject says it, which a node has written.
    pub key: MessageKey,
    pub request: Request,
    /// From 1.
    pub attempt: u64,
    /// How often a person has redriven it.
    pub redriven: u32,
    /// The bus was in trouble a short while ago, or this node has just started. Attempts were spent on that,
    /// and agents that lost their registration are not back yet: the message is not given up now.
    pub excused: bool,
}

/// What the lane does with a kept message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It has its verdict, and the sender's outcome is stored. Given up: it is a dead letter as well.
    Done { given_up: bool },
    /// It is given back, not before this has passed.
    Again { after: Duration, because: Because },
}

impl Pipeline {
    /// Durable lane, first half: refuses what can be refused at once, and keeps the rest.
    pub async fn submit(&self, request: Request) -> Answer {
        let mut trail = Trail::start(&self.node, &request, self.limits.deadline, (self.clock)());
        let span = trail.span(&request.tenant);
        let keeping = self.keep(&request, &mut trail).instrument(span);
        let kept = tokio::time::timeout(self.limits.deadline, keeping).await;
        let answer = trail.answer(kept.unwrap_or_else(|_| Err(trail::timed_out(self.limits.deadline))));
        if !answer.repeat {
            trail.record(&request, &answer.verdict, &*self.courier, &self.metrics);
        }
        trail.observe(&self.metrics, Verb::Submit, &answer);
        answer
    }

    async fn keep(&self, request: &Request, trail: &mut Trail) -> Result<Outcome, Rejection> {
        let (tenant, slot) = self.admission.admit(&*self.tenants, &request.tenant, &request.sender)?;
        trail.hold(slot);
        trail.passed(Stage::Admit);
        let decoded = tenant.decoded(self.read(request, trail, &self.limits.wire).await?)?;
        trail.passed(Stage::Decode);
        self.check(&decoded, trail)?;
        let key = decoded.key();
        match self.lane.accept(key, decoded.digest(), request).await.map_err(unavailable)? {
            Accepted::New | Accepted::Repeat(None) => Ok(Outcome::Kept),
            Accepted::Repeat(Some(verdict)) => {
                let stands = self.stands(key, *verdict).await.map_err(unavailable)?;
                Ok(Outcome::Repeat(Box::new(stands)))
            }
            Accepted::Conflict => Err(used_before(&key.message)),
        }
    }

    /// Durable lane, second half: one attempt at a verdict.
    pub async fn govern_kept(&self, kept: &Kept) -> Settled {
        let mut trail = self.trail_of(kept);
        let span = trail.span(&kept.key.tenant);
        let settling = async {
            let governing = self.govern_durably(kept, &mut trail);
            let governed = tokio::time::timeout(ATTEMPT_WITHIN, governing).await;
            let governed = governed.unwrap_or_else(|_| Err(overdue(kept.attempt)));
            self.settle(kept, &mut trail, governed).await
        };
        settling.instrument(span).await
    }

    /// For a message whose governing ended in a panic, which may do so again.
    pub async fn failed_to_govern(&self, kept: &Kept) -> Settled {
        let mut trail = self.trail_of(kept);
        let span = trail.span(&kept.key.tenant);
        let failed = Rejection::new(
            Reason::TimedOut,
            format!("governing it failed within the node, at attempt {}", kept.attempt),
        );
        self.settle(kept, &mut trail, Err(failed)).instrument(span).await
    }

    fn trail_of(&self, kept: &Kept) -> Trail {
        let mut trail = Trail::start(&self.node, &kept.request, ATTEMPT_WITHIN, (self.clock)());
        // Also of what cannot be decoded: its outcome must find its sender's message.
        trail.about(&kept.key.message);
        trail
    }

    /// Tells everybody who must know, or says when it is tried again.
    async fn settle(&self, kept: &Kept, trail: &mut Trail, governed: Result<Outcome, Rejection>) -> Settled {
        let given_up = match &governed {
            Err(rejection) if rejection.reason.retryable() => {
                let because = because(rejection.reason);
                if because == Because::Bus || kept.excused || kept.attempt < ATTEMPTS_MAX {
                    tracing::debug!(%rejection, attempt = kept.attempt, "tried again later");
                    let after = match because {
                        Because::Message => pause(kept.attempt, self.limits.give_up_after),
                        Because::Bus => backoff(kept.attempt),
                    };
                    let after = after.max(rejection.retry_after.unwrap_or_default());
                    return Settled::Again { after, because };
                }
                true
            }
            Err(rejection) => never_kept(rejection.reason),
            Ok(_) => false,
        };
        let again = Settled::Again { after: backoff(kept.attempt), because: Because::Bus };
        let stage = match &governed {
            _ if kept.redriven > 0 => OutcomeStage::Redriven(kept.redriven),
            Ok(Outcome::Delivered(_)) => OutcomeStage::Delivered,
            _ => OutcomeStage::Governed,
        };
        let mut answer = trail.answer(governed);
        if given_up {
            let put_aside = match self.lane.bury(dead_letter(kept, &answer.verdict)).await {
                Ok(()) => true,
                // It would circulate for ever, and slow its tenant down: its sender has the message.
                Err(LaneError::Full(error)) => {
                    tracing::error!(
                        error,
                        sender = %kept.key.sender,
                        message = %kept.key.message,
                        reason = answer.verdict.reason.as_str(),
                        "a message that cannot be governed is lost: there is no room for dead letters"
                    );
                    self.metrics.lane.unburied();
                    false
                }
                // What cannot even be given up is kept until it can.
                Err(error) => {
                    tracing::error!(%error, "a message that cannot be governed cannot be put aside either");
                    return again;
                }
            };
            if answer.verdict.retryable {
                answer.verdict.detail.push_str(&after_giving_up(kept.attempt, put_aside));
            }
        }
        if answer.repeat {
            self.tell_again(kept, trail, answer.verdict.clone()).await;
        } else {
            // It is an outcome: nothing comes of the same id on this lane any more.
            answer.verdict.retryable = false;
            answer.verdict.retry_after = None;
            if let Err(error) = self.tell(kept, trail, &answer, stage).await {
                tracing::warn!(%error, "a verdict could not be stored; the message is governed again");
                return again;
            }
            trail.count();
        }
        trail.observe(&self.metrics, Verb::Submit, &answer);
        Settled::Done { given_up }
    }

    async fn govern_durably(&self, kept: &Kept, trail: &mut Trail) -> Result<Outcome, Rejection> {
        let request = &kept.request;
        let (tenant, slot) =
            self.admission.admit_unrated(&*self.tenants, &request.tenant, &request.sender)?;
        trail.hold(slot);
        trail.passed(Stage::Admit);
        let decoded = tenant.decoded(self.read(request, trail, &self.limits.wire).await?)?;
        trail.passed(Stage::Decode);
        if decoded.key().message != kept.key.message {
            trail.about(&kept.key.message);
            return Err(Rejection::new(Reason::Malformed, "kept under another id than its own"));
        }
        // An earlier attempt may have come as far as an effect.
        if (kept.attempt > 1 || kept.redriven > 0)
            && let Some(outcome) = self.earlier(&kept.key, decoded.letter(), told(kept), trail).await?
        {
            return self.parked_durably(outcome, &decoded, trail).await;
        }
        let mode = match kept.attempt {
            ATTEMPTS_MAX.. => RetryMode::LastOfLane,
            _ => RetryMode::Lane,
        };
        let plan = self.judge(&decoded, trail, Purpose { mode, approval: None }).await?;
        let unless = match kept.redriven {
            0 => Unless::Decided,
            _ => Unless::Delivered,
        };
        match plan.effect {
            Effect::Park(parking) => {
                let parked = park::park(&*self.deliberations, &self.cpu, &parking, request, trail).await?;
                trail.count();
                self.parked_durably(parked, &decoded, trail).await
            }
            Effect::Store(to) | Effect::Deliver(to) => {
                self.store(to, decoded.letter(), request, trail, unless).await
            }
        }
    }

    async fn parked_durably(
        &self,
        outcome: Outcome,
        decoded: &Decoded,
        trail: &Trail,
    ) -> Result<Outcome, Rejection> {
        match outcome {
            Outcome::Parked(id, why) => once::remember(self, decoded, (id, why), trail).await,
            other => Ok(other),
        }
    }
}

fn told(kept: &Kept) -> Told {
    if kept.redriven > 0 { Told::Anew } else { Told::Before }
}

fn dead_letter(kept: &Kept, verdict: &Verdict) -> DeadLetter {
    DeadLetter {
        tenant: kept.key.tenant.to_string(),
        sender: kept.key.sender.to_string(),
        message: kept.key.message.to_string(),
        payload: kept.request.payload.clone(),
        traceparent: kept.request.traceparent.clone(),
        reason: verdict.reason.as_str().to_owned(),
        detail: verdict.detail.clone(),
        attempts: kept.attempt,
        redriven: kept.redriven,
    }
}
