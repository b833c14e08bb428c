//! What has an operator stopped, and does it concern a message?

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{AgentId, Message, MessageId, Recipient, TenantId, Timestamp};

/// Freezes in force at one time: every message is held against each.
pub const FREEZES_MAX: usize = 64;
/// Bytes of why, which senders read.
pub const WHY_BYTES_MAX: usize = 300;

/// What is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Scope {
    Everything,
    Tenant {
        tenant: TenantId,
    },
    /// What it sends, and what is sent to it.
    Agent {
        tenant: TenantId,
        agent: AgentId,
    },
    /// Of the messages that name it.
    Conversation {
        tenant: TenantId,
        conversation: MessageId,
    },
}

/// One decision of an operator, in force until it is thawed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    #[serde(flatten)]
    pub scope: Scope,
    pub why: String,
    /// By the clock of who did it, in milliseconds since 1970.
    pub at: Timestamp,
    /// What that person's machine calls them, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
}

impl Scope {
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Everything => None,
            Self::Tenant { tenant } | Self::Agent { tenant, .. } | Self::Conversation { tenant, .. } => {
                Some(tenant)
            }
        }
    }

    /// Whether nothing of the tenant's goes on.
    pub fn is_all_of(&self, tenant: &TenantId) -> bool {
        match self {
            Self::Everything => true,
            Self::Tenant { tenant: frozen } => frozen == tenant,
            Self::Agent { .. } | Self::Conversation { .. } => false,
        }
    }

    /// Whether this agent alone is stopped.
    pub fn is_agent(&self, tenant: &TenantId, agent: &AgentId) -> bool {
        matches!(self, Self::Agent { tenant: of, agent: frozen } if of == tenant && frozen == agent)
    }

    pub fn stops(&self, message: &Message) -> bool {
        let Message { tenant, sender, to, conversation_id, .. } = message;
        match self {
            Self::Everything | Self::Tenant { .. } => self.is_all_of(tenant),
            Self::Agent { .. } => {
                let recipient = |to: &Recipient| match to {
                    Recipient::Agent(agent) => self.is_agent(tenant, agent),
                    Recipient::Capability(_) | Recipient::Broadcast(_) => false,
                };
                self.is_agent(tenant, sender) || recipient(to)
            }
            Self::Conversation { tenant: of, conversation } => {
                of == tenant && conversation_id.as_ref() == Some(conversation)
            }
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("everything"),
            Self::Tenant { tenant } => write!(f, "tenant {tenant}"),
            Self::Agent { tenant, agent } => write!(f, "agent {tenant}/{agent}"),
            Self::Conversation { tenant, conversation } => write!(f, "conversation {tenant}/{conversation}"),
        }
    }
}
