//! `agentbus policy replay`: logged decisions, asked again of another policy. Of the bus it reads the log and nothing
//! else; no node takes part.

use std::{num::NonZeroUsize, path::PathBuf, process::ExitCode, time::Instant};

use agentbus::policy::{PolicyEngine as _, comparison::Comparison};
use anyhow::ensure;
use clap::Args;

use super::{
    changes::{as_json, readable},
    events::{self, OnTheBus},
    local,
};
use crate::{
    output::{Reader, say},
    share::share,
};

mod judges;
mod parked;

use judges::{Judges, LeftOut};
use parked::ParkedArgs;

pub(super) const HELP: &str = "\
What a message's policy was asked, and what it said, is read from the stream DECISIONS, or with --file from \
lines of JSON, as `agentbus policy log` prints them and OPA's own decision log has them. A decision counts as \
changed where its message would fare otherwise: allowed and not denied, denied and not allowed, with other \
obligations, or a rule would fail. A decision about which the policy reads what is not in the log is left out \
(policy.log.content). With --records and --threshold what is parked for its impact counts as the obligation \
`deliberate`.\n\n\
Exit codes: 0 done; 1 failure, nothing to replay, or more changed than --fail-above; 2 usage.\n\n\
Examples:\n  \
agentbus policy replay policies/ --since 7days\n  \
agentbus policy replay v43.tar.gz --file decisions.jsonl --fail-above 0.01";

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    candidate: local::Source,
    #[command(flatten)]
    from: OnTheBus,
    /// Read lines of JSON, and not the bus; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["since", "tenant"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    parked: ParkedArgs,
    /// Examples of each change
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(0..=1000))]
    examples: u16,
    /// Fail where more than this share of the decisions would be another, 0 to 1
    #[arg(long, value_name = "SHARE", value_parser = share)]
    fail_above: Option<f64>,
    /// Print all figures as one object of JSON
    #[arg(long)]
    json: bool,
    /// Threads that decide [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

pub(super) async fn run(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let candidate = args.candidate.tested(None)?.engine;
    let revision = candidate.revision().to_string();
    let repeatable = candidate.reads().repeatable;
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = args.threads.map_or(cores, usize::from);
    let started = Instant::now();
    let parked = args.parked.read()?;
    let mut judges = Judges::start((candidate, parked), threads, args.examples.into())?;
    let mut take = |event| judges.take(event).map(|()| Reader::There);
    match &args.file {
        Some(file) => events::lines(file, &mut take)?,
        None => args.from.each(&mut take).await?,
    }
    let (comparison, left_out) = judges.end()?;
    left_out.tell();
    let all = comparison.all();
    ensure!(all.decisions > 0, "no decision to replay: {}", left_out.why_none());
    if !repeatable {
        eprintln!(
            "agentbus: the policy uses time or chance, so that what it says now is not what it would have said then"
        );
    }
    let told = Told {
        comparison: &comparison,
        left_out: &left_out,
        revision,
        seconds: started.elapsed().as_secs_f64(),
    };
    say(&if args.json { told.as_json() } else { told.readable() })?;
    let too_much = args.fail_above.is_some_and(|share| all.share() > share);
    Ok(if too_much { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What is told at the end.
struct Told<'a> {
    comparison: &'a Comparison,
    left_out: &'a LeftOut,
    revision: String,
    seconds: f64,
}

impl Told<'_> {
    fn as_json(&self) -> String {
        let mut all = as_json(self.comparison);
        all.insert("policy_revision".to_owned(), self.revision.clone().into());
        all.insert("left_out".to_owned(), self.left_out.as_json());
        all.insert("seconds".to_owned(), self.seconds.into());
        format!("{}\n", serde_json::Value::Object(all))
    }

    fn readable(&self) -> String {
        let rate = self.comparison.all().decisions as f64 / self.seconds.max(f64::EPSILON);
        format!(
            "{}\npolicy_revision {}; {:.1} s, {rate:.0} decisions/s\n",
            readable(self.comparison),
            self.revision,
            self.seconds
        )
    }
}
