//! What can the types of a configuration not say? Ranges, and values that must fit each other.

use std::time::Duration;

use super::{ConfigError, Idempotency, Limits, NodeConfig, Policy, Webhook, without_secrets};
use crate::{
    breakers::{self, Kind},
    domain::{Constitution, Timestamp},
    impact,
    policy::Mode,
};

/// Servers that are asked.
const OPA_SERVERS_MAX: usize = 16;
/// Tenants with a mode of their own.
const OPA_TENANTS_MAX: usize = 4_096;

impl NodeConfig {
    /// What the types cannot say: ranges, and values that must fit each other.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
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
        let Limits { asks, asks_per_tenant, .. } = self.limits;
        if asks_per_tenant > asks {
            let expected = format!("at most limits.asks, {asks}");
            return fail("limits.asks_per_tenant", asks_per_tenant.to_string(), &expected);
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
        if self.impact.scorer == impact::ScorerKind::Keywords && !self.impact.guards.is_empty() {
            return fail(
                "impact.guards",
                format!("{} with impact.scorer = \"keywords\"", self.impact.guards.len()),
                "none: they are asked beside a model; a guard by itself is the impact.model_dir",
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
        const SECOND: Duration = Duration::from_secs(1);
        const MINUTE: Duration = Duration::from_secs(60);
        const HOUR: Duration = Duration::from_secs(60 * 60);
        let Self { node, nats, http, limits, cpu, lane, registry, idempotency, durable, impact, .. } = self;
        for (key, found, min, max) in [
            ("node.drain", node.drain, Duration::ZERO, MINUTE),
            ("node.clock_tolerance", node.clock_tolerance, Duration::from_millis(100), HOUR),
            ("nats.timeout", nats.timeout, MILLISECOND, HOUR),
            ("nats.ping_interval", nats.ping_interval, MILLISECOND, HOUR),
            // The server remembers a request for 30 s.
            ("limits.answer", limits.answer, MILLISECOND, Duration::from_secs(29)),
            ("limits.deadline", limits.deadline, MILLISECOND, 10 * MINUTE),
            ("limits.clock_skew", limits.clock_skew, Duration::ZERO, HOUR),
            ("lane.busy_poll", lane.busy_poll, Duration::ZERO, MILLISECOND),
            ("registry.ttl", registry.ttl, MILLISECOND, HOUR),
            ("idempotency.window", idempotency.window, MILLISECOND, 24 * HOUR),
            ("idempotency.lease", idempotency.lease, MILLISECOND, HOUR),
            ("durable.give_up_after", durable.give_up_after, SECOND, 10 * MINUTE),
            ("impact.deadline", impact.deadline, MILLISECOND, MINUTE),
            ("impact.long_deadline", impact.long_deadline, MILLISECOND, impact::LONG_DEADLINE_MAX),
        ] {
            within(key, found, min, max, |duration| humantime::format_duration(duration).to_string())?;
        }
        for (key, found, min, max) in [
            ("http.connections", http.connections, 4, 4_096),
            ("limits.in_flight", limits.in_flight, 1, 65_536),
            ("limits.in_flight_per_tenant", limits.in_flight_per_tenant, 1, 65_536),
            ("limits.asks", limits.asks, 1, 65_536),
            ("limits.asks_per_tenant", limits.asks_per_tenant, 1, 65_536),
            ("limits.request_bytes", limits.request_bytes, 1024, 8 * 1024 * 1024),
            ("cpu.threads", cpu.threads, 1, 256),
            ("cpu.queue", cpu.queue, 1, 65_536),
            ("lane.threads", lane.threads, 1, 64),
            ("impact.threads", impact.threads, 0, 256),
            ("impact.guards", impact.guards.len(), 0, impact::GUARDS_MAX),
            ("impact.heads", impact.heads.len(), 0, impact::HEADS_MAX),
            ("impact.guard_threads", impact.guard_threads, 1, 64),
            ("impact.nice", impact.nice.into(), 0, 19),
            ("impact.queue", impact.queue, 1, 65_536),
            ("impact.windows_max", impact.windows_max, 1, 4_096),
            ("impact.long_windows_max", impact.long_windows_max, 1, 4_096),
        ] {
            within(key, found, min, max, |number| number.to_string())?;
        }
        if let Some(bytes) = limits.memory_bytes {
            within("limits.memory_bytes", bytes, 1 << 20, 1 << 44, |bytes| bytes.to_string())?;
        }
        within("impact.senders_max", impact.senders_max, 1, 1_000_000, |number| number.to_string())?;
        within("impact.cache_entries", impact.cache_entries, 0, 10_000_000, |number| number.to_string())?;
        within("impact.report_lift_max", impact.report_lift_max, 0.0, 1.0, |share| share.to_string())?;
        if let Some(redis) = &self.redis {
            redis.check()?;
        }
        let clients =
            [("nats", nats.tls.as_ref()), ("redis", self.redis.as_ref().and_then(|it| it.tls.as_ref()))];
        for (of, tls) in clients {
            tls.map_or(Ok(()), |tls| tls.check(of))?;
        }
        within("policy.log.share", self.policy.log.share, 0.0, 1.0, |share| share.to_string())?;
        if let Some(bundle) = self.policy.bundle.as_ref().filter(|bundle| bundle.is_url()) {
            check_url("policy.bundle.from", &bundle.from)?;
        }
        self.check_opa()?;
        for kind in Kind::ALL {
            let breakers::Settings { failures, open_for, recovery: _ } = self.breakers.of(kind);
            let key = |what| format!("breakers.{}.{what}", kind.as_str());
            within(&key("failures"), failures, 1, 1_000, |number| number.to_string())?;
            let (min, max) = (Duration::from_millis(100), 10 * MINUTE);
            let shown = |duration| humantime::format_duration(duration).to_string();
            within(&key("open_for"), open_for, min, max, shown)?;
        }
        if let Some(webhook) = &self.webhook {
            check_webhook(webhook)?;
        }
        if let Some(otlp) = &self.otlp {
            otlp.check()?;
        }
        self.check_chaos()?;
        impact.weights.check().map_err(|cause| ConfigError::Weights { cause })
    }

    /// Whoever is to be asked is known, and who is known is asked.
    fn check_opa(&self) -> Result<(), ConfigError> {
        let Policy { mode, tenants, opa, .. } = &self.policy;
        within("policy.tenants", tenants.len(), 0, OPA_TENANTS_MAX, |number| number.to_string())?;
        let asked = std::iter::once(mode).chain(tenants.values()).any(|mode| *mode != Mode::Rego);
        let fail = |key: &str, found: String, expected: &str| {
            Err(ConfigError::Value { key: key.to_owned(), found, expected: expected.to_owned() })
        };
        let Some(opa) = opa else {
            return match asked {
                true => fail("policy.opa.servers", "none".to_owned(), "those that policy.mode asks"),
                false => Ok(()),
            };
        };
        let urls = opa.urls();
        if !asked {
            let expected = "policy.mode or policy.tenants to have somebody ask them";
            return fail("policy.opa.servers", urls.len().to_string(), expected);
        }
        within("policy.opa.servers", urls.len(), 1, OPA_SERVERS_MAX, |number| number.to_string())?;
        for (at, url) in urls.iter().enumerate() {
            check_url("policy.opa.servers", url)?;
            if urls.iter().take(at).any(|other| other == url) {
                return fail("policy.opa.servers", format!("{url} twice"), "each once");
            }
        }
        let max = self.limits.deadline * 4 / 5;
        let shown = |timeout: Duration| humantime::format_duration(timeout).to_string();
        within("policy.opa.timeout", opa.timeout, Duration::from_millis(10), max, shown)
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

fn check_webhook(webhook: &Webhook) -> Result<(), ConfigError> {
    let Webhook { url, timeout, attempts, .. } = webhook;
    // JetStream gives an event to another node after 30 s: by then the call must be over.
    let (min, max) = (Duration::from_millis(100), Duration::from_secs(20));
    within("webhook.timeout", *timeout, min, max, |timeout| humantime::format_duration(timeout).to_string())?;
    within("webhook.attempts", *attempts, 1, 100, |number| number.to_string())?;
    check_url("webhook.url", url)
}

pub(super) fn check_url(key: &str, url: &str) -> Result<(), ConfigError> {
    let address = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let host = address.and_then(|address| address.split(['/', '?', '#']).next());
    if host.is_none_or(|host| host.is_empty() || host.contains('@')) || url.contains('#') {
        return Err(ConfigError::Value {
            key: key.to_owned(),
            found: crate::domain::id::shown(&without_secrets(url)),
            expected: "http://host/path or https://host/path, without user, password and fragment".to_owned(),
        });
    }
    Ok(())
}

pub(super) fn within<T: PartialOrd + Copy>(
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
