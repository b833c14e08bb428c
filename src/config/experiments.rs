//! Which experiments may a configuration ask for? (`[chaos]`)

use std::net::IpAddr;

use super::{ConfigError, NodeConfig, check::within};
use crate::breakers::Kind;

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

impl NodeConfig {
    /// Experiments are made where they are allowed, and with what is on this machine.
    pub(super) fn check_chaos(&self) -> Result<(), ConfigError> {
        let Self { chaos, nats, redis, .. } = self;
        let fail = |key: &str, found: String, expected: &str| {
            Err(ConfigError::Value { key: format!("chaos.{key}"), found, expected: expected.to_owned() })
        };
        within("chaos.clock_ahead_ms", chaos.clock_ahead_ms, -DAY_MS, DAY_MS, |ms| ms.to_string())?;
        if let Err(word) = chaos.kinds() {
            let expected = Kind::ALL.map(Kind::as_str).join(", ");
            return fail("open_breakers", crate::domain::id::shown(word), &expected);
        }
        if !chaos.allowed {
            return match chaos.is_calm() {
                true => Ok(()),
                false => fail("allowed", "false, and an experiment".to_owned(), "true, to make experiments"),
            };
        }
        let servers = nats.url.split(',').chain(redis.as_ref().map(|redis| redis.url.as_str()));
        match servers.map(host).find(|host| !is_loopback(host)) {
            Some(host) if !chaos.beyond_loopback => {
                let found = format!("true, and a server {host:?}");
                fail("allowed", found, "servers of this machine, or chaos.beyond_loopback = true")
            }
            _ => Ok(()),
        }
    }
}

/// Of `scheme://user:password@host:port/path`.
fn host(url: &str) -> &str {
    let url = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = url.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((host, _)) => host,
        None => host.split(':').next().unwrap_or_default(),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experiments_need_leave_and_servers_of_this_machine() {
        let leave = "[chaos]\nallowed = true\n";
        for (text, wrong) in [
            ("", None),
            ("[chaos]\nallowed = true", None),
            ("[chaos]\nclock_ahead_ms = 5000", Some("chaos.allowed")),
            ("[chaos]\nopen_breakers = \"redis\"", Some("chaos.allowed")),
            (&format!("{leave}open_breakers = \"weather\""), Some("chaos.open_breakers")),
            (&format!("{leave}clock_ahead_ms = 86400001"), Some("chaos.clock_ahead_ms")),
            (&format!("{leave}[nats]\nurl = \"nats://localhost:4222,nats://n:4222\""), Some("chaos.allowed")),
            (&format!("{leave}[nats]\nurl = \"nats://localhost:4222\""), None),
            (&format!("{leave}[redis]\nurl = \"redis://u:p@[::1]:6379/1\""), None),
            (&format!("{leave}[redis]\nurl = \"redis://10.0.0.7:6379\""), Some("chaos.allowed")),
            (&format!("{leave}beyond_loopback = true\n[redis]\nurl = \"redis://10.0.0.7:6379\""), None),
        ] {
            let config: Result<NodeConfig, _> = toml::from_str(text);
            let checked = config.map(|config| config.check_chaos());
            let found = match &checked {
                Ok(Err(ConfigError::Value { key, .. })) => Some(key.as_str()),
                Ok(Ok(())) => None,
                other => Some(if other.is_err() { "unread" } else { "another" }),
            };
            assert_eq!(found, wrong, "{text}: {checked:?}");
        }
    }
}
