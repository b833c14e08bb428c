//! What the registry knows of an agent.

use std::{collections::BTreeSet, sync::Arc};

use super::{AgentId, CapabilityId};

/// The encoding of a request and its reply, or the one an agent wants its inbox in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    #[serde(rename = "msgpack")]
    MessagePack,
    Json,
}

impl Encoding {
    pub fn content_type(self) -> &'static str {
        match self {
            Encoding::MessagePack => "application/msgpack",
            Encoding::Json => "application/json",
        }
    }
}

/// A live agent, as it registered itself. Its roles are not here: those are granted by the
/// operator ([`super::AgentGrant`]), never claimed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AgentRecord {
    pub id: AgentId,
    /// Shared between agents that can do the same, which is most of what a node remembers of them.
    #[serde(default)]
    pub capabilities: Arc<BTreeSet<CapabilityId>>,
    /// Inbox encoding; absent means as the sender wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// Free text for people, at most 256 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}
