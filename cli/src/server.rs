//! Which NATS server is meant? One flag and one variable for all commands; a node has them as `nats.url`.

use std::path::{Path, PathBuf};

use agentbus::{config::ClientTls, servers::folder::Running, tls::Server};
use anyhow::bail;
use clap::Args;

/// As it sets `nats.url` of a node.
const VARIABLE: &str = "AGENTBUS__NATS__URL";
/// What it was called before; each still works where nothing else is said.
const OLD_VARIABLES: [&str; 2] = ["AGENTBUS_SERVER", "AGENTBUS_NATS_URL"];

#[derive(Debug, Clone, Default, Args)]
pub(super) struct ServerArgs {
    /// NATS server, such as nats://127.0.0.1:4222, or several with commas between, instead of the one that runs in --dir
    #[arg(long, value_name = "URL", env = VARIABLE, hide_env_values = true)]
    server: Option<String>,
    /// With TLS: PEM of who signs its certificate, instead of the system's root certificates
    #[arg(long, value_name = "FILE", env = "AGENTBUS__NATS__TLS__CA_FILE", hide_short_help = true)]
    ca_file: Option<PathBuf>,
    /// With TLS: PEM of what is shown to it
    #[arg(
        long,
        value_name = "FILE",
        env = "AGENTBUS__NATS__TLS__CERTIFICATE_FILE",
        requires = "key_file",
        hide_short_help = true
    )]
    certificate_file: Option<PathBuf>,
    /// Its private key
    #[arg(
        long,
        value_name = "FILE",
        env = "AGENTBUS__NATS__TLS__KEY_FILE",
        requires = "certificate_file",
        hide_short_help = true
    )]
    key_file: Option<PathBuf>,
}

impl ServerArgs {
    /// The server of [`ServerArgs::url`], and what TLS with it goes by.
    pub(super) fn of(&self, dir: &Path) -> anyhow::Result<Server> {
        let Self { server: _, ca_file, certificate_file, key_file } = self.clone();
        Ok(Server { url: self.url(dir)?, files: ClientTls { ca_file, certificate_file, key_file }.files() })
    }

    /// What is said, or else the server of the bus that runs in the folder.
    pub(super) fn url(&self, dir: &Path) -> anyhow::Result<String> {
        if let Some(url) = self.server.clone().or_else(by_an_old_name) {
            return Ok(url);
        }
        match Running::read(dir) {
            Some(running) => Ok(running.nats_url),
            None => bail!(
                "no bus is running in {}; start one with `agentbus up`, or name the server with --server",
                dir.display()
            ),
        }
    }
}

fn by_an_old_name() -> Option<String> {
    OLD_VARIABLES.into_iter().find_map(|name| {
        let url = std::env::var(name).ok()?;
        old_name(name, VARIABLE);
        Some(url)
    })
}

/// Says that a name still works, and which one to use.
pub(super) fn old_name(old: &str, new: &str) {
    eprintln!("agentbus: {old} is the old name of {new}; it still works, use the new one");
}
