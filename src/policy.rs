//! Policy: Rego decides over message, sender, recipient and tenant, and only this module can make
//! the [`Permit`] without which nothing is delivered.

use std::{collections::BTreeSet, sync::Arc};

use crate::domain::{AgentId, CapabilityId, Message, Tenant};

/// What the policy is asked: one message, to one recipient.
///
/// No message id and no time, so that equal questions share one cached answer.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    pub message: &'a Arc<Message>,
    /// Bytes of the message's canonical form.
    pub size: usize,
    pub sender: Party<'a>,
    pub recipient: Party<'a>,
    pub tenant: &'a Tenant,
}

/// An agent as the policy sees it.
#[derive(Debug, Clone, Copy)]
pub struct Party<'a> {
    pub id: &'a AgentId,
    /// Granted by the operator.
    pub roles: &'a BTreeSet<String>,
    /// Claimed by the agent when it registered.
    pub capabilities: &'a BTreeSet<CapabilityId>,
    pub registered: bool,
}

/// What an allowing decision demands besides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Obligations {
    pub deliberate: bool,
    pub min_approvals: Option<u32>,
    /// Paths below `content`, such as `payment.iban`, whose values the recipient must not see.
    pub redact: BTreeSet<String>,
    pub lane: Option<Lane>,
}

/// A way through the bus that the policy can demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    Durable,
}

/// Evidence that the policy allowed this message to this recipient. There is no other way to make
/// one, and delivery asks for one.
#[derive(Debug, Clone)]
pub struct Permit {
    message: Arc<Message>,
    recipient: AgentId,
    obligations: Obligations,
    revision: Arc<str>,
}

impl Permit {
    pub fn message(&self) -> &Arc<Message> {
        &self.message
    }

    pub fn recipient(&self) -> &AgentId {
        &self.recipient
    }

    pub fn obligations(&self) -> &Obligations {
        &self.obligations
    }

    /// The revision of the policy that allowed it.
    pub fn revision(&self) -> &Arc<str> {
        &self.revision
    }
}
