//! `agentbus tenants sync`: beside each server of a cluster, keeps its accounts as the last `apply` made them.

use std::{path::Path, path::PathBuf, process::ExitCode};

use agentbus::{
    shutdown::Shutdown,
    tenants::{
        Reloaded,
        sync::{
            astray, distribute,
            keeper::{self, Event, Keeper},
        },
    },
};
use anyhow::bail;
use async_nats::Client;
use clap::Args;

use crate::{printable::safe, server::ServerArgs};

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
    // In a container it is the first process, which a signal ends only where it is waited for.
    let shutdown = Shutdown::default();
    shutdown.on_terminal_signals()?;
    let client = keeper::connect(server.of(&dir)?, &dir).await?;
    // Whoever has closed the pipe does not hear; the server is kept all the same.
    let tell = |event| drop(sayln!("{}", line(&event)));
    let keeper = Keeper::new(client, &dir, tell)?;
    tokio::select! {
        ended = keeper.run() => match ended? {},
        () = shutdown.requested() => Ok(ExitCode::SUCCESS),
    }
}

fn line(event: &Event) -> String {
    match event {
        Event::Keeps { server, revision } => {
            format!("keeps the accounts of server {}: revision {revision}", safe(server, 64))
        }
        Event::Written { revision } => {
            format!("wrote revision {revision}; the server reads it when it is asked to")
        }
        Event::CaughtUp { revision } => {
            format!("wrote revision {revision}, which was missed; the server runs with it")
        }
        Event::Failed { cause } => format!("other accounts could not be taken over: {}", safe(cause, 200)),
    }
}

/// The accounts of `dir` to all keepers, if there are any.
pub(super) async fn to_keepers(admin: &Client, dir: &Path) -> anyhow::Result<()> {
    let done = distribute(admin, dir).await?;
    for server in &done.written {
        sayln!("gave revision {} to the keeper of server {}", done.revision, safe(server, 64))?;
    }
    if let Some((server, cause)) = done.failed.first() {
        bail!(
            "the keeper of server {} did not take the accounts, so no server was asked to reload: {}",
            safe(server, 64),
            safe(cause, 200)
        );
    }
    Ok(())
}

/// Fails where a server has reloaded, and runs with the accounts of some other file, or does not say with which.
pub(super) async fn see_that_each_has_them(
    admin: &Client,
    dir: &Path,
    reloaded: &[Reloaded],
) -> anyhow::Result<()> {
    let astray: Vec<_> = astray(admin, dir, reloaded).await?.iter().map(|server| safe(server, 64)).collect();
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
