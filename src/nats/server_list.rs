//! Which NATS servers does a node know? Those of its configuration, and those that they tell of.

use std::io;

use async_nats::{ServerAddr, ServerInfo};

/// In turn, when one is lost.
pub(super) struct Servers {
    configured: Vec<ServerAddr>,
    told: Vec<ServerAddr>,
    next: usize,
}

/// Servers of a cluster that are remembered beside those of the configuration.
const TOLD_MAX: usize = 64;

impl Servers {
    /// Several separated by commas.
    pub(super) fn parse(urls: &str) -> io::Result<Self> {
        let configured = urls.split(',').map(|url| url.trim().parse()).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { configured, told: Vec::new(), next: 0 })
    }

    /// For a client that tries them itself.
    pub(super) fn all(&self) -> Vec<ServerAddr> {
        self.configured.iter().chain(&self.told).cloned().collect()
    }

    /// In turn. `None`: there is none at all.
    pub(super) fn next(&mut self) -> Option<ServerAddr> {
        let all = self.configured.len() + self.told.len();
        let index = self.next % all.max(1);
        self.next = index + 1;
        self.configured.iter().chain(&self.told).nth(index).cloned()
    }

    /// A server has told of its cluster. Its addresses come without the credentials and the scheme that
    /// the configured one has. One that tells of nobody does not know better.
    pub(super) fn learn(&mut self, info: &ServerInfo) {
        if info.connect_urls.is_empty() {
            return;
        }
        let Some(like) = self.configured.first() else { return };
        let told = info.connect_urls.iter().take(TOLD_MAX).filter_map(|address| {
            let mut url = like.clone().into_inner();
            let found: ServerAddr = address.parse().ok()?;
            let host = bare(found.host());
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            url.set_host(Some(&host)).ok()?;
            url.set_port(Some(found.port())).ok()?;
            ServerAddr::from_url(url).ok()
        });
        let known = |server: &ServerAddr| {
            let same = |other: &ServerAddr| other.host() == server.host() && other.port() == server.port();
            self.configured.iter().any(same)
        };
        self.told = told.filter(|server| !known(server)).collect();
    }
}

/// A literal IPv6 address stands in brackets.
pub(super) fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_cluster_is_learned_and_tried_in_turn() {
        let mut servers = Servers::parse("nats://u:p@a:1, nats://b:2").unwrap();
        let info = ServerInfo {
            connect_urls: vec!["c:3".into(), "a:1".into(), "[::1]:4".into(), "?".into()],
            ..ServerInfo::default()
        };
        servers.learn(&info);
        servers.learn(&ServerInfo::default());
        let tried: Vec<_> = (0..5).map(|_| servers.next().unwrap()).collect();
        let shown: Vec<_> = tried.iter().map(|s| format!("{}:{}", s.host(), s.port())).collect();
        assert_eq!(shown, ["a:1", "b:2", "c:3", "::1:4", "a:1"]);
        assert_eq!(tried.get(2).unwrap().password(), Some("p"), "told servers take the same log-in");
    }
}
