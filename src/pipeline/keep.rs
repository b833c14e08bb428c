//! The durable lane: keeps a message, governs it later, and tells the sender what came of it.
//!
//! A message that was kept is governed until there is a verdict, by whichever node gets it. What is wrong
//! with the message or its recipients is tried five times; what the bus itself lacks is waited for. A node
//! that dies leaves it unacknowledged; the next one first looks what the earlier attempt has stored
//! ([`super::DurableLane::evidence`]), so nothing happens twice.

use std::time::Duration;

use rand::Rng as _;
use tracing::Instrument as _;

use super::{
    Accepted, Answer, DeadLetter, Evidence, LaneError, Noted, Notice, OutcomeStage, Pipeline, Request,
    Shipment, Stored, Unless, deliver, once,
    park::{self, Parking},
    route::{Patience, Way},
    trail::{self, Judged, Manner, Outcome, Trail},
};
use crate::{
    deliberation,
    domain::{AgentId, MessageId, Reach, Reason, Recipient, Status, Tenant, Verb, Verdict},
    rejection::Rejection,
    state::MessageKey,
    telemetry::Stage,
    wire::{self, Decoded},
};

/// Times that a kept message is governed before it is given up, unless the bus itself is in trouble.
pub const ATTEMPTS_MAX: u64 = 5;

/// For one attempt: below the consumer's `ack_wait` with all that follows it, and long enough for a store
/// that does not answer to be known as that. By the fast lane's deadline it would be the message's fault.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(10);
/// Parts of the time to give up that pass between the attempts.
const WAITS: [u32; ATTEMPTS_MAX as usize - 1] = [1, 4, 15, 40];
/// What waits for the bus to be well again is tried as often as this, at least.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Since a node began with a message. After 30 s another has it, and may come to another verdict.
pub(super) const TOLD_WITHIN: Duration = Duration::from_secs(20);

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
    /// The bus was in trouble a short while ago, or this node has just started. Attempts were spent on that, and agents that lost their
    /// registration are not back yet: the message is not given up now.
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

/// Whose the reason is to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// The message's, or its recipient's: it may never come to anything.
    Message,
    /// The bus's own: any message would fail.
    Bus,
}

impl Pipeline {
    /// Durable lane, first half: refuses what can be refused at once, and keeps the rest.
    pub async fn submit(&self, request: Request) -> Answer {
        let mut trail = Trail::start(&self.node, &request, self.limits.deadline, (self.clock)());
        let span = tracing::info_span!(
            "message",
            decision_id = trail.decision_id(),
            tenant = request.tenant.as_str()
        );
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
        let letter = trail.decoded(wire::decode(&request.payload, request.stamp(), &self.limits.wire))?;
        trail.passed(Stage::Decode);
        self.check(&letter, &tenant, trail)?;
        let key = trail.message_key(&letter);
        match self.lane.accept(&key, &letter.digest, request).await.map_err(unavailable)? {
            Accepted::New | Accepted::Repeat(None) => Ok(Outcome::Kept),
            Accepted::Repeat(Some(verdict)) => {
                let stands = self.stands(&key, *verdict).await.map_err(unavailable)?;
                Ok(Outcome::Repeat(Box::new(stands)))
            }
            Accepted::Conflict => Err(used_before(&key.message)),
        }
    }

    /// Durable lane, second half: one attempt at a verdict.
    pub async fn govern_kept(&self, kept: &Kept) -> Settled {
        let mut trail = self.trail_of(kept);
        let span = self.span_of(kept, &trail);
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
        let span = self.span_of(kept, &trail);
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

    fn span_of(&self, kept: &Kept, trail: &Trail) -> tracing::Span {
        tracing::info_span!(
            "message",
            decision_id = trail.decision_id(),
            tenant = kept.request.tenant.as_str()
        )
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
        if !answer.repeat {
            // It is an outcome: nothing comes of the same id on this lane any more.
            answer.verdict.retryable = false;
            answer.verdict.retry_after = None;
        }
        if answer.repeat {
            self.tell_again(kept, trail, answer.verdict.clone()).await;
        } else if let Err(error) = self.tell(kept, trail, &answer, stage).await {
            tracing::warn!(%error, "a verdict could not be stored; the message is governed again");
            return again;
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
        let letter = trail.decoded(wire::decode(&request.payload, request.stamp(), &self.limits.wire))?;
        trail.passed(Stage::Decode);
        if letter.message.id != kept.key.message {
            trail.about(&kept.key.message);
            return Err(Rejection::new(Reason::Malformed, "kept under another id than its own"));
        }
        // An earlier attempt may have come as far as an effect.
        if (kept.attempt > 1 || kept.redriven > 0)
            && let Some(outcome) = self.earlier(&kept.key, &letter, told(kept), trail).await?
        {
            return self.parked_durably(outcome, &letter, &tenant, trail).await;
        }
        let patience = match kept.attempt {
            ATTEMPTS_MAX.. => Patience::LastOfLane,
            _ => Patience::Lane,
        };
        let judged = self.judge(&letter, &tenant, trail, patience).await?;
        let unless = match kept.redriven {
            0 => Unless::Decided,
            _ => Unless::Delivered,
        };
        match &judged.way {
            Way::Parked(why) => {
                let (judged, letter, tenant) = (&judged, &letter, &*tenant);
                let parking = Parking { judged, why, letter, tenant, request };
                let parked = park::park(&*self.deliberations, parking, trail).await?;
                self.parked_durably(parked, letter, tenant, trail).await
            }
            Way::Durable | Way::Live => self.store(judged, &letter, request, trail, unless).await,
        }
    }

    async fn parked_durably(
        &self,
        outcome: Outcome,
        letter: &Decoded,
        tenant: &Tenant,
        trail: &Trail,
    ) -> Result<Outcome, Rejection> {
        match outcome {
            Outcome::Parked(id, why) => once::remember(self, letter, tenant, (id, why), trail).await,
            other => Ok(other),
        }
    }

    /// What an earlier attempt has come to, as far as it is to be seen.
    ///
    /// Also for the fast lane: the holder of a claim that was taken over may have stored or parked it.
    pub(super) async fn earlier(
        &self,
        key: &MessageKey,
        letter: &Decoded,
        told: Told,
        trail: &mut Trail,
    ) -> Result<Option<Outcome>, Rejection> {
        if let Some(evidence) = self.lane.evidence(key).await.map_err(unavailable)? {
            same_content(&evidence, letter)?;
            trail.stored(evidence.last);
            trail.goes_on(evidence.decision_id.as_deref());
            if let Some(outcome) = from_evidence(evidence, letter, told) {
                return Ok(Some(outcome));
            }
        }
        let id = deliberation::id_of(key);
        let case = self.deliberations.load(&key.tenant, &id).await.map_err(park::unavailable)?;
        let Some(case) = case else { return Ok(None) };
        if case.parked.digest != hex::encode(letter.digest) {
            return Err(used_before(&key.message));
        }
        let left = case.parked.deadline.0.saturating_sub(trail.now().0);
        once::keep_for(trail, Duration::from_millis(left));
        Ok(Some(Outcome::Parked(case.parked.id, "it was parked: its reviewers decide".to_owned())))
    }

    /// Into durable inboxes, each by its own permit.
    pub(super) async fn store(
        &self,
        judged: Judged,
        letter: &Decoded,
        request: &Request,
        trail: &mut Trail,
        unless: Unless,
    ) -> Result<Outcome, Rejection> {
        let (shipment, reach) = self.packed(judged, letter, request, trail, unless)?;
        self.ship(shipment, reach, letter, trail).await
    }

    /// The same for who waits for the verdict: nothing governs its message again if this node dies, so the
    /// record goes ahead.
    pub(super) async fn store_recorded(
        &self,
        judged: Judged,
        letter: &Decoded,
        request: &Request,
        trail: &mut Trail,
    ) -> Result<Outcome, Rejection> {
        let (shipment, reach) = self.packed(judged, letter, request, trail, Unless::Decided)?;
        let recipients: Vec<AgentId> =
            shipment.parcels.iter().map(|parcel| parcel.permit.recipient().clone()).collect();
        let (place, record) = trail.intent_to_store(letter, request, &reach, &recipients);
        self.lane.record(place, record).await.map_err(|error| {
            tracing::warn!(%error, "a decision could not be recorded");
            Rejection::new(
                Reason::AuditUnavailable,
                "the decision cannot be recorded at the moment, so nothing was delivered",
            )
            .after(Duration::from_millis(500))
        })?;
        let stored = self.ship(shipment, reach, letter, trail).await?;
        if let Outcome::Repeat(stands) = &stored {
            // Repeats are not recorded, and this one takes the intent back.
            trail.record(request, stands, &*self.courier, &self.metrics);
        }
        Ok(stored)
    }

    fn packed(
        &self,
        judged: Judged,
        letter: &Decoded,
        request: &Request,
        trail: &Trail,
        unless: Unless,
    ) -> Result<(Shipment, Reach), Rejection> {
        let to_each = judged.manner == Manner::EachOfThem;
        let (parcels, reach) = deliver::pack(judged, letter, self.lane.payload_max())?;
        let shipment = Shipment {
            key: trail.message_key(letter),
            decision_id: trail.decision_id().to_owned(),
            parcels,
            to_each,
            traceparent: trail::traceparent(request.traceparent.as_deref()),
            unless,
            after: trail.stored_last(),
            not_after: trail.deadline(),
        };
        Ok((shipment, reach))
    }

    async fn ship(
        &self,
        shipment: Shipment,
        reach: Reach,
        letter: &Decoded,
        trail: &mut Trail,
    ) -> Result<Outcome, Rejection> {
        let unless = shipment.unless;
        let stored = self.lane.store(shipment).await.map_err(unavailable)?;
        trail.passed(Stage::Deliver);
        match stored {
            Stored::Now { last } => {
                trail.stored(last);
                Ok(Outcome::Delivered(reach))
            }
            Stored::Before(evidence) => {
                same_content(&evidence, letter)?;
                trail.stored(evidence.last);
                trail.goes_on(evidence.decision_id.as_deref());
                let told = match unless {
                    Unless::Decided => Told::Before,
                    Unless::Delivered => Told::Anew,
                };
                from_evidence(*evidence, letter, told)
                    .ok_or_else(|| unavailable(LaneError::Unreadable("what is stored for it".to_owned())))
            }
        }
    }

    /// The record first: an outcome that stands ends the message, and no later attempt would record it.
    async fn tell(
        &self,
        kept: &Kept,
        trail: &Trail,
        answer: &Answer,
        stage: OutcomeStage,
    ) -> Result<(), LaneError> {
        let (place, record) = trail.recorded(&kept.request, &answer.verdict);
        self.lane.record(place, record).await?;
        let noted = self.lane.outcome(notice(kept, trail, answer, stage)).await?;
        if noted == Noted::Now || stage != OutcomeStage::Governed {
            return Ok(());
        }
        let recipients = match self.lane.evidence(&kept.key).await? {
            // A broadcast of which a part was stored before, and now the rest is not let through: what its
            // recipients have is what its sender is told.
            Some(Evidence { recipients, verdict: None, .. }) => recipients,
            Some(Evidence { verdict: Some(stands), digest, .. }) => {
                let another = digest.zip(trail.digest()).is_some_and(|(theirs, ours)| theirs != ours);
                let verdict = match answer.verdict.reason {
                    Reason::DuplicateMessage => answer.verdict.clone(),
                    _ if another => trail.answer(Err(used_before(&kept.key.message))).verdict,
                    _ => stands,
                };
                self.tell_again(kept, trail, verdict).await;
                return Ok(());
            }
            // It has become too old in this instant.
            None => return Ok(()),
        };
        let delivered = u32::try_from(recipients.len()).unwrap_or(u32::MAX);
        let reach = Reach { delivered, ..Reach::default() };
        let answer = trail.answer(Ok(Outcome::Delivered(reach)));
        self.lane.outcome(notice(kept, trail, &answer, OutcomeStage::Delivered)).await?;
        Ok(())
    }

    /// For who submitted a message again after JetStream had forgotten the first time: what stands already.
    ///
    /// Once, if it can be: the outcome that stands is in its durable inbox in any case.
    async fn tell_again(&self, kept: &Kept, trail: &Trail, verdict: Verdict) {
        // In a later attempt, or when another node may have had it meanwhile, that may be its own.
        if kept.attempt > 1 || kept.redriven > 0 || trail.elapsed() >= ATTEMPT_WITHIN {
            tracing::debug!(decision_id = trail.decision_id(), "another verdict stands for this message");
            return;
        }
        let stands = match verdict.reason {
            Reason::DuplicateMessage => Ok(verdict),
            _ => self.stands(&kept.key, verdict).await,
        };
        let telling = async {
            let verdict = Verdict { retryable: false, retry_after: None, ..stands? };
            let stage = OutcomeStage::Repeated(rand::rng().random());
            let answer = Answer { verdict, encoding: trail.encoding(), repeat: true };
            self.lane.outcome(Notice { digest: None, ..notice(kept, trail, &answer, stage) }).await
        };
        if let Err(error) = telling.await {
            tracing::warn!(%error, "a sender was not told again what stands for its message");
        }
    }

    /// The last word on a message with this outcome: it may have been delivered since, for its reviewers
    /// have approved it or a person has redriven it.
    async fn stands(&self, key: &MessageKey, verdict: Verdict) -> Result<Verdict, LaneError> {
        if verdict.status == Status::Delivered {
            return Ok(verdict);
        }
        let Some(Evidence { recipients, decision_id, .. }) = self.lane.evidence(key).await? else {
            return Ok(verdict);
        };
        let reach = match recipients.as_slice() {
            [] => return Ok(verdict),
            [agent] => Reach { delivered: 1, agent: Some(agent.clone()), ..Reach::default() },
            many => Reach { delivered: u32::try_from(many.len()).unwrap_or(u32::MAX), ..Reach::default() },
        };
        Ok(Verdict {
            status: Status::Delivered,
            reason: Reason::Delivered,
            detail: format!("delivered after it had been {}", verdict.reason.as_str()),
            retryable: false,
            retry_after: None,
            decision_id: decision_id.unwrap_or(verdict.decision_id),
            reach: Some(reach),
            ..verdict
        })
    }
}

fn notice(kept: &Kept, trail: &Trail, answer: &Answer, stage: OutcomeStage) -> Notice {
    Notice {
        tenant: kept.key.tenant.clone(),
        to: kept.key.sender.clone(),
        sender: kept.key.sender.clone(),
        message: kept.key.message.clone(),
        stage,
        after: trail.stored_last(),
        not_after: kept.request.received + TOLD_WITHIN,
        digest: trail.digest(),
        verdict: answer.verdict.clone(),
        encoding: answer.encoding,
    }
}

/// Whether nothing but time stands between the message and a verdict.
pub(super) fn because(reason: Reason) -> Because {
    let own = matches!(
        reason,
        Reason::RecipientUnknown
            | Reason::RecipientOffline
            | Reason::NoCapableAgent
            | Reason::NotRegistered
            | Reason::SenderUnknown
            | Reason::PolicyFailed
            | Reason::Unscored
            | Reason::TooManyParked
            | Reason::TimedOut
    );
    if own { Because::Message } else { Because::Bus }
}

/// Only what could be read is kept, so these bytes are not what their sender has submitted.
fn never_kept(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Malformed
            | Reason::TooDeep
            | Reason::TooManyValues
            | Reason::DuplicateKey
            | Reason::TrailingBytes
            | Reason::NotFinite
            | Reason::UnknownField
            | Reason::MissingField
            | Reason::UnsupportedSchema
            | Reason::BadIdentifier
            | Reason::TenantMismatch
            | Reason::SenderMismatch
    )
}

/// The id may have been used for another content, long enough ago that JetStream has forgotten.
pub(super) fn same_content(evidence: &Evidence, letter: &Decoded) -> Result<(), Rejection> {
    match evidence.digest {
        Some(digest) if digest != letter.digest => Err(used_before(&letter.message.id)),
        _ => Ok(()),
    }
}

fn used_before(id: &MessageId) -> Rejection {
    Rejection::new(Reason::DuplicateMessage, format!("message_id {id} was used before for another message"))
}

/// Whether a verdict that is stored is the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It is: repeats get it.
    Before,
    /// Another is due: reviewers have decided since, or a person wants the message tried anew.
    Anew,
}

fn told(kept: &Kept) -> Told {
    if kept.redriven > 0 { Told::Anew } else { Told::Before }
}

/// What is stored for a message, as an outcome. `None`: govern on, there is more to do.
pub(super) fn from_evidence(evidence: Evidence, letter: &Decoded, told: Told) -> Option<Outcome> {
    let broadcast = matches!(letter.message.to, Recipient::Broadcast(_));
    match (evidence.verdict, evidence.recipients.first()) {
        (Some(verdict), _) if told == Told::Before => Some(Outcome::Repeat(Box::new(verdict))),
        // A broadcast that was stored for some: the others are to come, and none gets it twice.
        (_, Some(_)) if broadcast => None,
        (_, Some(agent)) => {
            Some(Outcome::Delivered(Reach { delivered: 1, agent: Some(agent.clone()), ..Reach::default() }))
        }
        (_, None) => None,
    }
}

/// What can still be done, to be added to the reason.
fn after_giving_up(attempts: u64, put_aside: bool) -> String {
    let again = "submit it under a new message_id if it still matters";
    match put_aside {
        true => format!("; given up after {attempts} attempts: the operator can redrive it, or {again}"),
        false => {
            format!("; given up after {attempts} attempts, and there was no room to put it aside: {again}")
        }
    }
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

fn overdue(attempt: u64) -> Rejection {
    let within = ATTEMPT_WITHIN.as_secs();
    Rejection::new(Reason::TimedOut, format!("not governed within {within} s, at attempt {attempt}"))
}

/// Ever longer: what hinders a message mostly passes at once, or when its recipient has been started anew.
/// A tenth less or more.
fn pause(attempt: u64, give_up_after: Duration) -> Duration {
    let index = usize::try_from(attempt.max(1) - 1).unwrap_or(usize::MAX);
    let wait = match WAITS.get(index) {
        Some(part) => give_up_after * *part / WAITS.iter().sum::<u32>(),
        // Only what is excused comes as far.
        None => (give_up_after / 4).min(BACKOFF_MAX),
    };
    wait.mul_f64(rand::rng().random_range(0.9..1.1))
}

/// While the bus is in trouble: 0.5 s doubling to 20 s, and up to half as long again.
fn backoff(attempt: u64) -> Duration {
    let exponent = u32::try_from(attempt.clamp(1, 7) - 1).unwrap_or(0);
    let wait = (Duration::from_millis(500) * 2_u32.pow(exponent)).min(BACKOFF_MAX.mul_f64(2.0 / 3.0));
    wait + wait.mul_f64(rand::rng().random_range(0.0..0.5))
}

pub(super) fn unavailable(error: LaneError) -> Rejection {
    tracing::warn!(%error, "durable lane");
    match error {
        LaneError::Full(_) => Rejection::new(
            Reason::StoreFull,
            "the tenant's store of the durable lane is full; it empties as it ages",
        )
        .after(Duration::from_secs(5)),
        LaneError::TooLate => {
            Rejection::new(Reason::TimedOut, "it took too long, so it was not stored; it is tried again")
                .after(Duration::from_millis(500))
        }
        LaneError::Unconfirmed | LaneError::Refused(_) | LaneError::Unreadable(_) => {
            Rejection::new(Reason::LaneUnavailable, "the durable lane does not answer at the moment")
                .after(Duration::from_secs(1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is the bus's own is tried without end and slows its tenant, so a new reason has to be on this
    /// list to be among it.
    #[test]
    fn a_reason_is_the_buss_own_only_where_any_message_would_fail() {
        let bus = [
            Reason::PolicyUnavailable,
            Reason::DeliberationUnavailable,
            Reason::RegistryUnavailable,
            Reason::QuotaExceeded,
            Reason::IdempotencyUnavailable,
            Reason::DeliveryFailed,
            Reason::LaneUnavailable,
            Reason::StoreFull,
            Reason::AuditUnavailable,
            Reason::TenantUnknown,
            Reason::RateLimited,
            Reason::Overloaded,
        ];
        for &reason in Reason::ALL.iter().filter(|reason| reason.retryable()) {
            assert_eq!(because(reason) == Because::Bus, bus.contains(&reason), "{}", reason.as_str());
        }
    }

    #[test]
    fn the_attempts_take_as_long_as_a_message_may_take_to_be_given_up() {
        for give_up_after in [9, 120, 600].map(Duration::from_secs) {
            let pauses: Vec<_> = (1..ATTEMPTS_MAX).map(|attempt| pause(attempt, give_up_after)).collect();
            let all: Duration = pauses.iter().sum();
            assert!((give_up_after.mul_f64(0.9)..=give_up_after.mul_f64(1.1)).contains(&all), "{pauses:?}");
            assert!(pauses.is_sorted(), "{pauses:?}");
            // What is not given up in its last attempt, for it is excused, comes again soon.
            assert!(pause(ATTEMPTS_MAX, give_up_after) <= BACKOFF_MAX.mul_f64(1.1));
        }
    }
}
