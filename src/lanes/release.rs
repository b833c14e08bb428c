//! What a decision of the reviewers comes to: the message gets a new permit and is stored, or its sender
//! learns why not.

use std::time::{Duration, Instant};

use super::{
    attempt::Attempt,
    durable::{Notice, OutcomePolicy, OutcomeStage},
    earlier::{from_evidence, same_content},
    errors::of_lane,
    findings::Outcome,
    measured,
    notify::NOTIFIED_WITHIN,
    parts::Lanes,
    request::Request,
    trace::Source,
};
use crate::{
    deliberation::{Case, Decision},
    domain::{AgentId, Approval, Event, Judgement, Parked, Reach, Reason, Verdict},
    governance::Purpose,
    overload::Place,
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

/// What is known of a release besides how it ended.
#[derive(Default)]
struct Progress {
    /// The decision that an earlier attempt has delivered it by.
    decision_id: Option<String>,
    /// Who of a broadcast has it already.
    reached: usize,
}

impl Lanes {
    /// Acts on a decision. The event that concludes the deliberation, or why it must be tried again.
    /// Doing it twice does nothing twice. `tries` counts from 1.
    ///
    /// What is the message's own and stood in the way for [`RELEASES_MAX`] attempts becomes the outcome.
    /// What is the bus's own is waited for, and so is what may have been stored: nobody is told that a
    /// message is in no inbox before that is known.
    pub async fn release(&self, case: &Case, tries: u64) -> Result<Event, Rejection> {
        let parked = &case.parked;
        let request = request_of(parked);
        let mut attempt = Attempt::begin(self, &request, WITHIN);
        // What is denied is never decoded, and its record belongs to the message all the same.
        attempt.findings.message_id = Some(parked.message_id.clone());
        let mut progress = Progress::default();
        let released = attempt.envelope().run(attempt.release(case, &mut progress)).await;
        if let Err(rejection) = &released
            && rejection.reason.retryable()
            && (self.grace.excuses(&parked.tenant, rejection.reason) || tries < RELEASES_MAX)
        {
            let rejection = rejection.clone();
            attempt.ended_by(Source::Deliberation, &released);
            return Err(rejection);
        }
        let verdict = attempt.verdict_on(parked, released, progress);
        let announced = attempt.announce(case, &verdict).await;
        attempt.end_trace(Source::Deliberation, (verdict.status, verdict.reason));
        announced?;
        attempt.stop_sender();
        if let Some(reach) = &verdict.reach {
            self.metrics.delivered(reach.delivered, reach.missed_total);
            let used = measured::delivered(request.payload.len(), reach);
            self.usage.count(&parked.tenant, &parked.sender, attempt.now(), used);
        }
        Ok(Event::Concluded {
            at: attempt.now(),
            reason: verdict.reason.as_str().to_owned(),
            decision_id: verdict.decision_id,
            detail: verdict.detail,
        })
    }
}

impl Attempt<'_> {
    async fn release(&mut self, case: &Case, progress: &mut Progress) -> Result<Outcome, Rejection> {
        let parked = &case.parked;
        let Some(decision) = &case.decision else {
            return Err(Rejection::new(Reason::DeliberationUnavailable, "it is not decided yet"));
        };
        // What was told stands, also if the attempt that has told it came no further.
        let (key, lane) = (key_of(parked), &self.lanes.lane);
        if let Some(told) = lane.judged(&key).await.map_err(of_lane)? {
            return Ok(Outcome::Repeat(Box::new(told)));
        }
        let approval = approved(case, decision)?;
        self.go_on(&parked.why).await;
        let limits = wire::Limits { request_bytes: PARKED_BYTES_MAX, ..self.lanes.limits.wire.clone() };
        let read = self.read(limits).await?;
        if hex::encode(read.digest) != parked.digest {
            let detail = "the parked message is not what was voted on";
            return Err(Rejection::new(Reason::DigestMismatch, detail));
        }
        // Before the checks of now: what has been stored was let through when it was stored.
        if let Some(found) = lane.evidence(&key).await.map_err(of_lane)? {
            same_content(&found, &read)?;
            self.stored_last = found.last;
            progress.decision_id.clone_from(&found.decision_id);
            progress.reached = found.recipients.len();
            if let Some(outcome) = from_evidence(found, &read, OutcomePolicy::Renewed) {
                return Ok(outcome);
            }
        }
        let decoded = self.admit_unrated()?.decoded(read)?;
        let plan = self.judge(&decoded, Purpose::approved(&approval)).await?;
        self.commit(&decoded, plan).await
    }

    fn verdict_on(
        &self,
        parked: &Parked,
        released: Result<Outcome, Rejection>,
        progress: Progress,
    ) -> Verdict {
        let released = match released {
            // What its recipients have is what its sender is told.
            Err(rejection) if progress.reached > 0 => {
                tracing::debug!(%rejection, "a broadcast was stored in part, and the rest is refused");
                let delivered = u32::try_from(progress.reached).unwrap_or(u32::MAX);
                Ok(Outcome::Delivered(Reach { delivered, durable: true, ..Reach::default() }))
            }
            released => released,
        };
        let answer = self.answer(released);
        match answer.repeat {
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
        }
    }

    /// The sender and everybody who voted learn of it, then the record is kept. That comes last, since what
    /// fails here is tried again, and a verdict has one record.
    async fn announce(&self, case: &Case, verdict: &Verdict) -> Result<(), Rejection> {
        let parked = &case.parked;
        let voters = case.votes.iter().map(|vote| &vote.voter);
        for to in std::iter::once(&parked.sender).chain(voters) {
            self.lanes.lane.outcome(self.notice_to(parked, to, verdict)).await.map_err(of_lane)?;
        }
        self.lanes.lane.record(self.recorded(verdict)).await.map_err(of_lane)
    }

    fn notice_to(&self, parked: &Parked, to: &AgentId, verdict: &Verdict) -> Notice {
        Notice {
            key: key_of(parked),
            to: to.clone(),
            stage: OutcomeStage::Judged,
            after: 0,
            not_after: self.at.received + NOTIFIED_WITHIN,
            digest: None,
            verdict: verdict.clone(),
            encoding: self.lanes.inbox_encoding(&parked.tenant, to),
        }
    }
}

/// What the reviewers have approved, or the rejection that their decision is.
fn approved(case: &Case, decision: &Decision) -> Result<Approval, Rejection> {
    match (decision.judgement, case.approval()) {
        (Judgement::Approved, Some(approval)) => Ok(approval),
        (Judgement::Expired, _) => Err(Rejection::new(Reason::DeliberationExpired, decision.detail.clone())),
        (Judgement::Denied | Judgement::Approved, _) => {
            Err(Rejection::new(Reason::DeliberationDenied, decision.detail.clone()))
        }
    }
}

fn request_of(parked: &Parked) -> Request {
    Request {
        tenant: parked.tenant.clone(),
        sender: parked.sender.clone(),
        payload: parked.message.clone().into(),
        traceparent: parked.traceparent.clone(),
        received: Instant::now(),
        place: Place::default(),
    }
}

fn key_of(parked: &Parked) -> MessageKey {
    MessageKey {
        tenant: parked.tenant.clone(),
        sender: parked.sender.clone(),
        message: parked.message_id.clone(),
    }
}
