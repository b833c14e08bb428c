//! What the sender of a kept message is told, once.

use std::time::Duration;

use rand::Rng as _;

use super::{
    Answer, Evidence, Kept, LaneError, Noted, Notice, OutcomeStage, Pipeline,
    attempts::ATTEMPT_WITHIN,
    stored::used_before,
    trail::{Outcome, Trail},
};
use crate::{
    domain::{AgentId, Encoding, Reach, Reason, Status, TenantId, Verdict},
    state::MessageKey,
};

/// Since a node began with a message. After 30 s another has it, and may come to another verdict.
pub(super) const TOLD_WITHIN: Duration = Duration::from_secs(20);

impl Pipeline {
    /// The record first: an outcome that stands ends the message, and no later attempt would record it.
    pub(super) async fn tell(
        &self,
        kept: &Kept,
        trail: &Trail,
        answer: &Answer,
        stage: OutcomeStage,
    ) -> Result<(), LaneError> {
        let (place, record) = trail.recorded(&kept.request, &answer.verdict);
        self.lane.record(place, record).await?;
        let noted = self.lane.outcome(self.notice_of(kept, trail, answer, stage)).await?;
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
        let reach = Reach { delivered, durable: true, ..Reach::default() };
        let answer = trail.answer(Ok(Outcome::Delivered(reach)));
        self.lane.outcome(self.notice_of(kept, trail, &answer, OutcomeStage::Delivered)).await?;
        Ok(())
    }

    /// For who submitted a message again after JetStream had forgotten the first time: what stands already.
    ///
    /// Once, if it can be: the outcome that stands is in its durable inbox in any case.
    pub(super) async fn tell_again(&self, kept: &Kept, trail: &Trail, verdict: Verdict) {
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
            self.lane.outcome(Notice { digest: None, ..self.notice_of(kept, trail, &answer, stage) }).await
        };
        if let Err(error) = telling.await {
            tracing::warn!(%error, "a sender was not told again what stands for its message");
        }
    }

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

    /// What is in an agent's durable inbox is written in one encoding.
    pub(super) fn inbox_encoding(&self, tenant: &TenantId, agent: &AgentId) -> Encoding {
        self.tenants.tenant(tenant).map_or(Encoding::DURABLE, |tenant| tenant.durable_encoding(agent))
    }

    fn notice_of(&self, kept: &Kept, trail: &Trail, answer: &Answer, stage: OutcomeStage) -> Notice {
        Notice {
            key: kept.key.clone(),
            to: kept.key.sender.clone(),
            stage,
            after: trail.stored_last(),
            not_after: kept.request.received + TOLD_WITHIN,
            digest: trail.digest(),
            verdict: answer.verdict.clone(),
            encoding: self.inbox_encoding(&kept.key.tenant, &kept.key.sender),
        }
    }
}
