//! Who is registered of those that a message could reach, and what does the policy say of each?

use std::sync::Arc;

use futures_util::future::join_all;

use super::{errors::registry_unavailable, rotation::Rotation};
use crate::{
    domain::{AgentId, AgentRecord, CapabilityId, Reason, TenantId},
    governance::{Addressed, Lookup, Unaddressed, View},
    policy::{Gate, InForce, Ruling},
    rejection::Rejection,
    state::Registry,
};

/// Holders tried for one message to a capability.
const HOLDERS_TRIED_MAX: usize = 8;
/// Recipients about whom the policy is asked at one time: each may be a hand-over to another thread, and if
/// none is, four decisions are no long time.
const ASKED_AT_ONCE: usize = 4;
/// Looked up in one go.
const RECORDS_AT_ONCE: usize = 128;

/// Looks up whom the message is for.
pub async fn find(
    registry: &dyn Registry,
    rotation: &Rotation,
    asks: &Unaddressed<'_>,
) -> Result<View, Rejection> {
    let (message, tenant) = (asks.decoded().message(), &asks.decoded().tenant().id);
    let sender = registry.agent(tenant, &message.sender).await.map_err(registry_unavailable)?;
    let recipients = match asks.lookup() {
        Lookup::Agent(id) => {
            registry.agent(tenant, id).await.map_err(registry_unavailable)?.into_iter().collect()
        }
        Lookup::Holders(capability) => {
            let holders = registry.holders(tenant, capability).await.map_err(registry_unavailable)?;
            let chosen = rotation.choose(tenant, capability, &holders, &message.sender, HOLDERS_TRIED_MAX);
            records(registry, tenant, chosen, Some(capability)).await?
        }
        Lookup::Everybody(filter) => {
            let ids = match &filter.capability {
                Some(capability) => registry.holders(tenant, capability).await,
                None => registry.agents(tenant).await,
            };
            let matching = asks.matching(&ids.map_err(registry_unavailable)?, filter)?;
            records(registry, tenant, matching, filter.capability.as_ref()).await?
        }
    };
    Ok(View { sender, recipients })
}

/// Asks the policy about each recipient, up to the first that it gives no clear answer about.
pub(super) async fn ask(
    gate: &Gate,
    (policy, decision_id): (&InForce, &str),
    asks: &Addressed<'_>,
) -> Vec<Ruling> {
    let recipients = asks.recipients();
    let mut answers = Vec::with_capacity(recipients.len());
    // The first alone: no clear answer about one is none about the next, and each may take long.
    let (first, others) = recipients.split_at(recipients.len().min(1));
    for (at, together) in std::iter::once(first).chain(others.chunks(ASKED_AT_ONCE)).enumerate() {
        if at > 0 {
            // Deciding may not wait for anything, so the deadline and others get their turn here.
            tokio::task::yield_now().await;
        }
        let questions: Vec<_> = together.iter().map(|recipient| asks.question(recipient)).collect();
        answers.extend(
            join_all(questions.iter().map(|question| gate.decide_by(policy, question, decision_id))).await,
        );
        if answers
            .iter()
            .any(|answer| matches!(&answer.permit, Err(why) if why.reason != Reason::PolicyDenied))
        {
            break;
        }
    }
    answers
}

/// The records of those that are still registered, and with the capability: an index only says where to look.
async fn records(
    registry: &dyn Registry,
    tenant: &TenantId,
    ids: Vec<AgentId>,
    capability: Option<&CapabilityId>,
) -> Result<Vec<Arc<AgentRecord>>, Rejection> {
    let mut found = Vec::with_capacity(ids.len());
    for (at, id) in ids.into_iter().enumerate() {
        // What is remembered is not waited for, and there may be a thousand: others get their turn.
        if at % RECORDS_AT_ONCE == RECORDS_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
        let record = registry.agent(tenant, &id).await.map_err(registry_unavailable)?;
        found.extend(record.filter(|record| capability.is_none_or(|it| record.capabilities.contains(it))));
    }
    Ok(found)
}
