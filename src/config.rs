//! What a node is told: one struct of structs, read and checked once.
//!
//! Later sources win: built-in defaults, the TOML file, the environment (`AGENTBUS__NATS__URL`
//! sets `nats.url`), flags. Unknown keys are refused, wherever they stand. What each key means is said
//! once, in [`keys`]. Passwords are in no `Debug` and in nothing that is serialized.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    domain::{Constitution, ConstitutionHash, Timestamp, WeightsError},
    impact,
};

pub mod keys;
mod secrets;

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
    pub registry: Registry,
    pub idempotency: Idempotency,
    pub impact: impact::Settings,
}

/// Who this node is.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    pub name: String,
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

#[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nats {
    /// May hold a password or a token.
    #[serde(serialize_with = "serialize_without_secrets")]
    pub url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey_file: Option<PathBuf>,
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

#[derive(Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// May hold a password.
    #[serde(serialize_with = "serialize_without_secrets")]
    pub url: String,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    pub listen: SocketAddr,
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
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    #[serde(with = "humantime_serde")]
    pub clock_skew: Duration,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    pub shipped: bool,
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

/// The constitution of a bus that was told none (`protocol.md`, "The message").
pub const DEFAULT_CONSTITUTION: &str = "cdd01ef066bc6cf2";

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            node: Node::default(),
            nats: Nats::default(),
            redis: None,
            http: Http::default(),
            log: Log::default(),
            constitution: DEFAULT_CONSTITUTION
                .parse()
                .map(|hash| ConstitutionEntry { hash, from: None, until: None })
                .into_iter()
                .collect(),
            limits: Limits::default(),
            policy: Policy::default(),
            registry: Registry::default(),
            idempotency: Idempotency::default(),
            impact: impact::Settings::default(),
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self { name: "node-1".to_owned(), drain: Duration::from_secs(8) }
    }
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".to_owned(),
            nkey_file: None,
            ping_interval: Duration::from_secs(2),
            timeout: Duration::from_secs(2),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8080)) }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Auto, filter: "info".to_owned() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: 192 * 1024,
            in_flight: 1024,
            in_flight_per_tenant: 512,
            deadline: Duration::from_secs(1),
            clock_skew: Duration::from_secs(30),
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self { dir: None, shipped: true }
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(30) }
    }
}

impl Default for Idempotency {
    fn default() -> Self {
        Self { window: Duration::from_secs(600), lease: Duration::from_secs(2) }
    }
}

/// Why a configuration is no good: which key, what was found, what was expected.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The sources could not be read or do not fit the struct; names the key and its source.
    #[error("{message}")]
    Source { message: String },
    #[error("{key}: found {found}, expected {expected}")]
    Value { key: String, found: String, expected: String },
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
        let Self { url, nkey_file, ping_interval, timeout } = self;
        f.debug_struct("Nats")
            .field("url", &without_secrets(url))
            .field("nkey_file", nkey_file)
            .field("ping_interval", ping_interval)
            .field("timeout", timeout)
            .finish()
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url } = self;
        f.debug_struct("Redis").field("url", &without_secrets(url)).finish()
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
            builder = builder.add_source(config::File::from(path).format(config::FileFormat::Toml));
        }
        builder = builder.add_source(environment.prefix_separator("__").separator("__").try_parsing(true));
        for (key, value) in flags {
            builder = builder.set_override(key, value.as_str())?;
        }
        let config: Self = builder.build()?.try_deserialize()?;
        config.check()?;
        Ok(config)
    }

    /// What the types cannot say: ranges, and values that must fit each other.
    fn check(&self) -> Result<(), ConfigError> {
        let fail = |key: &str, found: String, expected: &str| {
            Err(ConfigError::Value { key: key.to_owned(), found, expected: expected.to_owned() })
        };
        if self.node.name.parse::<crate::domain::AgentId>().is_err() {
            return fail("node.name", crate::domain::id::shown(&self.node.name), "1 to 64 of [a-z0-9_-]");
        }
        if self.constitution.is_empty() {
            return fail("constitution", "none".to_owned(), "at least one");
        }
        self.constitutions()?;
        self.check_ranges()?;
        let Limits { in_flight, in_flight_per_tenant, deadline, .. } = self.limits;
        if in_flight_per_tenant > in_flight {
            let found = in_flight_per_tenant.to_string();
            return fail(
                "limits.in_flight_per_tenant",
                found,
                &format!("at most limits.in_flight, {in_flight}"),
            );
        }
        if self.impact.scorer == impact::ScorerKind::Model && self.impact.deadline >= deadline {
            return fail(
                "impact.deadline",
                humantime::format_duration(self.impact.deadline).to_string(),
                "less than limits.deadline, so that a message without a score has a verdict",
            );
        }
        if !cfg!(feature = "model") && self.impact.scorer == impact::ScorerKind::Model {
            return fail(
                "impact.scorer",
                "model".to_owned(),
                "keywords: this program was built without the model",
            );
        }
        let Idempotency { window, lease } = self.idempotency;
        if lease < deadline * 3 / 2 {
            return fail(
                "idempotency.lease",
                humantime::format_duration(lease).to_string(),
                "at least one and a half times limits.deadline, so that no live node is taken over from",
            );
        }
        if window < lease {
            return fail(
                "idempotency.window",
                humantime::format_duration(window).to_string(),
                "at least idempotency.lease",
            );
        }
        Ok(())
    }

    /// Each value on its own. What is within them can be reckoned with.
    fn check_ranges(&self) -> Result<(), ConfigError> {
        const MILLISECOND: Duration = Duration::from_millis(1);
        const MINUTE: Duration = Duration::from_secs(60);
        const HOUR: Duration = Duration::from_secs(60 * 60);
        let Self { node, nats, limits, registry, idempotency, impact, .. } = self;
        for (key, found, min, max) in [
            ("node.drain", node.drain, Duration::ZERO, MINUTE),
            ("nats.timeout", nats.timeout, MILLISECOND, HOUR),
            ("nats.ping_interval", nats.ping_interval, MILLISECOND, HOUR),
            ("limits.deadline", limits.deadline, MILLISECOND, 10 * MINUTE),
            ("limits.clock_skew", limits.clock_skew, Duration::ZERO, HOUR),
            ("registry.ttl", registry.ttl, MILLISECOND, HOUR),
            ("idempotency.window", idempotency.window, MILLISECOND, 24 * HOUR),
            ("idempotency.lease", idempotency.lease, MILLISECOND, HOUR),
            ("impact.deadline", impact.deadline, MILLISECOND, MINUTE),
        ] {
            within(key, found, min, max, |duration| humantime::format_duration(duration).to_string())?;
        }
        for (key, found, min, max) in [
            ("limits.in_flight", limits.in_flight, 1, 65_536),
            ("limits.in_flight_per_tenant", limits.in_flight_per_tenant, 1, 65_536),
            ("limits.request_bytes", limits.request_bytes, 1024, 8 * 1024 * 1024),
            ("impact.threads", impact.threads, 0, 256),
            ("impact.nice", impact.nice.into(), 0, 19),
            ("impact.queue", impact.queue, 1, 65_536),
            ("impact.windows_max", impact.windows_max, 1, 4_096),
        ] {
            within(key, found, min, max, |number| number.to_string())?;
        }
        within("impact.senders_max", impact.senders_max, 1, 1_000_000, |number| number.to_string())?;
        within("impact.cache_entries", impact.cache_entries, 0, 10_000_000, |number| number.to_string())?;
        impact.weights.check().map_err(|cause| ConfigError::Weights { cause })
    }

    /// The constitutions with their times parsed.
    pub fn constitutions(&self) -> Result<Vec<Constitution>, ConfigError> {
        self.constitution
            .iter()
            .enumerate()
            .map(|(index, entry)| {
                let from = instant(&format!("constitution[{index}].from"), entry.from.as_deref())?;
                let until = instant(&format!("constitution[{index}].until"), entry.until.as_deref())?;
                if let (Some(from), Some(until)) = (from, until)
                    && until <= from
                {
                    return Err(ConfigError::Value {
                        key: format!("constitution[{index}].until"),
                        found: entry.until.clone().unwrap_or_default(),
                        expected: format!("after {}", entry.from.clone().unwrap_or_default()),
                    });
                }
                Ok(Constitution { hash: entry.hash, from, until })
            })
            .collect()
    }
}

fn within<T: PartialOrd + Copy>(
    key: &str,
    found: T,
    min: T,
    max: T,
    shown: impl Fn(T) -> String,
) -> Result<(), ConfigError> {
    if (min..=max).contains(&found) {
        return Ok(());
    }
    let expected = format!("{} to {}", shown(min), shown(max));
    Err(ConfigError::Value { key: key.to_owned(), found: shown(found), expected })
}

fn instant(key: &str, text: Option<&str>) -> Result<Option<Timestamp>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    let millis = humantime::parse_rfc3339_weak(text)
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .and_then(|since| u64::try_from(since.as_millis()).ok());
    match millis {
        Some(millis) => Ok(Some(Timestamp(millis))),
        None => Err(ConfigError::Value {
            key: key.to_owned(),
            found: crate::domain::id::shown(text),
            expected: "a time such as 2026-01-31T00:00:00Z".to_owned(),
        }),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::io::Write as _;

    use super::*;

    pub(crate) fn load(
        toml: &str,
        environment: &[(&str, &str)],
        flags: &[(&str, &str)],
    ) -> Result<NodeConfig, ConfigError> {
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        file.write_all(toml.as_bytes()).unwrap();
        let variables = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let flags: Vec<_> = flags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let environment = config::Environment::with_prefix("AGENTBUS").source(Some(variables));
        NodeConfig::load_from(Some(file.path()), environment, &flags)
    }

    #[test]
    fn later_sources_win() {
        let file =
            "[nats]\nurl = \"nats://file:1\"\n[node]\nname = \"from-file\"\n[redis]\nurl = \"redis://r\"";
        let config = load(
            file,
            &[("AGENTBUS__NATS__URL", "nats://env:2"), ("AGENTBUS__LIMITS__IN_FLIGHT", "777")],
            &[
                ("nats.url", "nats://flag:3"),
                ("idempotency.window", "5m"),
                ("impact.weights.semantic", "0.5"),
            ],
        )
        .unwrap();
        assert_eq!(config.nats.url, "nats://flag:3");
        assert_eq!(config.limits.in_flight, 777);
        assert_eq!(config.node.name, "from-file");
        assert_eq!(config.idempotency.window, Duration::from_secs(300));
        assert_eq!(config.impact.weights.semantic, 0.5);
        assert_eq!(config.redis.unwrap().url, "redis://r");
    }

    #[test]
    fn the_defaults_are_a_valid_configuration() {
        assert_eq!(load("", &[], &[]).unwrap(), NodeConfig::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (toml, named) in [
            ("[nats]\nurls = \"x\"", "urls"),
            ("surprise = 1", "surprise"),
            ("[limits]\nin_flight = 0", "limits.in_flight"),
            ("[limits]\ndeadline = \"soon\"", "deadline"),
            ("[node]\nname = \"A B\"", "node.name"),
            ("constitution = []", "constitution"),
            ("[[constitution]]\nhash = \"XYZ\"", "16 lowercase hexadecimal"),
            ("[[constitution]]\nhash = \"cdd01ef066bc6cf2\"\nfrom = \"tomorrow\"", "constitution[0].from"),
            ("[idempotency]\nlease = \"1s\"", "idempotency.lease"),
            ("[idempotency]\nlease = \"2h\"", "idempotency.lease: found 2h, expected 1ms to 1h"),
            ("[idempotency]\nwindow = \"1s\"", "idempotency.window"),
            ("[idempotency]\nwindow = \"2days\"", "idempotency.window: found 2days, expected 1ms to 1day"),
            ("[limits]\ndeadline = \"18446744073709551615s\"", "limits.deadline"),
            ("[limits]\nclock_skew = \"2h\"", "limits.clock_skew"),
            ("[limits]\nin_flight = 100", "limits.in_flight_per_tenant: found 512"),
            ("[node]\ndrain = \"61s\"", "node.drain: found 1m 1s, expected 0s to 1m"),
            ("[impact]\nsenders_max = 0", "impact.senders_max"),
            ("[impact]\nscorer = \"oracle\"", "oracle"),
            ("[impact]\nprecision = \"f16\"", "f16"),
            ("[impact]\nqueue = 0", "impact.queue: found 0, expected 1 to 65536"),
            ("[impact]\nthreads = 257", "impact.threads"),
            ("[impact]\nwindows_max = 0", "impact.windows_max"),
            ("[impact]\nnice = 20", "impact.nice: found 20, expected 0 to 19"),
            ("[impact]\ndeadline = \"1s\"", "impact.deadline: found 1s, expected less than limits.deadline"),
            ("[impact.weights]\ntype = 1001", "impact.weights: the weight of type is 1001"),
            ("[impact.weights]\ncolour = 1", "colour"),
            ("redis = \"redis://u:p@r\"", "redis://r"),
        ] {
            let error = load(toml, &[], &[]).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(named), "{toml:?} gave {error:?}");
        }
        let error = load("", &[("AGENTBUS__NATZ__URL", "x")], &[]).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("natz"), "{error}");
    }
}
