//! Which NATS server is meant? One flag and one variable for all commands; a node has them as `nats.url`.

use std::path::Path;

use agentbus::servers::folder::Running;
use anyhow::bail;
use clap::Args;

/// As it sets `nats.url` of a node.
const VARIABLE: &str = "AGENTBUS__NATS__URL";
/// What it was called before; each still works where nothing else is said.
const OLD_VARIABLES: [&str; 2] = ["AGENTBUS_SERVER", "AGENTBUS_NATS_URL"];

#[derive(Debug, Default, Args)]
pub(super) struct ServerArgs {
    /// NATS server, such as nats://127.0.0.1:4222, instead of the one that runs in --dir
    #[arg(long, value_name = "URL", env = VARIABLE, hide_env_values = true)]
    server: Option<String>,
}

impl ServerArgs {
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
