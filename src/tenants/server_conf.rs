//! With which settings does the server run? Renders `nats/server.conf`, whose comments say why each.

use std::{net::IpAddr, path::PathBuf};

/// Bytes of one message with its headers, on every server of the bus.
pub const PAYLOAD_MAX: usize = 256 * 1024;

const TEMPLATE: &str = include_str!("../../nats/server.conf");

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
    /// Every write to disk before it is acknowledged.
    pub sync_always: bool,
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
            sync_always: false,
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
    let sync = if conf.sync_always { "always" } else { "\"2m\"" };
    let values = [
        ("server_name", quoted(&conf.server_name)),
        ("listen", quoted(&format!("{host}:{port}"))),
        ("monitoring", monitoring),
        ("max_payload", PAYLOAD_MAX.to_string()),
        ("max_connections", conf.connections_max.to_string()),
        ("jetstream_dir", quoted(&conf.jetstream_dir.to_string_lossy())),
        ("jetstream_memory_bytes", conf.jetstream_memory_bytes.to_string()),
        ("jetstream_file_bytes", conf.jetstream_file_bytes.to_string()),
        ("sync_interval", sync.to_owned()),
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
    fn a_value_cannot_become_a_setting() {
        let name = "x\"\nlisten: \"0.0.0.0:1\" # {{accounts}} \\".to_owned();
        let conf = ServerConf { server_name: name, ..ServerConf::local(None, "a b".into()) };
        let text = render_server_conf(&conf);
        assert!(text.contains("server_name: \"x\\\""), "{text}");
        assert!(text.contains("{{accounts}} \\\\\""), "{text}");
        assert!(text.contains("listen: \"127.0.0.1:-1\""), "{text}");
    }
}
