//! What a decision of the reviewers comes to: the message gets a new permit and is stored, or its sender
//! learns why not.

use std::time::{Duration, Instant};

use moka::sync::Cache;
use tracing::Instrument as _;

use super::{
    Because, Notice, OutcomeStage, Pipeline, Request, Unless, attempts,
    stored::{self, Told},
    tell,
    trail::{self, Outcome, Trail},
};
use crate::{
    deliberation::Case,
    domain::{AgentId, Event, Judgement, Parked, Reach, Reason, TenantId, Verdict},
    governance::{Effect, Purpose, RetryMode},
    rejection::Rejection,
    state::MessageKey,
    wire,
};

/// Times that a decision is tried to be carried out before what stands in its way becomes the outcome.
pub const RELEASES_MAX: u64 = 10;

/// A parked message as JSON can be longer than the request that brought it.
const PARKED_BYTES_MAX: usize = 1024 * 1024;

/// For one attempt to carry it out. With what is told of it, less than the 30 s after which JetStream gives
/// the decision to another node.
const WITHIN: Duration = Duration::from_secs(10);

/// After the bus was ill, what is the message's own is not held against it for this long: agents that the
/// registry has lost come back, and two attempts are at most 90 s apart.
const EXCUSED_FOR: Duration = Duration::from_secs(180);
const TENANTS_EXCUSED_MAX: u64 = 65_536;

/// Tenants for whose messages the bus itself was the hindrance a short while ago.
pub struct Hindered(Cache<TenantId, ()>);

impl Default for Hindered {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(TENANTS_EXCUSED_MAX).time_to_live(EXCUSED_FOR).build())
    }
}

/// What is known of a release besides how it ended.
#[derive(Default)]
struct Progress {
    /// The decision that an earlier attempt has delivered it by.
    decision_id: Option<String>,
    /// Who of a broadcast has it already.
    reached: usize,
}

impl Pipeline {
    /// Acts on a decision. The event that concludes the deliberation, or why it must be tried again.
    /// Doing it twice does nothing twice. `attempt` counts from 1.
    ///
    /// What is the message's own and stood in the way for [`RELEASES_MAX`] attempts becomes the outcome.
    /// What is the bus's own is waited for, and so is what may have been stored: nobody is told that a
    /// message is in no inbox before that is known.
    pub async fn release(&self, case: &Case, attempt: u64) -> Result<Event, Rejection> {
        let parked = &case.parked;
        let request = Request {
            tenant: parked.tenant.clone(),
            sender: parked.sender.clone(),
            payload: parked.message.clone().into(),
            traceparent: parked.traceparent.clone(),
            received: Instant::now(),
        };
        let mut trail = Trail::start(&self.node, &request, WITHIN, (self.clock)());
        // What is denied is never decoded, and its record belongs to the message all the same.
        trail.about(&parked.message_id);
        let span = trail.span(&request.tenant);
        let mut progress = Progress::default();
        let releasing = self.carry_out(case, &request, &mut trail, &mut progress).instrument(span);
        let released = match tokio::time::timeout(WITHIN, releasing).await {
            Ok(released) => released,
            Err(_) => Err(trail::timed_out(WITHIN)),
        };
        if let Err(rejection) = &released
            && rejection.reason.retryable()
            && (self.hinders(&parked.tenant, rejection.reason) || attempt < RELEASES_MAX)
        {
            return Err(rejection.clone());
        }
        let released = match released {
            // What its recipients have is what its sender is told.
            Err(rejection) if progress.reached > 0 => {
                tracing::debug!(%rejection, "a broadcast was stored in part, and the rest is refused");
                let delivered = u32::try_from(progress.reached).unwrap_or(u32::MAX);
                Ok(Outcome::Delivered(Reach { delivered, durable: true, ..Reach::default() }))
            }
            released => released,
        };
        let answer = trail.answer(released);
        let verdict = match answer.repeat {
            true => answer.verdict,
            false => Verdict {
                message_id: Some(parked.message_id.clone()),
                deliberation_id: Some(parked.id.clone()),
                impact: parked.impact.clone(),
                retryable: false,
                retry_after: None,
                decision_id: progress.decision_id.unwrap_or(answer.verdict.decision_id),
                ..answer.verdict
            },
        };
        self.announce(case, &request, &trail, &verdict).await?;
        if let Some(reach) = &verdict.reach {
            self.metrics.delivered(reach.delivered, reach.missed_total);
        }
        Ok(Event::Concluded {
            at: trail.now(),
            reason: verdict.reason.as_str().to_owned(),
            decision_id: verdict.decision_id,
            detail: verdict.detail,
        })
    }

    /// Whether this is the bus's own trouble, or that was a short while ago. A release has time enough: what
    /// it does not suffice for is the bus's.
    fn hinders(&self, tenant: &TenantId, reason: Reason) -> bool {
        if reason == Reason::TimedOut || attempts::because(reason) == Because::Bus {
            self.hindered.0.insert(tenant.clone(), ());
            return true;
        }
        self.hindered.0.contains_key(tenant)
    }

    async fn carry_out(
        &self,
        case: &Case,
        request: &Request,
        trail: &mut Trail,
        progress: &mut Progress,
    ) -> Result<Outcome, Rejection> {
        let parked = &case.parked;
        let Some(decision) = &case.decision else {
            return Err(Rejection::new(Reason::DeliberationUnavailable, "it is not decided yet"));
        };
        // What was told stands, also if the attempt that has told it came no further.
        let key = key_of(parked);
        if let Some(told) = self.lane.judged(&key).await.map_err(stored::unavailable)? {
            return Ok(Outcome::Repeat(Box::new(told)));
        }
        let approval = match (decision.judgement, case.approval()) {
            (Judgement::Approved, Some(approval)) => approval,
            (Judgement::Expired, _) => {
                return Err(Rejection::new(Reason::DeliberationExpired, decision.detail.clone()));
            }
            (Judgement::Denied | Judgement::Approved, _) => {
                return Err(Rejection::new(Reason::DeliberationDenied, decision.detail.clone()));
            }
        };
        let limits = wire::Limits { request_bytes: PARKED_BYTES_MAX, ..self.limits.wire.clone() };
        let letter = self.read(request, trail, &limits).await?;
        if hex::encode(letter.digest) != parked.digest {
            return Err(Rejection::new(
                Reason::DigestMismatch,
                "the parked message is not what was voted on",
            ));
        }
        // Before the checks of now: what has been stored was let through when it was stored.
        if let Some(found) = self.lane.evidence(&key).await.map_err(stored::unavailable)? {
            stored::same_content(&found, &letter)?;
            trail.stored(found.last);
            progress.decision_id.clone_from(&found.decision_id);
            progress.reached = found.recipients.len();
            if let Some(outcome) = stored::from_evidence(found, &letter, Told::Anew) {
                return Ok(outcome);
            }
        }
        let (tenant, slot) =
            self.admission.admit_unrated(&*self.tenants, &request.tenant, &request.sender)?;
        trail.hold(slot);
        let decoded = tenant.decoded(letter)?;
        let purpose = Purpose { mode: RetryMode::Lane, approval: Some(&approval) };
        match self.judge(&decoded, trail, purpose).await?.effect {
            Effect::Store(to) | Effect::Deliver(to) => {
                self.store(to, decoded.letter(), request, trail, Unless::Delivered).await
            }
            Effect::Park(_) => Err(Rejection::new(Reason::DeliberationUnavailable, "it is decided already")),
        }
    }

    /// The sender and everybody who voted learn of it, then the record is kept. That comes last, since what
    /// fails here is tried again, and a verdict has one record.
    async fn announce(
        &self,
        case: &Case,
        request: &Request,
        trail: &Trail,
        verdict: &Verdict,
    ) -> Result<(), Rejection> {
        let parked = &case.parked;
        let voters = case.votes.iter().map(|vote| &vote.voter);
        for to in std::iter::once(&parked.sender).chain(voters) {
            let notice = self.notice(case, to, verdict, request.received);
            self.lane.outcome(notice).await.map_err(stored::unavailable)?;
        }
        let (place, record) = trail.recorded(request, verdict);
        self.lane.record(place, record).await.map_err(stored::unavailable)
    }

    fn notice(&self, case: &Case, to: &AgentId, verdict: &Verdict, begun: Instant) -> Notice {
        Notice {
            key: key_of(&case.parked),
            to: to.clone(),
            stage: OutcomeStage::Judged,
            after: 0,
            not_after: begun + tell::TOLD_WITHIN,
            digest: None,
            verdict: verdict.clone(),
            encoding: self.inbox_encoding(&case.parked.tenant, to),
        }
    }
}

fn key_of(parked: &Parked) -> MessageKey {
    MessageKey {
        tenant: parked.tenant.clone(),
        sender: parked.sender.clone(),
        message: parked.message_id.clone(),
    }
}
