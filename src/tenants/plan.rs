//! What did the operator ask for? The tenants file, parsed and checked.
//!
//! Everything that comes out of here is within bounds, so that neither a typing error nor a hostile
//! file becomes a server configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use crate::{
    domain::{
        AgentGrant, AgentId, ChainLimits, Deliberation, Encoding, Tenant, TenantId, TenantLimits, id::shown,
        tenant::CONNECTIONS,
    },
    text_file,
};

mod error;

pub use error::PlanError;
pub(super) use error::out_of_bounds;

use super::{
    names::{BusUser, RESERVED_TENANTS, User},
    public_keys::{self, NamedKeys},
    server_conf::PAYLOAD_MAX,
};

/// Bytes of a tenants file.
pub const FILE_MAX: u64 = 4 * 1024 * 1024;
pub const TENANTS_MAX: usize = 1_000;
/// Agents with a user, per tenant.
pub const AGENTS_MAX: usize = 1_000;
/// Capabilities that an operator lists for a tenant.
const CAPABILITIES_MAX: usize = 256;
pub const ROLES_MAX: usize = 16;
pub const LABELS_MAX: usize = 32;
pub const LABEL_BYTES_MAX: usize = 256;
/// Bytes of one tenant as JSON, as nodes read it. Below the server's `max_payload`.
pub const TENANT_BYTES_MAX: usize = 128 * 1024;
/// Half of a server's `max_payload`: the rest is for headers, for the other fields of a message, and for
/// JSON, in which a recipient may want what came as MessagePack, and which is longer.
pub const CONTENT_BYTES_MAX: usize = PAYLOAD_MAX / 2;

/// The tenants that should be, in order of their ids.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    tenants: Vec<Tenant>,
    server_limits: BTreeMap<TenantId, ServerLimits>,
    stores: BTreeMap<TenantId, TenantStore>,
    /// Of users that bring keys of their own.
    keys: BTreeMap<User, Vec<String>>,
}

/// Bounds of one tenant's NATS account, kept by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerLimits {
    pub connections: u32,
    pub subscriptions: u32,
    /// Bytes of one published message with its headers.
    pub payload_bytes: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self { connections: CONNECTIONS, subscriptions: 4_096, payload_bytes: PAYLOAD_MAX }
    }
}

/// How much a tenant's streams may hold. JetStream reserves it on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantStore {
    /// Of messages that wait on the durable lane; more are refused.
    pub waiting_bytes: u64,
    /// Of messages and outcomes in all durable inboxes together; more are not delivered until some are
    /// old enough.
    pub inbox_bytes: u64,
    /// How long they stay, read or not: they are the evidence that nothing happens twice.
    #[serde(with = "humantime_serde")]
    pub inbox_age: Duration,
    /// Of the logs of deliberations. A fifth is for votes and decisions: nothing more is parked then.
    pub deliberations_bytes: u64,
    /// Of messages that were given up. When it is full, the next ones are lost: their senders are told, and it
    /// is counted (`lane_unburied_total`).
    pub dead_letters_bytes: u64,
    /// Of a copy of the tenant's records, so that those of other tenants cannot push them out. 0: there is none.
    pub records_bytes: u64,
}

impl TenantStore {
    /// Bytes that the tenant's streams reserve on disk, each copy.
    pub fn reserved_bytes(&self) -> u64 {
        let Self {
            waiting_bytes,
            inbox_bytes,
            inbox_age: _,
            deliberations_bytes,
            dead_letters_bytes,
            records_bytes,
        } = self;
        [waiting_bytes, inbox_bytes, deliberations_bytes, dead_letters_bytes, records_bytes]
            .into_iter()
            .fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }
}

impl Default for TenantStore {
    fn default() -> Self {
        Self {
            waiting_bytes: 64 << 20,
            inbox_bytes: 256 << 20,
            inbox_age: Duration::from_secs(7 * 24 * 3600),
            deliberations_bytes: 32 << 20,
            dead_letters_bytes: 32 << 20,
            records_bytes: 0,
        }
    }
}

/// Bounds of a stream's bytes: several of the largest messages, and more than a disk has.
const STORE_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 44;
const INBOX_AGE_MIN: Duration = Duration::from_secs(3600);
const INBOX_AGE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

impl Plan {
    /// Reads and checks a tenants file. Blocks.
    pub fn load(path: &Path) -> Result<Plan, PlanError> {
        let read = |source| PlanError::Read { path: path.to_owned(), source };
        Plan::parse(&text_file::read(path, FILE_MAX).map_err(read)?)
    }

    pub fn parse(text: &str) -> Result<Plan, PlanError> {
        if text.len() as u64 > FILE_MAX {
            return Err(PlanError::FileTooLarge { limit: FILE_MAX });
        }
        let file: PlanFile =
            toml::from_str(text).map_err(|e| PlanError::Syntax { message: e.to_string() })?;
        if file.tenants.is_empty() {
            return Err(PlanError::NoTenants);
        }
        at_most(TENANTS_MAX, file.tenants.len(), || "tenants".to_owned())?;
        let mut plan = Plan { keys: file.bus.keys()?, ..Plan::default() };
        for (id, entry) in file.tenants {
            entry.nats.check(&id)?;
            entry.store.check(&id)?;
            let mut agents = BTreeMap::new();
            for (agent, AgentEntry { roles, encoding, nkey, nkeys }) in entry.agents {
                let keys = NamedKeys { nkey, nkeys }.check(&format!("tenants.{id}.agents.{agent}"))?;
                if let Some(keys) = keys {
                    plan.keys.insert(User::Agent(id.clone(), agent.clone()), keys);
                }
                agents.insert(agent, AgentGrant { roles, encoding });
            }
            let tenant = Tenant {
                id: id.clone(),
                labels: entry.labels,
                limits: entry.limits,
                agents,
                deliberation: entry.deliberation,
                connections: entry.nats.connections,
            };
            check_tenant(&tenant)?;
            plan.tenants.push(tenant);
            plan.server_limits.insert(id.clone(), entry.nats);
            plan.stores.insert(id, entry.store);
        }
        public_keys::each_has_one_user(&plan.keys)?;
        Ok(plan)
    }

    /// Tenants `acme` and `globex`, six agents each: the file under `nats/`.
    pub fn example() -> Result<Plan, PlanError> {
        Plan::parse(Plan::EXAMPLE)
    }

    pub const EXAMPLE: &str = include_str!("../../nats/tenants.example.toml");

    pub fn tenants(&self) -> &[Tenant] {
        &self.tenants
    }

    pub fn server_limits(&self, tenant: &TenantId) -> ServerLimits {
        self.server_limits.get(tenant).copied().unwrap_or_default()
    }

    pub fn store(&self, tenant: &TenantId) -> TenantStore {
        self.stores.get(tenant).copied().unwrap_or_default()
    }

    /// The public keys that the file names for a user, instead of the one whose seed is made for it.
    pub fn named_keys(&self, user: &User) -> Option<&[String]> {
        self.keys.get(user).map(Vec::as_slice)
    }

    /// Everybody who gets a NATS user: the bus's own first, then agents.
    pub fn users(&self) -> impl Iterator<Item = User> {
        let bus = BusUser::ALL.iter().map(|&user| User::Bus(user));
        let agents = self.tenants.iter().flat_map(|tenant| {
            tenant.agents.keys().map(|agent| User::Agent(tenant.id.clone(), agent.clone()))
        });
        bus.chain(agents)
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    #[serde(default)]
    tenants: BTreeMap<TenantId, TenantEntry>,
    #[serde(default)]
    bus: BusEntry,
}

/// Users of the bus's own accounts that may bring keys of their own. The others log in only while tenants
/// are applied.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct BusEntry {
    node: Option<NamedKeys>,
    operator: Option<NamedKeys>,
}

impl BusEntry {
    fn keys(self) -> Result<BTreeMap<User, Vec<String>>, PlanError> {
        let named = [(BusUser::Node, self.node), (BusUser::Operator, self.operator)];
        let mut keys = BTreeMap::new();
        for (user, named) in named {
            if let Some(found) = named.unwrap_or_default().check(&format!("bus.{}", user.as_str()))? {
                keys.insert(User::Bus(user), found);
            }
        }
        Ok(keys)
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentEntry {
    #[serde(default)]
    roles: BTreeSet<String>,
    encoding: Option<Encoding>,
    nkey: Option<String>,
    nkeys: Option<Vec<String>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantEntry {
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    limits: TenantLimits,
    #[serde(default)]
    nats: ServerLimits,
    #[serde(default)]
    store: TenantStore,
    #[serde(default)]
    agents: BTreeMap<AgentId, AgentEntry>,
    #[serde(default)]
    deliberation: Deliberation,
}

impl ServerLimits {
    fn check(&self, tenant: &TenantId) -> Result<(), PlanError> {
        let at = |field: &str| format!("tenants.{tenant}.nats.{field}");
        within(at("connections"), self.connections as usize, 1, 65_536)?;
        within(at("subscriptions"), self.subscriptions as usize, 1, 1_000_000)?;
        within(at("payload_bytes"), self.payload_bytes, 1_024, PAYLOAD_MAX)
    }
}

impl TenantStore {
    fn check(&self, tenant: &TenantId) -> Result<(), PlanError> {
        let at = |field: &str| format!("tenants.{tenant}.store.{field}");
        for (field, bytes) in [
            ("waiting_bytes", self.waiting_bytes),
            ("inbox_bytes", self.inbox_bytes),
            ("deliberations_bytes", self.deliberations_bytes),
            ("dead_letters_bytes", self.dead_letters_bytes),
        ] {
            if !STORE_BYTES.contains(&bytes) {
                let expected = format!("{} to {}", STORE_BYTES.start(), STORE_BYTES.end());
                return Err(out_of_bounds(at(field), &expected, bytes.to_string()));
            }
        }
        if self.records_bytes != 0 && !STORE_BYTES.contains(&self.records_bytes) {
            let expected = format!("0, or {} to {}", STORE_BYTES.start(), STORE_BYTES.end());
            return Err(out_of_bounds(at("records_bytes"), &expected, self.records_bytes.to_string()));
        }
        if !(INBOX_AGE_MIN..=INBOX_AGE_MAX).contains(&self.inbox_age) {
            let found = humantime::format_duration(self.inbox_age).to_string();
            return Err(out_of_bounds(at("inbox_age"), "1h to 365days", found));
        }
        Ok(())
    }
}

fn check_tenant(tenant: &Tenant) -> Result<(), PlanError> {
    let Tenant { id, labels, limits, agents, deliberation, connections: _ } = tenant;
    if RESERVED_TENANTS.contains(&id.as_str()) {
        return Err(PlanError::ReservedName { tenant: id.clone() });
    }
    let at = |field: &str| format!("tenants.{id}.{field}");
    within(at("limits.agents"), limits.agents, 1, 100_000)?;
    within(at("limits.messages_per_minute"), limits.messages_per_minute as usize, 1, 10_000_000)?;
    within(at("limits.content_bytes"), limits.content_bytes, 1, CONTENT_BYTES_MAX)?;
    if let Some(found) = limits.messages_per_agent_hour {
        within(at("limits.messages_per_agent_hour"), found as usize, 1, 10_000_000)?;
    }
    let ChainLimits { hops, fan_out, conversation_messages, inherit_within, at_limit: _ } = limits.chain;
    if inherit_within > ChainLimits::INHERIT_WITHIN_MAX {
        let found = humantime::format_duration(inherit_within).to_string();
        return Err(out_of_bounds(at("limits.chain.inherit_within"), "0s to 10m", found));
    }
    for (name, found) in
        [("hops", hops), ("fan_out", fan_out), ("conversation_messages", conversation_messages)]
    {
        let at = at(&format!("limits.chain.{name}"));
        within(at, found as usize, 1, ChainLimits::MAX as usize)?;
    }
    let shares = [
        ("deliberation_threshold", Some(limits.deliberation_threshold)),
        ("report_lift_max", limits.report_lift_max),
    ];
    for (name, found) in shares {
        if let Some(found) = found.filter(|found| !(0.0..=1.0).contains(found)) {
            return Err(out_of_bounds(at(&format!("limits.{name}")), "0 to 1", found.to_string()));
        }
    }

    if let Some(weights) = &limits.weights {
        weights.check().map_err(|cause| PlanError::Weights { tenant: id.clone(), cause })?;
    }

    let named = limits.capabilities.as_ref().map_or(0, |named| named.len());
    at_most(CAPABILITIES_MAX, named, || format!("capabilities for tenant {id}"))?;

    at_most(AGENTS_MAX, agents.len(), || format!("agents in tenant {id}"))?;
    for (agent, grant) in agents {
        at_most(ROLES_MAX, grant.roles.len(), || format!("roles for {id}/{agent}"))?;
        for role in &grant.roles {
            word(at(&format!("agents.{agent}.roles")), role)?;
        }
    }

    deliberation.check().map_err(|cause| PlanError::Deliberation { tenant: id.clone(), cause })?;
    let Deliberation { voters, stand_ins, weights, .. } = deliberation;
    let named = [("voters", &voters.agents), ("stand_ins", &stand_ins.agents)];
    let named = named.into_iter().flat_map(|(at, agents)| agents.iter().map(move |agent| (at, agent)));
    for (part, agent) in named.chain(weights.keys().map(|agent| ("weights", agent))) {
        if !agents.contains_key(agent) {
            let expected = format!("agents of tenant {id}");
            return Err(out_of_bounds(at(&format!("deliberation.{part}")), &expected, agent.to_string()));
        }
    }

    at_most(LABELS_MAX, labels.len(), || format!("labels for tenant {id}"))?;
    for (label, value) in labels {
        word(at("labels"), label)?;
        if value.len() > LABEL_BYTES_MAX || value.chars().any(char::is_control) {
            let expected = format!("at most {LABEL_BYTES_MAX} bytes without control characters");
            return Err(out_of_bounds(at(&format!("labels.{label}")), &expected, shown(value)));
        }
    }

    // Numbers, checked words and maps of them: this cannot fail, and if it did it must not pass.
    let bytes = serde_json::to_vec(tenant).map_or(usize::MAX, |json| json.len());
    at_most(TENANT_BYTES_MAX, bytes, || format!("bytes for tenant {id} in all"))
}

/// A role or a label's name.
fn word(at: String, text: &str) -> Result<(), PlanError> {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
        return Ok(());
    }
    Err(out_of_bounds(at, "words of 1 to 64 of [a-z0-9_-]", shown(text)))
}

fn within(at: String, found: usize, min: usize, max: usize) -> Result<(), PlanError> {
    if (min..=max).contains(&found) {
        return Ok(());
    }
    Err(out_of_bounds(at, &format!("{min} to {max}"), found.to_string()))
}

fn at_most(limit: usize, found: usize, what: impl FnOnce() -> String) -> Result<(), PlanError> {
    if found <= limit { Ok(()) } else { Err(PlanError::TooMany { what: what(), limit, found }) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::domain::Weights;

    #[test]
    fn the_example_has_two_tenants_and_every_role() {
        let plan = Plan::example().unwrap();
        let ids: Vec<_> = plan.tenants().iter().map(|t| t.id.as_str()).collect();
        assert_eq!(ids, ["acme", "globex"]);
        for tenant in plan.tenants() {
            let roles: BTreeSet<_> =
                tenant.agents.values().flat_map(|a| &a.roles).map(String::as_str).collect();
            let all =
                ["auditor", "controller", "executive", "implementer", "judicial", "legislative", "monitor"];
            assert_eq!(roles, BTreeSet::from(all), "{}", tenant.id);
        }
        assert_eq!(plan.users().count(), 6 + 12);
    }

    #[test]
    fn a_file_out_of_bounds_is_refused_with_the_place_and_the_facts() {
        let many = |n: usize| (0..n).map(|i| format!("a{i} = {{}}\n")).collect::<String>();
        let roles = (0..17).map(|i| format!("\"r{i}\"")).collect::<Vec<_>>().join(",");
        let long = "x".repeat(300);
        let cases: &[(String, &str)] = &[
            (String::new(), "names no tenant"),
            ("tenants = 3".into(), "invalid type"),
            ("[tenants.acme]\n[tenants.acme]".into(), "duplicate key"),
            ("[tenants.ac]".into(), "3 to 64"),
            ("[tenants.\"a.b>c\"]".into(), "found \"a.b>c\""),
            ("[tenants.bus]".into(), "the bus's own"),
            ("[tenants.sys]".into(), "the bus's own"),
            ("[tenants.acme]\ncolour = 1".into(), "unknown field `colour`"),
            ("[tenants.acme]\nid = \"globex\"".into(), "unknown field `id`"),
            ("[other]".into(), "unknown field `other`"),
            ("[tenants.acme.limits]\nagent = 1".into(), "unknown field `agent`"),
            ("[tenants.acme.agents.w]\nrole = []".into(), "unknown field `role`"),
            ("[tenants.acme.limits]\nagents = 0".into(), "limits.agents must be 1 to"),
            ("[tenants.acme.limits]\nagents = -1".into(), "-1"),
            ("[tenants.acme.limits]\nmessages_per_minute = 0".into(), "messages_per_minute must be"),
            (
                "[tenants.acme.limits]\nchain = { hops = 0 }".into(),
                "limits.chain.hops must be 1 to 1000000, found 0",
            ),
            (
                "[tenants.acme.limits]\nmessages_per_agent_hour = 0".into(),
                "messages_per_agent_hour must be 1 to 10000000, found 0",
            ),
            (
                "[tenants.acme.limits]\nchain = { inherit_within = \"1h\" }".into(),
                "limits.chain.inherit_within must be 0s to 10m, found 1h",
            ),
            ("[tenants.acme.limits]\nchain = { at_limit = \"ask\" }".into(), "unknown variant `ask`"),
            ("[tenants.acme.limits]\ncontent_bytes = 262144".into(), "1 to 131072, found 262144"),
            ("[tenants.acme.limits]\ndeliberation_threshold = nan".into(), "0 to 1, found NaN"),
            ("[tenants.acme.limits]\ndeliberation_threshold = 1.1".into(), "0 to 1, found 1.1"),
            (
                "[tenants.acme.limits]\nreport_lift_max = nan".into(),
                "limits.report_lift_max must be 0 to 1, found NaN",
            ),
            (
                "[tenants.acme.limits]\nweights = { semantic = -1 }".into(),
                "tenants.acme.limits.weights: the weight of semantic is -1, expected 0 to 1000",
            ),
            ("[tenants.acme.limits.weights]\ntype = nan".into(), "the weight of type is NaN"),
            (
                "[tenants.acme.limits.weights]\nsemantic = 0\npermission = 0\nvolume = 0\ncontext = 0\n\
                 drift = 0\npriority = 0\ntype = 0"
                    .into(),
                "all weights are 0",
            ),
            ("[tenants.acme.limits]\nweights = { words = 1 }".into(), "unknown field `words`"),
            ("[tenants.acme.limits]\nweights = 1".into(), "weights"),
            ("[tenants.acme.nats]\nconnections = 0".into(), "nats.connections must be"),
            ("[tenants.acme.nats]\npayload_bytes = 1000000".into(), "nats.payload_bytes must be"),
            ("[tenants.acme.agents]\n\"w.>\" = {}".into(), "agent must be 1 to 64"),
            ("[tenants.acme.agents]\nw = { roles = [\"a b\"] }".into(), "agents.w.roles must be words"),
            (format!("[tenants.acme.agents]\nw = {{ roles = [{roles}] }}"), "at most 16 roles"),
            (format!("[tenants.acme.agents]\n{}", many(1001)), "at most 1000 agents"),
            ("[tenants.acme.labels]\n\"a.b\" = \"1\"".into(), "labels must be words"),
            (format!("[tenants.acme.labels]\na = \"{long}\""), "at most 256 bytes"),
            ("[tenants.acme.labels]\na = \"x\\u0000\"".into(), "without control"),
            ("[tenants.acme.store]\nwaiting_bytes = 1000".into(), "waiting_bytes must be 1048576 to"),
            (
                "[tenants.acme.store]\ndeliberations_bytes = 1".into(),
                "deliberations_bytes must be 1048576 to",
            ),
            ("[tenants.acme.store]\ndead_letters_bytes = 0".into(), "dead_letters_bytes must be 1048576 to"),
            ("[tenants.acme.store]\ninbox_age = \"1m\"".into(), "inbox_age must be 1h to 365days, found 1m"),
            ("[tenants.acme.store]\nage = 1".into(), "unknown field `age`"),
            ("[tenants.acme.deliberation]\nopen_max = 0".into(), "acme.deliberation.open_max must be 1 to"),
            (
                "[tenants.acme.deliberation]\nvoters = { agents = [\"nobody\"] }".into(),
                "deliberation.voters must be agents of tenant acme, found nobody",
            ),
            (
                "[tenants.acme.deliberation]\nweights = { nobody = 3 }".into(),
                "deliberation.weights must be agents of tenant acme, found nobody",
            ),
            ("[tenants.acme.limits]\ncapabilities = [\"Sum it\"]".into(), "capability must be 1 to 64"),
            (
                format!(
                    "[tenants.acme.limits]\ncapabilities = {:?}",
                    (0..257).map(|n| format!("c{n}")).collect::<Vec<_>>()
                ),
                "at most 256 capabilities",
            ),
            (" ".repeat(FILE_MAX as usize + 1), "at most 4194304 bytes"),
        ];
        for (text, expected) in cases {
            let message = Plan::parse(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{message:?} does not say {expected:?}");
        }
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let plan = Plan::parse("[tenants.acme]").unwrap();
        let tenant = plan.tenants().first().unwrap();
        assert_eq!(tenant.limits, TenantLimits::default());
        assert_eq!(plan.server_limits(&tenant.id), ServerLimits::default());
        assert_eq!(plan.store(&tenant.id), TenantStore::default());
    }

    #[test]
    fn capabilities_are_listed_where_the_operator_lists_them_and_not_published_elsewhere() {
        let listed = Plan::parse("[tenants.acme.limits]\ncapabilities = [\"sum\"]").unwrap();
        let limits = |plan: &Plan| serde_json::to_value(&plan.tenants().first().unwrap().limits).unwrap();
        assert_eq!(limits(&listed)["capabilities"], serde_json::json!(["sum"]));
        // A node of the last version reads what does not use it.
        assert!(limits(&Plan::parse("[tenants.acme]").unwrap()).get("capabilities").is_none());
    }

    #[test]
    fn weights_that_are_not_said_have_their_defaults() {
        let plan = Plan::parse("[tenants.acme.limits]\nweights = { semantic = 0.5 }").unwrap();
        let expected = Weights { semantic: 0.5, ..Weights::default() };
        assert_eq!(plan.tenants().first().unwrap().limits.weights, Some(expected));
    }
}
