//! `agentbus deliberations export`: what reviewers decided, as labelled lines that a head can learn from.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use agentbus::{
    domain::{TenantId, Timestamp},
    nats::KeptJudgements,
    phrase::counted,
    review::Judgements,
};
use anyhow::Context as _;
use clap::Args;

use crate::{operator::Operator, output};

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
    let judgements = Judgements::new(Arc::new(KeptJudgements::new(args.operator.connect().await?)));
    let texts = judgements.texts_allowed(&args.tenant).await?;
    let judged = judgements.since(&args.tenant, earliest(args.since)).await?;
    let mut lines = Vec::with_capacity(judged.len());
    for judged in &judged {
        lines.push(judged.line(texts).context("a parked message")?);
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
    let denied = judged.iter().filter(|judged| judged.denied).count();
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

fn earliest(since: Option<Duration>) -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let ago = |since| u64::try_from(now.saturating_sub(since).as_millis()).unwrap_or(u64::MAX);
    Timestamp(since.map_or(0, ago))
}
