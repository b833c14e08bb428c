//! `agentbus deliberations export`: what reviewers decided, as labelled lines that a head can learn from.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use agentbus::{
    domain::{Event, Judgement, Parked, Tenant, TenantId, Timestamp, Why},
    phrase::counted,
    tenants::names::{TENANTS_BUCKET, TENANTS_STREAM, deliberations_stream},
};
use anyhow::{Context as _, anyhow, bail};
use async_nats::jetstream::{
    self,
    message::StreamMessage,
    stream::{LastRawMessageErrorKind, Stream},
};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::{operator::Operator, output};

/// One question to JetStream.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Judgements that one command writes; a head learns from thousands.
const LINES_MAX: usize = 100_000;

#[derive(Debug, Args)]
#[command(after_help = "\
Each line has \"high\": 1 for what was denied, 0 for what was approved, and the \"message\" that was judged, \
where the tenant's `deliberation.export_texts` in the tenants file allows it. What expired was judged by \
nobody, and is left out. `agentbus model train-head` learns from such lines, `agentbus impact replay` tries \
another head or threshold on them.\n\n\
Exit codes: 0 written, 1 failure, 2 usage.\n\n\
Examples:\n  \
agentbus deliberations export --tenant acme --out judged.jsonl\n  \
agentbus deliberations export --tenant acme --since 7d")]
pub(super) struct ExportArgs {
    #[command(flatten)]
    operator: Operator,
    /// Whose judgements
    #[arg(long, value_name = "TENANT")]
    tenant: TenantId,
    /// Only of what was decided within this time; the bus keeps 30 days
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
    /// Where to write; standard output unless there is one
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) async fn run(args: ExportArgs) -> anyhow::Result<ExitCode> {
    let mut context = jetstream::new(args.operator.connect().await?);
    context.set_timeout(ANSWER_WITHIN);
    let texts = texts_allowed(&context, &args.tenant).await?;
    let judged = judgements(&context, &args.tenant, args.since).await?;
    let mut lines = Vec::with_capacity(judged.len());
    for (parked, decided) in &judged {
        lines.push(line(parked, *decided, texts)?);
    }
    match &args.out {
        None => output::say(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())?,
        Some(path) => {
            let mut file = BufWriter::new(File::create(path).with_context(|| path.display().to_string())?);
            for line in &lines {
                writeln!(file, "{line}")?;
            }
            file.flush().with_context(|| path.display().to_string())?;
        }
    }
    let denied = judged.iter().filter(|(_, decided)| decided.denied).count();
    eprintln!(
        "agentbus: {} of {}, {denied} denied{}",
        counted(judged.len(), "judgement"),
        args.tenant,
        if texts {
            ""
        } else {
            "; without their messages, since the tenants file has no `export_texts = true` for it"
        }
    );
    Ok(ExitCode::SUCCESS)
}

/// How it ended, by people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decided {
    denied: bool,
    at: Timestamp,
}

/// Whether the tenant's messages may leave the bus in an export, by the directory that is published.
async fn texts_allowed(context: &jetstream::Context, id: &TenantId) -> anyhow::Result<bool> {
    let stream = context.get_stream_no_info(TENANTS_STREAM).await?;
    match stream.get_last_raw_message_by_subject(&format!("$KV.{TENANTS_BUCKET}.{id}")).await {
        Ok(entry) if entry.headers.get("KV-Operation").is_none() => {
            let tenant: Tenant = serde_json::from_slice(&entry.payload)
                .with_context(|| format!("tenant {id} as published"))?;
            Ok(tenant.deliberation.export_texts)
        }
        // Removed, or never there.
        Ok(_) => bail!("there is no tenant {id}"),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
            bail!("there is no tenant {id}")
        }
        Err(error) => Err(error).context("the tenants that are published"),
    }
}

/// What people decided, in the order of the decisions.
async fn judgements(
    context: &jetstream::Context,
    tenant: &TenantId,
    since: Option<Duration>,
) -> anyhow::Result<Vec<(Parked, Decided)>> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let earliest =
        since.map_or(0, |since| u64::try_from(now.saturating_sub(since).as_millis()).unwrap_or(u64::MAX));
    let stream = context.get_stream_no_info(deliberations_stream(tenant)).await?;
    let decisions = format!("deliberation.{tenant}.*.decided");
    let (mut judged, mut from) = (Vec::new(), 1);
    while let Some(stored) = found(stream.get_first_raw_message_by_subject(&decisions, from).await)? {
        from = stored.sequence + 1;
        let Event::Decided { judgement, at, .. } = event(&stored)? else {
            bail!("{} is no decision", stored.subject.as_str())
        };
        if judgement == Judgement::Expired || at.0 < earliest {
            continue;
        }
        if judged.len() >= LINES_MAX {
            bail!("more than {LINES_MAX} judgements; name a shorter time with --since");
        }
        // Gone: the log is older than what the stream keeps.
        if let Some(parked) = parked(&stream, &stored).await? {
            judged.push((parked, Decided { denied: judgement == Judgement::Denied, at }));
        }
    }
    Ok(judged)
}

async fn parked(stream: &Stream<()>, decision: &StreamMessage) -> anyhow::Result<Option<Parked>> {
    let subject = decision.subject.strip_suffix("decided").map(|log| format!("{log}parked"));
    let subject = subject.context("a decision's subject ends so")?;
    let Some(stored) = found(stream.get_last_raw_message_by_subject(&subject).await)? else {
        return Ok(None);
    };
    match event(&stored)? {
        Event::Parked(parked) => Ok(Some(*parked)),
        other => bail!("{subject} holds the event {}", other.kind()),
    }
}

fn found(
    answer: Result<StreamMessage, jetstream::stream::LastRawMessageError>,
) -> anyhow::Result<Option<StreamMessage>> {
    match answer {
        Ok(stored) => Ok(Some(stored)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error).context("the tenant's deliberations"),
    }
}

fn event(stored: &StreamMessage) -> anyhow::Result<Event> {
    serde_json::from_slice(&stored.payload).map_err(|error| anyhow!("{}: {error}", stored.subject.as_str()))
}

fn line(parked: &Parked, decided: Decided, texts: bool) -> anyhow::Result<Value> {
    let message: Map<String, Value> = serde_json::from_str(&parked.message).context("a parked message")?;
    let message_type = message.get("message_type").and_then(Value::as_str).unwrap_or("unknown");
    let mut line = json!({
        "high": u8::from(decided.denied),
        "judgement": if decided.denied { Judgement::Denied } else { Judgement::Approved },
        "group": format!("{}/{message_type}", parked.tenant),
        "source": format!("deliberations of {}", parked.tenant),
        "id": parked.id,
        "digest": parked.digest,
        "decided_at": decided.at,
        "because": match &parked.why {
            Why::Impact { .. } => "impact",
            Why::Policy => "policy",
            Why::Unscored { .. } => "unscored",
        },
        "impact": parked.impact,
    });
    if texts && let Some(fields) = line.as_object_mut() {
        fields.insert("message".to_owned(), Value::Object(message));
    }
    Ok(line)
}
