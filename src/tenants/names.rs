//! What are the accounts, users, streams and subjects called? Written down here and nowhere else.

use std::path::{Path, PathBuf};

use crate::domain::{AgentId, TenantId, Verb};

/// The server's own account: monitoring and reloads.
pub const SYSTEM_ACCOUNT: &str = "SYS";
/// The account of nodes, provisioning and operators. No tenant can have this name: tenants' names
/// are lower case.
pub const BUS_ACCOUNT: &str = "BUS";

/// Fast-lane records, one message per decision.
pub const RECORDS_STREAM: &str = "RECORDS";
pub const RECORDS_SUBJECTS: &str = "record.>";
/// Of one tenant.
pub fn records_of(tenant: &TenantId) -> String {
    format!("record.{tenant}.>")
}

/// Where a tenant's records are kept apart, if they are.
pub fn own_records_stream(tenant: &TenantId) -> String {
    format!("{RECORDS_STREAM}_{tenant}")
}

/// What operators did with dead letters: the one kind of record that is not a node's.
pub const DEAD_LETTER_RECORDS: &str = "record.*.*.*.dead_letter";

/// Logged decisions of the policy, for whoever asks later what another one would have said:
/// `decision.<tenant>.<sender>.<decision id>`.
pub const DECISIONS_STREAM: &str = "DECISIONS";
pub const DECISIONS_SUBJECTS: &str = "decision.*.*.*";

/// The key-value bucket with one entry per tenant.
pub const TENANTS_BUCKET: &str = "agentbus_tenants";
/// The stream below [`TENANTS_BUCKET`].
pub const TENANTS_STREAM: &str = "KV_agentbus_tenants";

/// What waits on a tenant's durable lane to be governed; removed when it is.
pub fn inbound_stream(tenant: &TenantId) -> String {
    format!("IN_{tenant}")
}

/// A tenant's durable inboxes: messages and outcomes, one consumer for each agent, named like it.
pub fn outbound_stream(tenant: &TenantId) -> String {
    format!("OUT_{tenant}")
}

/// Everything in an agent's durable inbox, as its consumer's filter.
pub fn inbox_subjects(tenant: &TenantId, agent: &str) -> String {
    format!("tenant.{tenant}.stored.{agent}.>")
}

/// Of every `OUT_<tenant>`, shared by all nodes: what is in an inbox keeps its place until this consumer has settled it
/// as well. They do when something else is kept that says that it was delivered.
pub const EVIDENCE_CONSUMER: &str = "EVIDENCE";
/// Whatever is in a durable inbox as a message, without its content.
pub(super) fn inbox_messages(tenant: &TenantId) -> String {
    format!("tenant.{tenant}.stored.*.message.*.*")
}

/// Of a tenant.
type Subjects = fn(&TenantId) -> String;

/// What keeps a tenant's evidence where it is: nobody pulls from these, so what they are for leaves with its age alone.
pub const EVIDENCE_KEPT: [(&str, Subjects); 2] =
    [("OUTCOMES", |tenant| format!("tenant.{tenant}.stored.*.outcome.*.*")), ("RECEIPTS", receipts)];

/// That a message was put into an inbox whose content has gone. No agent is called `~`, so none is in any inbox.
fn receipts(tenant: &TenantId) -> String {
    format!("tenant.{tenant}.stored.~.*.*.*")
}

/// Whether a consumer of `OUT_<tenant>` is the bus's own and no agent's inbox.
pub(super) fn is_own_consumer(name: &str) -> bool {
    name == EVIDENCE_CONSUMER || EVIDENCE_KEPT.iter().any(|(own, _)| *own == name)
}

/// The JetStream domain that agents' clients name, to ask for what is in account BUS. Their own account
/// has no JetStream, and the server says so, too, to whoever asks `$JS.API.CONSUMER.INFO` without one.
pub const INBOX_DOMAIN: &str = "BUS";

/// The consumer of every inbound stream that all nodes share.
///
/// Nodes may pull from every consumer that is called like one of theirs, and an agent's inbox is a consumer
/// that is called like the agent: theirs are in capitals, which no agent's id has.
pub const NODES_CONSUMER: &str = "NODES";

/// The logs of a tenant's deliberations: `deliberation.<tenant>.<id>.<event>`.
pub fn deliberations_stream(tenant: &TenantId) -> String {
    format!("DELIBERATIONS_{tenant}")
}

/// The logs of all tenants' deliberations.
pub const DELIBERATIONS_SUBJECTS: &str = "deliberation.*.*.*";
/// Parked messages, to escalate and expire them: given back with a delay until they are due. And decided
/// ones, to act on the decision.
pub const DEADLINES_CONSUMER: &str = "CLERK";
/// What a webhook is told: parked, escalated, decided.
pub const WEBHOOKS_CONSUMER: &str = "WEBHOOKS";

/// What of a tenant's could not be governed: `dead.<tenant>.<sender>.<message>`.
pub fn dead_letters_stream(tenant: &TenantId) -> String {
    format!("DEAD_{tenant}")
}

/// What of all tenants could not be governed.
pub const DEAD_LETTERS_SUBJECTS: &str = "dead.*.*.*";

/// The key-value bucket of learned thresholds, one key for each tenant that learns.
pub const THRESHOLDS_BUCKET: &str = "agentbus_thresholds";
/// The stream below [`THRESHOLDS_BUCKET`].
pub const THRESHOLDS_STREAM: &str = "KV_agentbus_thresholds";

/// What the server publishes when a tenant changed, one subject per tenant: a nudge without content.
pub const TENANTS_CHANGED: &str = "directory.*";

/// Where nodes say that they run, and by which connections.
pub const HEARTBEATS: &str = "nodes.heartbeat";

/// What nodes hear about their policy: what operators ask, `status`, `reload` and `diff`, and [`POLICY_PUSHED`].
pub const POLICY_REQUESTS: &str = "nodes.policy.*";

/// One of them.
pub fn policy_request(word: &str) -> String {
    POLICY_REQUESTS.replace('*', word)
}

/// Where an operator asks what the candidate beside their policy would change.
pub const POLICY_DIFF: &str = "nodes.policy.diff";

/// The key-value bucket of policies: the one in force, and the candidate that judges beside it.
pub const POLICY_BUCKET: &str = "agentbus_policy";
pub const POLICY_BUNDLE: &str = "$KV.agentbus_policy.bundle";
pub const POLICY_SHADOW: &str = "$KV.agentbus_policy.shadow";
/// All of its keys.
pub const POLICY_KEYS: &str = "$KV.agentbus_policy.*";
/// The stream below [`POLICY_BUCKET`].
pub const POLICY_STREAM: &str = "KV_agentbus_policy";
/// What the server publishes when one of both was pushed: a nudge without content.
pub const POLICY_PUSHED: &str = "nodes.policy.pushed";

/// The key-value bucket of what is frozen, with its one key.
pub const FREEZE_BUCKET: &str = "agentbus_freezes";
pub const FREEZES: &str = "$KV.agentbus_freezes.all";
/// The stream below [`FREEZE_BUCKET`].
pub const FREEZE_STREAM: &str = "KV_agentbus_freezes";
/// What nodes hear about it: [`FREEZE_STATUS`] and [`FREEZES_CHANGED`].
pub const FREEZE_REQUESTS: &str = "nodes.freeze.*";
/// Where an operator asks what each node has in force, and says which state is the last.
pub const FREEZE_STATUS: &str = "nodes.freeze.status";
/// What the server publishes when something was frozen or thawed: a nudge without content.
pub const FREEZES_CHANGED: &str = "nodes.freeze.changed";

/// The key-value bucket of constitutions, with its one key.
pub const CONSTITUTION_BUCKET: &str = "agentbus_constitution";
pub const CONSTITUTIONS: &str = "$KV.agentbus_constitution.all";
/// The stream below [`CONSTITUTION_BUCKET`].
pub const CONSTITUTION_STREAM: &str = "KV_agentbus_constitution";
/// What nodes hear about it: [`CONSTITUTION_STATUS`] and [`CONSTITUTIONS_CHANGED`].
pub const CONSTITUTION_REQUESTS: &str = "nodes.constitution.*";
/// Where an operator asks what each node has in force, and says which state is the last.
pub const CONSTITUTION_STATUS: &str = "nodes.constitution.status";
/// What the server publishes when it was changed: a nudge without content.
pub const CONSTITUTIONS_CHANGED: &str = "nodes.constitution.changed";

/// Where an operator asks each node how it is.
pub const NODE_STATUS: &str = "nodes.status";
/// An operator has each node try again what fails, and begin anew what it asks by.
pub const NODE_RECOVERY: &str = "nodes.recover";
/// Where nodes say that they are better or worse than before.
pub const HEALTH_NOTICES: &str = "nodes.health.*";

/// One of them. A node's name is one token.
pub fn health_notice(node: &str) -> String {
    HEALTH_NOTICES.replace('*', node)
}

/// What each agent has used, one message for each hour and run of a node: `usage.<tenant>.<agent>.<hour>.<writer>`.
pub const USAGE_STREAM: &str = "USAGE";
pub const USAGE_SUBJECTS: &str = "usage.*.*.*.*";

/// Where a node keeps an agent's sum of an hour.
pub fn usage(tenant: &TenantId, agent: &AgentId, hour: u64, writer: &str) -> String {
    format!("usage.{tenant}.{agent}.{hour}.{writer}")
}

/// All sums of a tenant, or of an agent of it.
pub fn usage_of(tenant: Option<&TenantId>, agent: Option<&AgentId>) -> String {
    let (tenant, agent) = (tenant.map_or("*", TenantId::as_str), agent.map_or("*", AgentId::as_str));
    format!("usage.{tenant}.{agent}.*.*")
}

/// All nodes answer there to say that they run (ADR-32).
pub const PING_NODES: &str = "$SRV.PING.agentbus";

/// Asks a server to end one of its connections. An id of a server is one token.
pub fn kick(server: &str) -> String {
    format!("$SYS.REQ.SERVER.{server}.KICK")
}

/// Asks all servers who is connected.
pub const CONNECTIONS: &str = "$SYS.REQ.SERVER.PING.CONNZ";
/// Asks all servers how many connections each account has, and how many messages those have written.
pub const ACCOUNTS: &str = "$SYS.REQ.ACCOUNT.PING.STATZ";
/// Where a server says that an account has another number of connections.
pub const CONNECTIONS_CHANGED: &str = "$SYS.ACCOUNT.*.SERVER.CONNS";
/// Where a server says who has connected.
pub const CONNECTED: &str = "$SYS.ACCOUNT.*.CONNECT";

/// Where keepers of the accounts say what they hold (`sync.rs`); in the system account, as all three.
pub(super) const ACCOUNTS_HELD: &str = "agentbus.accounts.held";
/// Where `apply` offers them other accounts.
pub(super) const ACCOUNTS_OFFERED: &str = "agentbus.accounts.offered";
/// Where whoever holds the accounts with a digest, or `*`, gives a part of them.
pub(super) fn accounts_part(digest: &str) -> String {
    format!("agentbus.accounts.part.{digest}")
}
/// What a server runs with, for whoever asks the server itself: an export of the system account that nobody imports.
pub(super) const ACCOUNTS_MARK: &str = "agentbus.accounts.mark.";

/// The queue group in which nodes share requests.
pub const NODES_QUEUE: &str = "nodes";

/// Tenant names that would collide with a folder of [`seed_path`].
pub(super) const RESERVED_TENANTS: &[&str] = &["bus", "sys"];

/// What a node subscribes to, in queue [`NODES_QUEUE`], to serve one verb for all tenants.
pub fn requests_of_all_tenants(verb: Verb) -> String {
    format!("tenant.*.bus.*.{verb}")
}

/// The same for verbs that are none. In one queue with the others: a request reaches one node, by one of both.
pub const REQUESTS_OF_ANY_VERB: &str = "tenant.*.bus.*.*";

/// What a node subscribes to, in queue [`NODES_QUEUE`], to hear the answers to its own questions. `node` is
/// a random token of the process; `*` stands for any.
pub fn answers_to(node: &str) -> String {
    format!("tenant.*.bus.*.answer.{node}.*")
}

/// Where the server tells a node of account BUS that nobody listens to its question: the reply subject of
/// the delivery, which in this account only the server uses.
pub fn unheard_questions(node: &str) -> String {
    format!("bus.*.answer.{node}.*")
}

/// A user of the bus's own accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BusUser {
    /// A node: serves requests, delivers, records.
    Node,
    /// Creates streams and publishes tenants.
    Provisioner,
    /// A person who looks: service statistics, records.
    Operator,
    /// In the system account: reloads.
    Admin,
    /// In the system account: nodes end the connections of a node that is stalled, and of whom an operator has cut off.
    Kicker,
    /// In the system account, beside each server: keeps the server's accounts as the last `apply` made them.
    Keeper,
}

impl BusUser {
    pub const ALL: &[BusUser] = &[
        BusUser::Node,
        BusUser::Provisioner,
        BusUser::Operator,
        BusUser::Admin,
        BusUser::Kicker,
        BusUser::Keeper,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            BusUser::Node => "node",
            BusUser::Provisioner => "provisioner",
            BusUser::Operator => "operator",
            BusUser::Admin => "admin",
            BusUser::Kicker => "kicker",
            BusUser::Keeper => "keeper",
        }
    }

    pub fn account(self) -> &'static str {
        match self {
            BusUser::Node | BusUser::Provisioner | BusUser::Operator => BUS_ACCOUNT,
            BusUser::Admin | BusUser::Kicker | BusUser::Keeper => SYSTEM_ACCOUNT,
        }
    }
}

/// Whoever can log in: an agent of a tenant, or a user of the bus itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum User {
    Bus(BusUser),
    Agent(TenantId, AgentId),
}

impl User {
    /// The prefix of the user's reply subjects, such as `_INBOX.planner`. Clients must set it:
    /// no other inbox can be subscribed to.
    pub fn inbox_prefix(&self) -> String {
        match self {
            User::Bus(user) => format!("_INBOX.{}", user.as_str()),
            User::Agent(_, agent) => format!("_INBOX.{agent}"),
        }
    }

    /// The user's seed below `dir`, such as `keys/acme/planner.nk`.
    pub fn seed_path(&self, dir: &Path) -> PathBuf {
        let (folder, name) = match self {
            User::Bus(user) => (user.account().to_ascii_lowercase(), user.as_str()),
            User::Agent(tenant, agent) => (tenant.to_string(), agent.as_str()),
        };
        keys_dir(dir).join(folder).join(format!("{name}.nk"))
    }
}

impl std::fmt::Display for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            User::Bus(user) => write!(f, "{}/{}", user.account(), user.as_str()),
            User::Agent(tenant, agent) => write!(f, "{tenant}/{agent}"),
        }
    }
}

impl From<BusUser> for User {
    fn from(user: BusUser) -> User {
        User::Bus(user)
    }
}

/// Seeds, one folder per account.
pub fn keys_dir(dir: &Path) -> PathBuf {
    dir.join("keys")
}

/// The generated accounts, included by the server's configuration.
pub fn accounts_conf(dir: &Path) -> PathBuf {
    dir.join("nats").join("accounts.conf")
}

/// The server's configuration.
pub fn server_conf(dir: &Path) -> PathBuf {
    dir.join("nats").join("server.conf")
}
