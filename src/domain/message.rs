//! A message between agents, decoded and stamped, before and after it is judged.

use std::collections::{BTreeMap, BTreeSet};

use super::{AgentId, CapabilityId, ConstitutionHash, MessageId, TenantId, Timestamp, Value};

/// One message. Made only by `wire::decode`, which ties it to the tenant and the sender that NATS
/// stamped into the subject.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub id: MessageId,
    pub tenant: TenantId,
    pub sender: AgentId,
    pub conversation_id: Option<MessageId>,
    pub in_reply_to: Option<MessageId>,
    pub message_type: MessageType,
    pub to: Recipient,
    pub priority: Priority,
    pub constitution: ConstitutionHash,
    /// Not empty.
    pub content: BTreeMap<String, Value>,
    /// Words for what the recipient is asked to do or use, such as `read` or `transfer`.
    pub tools: BTreeSet<String>,
    pub metadata: BTreeMap<String, String>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    Agent(AgentId),
    /// One live holder of the capability, the least recently used first.
    Capability(CapabilityId),
    /// All of the tenant that match, but the sender.
    Broadcast(BroadcastFilter),
}

/// Both given: both must match. Empty: everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BroadcastFilter {
    pub capability: Option<CapabilityId>,
    pub role: Option<String>,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            pub const ALL: &[$name] = &[$($name::$variant),+];
            /// Every word, for error messages.
            pub const WORDS: &[&str] = &[$($word),+];

            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }

            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some($name::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words!(
    /// What kind of act a message is.
    MessageType {
        Command = "command",
        Query = "query",
        Response = "response",
        Event = "event",
        Notification = "notification",
        Heartbeat = "heartbeat",
        GovernanceRequest = "governance_request",
        GovernanceResponse = "governance_response",
        ConstitutionalValidation = "constitutional_validation",
        TaskRequest = "task_request",
        TaskResponse = "task_response",
        AuditLog = "audit_log",
    }
);

impl MessageType {
    /// The type of message that answers a question of this type, if it is one.
    pub fn answered_by(self) -> Option<MessageType> {
        match self {
            MessageType::Query => Some(MessageType::Response),
            MessageType::TaskRequest => Some(MessageType::TaskResponse),
            MessageType::GovernanceRequest => Some(MessageType::GovernanceResponse),
            MessageType::Command
            | MessageType::Response
            | MessageType::Event
            | MessageType::Notification
            | MessageType::Heartbeat
            | MessageType::GovernanceResponse
            | MessageType::ConstitutionalValidation
            | MessageType::TaskResponse
            | MessageType::AuditLog => None,
        }
    }
}

words!(
    /// How urgent the sender says it is. Ordered: `Low < Critical`.
    Priority {
        Low = "low",
        Normal = "normal",
        High = "high",
        Critical = "critical",
    }
);
