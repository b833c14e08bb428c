//! `agentbus tenants purge`: away with what those that left have left.

use std::{fmt::Write as _, path::Path, process::ExitCode};

use agentbus::tenants::{AccessChanges, BusUser, Leftovers, Plan, StoreSettings, connect, preview};
use anyhow::bail;
use async_nats::Client;
use clap::Args;

use super::{Consent, Source, changes::TEXT_MAX};
use crate::{context::safe, output::say, server::ServerArgs};

#[derive(Debug, Args)]
pub(super) struct Purge {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    consent: Consent,
}

pub(super) async fn run(args: Purge) -> anyhow::Result<ExitCode> {
    let Purge { source, server, consent } = args;
    let (plan, dir) = (source.plan()?, &source.dir);
    let server = server.of(dir)?;
    let operator = connect(&server, dir, BusUser::Operator).await?;
    let provisioner = connect(&server, dir, BusUser::Provisioner).await?;
    in_force(&provisioner, &plan, dir).await?;
    let left = Leftovers::find(&operator, &provisioner, &plan, dir).await?;
    if left.is_empty() {
        say("nothing is left of what is not in the file\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(code) = consent.asks_to_remove(&shown(&left))? {
        return Ok(code);
    }
    left.remove(&server, &plan, dir).await?;
    say("removed\n")?;
    Ok(ExitCode::SUCCESS)
}

/// What left the file and was not applied is at work still: nothing of it is left over.
async fn in_force(provisioner: &Client, plan: &Plan, dir: &Path) -> anyhow::Result<()> {
    let access = AccessChanges { seeds_deleted: Vec::new(), ..plan.access_changes(dir)? };
    let store = preview(provisioner, plan, &StoreSettings::default()).await?;
    if !access.is_empty() || !store.tenants_removed.is_empty() {
        bail!("the tenants file is not in force; first: agentbus tenants apply");
    }
    Ok(())
}

fn shown(left: &Leftovers) -> String {
    let Leftovers { streams, inboxes, seeds, foreign } = left;
    let mut page = String::new();
    // Writing to a string cannot fail.
    for stream in streams {
        let (name, messages) = (safe(&stream.name, TEXT_MAX), stream.messages);
        let _ = writeln!(page, "  - stream  {name}: {messages} messages, {} bytes", stream.bytes);
    }
    for inbox in inboxes {
        let _ = writeln!(page, "  - inbox   {}", safe(inbox, TEXT_MAX));
    }
    for seed in seeds {
        let _ = writeln!(page, "  - seed    {}", safe(&seed.display().to_string(), TEXT_MAX));
    }
    for name in foreign {
        let _ = writeln!(page, "    stream  {}: none of the bus's own, stays", safe(name, TEXT_MAX));
    }
    page
}
