//! How does the policy see an agent, and what of that is kept as evidence?

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    domain::{AgentId, AgentRecord, CapabilityId, ConstitutionHash, Tenant},
    policy::Party,
};

/// What judging saw, shared with what it was seen in.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Which the message names.
    pub constitution: ConstitutionHash,
    pub(super) tenant: Arc<Tenant>,
    pub(super) sender: AgentId,
    pub(super) registered: Option<Arc<AgentRecord>>,
    /// At most [`Seen::RECIPIENTS_MAX`].
    pub(super) recipients: Vec<Arc<AgentRecord>>,
    /// How many the policy is asked about.
    pub recipients_total: usize,
}

impl Seen {
    /// Of a broadcast's recipients so many are kept.
    pub(super) const RECIPIENTS_MAX: usize = 32;

    pub fn sender(&self) -> Party<'_> {
        as_party(&self.sender, self.registered.as_deref(), &self.tenant)
    }

    pub fn recipients(&self) -> impl Iterator<Item = Party<'_>> {
        self.recipients.iter().map(|recipient| as_party(&recipient.id, Some(recipient), &self.tenant))
    }
}

static NO_ROLES: BTreeSet<String> = BTreeSet::new();
static NO_CAPABILITIES: BTreeSet<CapabilityId> = BTreeSet::new();

pub(super) fn as_party<'a>(
    id: &'a AgentId,
    record: Option<&'a AgentRecord>,
    tenant: &'a Tenant,
) -> Party<'a> {
    Party {
        id,
        roles: tenant.agents.get(id).map_or(&NO_ROLES, |grant| &grant.roles),
        capabilities: record.map_or(&NO_CAPABILITIES, |record| &record.capabilities),
        registered: record.is_some(),
    }
}
