//! Whom would a message reach, and may it reach each of them?

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use moka::sync::Cache;
use parking_lot::Mutex;

use super::{
    route::Way,
    trail::{Judged, Manner},
};
use crate::{
    domain::{
        AgentId, AgentRecord, Approval, CapabilityId, Message, Missed, Reason, Recipient, Tenant, TenantId,
    },
    policy::{Gate, Party, Question},
    rejection::Rejection,
    state::{Registry, StoreError},
    wire::Decoded,
};

/// Holders tried for one message to a capability.
const HOLDERS_TRIED_MAX: usize = 8;
/// Recipients of one broadcast. A backstop: only agents of the tenants file can register, and it has at
/// most 1,000 of a tenant.
const BROADCAST_MAX: usize = 4096;

/// Recipients about whom the policy is asked at one time: each may be a hand-over to another thread, and if
/// none is, four decisions are no long time.
const ASKED_AT_ONCE: usize = 4;
/// Looked up in one go.
const RECORDS_AT_ONCE: usize = 128;

/// Who is sending, and to whom it could go.
pub(super) struct Candidates {
    sender: Option<Arc<AgentRecord>>,
    recipients: Vec<Arc<AgentRecord>>,
    manner: Manner,
}

/// Looks the recipients up. They are live as far as the registry knows; delivery finds out.
pub(super) async fn find(
    registry: &dyn Registry,
    rotation: &Rotation,
    tenant: &Tenant,
    message: &Message,
    durable: bool,
) -> Result<Candidates, Rejection> {
    let sender = registry.agent(&tenant.id, &message.sender).await.map_err(unavailable)?;
    let (recipients, manner) = match &message.to {
        Recipient::Agent(id) => {
            let recipient = registry.agent(&tenant.id, id).await.map_err(unavailable)?;
            // A durable inbox is there for every agent of the directory, also for one that is away.
            let away = || (durable && tenant.agents.contains_key(id)).then(|| Arc::new(unregistered(id)));
            let recipient = recipient.or_else(away).ok_or_else(|| {
                Rejection::new(
                    Reason::RecipientUnknown,
                    format!("agent {id} is not registered in this tenant"),
                )
                .after(Duration::from_secs(1))
            })?;
            (vec![recipient], Manner::FirstThatListens)
        }
        Recipient::Capability(capability) => {
            let holders = registry.holders(&tenant.id, capability).await.map_err(unavailable)?;
            let chosen =
                rotation.choose(&tenant.id, capability, &holders, &message.sender, HOLDERS_TRIED_MAX);
            let recipients = records(registry, &tenant.id, chosen, Some(capability)).await?;
            if recipients.is_empty() {
                return Err(nobody(format!("no live agent but the sender holds capability {capability}")));
            }
            (recipients, Manner::FirstThatListens)
        }
        Recipient::Broadcast(filter) => {
            let ids = match &filter.capability {
                Some(capability) => registry.holders(&tenant.id, capability).await,
                None => registry.agents(&tenant.id).await,
            }
            .map_err(unavailable)?;
            let has_role = |id: &&AgentId| {
                filter
                    .role
                    .as_ref()
                    .is_none_or(|role| tenant.agents.get(*id).is_some_and(|grant| grant.roles.contains(role)))
            };
            let matching: Vec<AgentId> =
                ids.iter().filter(|id| **id != message.sender).filter(has_role).cloned().collect();
            if matching.len() > BROADCAST_MAX {
                return Err(Rejection::new(
                    Reason::TooLarge,
                    format!("{} agents match, a broadcast reaches at most {BROADCAST_MAX}", matching.len()),
                ));
            }
            let recipients = records(registry, &tenant.id, matching, filter.capability.as_ref()).await?;
            if recipients.is_empty() {
                return Err(nobody("no live agent but the sender matches the broadcast".to_owned()));
            }
            (recipients, Manner::EachOfThem)
        }
    };
    Ok(Candidates { sender, recipients, manner })
}

/// Asks the policy about each recipient. At least one permit, or the rejection that says why not.
pub(super) async fn permit(
    gate: &Gate,
    letter: &Decoded,
    tenant: &Tenant,
    candidates: Candidates,
    approval: Option<&Approval>,
) -> Result<Judged, Rejection> {
    let mut judged = Judged {
        permits: Vec::with_capacity(candidates.recipients.len()),
        missed: Vec::new(),
        manner: candidates.manner,
        capability: match &letter.message.to {
            Recipient::Capability(capability) => Some(capability.clone()),
            Recipient::Agent(_) | Recipient::Broadcast(_) => None,
        },
        encodings: candidates.recipients.iter().filter_map(|r| live_encoding(r, tenant)).collect(),
        durable_encodings: candidates
            .recipients
            .iter()
            .map(|r| (r.id.clone(), tenant.durable_encoding(&r.id)))
            .collect(),
        way: Way::Live,
    };
    let mut refused = None;
    // The first alone: no clear answer about one is none about the next, and each may take long.
    let (first, others) = candidates.recipients.split_at(candidates.recipients.len().min(1));
    for (at, together) in std::iter::once(first).chain(others.chunks(ASKED_AT_ONCE)).enumerate() {
        if at > 0 {
            // Deciding may not wait for anything, so the deadline and others get their turn here.
            tokio::task::yield_now().await;
        }
        let questions = together.iter().map(|recipient| Question {
            message: &letter.message,
            size: letter.canonical.len(),
            sender: as_party(&letter.message.sender, candidates.sender.as_deref(), tenant),
            recipient: as_party(&recipient.id, Some(recipient), tenant),
            tenant,
            approval,
        });
        let questions: Vec<Question<'_>> = questions.collect();
        let answers = join_all(questions.iter().map(|question| gate.decide(question))).await;
        for (recipient, answer) in together.iter().zip(answers) {
            match answer {
                Ok(permit) => judged.permits.push(permit),
                Err(rejection) if rejection.reason != Reason::PolicyDenied => return Err(rejection),
                Err(rejection) => {
                    judged.missed.push(Missed { agent: recipient.id.clone(), reason: rejection.reason });
                    refused = Some(rejection);
                }
            }
        }
    }
    match refused {
        Some(rejection) if judged.permits.is_empty() => Err(rejection),
        _ => Ok(judged),
    }
}

/// What it has registered, or else what the operator says.
fn live_encoding(recipient: &AgentRecord, tenant: &Tenant) -> Option<(AgentId, crate::domain::Encoding)> {
    let granted = || tenant.agents.get(&recipient.id)?.encoding;
    Some((recipient.id.clone(), recipient.encoding.or_else(granted)?))
}

/// An agent that has not said what it can do.
fn unregistered(id: &AgentId) -> AgentRecord {
    AgentRecord { id: id.clone(), capabilities: Arc::default(), encoding: None, description: String::new() }
}

static NO_ROLES: BTreeSet<String> = BTreeSet::new();
static NO_CAPABILITIES: BTreeSet<CapabilityId> = BTreeSet::new();

fn as_party<'a>(id: &'a AgentId, record: Option<&'a AgentRecord>, tenant: &'a Tenant) -> Party<'a> {
    Party {
        id,
        roles: tenant.agents.get(id).map_or(&NO_ROLES, |grant| &grant.roles),
        capabilities: record.map_or(&NO_CAPABILITIES, |record| &record.capabilities),
        registered: record.is_some(),
    }
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
        let record = registry.agent(tenant, &id).await.map_err(unavailable)?;
        found.extend(record.filter(|record| capability.is_none_or(|it| record.capabilities.contains(it))));
    }
    Ok(found)
}

fn nobody(detail: String) -> Rejection {
    Rejection::new(Reason::NoCapableAgent, detail).after(Duration::from_secs(1))
}

fn unavailable(error: StoreError) -> Rejection {
    tracing::warn!(%error, "registry unavailable");
    Rejection::new(Reason::RegistryUnavailable, "the registry of agents does not answer")
        .after(Duration::from_millis(500))
}

/// The order in which this node has used the holders of each capability.
///
/// Choosing costs O(1) in the number of holders; a change of the holders costs O(n) once.
pub struct Rotation {
    queues: Cache<(TenantId, CapabilityId), Arc<Mutex<Queue>>>,
}

#[derive(Default)]
struct Queue {
    holders: Arc<Vec<AgentId>>,
    /// Least recently used first.
    order: VecDeque<AgentId>,
}

impl Rotation {
    const CAPABILITIES_MAX: u64 = 65_536;

    pub fn new() -> Self {
        Self {
            queues: Cache::builder()
                .max_capacity(Self::CAPABILITIES_MAX)
                .time_to_idle(Duration::from_secs(600))
                .build(),
        }
    }

    /// These did not listen: others come first from now on.
    pub(super) fn passed_over(&self, tenant: &TenantId, capability: &CapabilityId, agents: &[AgentId]) {
        let Some(queue) = self.queues.get(&(tenant.clone(), capability.clone())) else { return };
        let mut queue = queue.lock();
        let (absent, mut order): (VecDeque<_>, VecDeque<_>) =
            queue.order.drain(..).partition(|id| agents.contains(id));
        order.extend(absent);
        queue.order = order;
    }

    /// At most `limit` holders, the least recently chosen first, never `sender`. Only the first
    /// counts as used now; the others are there in case it does not listen.
    fn choose(
        &self,
        tenant: &TenantId,
        capability: &CapabilityId,
        holders: &Arc<Vec<AgentId>>,
        sender: &AgentId,
        limit: usize,
    ) -> Vec<AgentId> {
        let queue = self.queues.get_with((tenant.clone(), capability.clone()), Arc::default);
        // A plain lock: held for a few moves in memory, never over an await.
        let mut queue = queue.lock();
        if !Arc::ptr_eq(&queue.holders, holders) {
            queue.renew(holders);
        }
        let chosen: Vec<AgentId> =
            queue.order.iter().filter(|id| *id != sender).take(limit).cloned().collect();
        if let Some(first) = chosen.first() {
            // At most one other, the sender, stands before it.
            if let Some(at) = queue.order.iter().take(2).position(|id| id == first) {
                queue.order.remove(at).into_iter().for_each(|id| queue.order.push_back(id));
            }
        }
        chosen
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Self::new()
    }
}

impl Queue {
    /// New holders come first: they were never used. Those that stay keep their order.
    fn renew(&mut self, holders: &Arc<Vec<AgentId>>) {
        let now: HashSet<&AgentId> = holders.iter().collect();
        let mut order: VecDeque<AgentId> = self.order.iter().filter(|id| now.contains(id)).cloned().collect();
        let known: HashSet<&AgentId> = self.order.iter().collect();
        for id in holders.iter().rev().filter(|id| !known.contains(id)) {
            order.push_front(id.clone());
        }
        self.order = order;
        self.holders = Arc::clone(holders);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::IdError;

    fn ids(names: &[&str]) -> Result<Arc<Vec<AgentId>>, IdError> {
        Ok(Arc::new(names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?))
    }

    #[test]
    fn the_least_recently_used_holder_comes_first_and_the_sender_never() -> Result<(), IdError> {
        let rotation = Rotation::new();
        let (tenant, capability) = ("acme".parse()?, "sum".parse()?);
        let holders = ids(&["a", "b", "c"])?;
        let first = |holders: &Arc<Vec<AgentId>>, sender: &str| -> Result<String, IdError> {
            let chosen = rotation.choose(&tenant, &capability, holders, &sender.parse()?, 2);
            Ok(chosen.iter().map(AgentId::as_str).collect::<Vec<_>>().join(","))
        };
        assert_eq!(first(&holders, "z")?, "a,b");
        assert_eq!(first(&holders, "z")?, "b,c");
        assert_eq!(first(&holders, "c")?, "a,b", "c would be next, but is the sender");
        assert_eq!(first(&holders, "z")?, "c,b");
        let grown = ids(&["b", "c", "d"])?;
        assert_eq!(first(&grown, "z")?, "d,b", "a left; d is new and was never used");
        assert_eq!(first(&ids(&["b"])?, "b")?, "", "the sender does not answer itself");
        Ok(())
    }
}
