//! With which settings does the server run? Renders `nats/server.conf`, whose comments say why each.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr};

/// Bytes of one message with its headers, on every server of the bus.
pub const PAYLOAD_MAX: usize = 256 * 1024;

const TEMPLATE: &str = include_str!("../../nats/server.conf");

/// When what JetStream acknowledged is on the disk. A killed process loses nothing either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DiskSync {
    /// Within two minutes; a machine that stops meanwhile loses it.
    #[default]
    TwoMinutes,
    /// Before it is acknowledged.
    Always,
}

impl fmt::Display for DiskSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DiskSync::TwoMinutes => "2m",
            DiskSync::Always => "always",
        })
    }
}

impl FromStr for DiskSync {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "2m" => Ok(DiskSync::TwoMinutes),
            "always" => Ok(DiskSync::Always),
            _ => Err("expected always or 2m"),
        }
    }
}

/// What differs from server to server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConf {
    /// Unique in a cluster.
    pub server_name: String,
    pub listen: IpAddr,
    /// Absent: the server takes a free port (see its `--ports_file_dir`).
    pub port: Option<u16>,
    /// HTTP monitoring, on loopback only. Absent: off.
    pub monitoring_port: Option<u16>,
    pub connections_max: u32,
    pub jetstream_dir: PathBuf,
    pub jetstream_memory_bytes: u64,
    /// At least what the streams reserve (see [`super::StoreSettings`]).
    pub jetstream_file_bytes: u64,
    pub sync: DiskSync,
    /// Relative to the folder of the configuration.
    pub accounts: PathBuf,
}

impl ServerConf {
    /// One server on loopback, JetStream data in `jetstream_dir`, accounts beside the configuration.
    pub fn local(port: Option<u16>, jetstream_dir: PathBuf) -> ServerConf {
        ServerConf {
            server_name: "agentbus".to_owned(),
            listen: IpAddr::from([127, 0, 0, 1]),
            port,
            monitoring_port: None,
            connections_max: 65_536,
            jetstream_dir,
            jetstream_memory_bytes: 64 << 20,
            jetstream_file_bytes: 16 << 30,
            sync: DiskSync::default(),
            accounts: PathBuf::from("accounts.conf"),
        }
    }
}

/// The text of a server configuration.
pub fn render_server_conf(conf: &ServerConf) -> String {
    let port = conf.port.map_or_else(|| "-1".to_owned(), |port| port.to_string());
    let host = match conf.listen {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let monitoring = match conf.monitoring_port {
        Some(port) => {
            format!("# Monitoring without a password, so for this machine only.\nhttp: \"127.0.0.1:{port}\"")
        }
        None => "# HTTP monitoring is off: it has no password.".to_owned(),
    };
    let values = [
        ("server_name", quoted(&conf.server_name)),
        ("listen", quoted(&format!("{host}:{port}"))),
        ("monitoring", monitoring),
        ("max_payload", PAYLOAD_MAX.to_string()),
        ("max_connections", conf.connections_max.to_string()),
        ("jetstream_dir", quoted(&conf.jetstream_dir.to_string_lossy())),
        ("jetstream_memory_bytes", conf.jetstream_memory_bytes.to_string()),
        ("jetstream_file_bytes", conf.jetstream_file_bytes.to_string()),
        ("sync_interval", quoted(&conf.sync.to_string())),
        ("accounts", quoted(&conf.accounts.to_string_lossy())),
    ];
    // One pass over the template, so that a value that looks like a placeholder stays a value.
    let mut out = String::with_capacity(TEMPLATE.len());
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((name, after)) = after.split_once("}}") else { break };
        match values.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => out.push_str(value),
            // Left standing, the server refuses the file and names it; a test sees to it that it
            // does not come to that.
            None => out.push_str(&format!("{{{{{name}}}}}")),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// As a string of the server's configuration language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_has_a_value() {
        let text = render_server_conf(&ServerConf::local(Some(4222), "data".into()));
        assert!(!text.contains("{{") && !text.contains("}}"), "{text}");
        assert!(text.contains("listen: \"127.0.0.1:4222\""));
        assert!(!text.lines().any(|line| line.starts_with("http")), "monitoring is off by default");
    }

    #[test]
    fn writes_are_synced_as_the_operator_says() {
        for (sync, line) in [("2m", "sync_interval: \"2m\""), ("always", "sync_interval: \"always\"")] {
            let conf =
                ServerConf { sync: sync.parse().unwrap_or_default(), ..ServerConf::local(None, "d".into()) };
            assert!(render_server_conf(&conf).lines().any(|found| found.trim() == line), "{line}");
        }
        assert!("1m".parse::<DiskSync>().is_err());
    }

    #[test]
    fn a_value_cannot_become_a_setting() {
        let name = "x\"\nlisten: \"0.0.0.0:1\" # {{accounts}} \\".to_owned();
        let conf = ServerConf { server_name: name, ..ServerConf::local(None, "a b".into()) };
        let text = render_server_conf(&conf);
        assert!(text.contains("server_name: \"x\\\""), "{text}");
        assert!(text.contains("{{accounts}} \\\\\""), "{text}");
        assert!(text.contains("listen: \"127.0.0.1:-1\""), "{text}");
    }
}
