//! `agentbus tenants sync`: beside each server of a cluster, keeps its accounts as the last `apply` made them.

use std::{path::Path, path::PathBuf, process::ExitCode};

use agentbus::tenants::sync::{
    astray, distribute,
    keeper::{self, Event, Keeper},
};
use anyhow::bail;
use async_nats::Client;
use clap::Args;

use crate::server::ServerArgs;

#[derive(Debug, Args)]
pub(super) struct Sync {
    /// The folder with this server's nats/accounts.conf, and with keys/sys/keeper.nk.
    #[arg(long, value_name = "DIR", default_value = ".agentbus", env = "AGENTBUS_DIR")]
    dir: PathBuf,
    #[command(flatten)]
    server: ServerArgs,
}

pub(super) async fn run(args: Sync) -> anyhow::Result<ExitCode> {
    let Sync { dir, server } = args;
    let client = keeper::connect(server.of(&dir)?, &dir).await?;
    // Whoever has closed the pipe does not hear; the server is kept all the same.
    let tell = |event| drop(sayln!("{}", line(&event)));
    match Keeper::new(client, &dir, tell)?.run().await? {}
}

fn line(event: &Event) -> String {
    match event {
        Event::Keeps { server, revision } => {
            format!("keeps the accounts of server {server}: revision {revision}")
        }
        Event::Written { revision } => {
            format!("wrote revision {revision}; the server reads it when it is asked to")
        }
        Event::CaughtUp { revision } => {
            format!("wrote revision {revision}, which was missed; the server runs with it")
        }
        Event::Failed { cause } => format!("other accounts could not be taken over: {cause}"),
    }
}

/// The accounts of `dir` to all keepers, if there are any.
pub(super) async fn to_keepers(admin: &Client, dir: &Path) -> anyhow::Result<()> {
    let done = distribute(admin, dir).await?;
    for server in &done.written {
        sayln!("gave revision {} to the keeper of server {server}", done.revision)?;
    }
    if let Some((server, cause)) = done.failed.first() {
        bail!(
            "the keeper of server {server} did not take the accounts, so no server was asked to reload: {cause}"
        );
    }
    Ok(())
}

/// Fails where a server has reloaded, and runs with the accounts of some other file.
pub(super) async fn see_that_each_has_them(admin: &Client, dir: &Path) -> anyhow::Result<()> {
    let astray = astray(admin, dir).await?;
    if !astray.is_empty() {
        bail!(
            "found other accounts than those of {} on {}, expected these on every server, so the tenants were not \
             published: run `agentbus tenants sync` beside it, or bring it nats/accounts.conf, and apply again",
            dir.display(),
            astray.join(", ")
        );
    }
    Ok(())
}
