//! What a node is told: one struct of structs, read and checked once.
//!
//! Later sources win: built-in defaults, the TOML file, the environment (`AGENTBUS__NATS__URL`
//! sets `nats.url`), flags. Unknown keys are refused, wherever they stand. What each key means is said
//! once, in [`keys`]. Passwords are in no `Debug` and in nothing that is serialized.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    breakers, chaos,
    cpu::CpuSettings,
    domain::{ConstitutionHash, TenantId, WeightsError},
    impact,
    policy::{Mode, bundle::Algorithm, decision_log},
    secret_file::{self, SecretFileError},
};

mod check;
mod defaults;
mod experiments;
pub mod keys;
mod otlp;
mod redis;
mod secrets;
mod tls;

pub use otlp::{Otlp, OtlpProtocol};
pub use secrets::without_secrets;

/// Everything a node can be told.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    pub node: Node,
    pub nats: Nats,
    /// Absent: an in-memory store, for one node on its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,
    pub http: Http,
    pub log: Log,
    pub constitution: Vec<ConstitutionEntry>,
    pub limits: Limits,
    pub policy: Policy,
    pub cpu: Cpu,
    pub lane: Lane,
    pub registry: Registry,
    pub idempotency: Idempotency,
    pub durable: Durable,
    pub impact: impact::Settings,
    /// When each kind of what a node asks is left alone, and for how long.
    pub breakers: breakers::Table,
    /// What may be broken on purpose, to see what happens.
    pub chaos: chaos::Settings,
    /// Absent: nobody is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// Absent: nothing is exported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<Otlp>,
}

/// Who this node is.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    pub name: String,
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    /// By so much this machine's clock may differ from those of the servers.
    #[serde(with = "humantime_serde")]
    pub clock_tolerance: Duration,
    pub poll_clock: PollClock,
}

/// By which clock it is measured how long a task keeps a thread of the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PollClock {
    /// Costs next to nothing, and runs while something else has the processor.
    Wall,
    /// The thread's own, which costs a call of the system.
    Processor,
}

#[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nats {
    /// May hold a password or a token.
    #[serde(serialize_with = "serialize_without_secrets")]
    pub url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kicker_nkey_file: Option<PathBuf>,
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
}

/// Whom a node trusts and what it shows, instead of the system's root certificates and nothing.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

/// What a node shows, and whose certificates it wants to see.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
    /// Absent: nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathBuf>,
}

#[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// May hold a password.
    #[serde(serialize_with = "serialize_without_secrets")]
    pub url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    #[serde(default)]
    pub allow_no_password: bool,
    /// Holds what verdicts and registrations are sealed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal_key_file: Option<PathBuf>,
    #[serde(default)]
    pub allow_no_seal: bool,
    #[serde(default, with = "humantime_serde")]
    pub accept_unsealed_for: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
}

/// How a node logs in to Redis. Its password is in no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisLogin {
    pub user: Option<String>,
    pub password: String,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    pub listen: SocketAddr,
    pub connections: usize,
    /// Absent: in the clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTls>,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub format: LogFormat,
    pub filter: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people on a terminal, JSON otherwise.
    Auto,
    Human,
    Json,
}

/// A constitution as written in a configuration file: times in RFC 3339.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConstitutionEntry {
    pub hash: ConstitutionHash,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub request_bytes: usize,
    pub in_flight: usize,
    pub in_flight_per_tenant: usize,
    pub asks: usize,
    pub asks_per_tenant: usize,
    #[serde(with = "humantime_serde")]
    pub answer: Duration,
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    #[serde(with = "humantime_serde")]
    pub clock_skew: Duration,
    /// Absent: what the system says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    pub shipped: bool,
    /// Who answers.
    pub mode: Mode,
    /// Of these tenants another.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tenants: BTreeMap<TenantId, Mode>,
    /// Absent: the policy is read from the folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<PolicyBundle>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opa: Option<PolicyOpa>,
    pub log: decision_log::Settings,
}

/// Servers that have the policy too.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyOpa {
    /// URLs, separated by commas.
    pub servers: String,
    /// Of what they are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    #[serde(with = "humantime_serde", default = "defaults::opa_timeout")]
    pub timeout: Duration,
}

impl PolicyOpa {
    /// Each URL.
    pub fn urls(&self) -> Vec<&str> {
        self.servers.split(',').map(str::trim).collect()
    }
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyBundle {
    /// [`PolicyBundle::BUS`], a URL, or a file.
    pub from: String,
    /// Of what a web server is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Absent: bundles need no signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    #[serde(default = "PolicyBundle::algorithm")]
    pub algorithm: Algorithm,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

impl PolicyBundle {
    /// What was pushed onto the bus.
    pub const BUS: &str = "bus";

    pub fn is_url(&self) -> bool {
        self.from.starts_with("http://") || self.from.starts_with("https://")
    }

    /// As OPA has it.
    fn algorithm() -> Algorithm {
        Algorithm::RS256
    }
}

/// Threads for what takes long to compute.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cpu {
    pub threads: usize,
    pub queue: usize,
}

impl From<&Cpu> for CpuSettings {
    fn from(cpu: &Cpu) -> Self {
        let Cpu { threads, queue } = *cpu;
        Self { threads, queue }
    }
}

/// The fast lane.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lane {
    pub threads: usize,
    /// Zero: never.
    #[serde(with = "humantime_serde")]
    pub busy_poll: Duration,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registry {
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Idempotency {
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
}

/// The durable lane.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Durable {
    #[serde(with = "humantime_serde")]
    pub give_up_after: Duration,
}

/// Whom to call about deliberations (`docs/operations.md`, "Webhook").
#[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// May hold a token.
    #[serde(serialize_with = "serialize_without_secrets")]
    pub url: String,
    /// Holds what calls are signed with.
    pub secret_file: PathBuf,
    #[serde(with = "humantime_serde", default = "defaults::webhook_timeout")]
    pub timeout: Duration,
    #[serde(default = "defaults::webhook_attempts")]
    pub attempts: u32,
}

/// The constitution of a bus that was told none (`protocol.md`, "The message").
pub const DEFAULT_CONSTITUTION: &str = "cdd01ef066bc6cf2";

/// Why a configuration is no good: which key, what was found, what was expected.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The sources could not be read or do not fit the struct; names the key and its source.
    #[error("{message}")]
    Source { message: String },
    #[error("{key}: found {found}, expected {expected}")]
    Value { key: String, found: String, expected: String },
    /// The file itself holds a secret, and others can read it.
    #[error("{key} holds a user, a password or a token; {cause}; or set it by {}", keys::variable(key))]
    Exposed { key: &'static str, cause: SecretFileError },
    #[error("impact.weights: {cause}")]
    Weights { cause: WeightsError },
}

impl From<config::ConfigError> for ConfigError {
    fn from(error: config::ConfigError) -> Self {
        let message = error.to_string();
        // A URL that was set for something else than `url` is repeated there.
        Self::Source { message: if message.contains("://") { without_secrets(&message) } else { message } }
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, nkey_file, kicker_nkey_file, ping_interval, timeout, tls } = self;
        f.debug_struct("Nats")
            .field("url", &without_secrets(url))
            .field("nkey_file", nkey_file)
            .field("kicker_nkey_file", kicker_nkey_file)
            .field("ping_interval", ping_interval)
            .field("timeout", timeout)
            .field("tls", tls)
            .finish()
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            url,
            user,
            password_file,
            allow_no_password,
            seal_key_file,
            allow_no_seal,
            accept_unsealed_for,
            tls,
        } = self;
        f.debug_struct("Redis")
            .field("url", &without_secrets(url))
            .field("user", user)
            .field("password_file", password_file)
            .field("allow_no_password", allow_no_password)
            .field("seal_key_file", seal_key_file)
            .field("allow_no_seal", allow_no_seal)
            .field("accept_unsealed_for", accept_unsealed_for)
            .field("tls", tls)
            .finish()
    }
}

impl fmt::Debug for RedisLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLogin").field("user", &self.user).finish_non_exhaustive()
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, secret_file, timeout, attempts } = self;
        f.debug_struct("Webhook")
            .field("url", &without_secrets(url))
            .field("secret_file", secret_file)
            .field("timeout", timeout)
            .field("attempts", attempts)
            .finish()
    }
}

fn serialize_without_secrets<S: serde::Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&without_secrets(url))
}

impl NodeConfig {
    /// Reads all sources. `flags` are `key=value` pairs such as `nats.url=nats://…`.
    pub fn load(file: Option<&std::path::Path>, flags: &[(String, String)]) -> Result<Self, ConfigError> {
        Self::load_from(file, config::Environment::with_prefix("AGENTBUS"), flags)
    }

    fn load_from(
        file: Option<&std::path::Path>,
        environment: config::Environment,
        flags: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let mut builder = config::Config::builder();
        if let Some(path) = file {
            let source = config::File::from(path).format(config::FileFormat::Toml);
            check_exposed(path, &config::Config::builder().add_source(source.clone()).build()?)?;
            builder = builder.add_source(source);
        }
        builder = builder.add_source(environment.prefix_separator("__").separator("__").try_parsing(true));
        for (key, value) in flags {
            builder = builder.set_override(key, value.as_str())?;
        }
        let config: Self = builder.build()?.try_deserialize()?;
        config.check()?;
        Ok(config)
    }
}

/// Keys whose value may hold a secret.
const MAY_HOLD_SECRETS: [&str; 3] = ["nats.url", "redis.url", "webhook.url"];

/// A configuration file with a secret in it is a file with a secret.
fn check_exposed(path: &std::path::Path, file: &config::Config) -> Result<(), ConfigError> {
    let holds = |key: &&str| file.get_string(key).is_ok_and(|url| without_secrets(&url) != url);
    let Some(key) = MAY_HOLD_SECRETS.into_iter().find(holds) else { return Ok(()) };
    secret_file::check(path).map_err(|cause| ConfigError::Exposed { key, cause })
}

#[cfg(test)]
pub(crate) mod tests;
