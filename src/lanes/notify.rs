//! What the sender of a message is told by an outcome, once.

use std::time::Duration;

use rand::Rng as _;

use super::{
    attempt::Attempt,
    durable::{Evidence, LaneError, Noted, Notice, OutcomeStage},
    errors::{of_lane, used_before},
    findings::Outcome,
    parts::Lanes,
    request::Answer,
    retry::ATTEMPT_WITHIN,
};
use crate::{
    domain::{DeliberationId, Reach, Reason, Status, Verdict},
    fault_points::{self, Step},
    rejection::Rejection,
    state::MessageKey,
};

/// Since a node began with a message. After 30 s another has it, and may come to another verdict.
pub(super) const NOTIFIED_WITHIN: Duration = Duration::from_secs(20);

impl Attempt<'_> {
    /// What is parked, as an outcome. What stands already is of a `submit` of this id.
    pub(super) async fn notify_parked(
        &self,
        key: &MessageKey,
        (id, why): (DeliberationId, String),
    ) -> Result<Outcome, Rejection> {
        let Answer { verdict, .. } = self.answer(Ok(Outcome::Parked(id.clone(), why.clone())));
        let notice = Notice {
            after: 0,
            not_after: self.deadline(),
            ..self.notice(key, &verdict, OutcomeStage::Governed)
        };
        self.lanes.lane.outcome(notice).await.map_err(of_lane)?;
        Ok(Outcome::Parked(id, why))
    }

    /// The record first: an outcome that stands ends the message, and no later attempt would record it.
    pub(super) async fn notify(
        &self,
        key: &MessageKey,
        answer: &Answer,
        stage: OutcomeStage,
        first: bool,
    ) -> Result<(), LaneError> {
        let lane = &self.lanes.lane;
        lane.record(self.recorded(&answer.verdict)).await?;
        fault_points::reached(Step::Recorded);
        let noted = lane.outcome(self.notice(key, &answer.verdict, stage)).await?;
        fault_points::reached(Step::Told);
        if noted == Noted::Now || stage != OutcomeStage::Governed {
            return Ok(());
        }
        let recipients = match lane.evidence(key).await? {
            // A broadcast of which a part was stored before, and now the rest is not let through: what its
            // recipients have is what its sender is told.
            Some(Evidence { recipients, verdict: None, .. }) => recipients,
            Some(Evidence { verdict: Some(stands), digest, .. }) => {
                let another = digest.zip(self.findings.digest).is_some_and(|(theirs, ours)| theirs != ours);
                let verdict = match answer.verdict.reason {
                    Reason::DuplicateMessage => answer.verdict.clone(),
                    _ if another => self.answer(Err(used_before(&key.message))).verdict,
                    _ => stands,
                };
                self.notify_again(key, verdict, first).await;
                return Ok(());
            }
            // It has become too old in this instant.
            None => return Ok(()),
        };
        let delivered = u32::try_from(recipients.len()).unwrap_or(u32::MAX);
        let reach = Reach { delivered, durable: true, ..Reach::default() };
        let answer = self.answer(Ok(Outcome::Delivered(reach)));
        lane.outcome(self.notice(key, &answer.verdict, OutcomeStage::Delivered)).await?;
        Ok(())
    }

    /// For who submitted a message again after JetStream had forgotten the first time: what stands already.
    ///
    /// Once, if it can be: the outcome that stands is in its durable inbox in any case.
    pub(super) async fn notify_again(&self, key: &MessageKey, verdict: Verdict, first: bool) {
        // In a later attempt, or when another node may have had it meanwhile, that may be its own.
        if !first || self.measured.elapsed() >= ATTEMPT_WITHIN {
            tracing::debug!(
                decision_id = self.findings.decision_id,
                "another verdict stands for this message"
            );
            return;
        }
        let stands = match verdict.reason {
            Reason::DuplicateMessage => Ok(verdict),
            _ => self.lanes.stands(key, verdict).await,
        };
        let telling = async {
            let verdict = Verdict { retryable: false, retry_after: None, ..stands? };
            let stage = OutcomeStage::Repeated(rand::rng().random());
            let notice = Notice { digest: None, ..self.notice(key, &verdict, stage) };
            self.lanes.lane.outcome(notice).await
        };
        if let Err(error) = telling.await {
            tracing::warn!(%error, "a sender was not told again what stands for its message");
        }
    }

    fn notice(&self, key: &MessageKey, verdict: &Verdict, stage: OutcomeStage) -> Notice {
        Notice {
            key: key.clone(),
            to: key.sender.clone(),
            stage,
            after: self.stored_last,
            not_after: self.at.received + NOTIFIED_WITHIN,
            digest: self.findings.digest,
            verdict: verdict.clone(),
            encoding: self.lanes.inbox_encoding(&key.tenant, &key.sender),
        }
    }
}

impl Lanes {
    /// The last word on a message with this outcome: it may have been delivered since, for its reviewers
    /// have approved it or a person has redriven it.
    pub(super) async fn stands(&self, key: &MessageKey, verdict: Verdict) -> Result<Verdict, LaneError> {
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
