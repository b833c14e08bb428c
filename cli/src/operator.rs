//! Where is the bus, as its operator sees it? For commands that read what the bus keeps.

use std::path::PathBuf;

use agentbus::tenants::{BusUser, connect};
use clap::Args;

use super::server::ServerArgs;

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
        let url = self.server.url(&self.dir)?;
        Ok(connect(&url, &self.dir, BusUser::Operator).await?)
    }
}
