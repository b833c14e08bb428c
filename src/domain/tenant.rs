//! A tenant as its operator configured it: agents, roles, limits, labels.

use std::collections::{BTreeMap, BTreeSet};

use super::{AgentId, TenantId, Weights};

/// One tenant of the directory that `agentbus tenants apply` publishes and every node watches.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    pub id: TenantId,
    /// Shown to policy as `input.tenant.labels`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub limits: TenantLimits,
    /// The agents that have a NATS user, by id.
    #[serde(default)]
    pub agents: BTreeMap<AgentId, AgentGrant>,
}

impl Tenant {
    /// A tenant without agents, with the default limits.
    pub fn new(id: TenantId) -> Self {
        Self { id, labels: BTreeMap::new(), limits: TenantLimits::default(), agents: BTreeMap::new() }
    }
}

/// What the operator grants an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentGrant {
    /// Roles that policy reads as `input.sender.roles`.
    #[serde(default)]
    pub roles: BTreeSet<String>,
}

/// Bounds of one tenant. Defaults are those of the system this grew from (`origin.md`).
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantLimits {
    /// Agents registered at one time.
    pub agents: usize,
    /// Messages accepted by one node in a minute, bursts of a tenth of it included.
    pub messages_per_minute: u32,
    /// Bytes of one message's content in canonical form.
    pub content_bytes: usize,
    /// An impact score at or above this is deliberated, 0 to 1.
    pub deliberation_threshold: f64,
    /// What the parts of the impact count for, instead of what the node's configuration says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
}

impl Default for TenantLimits {
    fn default() -> Self {
        Self {
            agents: 100,
            messages_per_minute: 10_000,
            content_bytes: 64 * 1024,
            deliberation_threshold: 0.8,
            weights: None,
        }
    }
}
