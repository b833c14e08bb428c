//! `agentbus records`: what is on record, one line of JSON each. Read from what the bus keeps; no node takes part.

use std::{
    ops::ControlFlow,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use agentbus::{
    audit::{self, Body, Record},
    domain::{AgentId, Encoding, MessageId, TenantId},
    nats::{RecordStream, StoredRecord},
};
use clap::Args;

use crate::{
    operator::Operator,
    output::{OutputError, Reader, offer},
    printable,
};

/// Without a word about it.
const SINCE: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Args)]
#[command(after_help = "\
A line is a record as docs/records.md tells its fields, the newest first; those that stand in a batch are lines of \
their own. `agentbus explain` says more of a decision, by its id.\n\n\
Exit codes: 0 printed, 1 failure, 2 usage.\n\n\
Examples:\n  \
agentbus records --tenant acme --agent planner --since 1h\n  \
agentbus records --tenant acme --message m-1 --since 30days")]
pub(super) struct RecordsArgs {
    #[command(flatten)]
    operator: Operator,
    /// Only of this tenant
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantId>,
    /// Only of this agent: who sent the message, voted or registered
    #[arg(long, value_name = "AGENT")]
    agent: Option<AgentId>,
    /// Only of the message with this id
    #[arg(long, value_name = "ID")]
    message: Option<MessageId>,
    /// How far back, such as 1h or 30days [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
}

pub(super) async fn run(args: RecordsArgs) -> anyhow::Result<ExitCode> {
    // What is kept apart of a tenant goes further back, if it is there.
    let client = args.operator.connect().await?;
    let records = match &args.tenant {
        None => RecordStream::new(client),
        some => RecordStream::where_to_look(client, some.as_ref()).await?.swap_remove(0),
    };
    let since = SystemTime::now().checked_sub(args.since.unwrap_or(SINCE));
    let print = |stored: StoredRecord| match args.are_about(&stored).then(|| print(&stored.record)) {
        None | Some(Ok(Reader::There)) => ControlFlow::Continue(()),
        Some(Ok(Reader::Gone)) => ControlFlow::Break(Ok(())),
        Some(Err(error)) => ControlFlow::Break(Err(error)),
    };
    let (ended, _) = records.newest_first(args.tenant.as_ref(), since, print).await?;
    ended.transpose()?;
    Ok(ExitCode::SUCCESS)
}

fn print(record: &Record<'_>) -> Result<Reader, OutputError> {
    let line = audit::encode(record, Encoding::Json);
    offer(format!("{}\n", printable::json(&String::from_utf8_lossy(&line))).as_bytes())
}

impl RecordsArgs {
    fn are_about(&self, stored: &StoredRecord) -> bool {
        let is_theirs = self.agent.as_ref().is_none_or(|wanted| agent(&stored.record) == Some(wanted));
        let message = || stored.message().map(|key| key.message);
        is_theirs && self.message.as_ref().is_none_or(|wanted| message().as_ref() == Some(wanted))
    }
}

/// Whose doing it tells.
fn agent<'a>(record: &'a Record<'_>) -> Option<&'a AgentId> {
    match &record.body {
        Body::Intent(it) | Body::Verdict(it) => Some(&it.sender),
        Body::Vote(it) => Some(&it.voter),
        Body::Registration(it) => Some(&it.agent),
        Body::DeadLetter(it) => it.sender.as_deref(),
        Body::Threshold(_) | Body::Recovery(_) | Body::Batch(_) => None,
    }
}
