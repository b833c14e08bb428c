//! A tenant as its operator configured it: agents, roles, limits, labels.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{AgentId, CapabilityId, Encoding, MessageType, RuleKind, TenantId, Weights};

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
    /// Who judges what is parked, and how.
    #[serde(default)]
    pub deliberation: Deliberation,
    /// Connections that the servers let it have, so that nodes know each agent's share. Written only where it is other
    /// than usual: the last version's nodes do not know it.
    #[serde(default = "connections", skip_serializing_if = "is_usual")]
    pub connections: u32,
}

/// Connections of a tenant whose file does not say.
pub const CONNECTIONS: u32 = 256;

fn connections() -> u32 {
    CONNECTIONS
}

fn is_usual(connections: &u32) -> bool {
    *connections == CONNECTIONS
}

impl Tenant {
    /// What is in the agent's durable inbox is written in this, whether it is registered or away.
    pub fn durable_encoding(&self, agent: &AgentId) -> Encoding {
        self.agents.get(agent).and_then(|grant| grant.encoding).unwrap_or(Encoding::DURABLE)
    }

    /// A tenant without agents, with the default limits.
    pub fn new(id: TenantId) -> Self {
        Self {
            id,
            labels: BTreeMap::new(),
            limits: TenantLimits::default(),
            agents: BTreeMap::new(),
            deliberation: Deliberation::default(),
            connections: CONNECTIONS,
        }
    }
}

/// What the operator grants an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentGrant {
    /// Roles that policy reads as `input.sender.roles`.
    #[serde(default)]
    pub roles: BTreeSet<String>,
    /// Of its durable inbox, and of its live one where it has registered none. Absent: JSON, and as the
    /// sender wrote it. Written only where it is said: the last version's nodes do not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
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
    /// The head that scores the tenant's words, by its name in the nodes' `impact.heads`. Absent: the model's
    /// own. Written only where it is said: the last version's nodes do not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// How far words may lift a message that asks for nothing, 0 to 1, instead of what the node's configuration
    /// says. Written only where it is said, like the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_lift_max: Option<f64>,
    /// The capabilities that may be registered. Absent: what the agents say, if it is a label
    /// ([`CapabilityId::is_label`]). Written only where it is said: the last version's nodes do not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<BTreeSet<CapabilityId>>,
    /// Messages of one agent in an hour, by all nodes together. Absent: as many as its tenant may. Written only where it
    /// is said, as above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_per_agent_hour: Option<u32>,
    /// How far messages may follow from messages. Written only where it is other than usual, as above.
    #[serde(skip_serializing_if = "ChainLimits::is_usual")]
    pub chain: ChainLimits,
    /// Its agents may stop themselves. Written only where it is said, as above.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub self_freeze: bool,
}

/// How far messages may follow from messages, so that agents that answer each other for ever are stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChainLimits {
    /// One after the other.
    pub hops: u32,
    /// That one agent sends because of one delivery.
    pub fan_out: u32,
    /// All that follow from one beginning.
    pub conversation_messages: u32,
    /// What follows a delivery within this counts for its conversation, if it says of nothing that it knows. 0: it does
    /// not.
    #[serde(with = "humantime_serde")]
    pub inherit_within: Duration,
    pub at_limit: AtLimit,
}

/// What becomes of a message that goes too far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtLimit {
    #[default]
    Refuse,
    /// People are asked whether to go on.
    Deliberate,
}

impl ChainLimits {
    /// Of each of its numbers.
    pub const MAX: u32 = 1_000_000;
    pub const INHERIT_WITHIN_MAX: Duration = Duration::from_secs(600);

    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for ChainLimits {
    fn default() -> Self {
        Self {
            hops: 8,
            fan_out: 64,
            conversation_messages: 1_000,
            inherit_within: Duration::ZERO,
            at_limit: AtLimit::Refuse,
        }
    }
}

impl Default for TenantLimits {
    fn default() -> Self {
        Self {
            agents: 100,
            messages_per_minute: 10_000,
            content_bytes: 64 * 1024,
            deliberation_threshold: 0.8,
            weights: None,
            head: None,
            report_lift_max: None,
            capabilities: None,
            messages_per_agent_hour: None,
            chain: ChainLimits::default(),
            self_freeze: false,
        }
    }
}

/// Who judges a tenant's parked messages, and how (`docs/deliberation.md`).
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deliberation {
    /// Who may vote. The sender never.
    pub voters: Electors,
    /// Who may vote as well after `escalate_after`.
    pub stand_ins: Electors,
    /// Of votes under the rule `weighted`, 1 to 1,000; others count 1.
    pub weights: BTreeMap<AgentId, u32>,
    /// Who has a role of the sender's does not vote: nobody judges what their own role proposed.
    pub separate_roles: bool,
    /// Messages that may be parked at one time, about.
    pub open_max: usize,
    pub terms: Terms,
    /// Other terms for some message types.
    pub terms_by_type: BTreeMap<MessageType, Terms>,
    pub adaptive: Adaptive,
    /// Whether `agentbus deliberations export` may write the tenant's messages to a file. Written only where
    /// it is so: the last version's nodes do not know it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub export_texts: bool,
}

impl Deliberation {
    pub fn terms(&self, message_type: MessageType) -> &Terms {
        self.terms_by_type.get(&message_type).unwrap_or(&self.terms)
    }
}

impl Default for Deliberation {
    fn default() -> Self {
        Self {
            voters: Electors { roles: ["judicial".to_owned()].into(), agents: BTreeSet::new() },
            stand_ins: Electors { roles: ["controller".to_owned()].into(), agents: BTreeSet::new() },
            weights: BTreeMap::new(),
            separate_roles: true,
            open_max: 1_000,
            terms: Terms::default(),
            terms_by_type: BTreeMap::new(),
            adaptive: Adaptive::default(),
            export_texts: false,
        }
    }
}

/// Agents by name, and all that have one of the roles.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Electors {
    pub roles: BTreeSet<String>,
    pub agents: BTreeSet<AgentId>,
}

impl Electors {
    /// Whether an agent with these roles is among them.
    pub fn include(&self, agent: &AgentId, roles: &BTreeSet<String>) -> bool {
        self.agents.contains(agent) || !self.roles.is_disjoint(roles)
    }
}

/// By which rule, and how long.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terms {
    pub rule: RuleKind,
    /// 1 to 100; the policy can demand more, never less.
    pub min_approvals: u32,
    /// For the rule `roles`, 1 to 16.
    pub distinct_roles: u32,
    /// 1 s to 7 days.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Absent, or not below `timeout`: never.
    #[serde(with = "humantime_serde")]
    pub escalate_after: Option<Duration>,
}

/// "Standard" of the approvals in `origin.md` has 72 h and 24 h; a bus that waits three days for a
/// message helps nobody.
impl Default for Terms {
    fn default() -> Self {
        Self {
            rule: RuleKind::Quorum,
            min_approvals: 1,
            distinct_roles: 2,
            timeout: Duration::from_secs(24 * 3600),
            escalate_after: Some(Duration::from_secs(4 * 3600)),
        }
    }
}

/// Whether reviewers' judgements move the threshold of deliberation.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Adaptive {
    pub enabled: bool,
    /// Never below this, 0.5 to 0.95.
    pub floor: f64,
    /// Never above this, `floor` to 0.95.
    pub ceiling: f64,
}

/// A message of critical priority scores 0.9 at least: below that, no habit of approving lets it past its
/// reviewers.
impl Default for Adaptive {
    fn default() -> Self {
        Self { enabled: false, floor: 0.5, ceiling: 0.85 }
    }
}
