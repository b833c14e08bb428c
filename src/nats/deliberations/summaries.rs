//! Open deliberations without their messages, so that a list of a thousand reads only what changed.
//!
//! What is parked never changes, and what is appended is counted by the server with the subjects: a summary
//! is as good as its log while the log has as many votes and escalations as the summary.

use std::sync::Arc;

use moka::sync::Cache;
use serde::Deserialize;

use crate::{
    deliberation::{Case, LogError, Summary},
    domain::{
        AgentId, BroadcastFilter, CapabilityId, DeliberationId, MessageType, Recipient, TenantId, Voter,
    },
    recent::recent,
};

/// About 30,000 with a few voters each.
const SUMMARIES_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// A summary without texts and people, about.
const SUMMARY_BYTES: usize = 1_024;
/// A vote or a voter without texts, about.
const PERSON_BYTES: usize = 128;

pub(super) struct SummaryCache(Cache<(TenantId, DeliberationId), Arc<Summary>>);

impl Default for SummaryCache {
    fn default() -> Self {
        let bytes = |_: &(TenantId, DeliberationId), summary: &Arc<Summary>| {
            u32::try_from(bytes_of(&summary.case)).unwrap_or(u32::MAX)
        };
        Self(recent(SUMMARIES_BYTES_MAX).weigher(bytes).build())
    }
}

impl SummaryCache {
    /// The summary of a log with so many votes and escalations.
    pub(super) fn get(
        &self,
        tenant: &TenantId,
        id: &DeliberationId,
        votes: u64,
        escalated: u64,
    ) -> Option<Arc<Summary>> {
        let summary = self.0.get(&(tenant.clone(), id.clone()))?;
        let same = counted(&summary.case) == (votes, escalated);
        same.then_some(summary)
    }

    /// The summary of what was read. It is remembered, unless it is decided or a newer one is.
    pub(super) fn keep(&self, case: &Case, place: u64) -> Result<Arc<Summary>, LogError> {
        let key = (case.parked.tenant.clone(), case.parked.id.clone());
        let before = self.0.get(&key);
        if let Some(before) = before.as_ref().filter(|before| before.case.version == case.version) {
            return Ok(Arc::clone(before));
        }
        let newer = before.as_ref().is_some_and(|before| before.case.version > case.version);
        let (message_type, to) = match before {
            Some(before) => (before.message_type, before.to.clone()),
            None => address(case)?,
        };
        let summary = Arc::new(Summary { case: without_message(case), place, message_type, to });
        if case.decision.is_some() {
            self.0.invalidate(&key);
        } else if !newer {
            self.0.insert(key, Arc::clone(&summary));
        }
        Ok(summary)
    }
}

fn without_message(case: &Case) -> Case {
    let mut case = case.clone();
    case.parked.message = String::new();
    case
}

/// Votes and escalations in the log of one that is not decided.
fn counted(case: &Case) -> (u64, u64) {
    (case.votes.len() as u64, u64::from(case.escalated_at.is_some()))
}

fn bytes_of(case: &Case) -> usize {
    let people = |voter: &Voter| PERSON_BYTES + voter.roles.iter().map(String::len).sum::<usize>();
    let voters = case.parked.voters.values().chain(case.parked.stand_ins.values()).map(people);
    let votes = case.votes.iter().map(|vote| PERSON_BYTES + vote.comment.len());
    SUMMARY_BYTES + voters.chain(votes).sum::<usize>()
}

/// What a list says of the parked message. A thousand are read for one list, so its content is skipped.
fn address(case: &Case) -> Result<(MessageType, Recipient), LogError> {
    #[derive(Deserialize)]
    struct Message {
        message_type: MessageType,
        to: To,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum To {
        Agent(AgentId),
        Capability(CapabilityId),
        Broadcast(Filter),
    }
    #[derive(Deserialize)]
    struct Filter {
        capability: Option<CapabilityId>,
        role: Option<String>,
    }
    let message: Message = serde_json::from_str(&case.parked.message)
        .map_err(|error| LogError::Unreadable(format!("its message: {error}")))?;
    let to = match message.to {
        To::Agent(agent) => Recipient::Agent(agent),
        To::Capability(capability) => Recipient::Capability(capability),
        To::Broadcast(Filter { capability, role }) => {
            Recipient::Broadcast(BroadcastFilter { capability, role })
        }
    };
    Ok((message.message_type, to))
}
