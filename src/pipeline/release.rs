//! What a decision of the reviewers comes to: the message gets a new permit and is stored, or its sender
//! learns why not.

use std::time::Instant;

use tracing::Instrument as _;

use super::{
    Notice, OutcomeStage, Pipeline, Request, Unless, keep,
    keep::Told,
    recipients,
    trail::{self, Outcome, Trail},
};
use crate::{
    deliberation::Case,
    domain::{AgentId, Approval, Encoding, Event, Judgement, Reason, Verdict},
    rejection::Rejection,
    wire,
};

/// Times that a decision is tried to be carried out before what stands in its way becomes the outcome.
pub const RELEASES_MAX: u64 = 10;

/// A parked message as JSON can be longer than the request that brought it.
const PARKED_BYTES_MAX: usize = 1024 * 1024;

/// What is known of a release besides how it ended.
#[derive(Default)]
struct Effect {
    /// The message may be in an inbox, whatever the attempt says.
    uncertain: bool,
    /// The decision that an earlier attempt has delivered it by.
    decision_id: Option<String>,
}

impl Pipeline {
    /// Acts on a decision. The event that concludes the deliberation, or why it must be tried again.
    /// Doing it twice does nothing twice. `attempt` counts from 1.
    ///
    /// What stood in the way for [`RELEASES_MAX`] attempts becomes the outcome, unless the message may
    /// be in an inbox all the same: nobody is told that it is not before that is known.
    pub async fn release(&self, case: &Case, attempt: u64) -> Result<Event, Rejection> {
        let parked = &case.parked;
        let request = Request {
            tenant: parked.tenant.clone(),
            sender: parked.sender.clone(),
            payload: parked.message.clone().into(),
            traceparent: parked.traceparent.clone(),
            received: Instant::now(),
        };
        let mut trail = Trail::start(&self.node, &request, self.limits.deadline, (self.clock)());
        // What is denied is never decoded, and its record belongs to the message all the same.
        trail.about(&parked.message_id);
        let span = tracing::info_span!(
            "message",
            decision_id = trail.decision_id(),
            tenant = request.tenant.as_str()
        );
        let mut effect = Effect::default();
        let releasing = self.carry_out(case, &request, &mut trail, &mut effect).instrument(span);
        let released = match tokio::time::timeout(self.limits.deadline, releasing).await {
            Ok(released) => released,
            Err(_) => Err(trail::timed_out(self.limits.deadline)),
        };
        if let Err(rejection) = &released
            && rejection.reason.retryable()
            && (attempt < RELEASES_MAX || effect.uncertain)
        {
            return Err(rejection.clone());
        }
        let verdict = Verdict {
            message_id: Some(parked.message_id.clone()),
            deliberation_id: Some(parked.id.clone()),
            impact: parked.impact.clone(),
            retryable: false,
            retry_after: None,
            ..trail.answer(released).verdict
        };
        let verdict = match effect.decision_id {
            Some(decision_id) => Verdict { decision_id, ..verdict },
            None => verdict,
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

    async fn carry_out(
        &self,
        case: &Case,
        request: &Request,
        trail: &mut Trail,
        effect: &mut Effect,
    ) -> Result<Outcome, Rejection> {
        let parked = &case.parked;
        let Some(decision) = &case.decision else {
            return Err(Rejection::new(Reason::DeliberationUnavailable, "it is not decided yet"));
        };
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
        let letter = trail.decoded(wire::decode(&request.payload, request.stamp(), &limits))?;
        if hex::encode(letter.digest) != parked.digest {
            return Err(Rejection::new(
                Reason::DigestMismatch,
                "the parked message is not what was voted on",
            ));
        }
        // Before the checks of now: what has been stored was let through when it was stored, and what
        // cannot be looked up may have been.
        effect.uncertain = true;
        let evidence = self.lane.evidence(&trail.message_key(&letter)).await.map_err(keep::unavailable)?;
        if let Some(found) = evidence {
            trail.stored(found.last);
            let (decision_id, reached) = (found.decision_id.clone(), !found.recipients.is_empty());
            if let Some(outcome) = keep::from_evidence(found, &letter, Told::Anew) {
                effect.decision_id = decision_id;
                return Ok(outcome);
            }
            // A broadcast that some have got already.
            effect.uncertain = reached;
        } else {
            effect.uncertain = false;
        }
        let (tenant, slot) =
            self.admission.admit_unrated(&*self.tenants, &request.tenant, &request.sender)?;
        trail.hold(slot);
        self.check(&letter, &tenant, trail)?;
        let candidates =
            recipients::find(&*self.registry, &self.rotation, &tenant, &letter.message, true).await?;
        let judged = recipients::permit(&self.gate, &letter, &tenant, candidates, Some(&approval)).await?;
        trail.permitted(&judged);
        let demanded = judged.permits.iter().filter_map(|permit| permit.obligations().min_approvals).max();
        enough(demanded, &approval)?;
        effect.uncertain = true;
        self.store(judged, &letter, request, trail, Unless::Delivered).await
    }

    /// The sender and everybody who voted learn of it; the record is kept.
    async fn announce(
        &self,
        case: &Case,
        request: &Request,
        trail: &Trail,
        verdict: &Verdict,
    ) -> Result<(), Rejection> {
        let parked = &case.parked;
        let (place, record) = trail.recorded(request, verdict);
        self.lane.record(place, record).await.map_err(keep::unavailable)?;
        let voters = case.votes.iter().map(|vote| &vote.voter);
        for to in std::iter::once(&parked.sender).chain(voters) {
            let notice = self.notice(case, to, verdict);
            self.lane.outcome(notice).await.map_err(keep::unavailable)?;
        }
        Ok(())
    }

    fn notice(&self, case: &Case, to: &AgentId, verdict: &Verdict) -> Notice {
        let parked = &case.parked;
        Notice {
            tenant: parked.tenant.clone(),
            to: to.clone(),
            sender: parked.sender.clone(),
            message: parked.message_id.clone(),
            stage: OutcomeStage::Judged,
            after: 0,
            digest: None,
            verdict: verdict.clone(),
            encoding: Encoding::Json,
        }
    }
}

/// The policy may have come to demand more than it did when the message was parked.
fn enough(demanded: Option<u32>, approval: &Approval) -> Result<(), Rejection> {
    let given = approval.approvals.len();
    match demanded {
        Some(demanded) if usize::try_from(demanded).is_ok_and(|demanded| demanded > given) => {
            Err(Rejection::new(
                Reason::PolicyDenied,
                format!("approved by {given}, and the policy demands {demanded} approvals by now"),
            ))
        }
        _ => Ok(()),
    }
}
