//! The reviewers' verbs: what waits for me, and my vote on it.
//!
//! A vote is a pure step over the log that was read; whoever comes second with the same log reads it
//! again. Only voters, stand-ins and the sender learn that a deliberation is there.

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use rand::Rng as _;
use tokio::time::Instant;

use super::{answered, parked, single_flight::SingleFlight};
use crate::{
    audit::{Body, Place, Record, Vote},
    cpu::{Cpu, Work},
    deliberation::{Appended, Case, DeliberationLog, LogError, Tally},
    domain::{
        AgentId, DeliberationId, Encoding, Event, Impact, Judgement, MessageType, Parked, Reason, Recipient,
        Tenant, Timestamp, Verb,
    },
    lanes::{Admission, LiveTransport, Request, Tenants, not_computed},
    rejection::Rejection,
    telemetry::Metrics,
    trace::Tracer,
    wire::{self, Concluded, Count, Decided, Docket, Docketed, ReviewReply, VoteRequest},
};

mod listing;

/// Times that a vote finds that the log has grown before its voter is asked to come again.
const CONFLICTS_MAX: usize = 16;

/// Of one in a list, about, with votes and people.
const LISTED_BYTES: usize = 512;

/// Answers the reviewers' verbs.
pub struct Reviewers {
    pub log: Arc<dyn DeliberationLog>,
    pub tenants: Arc<dyn Tenants>,
    pub admission: Arc<Admission>,
    pub live: Arc<dyn LiveTransport>,
    pub metrics: Arc<Metrics>,
    pub limits: wire::Limits,
    pub clock: fn() -> Timestamp,
    /// From the request to its answer.
    pub deadline: Duration,
    pub node: String,
    pub single_flight: SingleFlight,
    pub cpu: Arc<Cpu>,
    /// Where traces are exported.
    pub tracer: Option<Arc<Tracer>>,
}

/// A vote that counted.
pub struct Voted {
    pub judgement: Option<Judgement>,
    pub tally: Tally,
    /// Of the message, as it was parked.
    pub traceparent: Option<String>,
}

impl Reviewers {
    /// The answer in the encoding of the request, and its reason.
    pub async fn handle(&self, verb: Verb, request: &Request) -> (Bytes, Reason) {
        let mut encoding = wire::encoding_of(&request.payload);
        let acting = self.act(verb, request, &mut encoding);
        let (outcome, reason) = answered(verb, request, acting, self.deadline, &self.metrics).await;
        let reply = outcome.unwrap_or_else(ReviewReply::Refused);
        let bytes = match &reply {
            ReviewReply::Show(docket) => docket.message.canonical.len(),
            ReviewReply::List { listed, .. } => listed.len() * LISTED_BYTES,
            ReviewReply::Voted { .. } | ReviewReply::Refused(_) => 0,
        };
        let encode = move || wire::encode_review_reply(&reply, encoding);
        match self.cpu.run_sized(bytes, &request.tenant, Work::Encode, encode).await {
            Ok(reply) => (reply.into(), reason),
            Err(why) => {
                let refused = not_computed(&why);
                let reason = refused.reason;
                (wire::encode_review_reply(&ReviewReply::Refused(refused), encoding).into(), reason)
            }
        }
    }

    async fn act(
        &self,
        verb: Verb,
        request: &Request,
        encoding: &mut Encoding,
    ) -> Result<ReviewReply, Rejection> {
        let (tenant, _slot) = self.admission.admit(&*self.tenants, &request.tenant, &request.sender)?;
        let reader = &request.sender;
        match verb {
            Verb::Deliberations => {
                let asked = wire::decode_deliberations(&request.payload, &self.limits)?;
                *encoding = asked.encoding;
                match &asked.request.id {
                    Some(id) => self.show(&tenant, reader, id).await,
                    None => {
                        let received = Instant::from_std(request.received);
                        self.list(&tenant, reader, &asked.request, received).await
                    }
                }
            }
            Verb::Vote => {
                let asked = wire::decode_vote(&request.payload, &self.limits)?;
                *encoding = asked.encoding;
                let voted = self.vote(&tenant, reader, &asked.request).await?;
                self.trace(request, &asked.request, &voted);
                let Voted { judgement, tally, .. } = voted;
                Ok(ReviewReply::Voted { judgement, count: count(tally) })
            }
            Verb::Send
            | Verb::Submit
            | Verb::Ask
            | Verb::Answer
            | Verb::Register
            | Verb::Heartbeat
            | Verb::Unregister
            | Verb::Find
            | Verb::About
            | Verb::Freeze => {
                Err(Rejection::new(Reason::Malformed, format!("`{verb}` is not a verb of reviewers")))
            }
        }
    }

    /// One deliberation with its message, for who takes part in it.
    pub async fn show(
        &self,
        tenant: &Tenant,
        reader: &AgentId,
        id: &DeliberationId,
    ) -> Result<ReviewReply, Rejection> {
        let case = self.log.load(&tenant.id, id).await.map_err(deliberations_unavailable)?;
        let case = case.filter(|case| sees(case, reader)).ok_or_else(unknown)?;
        let (bytes, tenant) = (case.parked.message.len(), case.parked.tenant.clone());
        let read = move || {
            let message = parked::message(&case);
            (case, message)
        };
        let read = self.cpu.run_sized(bytes, &tenant, Work::Decode, read).await;
        let (case, message) = read.map_err(|why| not_computed(&why))?;
        let message = message.map_err(deliberations_unavailable)?;
        Ok(ReviewReply::Show(Box::new(Docket {
            about: self.docketed(&case, message.message.message_type, &message.message.to, reader),
            message,
            impact: case.parked.impact.clone(),
            voters: case.parked.voters.clone(),
            stand_ins: case.parked.stand_ins.clone(),
            votes: case.votes.clone(),
            decision: case.decision.as_ref().map(|decision| Decided {
                judgement: decision.judgement,
                at: decision.at,
                detail: decision.detail.clone(),
            }),
            conclusion: case.conclusion.as_ref().map(|conclusion| Concluded {
                reason: conclusion.reason.clone(),
                at: conclusion.at,
                detail: conclusion.detail.clone(),
            }),
        })))
    }

    fn docketed(&self, case: &Case, message_type: MessageType, to: &Recipient, reader: &AgentId) -> Docketed {
        let parked = &case.parked;
        Docketed {
            id: parked.id.clone(),
            sender: parked.sender.clone(),
            message_id: parked.message_id.clone(),
            message_type,
            to: to.clone(),
            why: parked.why.clone(),
            notes: parked.notes.clone(),
            score: scored(parked).map(|impact| (impact.score, impact.level)),
            rule: parked.rule.kind,
            count: count(case.tally()),
            escalated: case.escalated_at.is_some(),
            parked_at: parked.parked_at,
            escalate_at: parked.escalate_at,
            deadline: parked.deadline,
            digest: parked.digest.clone(),
            voted: case.votes.iter().find(|vote| vote.voter == *reader).map(|vote| vote.choice),
            may_vote: case.may_vote(reader, (self.clock)()).is_ok(),
        }
    }

    /// Counts a vote, and records what came of it.
    pub async fn vote(
        &self,
        tenant: &Tenant,
        voter: &AgentId,
        vote: &VoteRequest,
    ) -> Result<Voted, Rejection> {
        let voted = self.cast(tenant, voter, vote).await;
        self.record(tenant, voter, vote, &voted);
        voted
    }

    async fn cast(&self, tenant: &Tenant, voter: &AgentId, vote: &VoteRequest) -> Result<Voted, Rejection> {
        // What was appended without a confirmation.
        let mut unconfirmed: Option<Timestamp> = None;
        for attempt in 0..CONFLICTS_MAX {
            if attempt > 0 {
                tokio::time::sleep(jitter()).await;
            }
            let case = self.log.load(&tenant.id, &vote.id).await.map_err(deliberations_unavailable)?;
            // First of all: what a refusal says of it is for those who take part.
            let case = case.filter(|case| sees(case, voter)).ok_or_else(unknown)?;
            if unconfirmed.is_some_and(|at| case.votes.iter().any(|it| it.voter == *voter && it.at == at)) {
                return Ok(Voted {
                    judgement: case.decision.as_ref().map(|decision| decision.judgement),
                    tally: case.tally(),
                    traceparent: case.parked.traceparent.clone(),
                });
            }
            let now = (self.clock)();
            // Nobody votes on what its time has changed, before that is in the log.
            if let Some(due) = case.tick(now) {
                self.log.append(&case, &due).await.map_err(deliberations_unavailable)?;
                continue;
            }
            let event = case
                .vote(voter, vote.choice, &vote.digest, &vote.comment, now)
                .map_err(|refused| Rejection::new(refused.reason(), refused.to_string()))?;
            match self.log.append(&case, &event).await {
                Ok(Appended::Now) => return Ok(counted(case, event)),
                Ok(Appended::Conflict) => {}
                Err(LogError::Unconfirmed) => unconfirmed = Some(now),
                Err(error) => return Err(deliberations_unavailable(error)),
            }
        }
        Err(deliberations_unavailable(LogError::Refused(format!(
            "the log grew {CONFLICTS_MAX} times meanwhile"
        ))))
    }

    fn record(&self, tenant: &Tenant, voter: &AgentId, vote: &VoteRequest, voted: &Result<Voted, Rejection>) {
        let (result, judgement, detail) = match voted {
            Ok(Voted { judgement, .. }) => ("counted", *judgement, ""),
            Err(rejection) => (rejection.reason.as_str(), None, rejection.detail.as_str()),
        };
        self.metrics.deliberations.voted(result);
        let body = Body::Vote(Vote {
            voter: Cow::Borrowed(voter),
            deliberation: Cow::Borrowed(&vote.id),
            choice: vote.choice,
            digest: Cow::Borrowed(&vote.digest),
            comment: Cow::Borrowed(&vote.comment),
            result: Cow::Borrowed(result),
            judgement,
            detail: Cow::Borrowed(detail),
        });
        // A vote bears no message id of its voter's.
        let place = Place::Message { sender: voter, message: None, claimed: false };
        let record = Record::new((self.clock)(), &tenant.id, &self.node, body);
        if let Err(error) = self.live.record(record.entry(place).into()) {
            self.metrics.record_dropped();
            tracing::warn!(%error, deliberation = %vote.id, "vote not recorded");
        }
    }
}

fn scored(parked: &Parked) -> Option<&Impact> {
    parked.impact.as_ref().filter(|impact| impact.unscored.is_none())
}

/// Who takes part may look.
fn sees(case: &Case, reader: &AgentId) -> bool {
    let parked = &case.parked;
    parked.sender == *reader || parked.voters.contains_key(reader) || parked.stand_ins.contains_key(reader)
}

/// What the log says with the event that was appended.
fn counted(mut case: Case, event: Event) -> Voted {
    let (vote, judgement) = match event {
        Event::Vote(vote) => (Some(vote), None),
        Event::Decided { judgement, vote, .. } => (vote, Some(judgement)),
        Event::Parked(_) | Event::Escalated { .. } | Event::Concluded { .. } => (None, None),
    };
    case.votes.extend(vote);
    Voted { judgement, tally: case.tally(), traceparent: case.parked.traceparent }
}

fn count(tally: Tally) -> Count {
    let Tally { approvals, rejections, approves, denies } = tally;
    Count { approvals, rejections, approves, denies }
}

fn jitter() -> Duration {
    Duration::from_millis(rand::rng().random_range(1..10))
}

fn unknown() -> Rejection {
    Rejection::new(
        Reason::DeliberationUnknown,
        "found no deliberation with this id, expected one that you judge or have caused",
    )
}

fn deliberations_unavailable(error: LogError) -> Rejection {
    tracing::warn!(%error, "deliberations unavailable");
    if let LogError::BreakerOpen { retry_after } = error {
        return Rejection::breaker_open("the tenant's store of deliberations", retry_after);
    }
    Rejection::new(Reason::DeliberationUnavailable, "deliberations cannot be read or written at the moment")
        .after(Duration::from_millis(500))
}

mod trace;

#[cfg(test)]
mod tests;
