//! Where is the bus, as its operator sees it? For commands that read what the bus keeps.

use std::path::PathBuf;

use agentbus::tenants::{BusUser, connect};
use clap::Args;

use super::server::ServerArgs;

/// Of a login that is recorded.
const LOGIN_CHARS_MAX: usize = 64;

#[derive(Debug, Args)]
pub(super) struct Operator {
    /// Data folder of `agentbus up`, or of `agentbus tenants`; holds keys/bus/operator.nk
    #[arg(long, value_name = "DIR", default_value = ".agentbus", env = "AGENTBUS_DIR")]
    dir: PathBuf,
    #[command(flatten)]
    server: ServerArgs,
}

impl Operator {
    /// With the operator's own key.
    pub(super) async fn connect(&self) -> anyhow::Result<async_nats::Client> {
        Ok(connect(&self.server.of(&self.dir)?, &self.dir, BusUser::Operator).await?)
    }
}

/// What this machine calls the person who types, for the records.
pub(super) fn login() -> Option<String> {
    let named = ["USER", "LOGNAME", "USERNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    named.filter(|login| !login.is_empty()).map(|login| login.chars().take(LOGIN_CHARS_MAX).collect())
}
