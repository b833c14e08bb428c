//! Which of what waits does a reviewer list? The oldest that fit its question, page by page.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Reviewers, deliberations_unavailable, scored, sees, unknown};
use crate::{
    deliberation::Summary,
    domain::{AgentId, DeliberationId, Tenant},
    rejection::Rejection,
    wire::{DeliberationsRequest, ReviewReply},
};

/// Open deliberations of a tenant that are read for one list; a reader sees its own among them.
const READ_MAX: usize = 1_000;

impl Reviewers {
    /// Of what waits for this reviewer, and what of it is its own, that which is asked for; as it was no earlier than
    /// `asked`.
    pub async fn list(
        &self,
        tenant: &Tenant,
        reader: &AgentId,
        wanted: &DeliberationsRequest,
        asked: Instant,
    ) -> Result<ReviewReply, Rejection> {
        let open = self.single_flight.share(&tenant.id, asked, || self.log.open(&tenant.id, READ_MAX));
        let open = open.await.map_err(deliberations_unavailable)?;
        let seen: Vec<&Arc<Summary>> = open.iter().filter(|summary| sees(&summary.case, reader)).collect();
        let first = self.first_after(tenant, reader, wanted.after.as_ref(), &seen).await?;
        let seen = seen.into_iter().skip(first).filter(|summary| is_wanted(summary, wanted));
        let seen: Vec<&Arc<Summary>> = seen.collect();
        let listed = seen.iter().take(ReviewReply::LISTED_MAX);
        let listed =
            listed.map(|summary| self.docketed(&summary.case, summary.message_type, &summary.to, reader));
        Ok(ReviewReply::List { listed: listed.collect(), total: seen.len() })
    }

    /// Where the page begins that follows one. If that is decided by now, with what was parked when it was.
    async fn first_after(
        &self,
        tenant: &Tenant,
        reader: &AgentId,
        after: Option<&DeliberationId>,
        seen: &[&Arc<Summary>],
    ) -> Result<usize, Rejection> {
        let Some(after) = after else { return Ok(0) };
        if let Some(at) = seen.iter().position(|summary| summary.case.parked.id == *after) {
            return Ok(at + 1);
        }
        let case = self.log.load(&tenant.id, after).await.map_err(deliberations_unavailable)?;
        let case = case.filter(|case| sees(case, reader)).ok_or_else(unknown)?;
        let later = |summary: &&Arc<Summary>| summary.case.parked.parked_at >= case.parked.parked_at;
        Ok(seen.iter().position(later).unwrap_or(seen.len()))
    }
}

fn is_wanted(summary: &Summary, wanted: &DeliberationsRequest) -> bool {
    let parked = &summary.case.parked;
    let DeliberationsRequest { id: _, after: _, sender, message_type, parked_before, score_min } = wanted;
    sender.as_ref().is_none_or(|sender| parked.sender == *sender)
        && message_type.is_none_or(|message_type| summary.message_type == message_type)
        && parked_before.is_none_or(|before| parked.parked_at < before)
        && score_min.is_none_or(|least| scored(parked).is_some_and(|impact| impact.score >= least))
}
