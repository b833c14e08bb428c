//! What led to the messages that agents got? Kept for as long as repeats are known, for who gets one and hands it back.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{AgentId, Cause, Conversation, MessageId, TenantId};

/// A conversation in which nothing was let through for so long begins anew.
pub const CONVERSATION_LIFE: Duration = Duration::from_secs(3_600);
/// Recipients that one call tells of: more take several.
pub const FOLLOWED_AT_ONCE: usize = 128;

/// The causes of what was delivered, over all nodes. Each is found by its recipient alone, in its own tenant.
#[async_trait]
pub trait Causes: Send + Sync {
    /// What does follow from what the agent hands back?
    async fn cause(&self, tenant: &TenantId, handed: &HandedBack) -> Result<Known, StoreError>;

    /// A message goes: from now on its recipients find this by any of its names.
    async fn follow(&self, tenant: &TenantId, followed: &Followed) -> Result<(), StoreError>;

    /// A message was let through: it counts in its conversation, and of what it answers.
    async fn count(&self, tenant: &TenantId, counted: &Counted) -> Result<(), StoreError>;

    /// People let the conversation go on: its messages count from 0.
    async fn renew(&self, tenant: &TenantId, conversation: &Conversation) -> Result<(), StoreError>;
}

/// What an agent says that its message follows from. Neither: only its conversation is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedBack {
    pub by: AgentId,
    /// A delivery to it, by its message id or its decision.
    pub answered: Option<MessageId>,
    /// The same by the span of its trace.
    pub span: Option<String>,
    /// To whom the message goes, if to one: what it answers is rather that agent's than another's of the same id.
    pub to: Option<AgentId>,
    /// To which it belongs if nothing is known of what it answers.
    pub conversation: Conversation,
}

/// What is known of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Of whatever follows from the delivery. `None`: it began a chain, or is forgotten, or never was.
    pub cause: Option<Cause>,
    /// Messages by which the agent has answered the same.
    pub followers: u32,
    /// Messages of the conversation.
    pub messages: u32,
}

/// A message that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    pub recipients: Vec<AgentId>,
    /// By which they may hand it back.
    pub names: Vec<Name>,
    /// Of whatever follows from it.
    pub cause: Cause,
}

/// In what a message counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    pub conversation: Conversation,
    /// What it answers, and whose delivery that was.
    pub answered: Option<(AgentId, MessageId)>,
}

/// What a delivery is handed back by, as its key ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Name {
    /// Chosen by its sender.
    Message(MessageId),
    Decision(MessageId),
    Span(String),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(id) => write!(f, "message:{id}"),
            Self::Decision(id) => write!(f, "decision:{id}"),
            Self::Span(span) => write!(f, "span:{span}"),
        }
    }
}
