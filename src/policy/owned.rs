//! How is a question kept beyond the message's own life?

use std::{collections::BTreeSet, sync::Arc};

use super::{Party, Question};
use crate::domain::{AgentId, Approval, CapabilityId, ConversationLabel, Message, Tenant};

/// A question that goes to another thread, or is kept.
pub(super) struct Owned {
    message: Arc<Message>,
    size: usize,
    sender: OwnedParty,
    recipient: OwnedParty,
    /// What the policy sees of it: id and labels.
    tenant: Tenant,
    approval: Option<Approval>,
    labels: Option<BTreeSet<ConversationLabel>>,
}

struct OwnedParty {
    id: AgentId,
    roles: BTreeSet<String>,
    capabilities: BTreeSet<CapabilityId>,
    registered: bool,
}

impl Owned {
    pub(super) fn of(question: &Question<'_>) -> Self {
        let tenant = question.tenant;
        Self {
            message: Arc::clone(question.message),
            size: question.size,
            sender: OwnedParty::of(question.sender),
            recipient: OwnedParty::of(question.recipient),
            // Not its agents: there may be a thousand.
            tenant: Tenant { labels: tenant.labels.clone(), ..Tenant::new(tenant.id.clone()) },
            approval: question.approval.cloned(),
            labels: question.labels.cloned(),
        }
    }

    pub(super) fn ask(&self) -> Question<'_> {
        Question {
            message: &self.message,
            size: self.size,
            sender: self.sender.ask(),
            recipient: self.recipient.ask(),
            tenant: &self.tenant,
            approval: self.approval.as_ref(),
            labels: self.labels.as_ref(),
        }
    }
}

impl OwnedParty {
    fn of(party: Party<'_>) -> Self {
        let Party { id, roles, capabilities, registered } = party;
        Self { id: id.clone(), roles: roles.clone(), capabilities: capabilities.clone(), registered }
    }

    fn ask(&self) -> Party<'_> {
        let Self { id, roles, capabilities, registered } = self;
        Party { id, roles, capabilities, registered: *registered }
    }
}
