//! `agentbus policy shadow`: has a candidate judge beside the policy in force, or none any more.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant, UNIX_EPOCH},
};

use agentbus::{
    domain::Timestamp,
    nats::{Answers, Fleet, FleetError, NodePolicy, PolicyRequest, ShadowBucket},
    phrase::counted,
    policy::{Bundle, PolicyEngine as _, Shadow, ShadowOffer, ShadowPlan, ShadowStanding, ShadowState},
    skew::wall_clock,
};
use anyhow::{Context as _, bail};
use async_nats::Client;
use bytes::Bytes;
use clap::Args;

use super::local::Source;
use crate::{
    context::{safe, say},
    in_force,
    operator::Operator,
    share::share,
};

/// For all nodes to have it judge, or to have refused it.
const NODES_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Characters of why a candidate is refused.
const WHY_MAX: usize = 400;

pub(super) const HELP: &str = "\
The candidate is asked what the policy in force was asked, on a thread of its own in each node, and nothing follows \
from its answers: no message waits for it or fares otherwise. `agentbus policy diff` shows what it would change. It \
ends when its time is over, when it is pushed, or by --stop.\n\n\
Exit codes: 0 it judges, or has ended, on all nodes; 1 failure, or some refuse it\nor do not answer; 2 usage.\n\n\
Examples:\n  \
agentbus policy shadow policies/ --share 0.1 --for 2h\n  \
agentbus policy shadow --stop";

#[derive(Debug, Args)]
pub(super) struct ShadowArgs {
    #[command(flatten)]
    operator: Operator,
    /// Folder of Rego modules, or a bundle that was made of one
    #[arg(value_name = "DIR|BUNDLE", required_unless_present = "stop")]
    path: Option<PathBuf>,
    /// Without the modules that ship, as policy.shipped = false of the nodes
    #[arg(long)]
    no_shipped: bool,
    /// Of the messages, more than 0 and at most 1
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = some_share)]
    share: f64,
    /// How long, such as 2h, at most 30days
    #[arg(long = "for", value_name = "TIME", default_value = "24h", value_parser = time)]
    time: Duration,
    /// End what judges
    #[arg(long, conflicts_with_all = ["path", "no_shipped", "share", "time"])]
    stop: bool,
}

fn some_share(text: &str) -> Result<f64, String> {
    share(text).and_then(|share| match share > 0.0 {
        true => Ok(share),
        false => Err("expected more than 0".to_owned()),
    })
}

fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match (Duration::from_secs(1)..=Shadow::TIME_MAX).contains(&time) {
        true => Ok(time),
        false => Err("expected 1s to 30days".to_owned()),
    }
}

pub(super) async fn run(args: ShadowArgs) -> anyhow::Result<ExitCode> {
    let ShadowArgs { operator, path, no_shipped, share, time, .. } = args;
    let source = path.map(|path| Source { path, no_shipped });
    let tested = source.map(|source| source.tested(None)).transpose()?;
    let client = operator.connect().await?;
    let (bucket, fleet) = (ShadowBucket::new(client.clone()), Fleet::new(client));
    let last = bucket.last().await?;
    let Some(tested) = tested else {
        let Some(last) = last.filter(|last| !last.packed.is_empty()) else {
            say("no candidate judges\n")?;
            return Ok(ExitCode::SUCCESS);
        };
        let mut known = in_force::names(&fleet).await?.into_iter().collect();
        let sequence = bucket.stop(&last).await.context("it may judge on")?;
        let nodes = told(&fleet, sequence, true, &mut known).await?;
        say(&format!("no candidate judges any more on {}\n", counted(nodes.len(), "node")))?;
        return Ok(ExitCode::SUCCESS);
    };
    let until = Timestamp(wall_clock().0 + u64::try_from(time.as_millis())?);
    let plan = ShadowPlan { sequence: last.map_or(0, |last| last.plan.sequence), share, until };
    let mut known = in_force::names(&fleet).await?.into_iter().collect();
    let sequence = bucket.put(ShadowOffer { plan, packed: tested.packed }).await;
    let sequence = sequence.context("the candidate is not put beside")?;
    let nodes = told(&fleet, sequence, false, &mut known).await?;
    let mut code = ExitCode::SUCCESS;
    for (node, why) in nodes.iter().filter_map(|(node, standing)| Some((node, standing.refused.as_ref()?))) {
        say(&format!("{} refuses it: {}\n", safe(node, 64), safe(why, WHY_MAX)))?;
        code = ExitCode::FAILURE;
    }
    if nodes.iter().any(|(_, standing)| standing.state == ShadowState::InForce) {
        say("it is in force already, and there is nothing to compare it with\n")?;
    }
    let judging = nodes.iter().filter(|(_, standing)| standing.state == ShadowState::Judging).count();
    let (revision, nodes) = (tested.engine.revision(), counted(nodes.len(), "node"));
    let (part, until) = (percent(share), shown(until));
    say(&format!(
        "{revision} judges beside on {judging} of {nodes}: {part} of the messages, until {until}\n"
    ))?;
    Ok(code)
}

/// Ends the candidate that this is the bundle of: it has come into force.
pub(super) async fn end_if_pushed(client: Client, packed: &Bytes) -> anyhow::Result<()> {
    let bucket = ShadowBucket::new(client);
    let Some(last) = bucket.last().await?.filter(|last| !last.packed.is_empty()) else { return Ok(()) };
    let same = [&last.packed, packed].map(|packed| Bundle::open(packed, true, None).ok());
    if let [Some(last_one), Some(pushed)] = same
        && last_one.sources.revision() == pushed.sources.revision()
    {
        bucket.stop(&last).await.context("it is in force, and judges beside what may follow")?;
    }
    Ok(())
}

/// Waits until all nodes that run, or ran a moment before, have heard of it: what each of them says. One on which it
/// ends need not have had it.
async fn told(
    fleet: &Fleet,
    sequence: u64,
    ended: bool,
    known: &mut BTreeSet<String>,
) -> anyhow::Result<Vec<(String, ShadowStanding)>> {
    let started = Instant::now();
    loop {
        let mut answers = match fleet.ask(PolicyRequest::Status).await {
            Err(FleetError::Nobody) => Answers::new(),
            answers => answers?,
        };
        known.extend(answers.keys().cloned());
        for node in &*known {
            answers.entry(node.clone()).or_default();
        }
        let nodes = answers.len();
        let mut without = Vec::new();
        let mut heard = Vec::new();
        for (node, answer) in answers {
            match answer {
                Some(NodePolicy { shadow: Some(standing), .. }) if standing.plan.sequence == sequence => {
                    heard.push((node, standing));
                }
                Some(NodePolicy { shadow: None, .. }) if ended => {}
                Some(_) | None => without.push(safe(&node, 64)),
            }
        }
        if without.is_empty() {
            return Ok(heard);
        }
        if started.elapsed() > NODES_WITHIN {
            bail!(
                "after {NODES_WITHIN:?} {} of {nodes} have not heard of it, being busy or of an earlier version: {}",
                without.len(),
                without.join(", ")
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

pub(super) fn percent(share: f64) -> String {
    format!("{} %", (share * 10_000.0).round() / 100.0)
}

pub(super) fn shown(at: Timestamp) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(at.0)).unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_seconds(at).to_string()
}

/// What a node says of it, in a line.
pub(super) fn line(standing: &ShadowStanding) -> String {
    let ShadowStanding { plan, state, revision, bundle, against, lost, undecided, .. } = standing;
    if let Some(why) = &standing.refused {
        return format!("refused: {}", safe(why, WHY_MAX));
    }
    let named = bundle.as_ref().map(|label| format!(", {}", safe(&label.to_string(), 200)));
    let mut line =
        format!("{}{} beside {}", safe(revision, 64), named.unwrap_or_default(), safe(against, 64));
    line += &match state {
        ShadowState::Judging => {
            format!(": {} of the messages, until {}", percent(plan.share), shown(plan.until))
        }
        other => format!(": {}", other.as_str()),
    };
    if *lost + *undecided > 0 {
        line += &format!("; {lost} came too fast, {undecided} had no answer");
    }
    line
}
