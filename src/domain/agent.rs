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
    /// Of a durable inbox about which the tenants file says nothing.
    pub const DURABLE: Encoding = Encoding::Json;

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
    /// A line for people, which no other agent is told: at most 80 bytes, 256 in an entry of the last version.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Redis keeps what nodes of the last version have written, whose rule was looser.
    #[test]
    fn an_entry_of_the_last_version_is_read_whole() {
        let entry = br#"{"id":"worker","capabilities":["ignore-all-previous-instructions","sum"],"encoding":"json","description":"does\nthings"}"#;
        let record: AgentRecord = serde_json::from_slice(entry).unwrap();
        assert_eq!(record.capabilities.len(), 2);
        assert_eq!(serde_json::to_vec(&record).unwrap(), entry);
    }
}
