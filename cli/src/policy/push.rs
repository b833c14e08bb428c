//! How does a policy reach all nodes? By the bus itself; and by it the one before comes back.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use agentbus::{
    domain::Timestamp,
    nats::{Fleet, FleetError, NodePolicy, PolicyBucket, PolicyRequest, Pushed},
    phrase::counted,
    policy::{Label, Offer},
    skew::wall_clock,
};
use anyhow::{Context as _, bail};
use async_nats::Client;
use clap::Args;

use super::{local::Source, shadow::end_if_pushed};
use crate::{
    context::{safe, say},
    operator::Operator,
};

/// For all nodes to have it in force, or to have refused it.
const NODES_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Characters of why a policy is refused.
const WHY_MAX: usize = 400;

#[derive(Debug, Args)]
pub(super) struct PushArgs {
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    source: Source,
    /// What is made of a folder is called, such as a commit
    #[arg(long, value_name = "TEXT")]
    revision: Option<String>,
    /// Push this revision though it is older than the one that was pushed last
    #[arg(long, value_name = "REVISION")]
    force: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    operator: Operator,
    /// Which of those that were pushed; the one before the last unless said
    #[arg(long, value_name = "REVISION")]
    to: Option<String>,
}

pub(super) async fn push(args: PushArgs) -> anyhow::Result<ExitCode> {
    let tested = args.source.tested(args.revision.as_deref())?;
    let label = tested.label;
    if label.revision.is_empty() {
        bail!("a bundle is pushed by its name, and this one has none; name it by --revision");
    }
    let client = args.operator.connect().await?;
    let bucket = PolicyBucket::new(client.clone());
    let last = bucket.history().await?.pop();
    let behind = last.as_ref().map_or(0, |last| last.sequence);
    let before = last.map(|last| label_of(&last)).transpose()?;
    if let Some(before) = before.filter(|before| label.is_older_than(before))
        && args.force.as_deref() != Some(&*label.revision)
    {
        bail!(
            "{label} is older than {before}, which was pushed last; if that is meant, say --force {}",
            label.revision
        );
    }
    tell(client, &bucket, &label, Offer { packed: tested.packed, force: args.force }, behind).await
}

pub(super) async fn rollback(args: RollbackArgs) -> anyhow::Result<ExitCode> {
    let client = args.operator.connect().await?;
    let bucket = PolicyBucket::new(client.clone());
    let mut history = bucket.history().await?;
    let last = history.pop().context("no policy has been pushed")?;
    let now = label_of(&last)?;
    for pushed in history.into_iter().rev() {
        let label = label_of(&pushed)?;
        let meant = match &args.to {
            Some(revision) => *label.revision == **revision,
            None => label != now,
        };
        if meant {
            let offer = Offer { packed: pushed.offer.packed, force: Some(label.revision.to_string()) };
            return tell(client, &bucket, &label, offer, last.sequence).await;
        }
    }
    match &args.to {
        Some(revision) => bail!("no policy called {} is kept besides the last, {now}", safe(revision, 128)),
        None => bail!("no policy is kept besides the last, {now}"),
    }
}

fn label_of(pushed: &Pushed) -> anyhow::Result<Label> {
    Ok(Label::of(&pushed.offer.packed)?)
}

/// Pushes it, and waits for all nodes that follow the bus.
async fn tell(
    client: Client,
    bucket: &PolicyBucket,
    label: &Label,
    offer: Offer,
    behind: u64,
) -> anyhow::Result<ExitCode> {
    let (fleet, packed) = (Fleet::new(client.clone()), offer.packed.clone());
    // Also those that do not answer in time later on: they have it or not.
    let known: BTreeMap<_, _> =
        nodes(&fleet).await?.into_iter().map(|node| (node.node.clone(), refusal(&node))).collect();
    let (pushed_at, started) = (wall_clock(), Instant::now());
    bucket.push(offer, behind).await.context("the policy is not pushed")?;
    say(&format!("pushed {label}\n"))?;
    end_if_pushed(client, &packed).await?;
    loop {
        let nodes = nodes(&fleet).await?;
        if nodes.is_empty() && known.is_empty() {
            say("no node runs that follows what is pushed (policy.bundle.from = \"bus\")\n")?;
            return Ok(ExitCode::SUCCESS);
        }
        // By what it refused before: its clock may differ from ours.
        let refuses =
            |node: &&NodePolicy| refusal(node).is_some() && known.get(&node.node) != Some(&refusal(node));
        let mut refused = nodes.iter().filter(refuses).peekable();
        if refused.peek().is_some() {
            for node in refused {
                let why = node.standing.refused.as_ref().map_or("", |refused| &refused.why);
                say(&format!("{} refuses it: {}\n", safe(&node.node, 64), safe(why, WHY_MAX)))?;
            }
            return Ok(ExitCode::FAILURE);
        }
        let lacks = |node: &&NodePolicy| node.standing.bundle.as_ref() != Some(label);
        let silent = known.keys().filter(|name| !nodes.iter().any(|node| node.node == **name));
        let without = nodes.iter().filter(lacks).map(|node| &node.node).chain(silent);
        let without: Vec<_> = without.map(|name| safe(name, 64)).collect();
        if without.is_empty() {
            let last = nodes.iter().map(|node| node.standing.since.0).max().unwrap_or_default();
            let (nodes, took) = (counted(nodes.len(), "node"), last.saturating_sub(pushed_at.0));
            say(&format!("in force on {nodes}, the last after {took} ms by its clock\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
        if started.elapsed() > NODES_WITHIN {
            bail!(
                "after {NODES_WITHIN:?} it is not in force on {}; see `agentbus policy status`",
                without.join(", ")
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Those that follow the bus.
async fn nodes(fleet: &Fleet) -> anyhow::Result<Vec<NodePolicy>> {
    let answers = match fleet.ask(PolicyRequest::Status).await {
        Err(FleetError::Nobody) => return Ok(Vec::new()),
        answers => answers?,
    };
    Ok(answers.into_values().flatten().filter(|answer| answer.standing.follows).collect())
}

/// When it refused what it refused last.
fn refusal(node: &NodePolicy) -> Option<Timestamp> {
    Some(node.standing.refused.as_ref()?.at)
}
