//! `agentbus policy diff`: what would change, if the candidate beside the policy were in force? All nodes added up.

use std::{process::ExitCode, time::Duration};

use agentbus::{
    nats::{Answers, Fleet, NodeShadow},
    policy::{Shadow, ShadowStanding, ShadowState, comparison::Comparison},
};
use anyhow::ensure;
use clap::Args;
use serde_json::{Map, Value, json};

use super::{
    changes::{as_json, readable},
    shadow::line,
};
use crate::{
    context::{Paint, Tone, safe, say},
    operator::Operator,
    printable::{self, Page},
    share::share,
    watch::watch,
};

const LOOK_EVERY: Duration = Duration::from_secs(2);

pub(super) const HELP: &str = "\
What nodes have counted since `agentbus policy shadow`, or since another policy came into force, is asked of each and \
added up. A decision counts as changed where its message would fare otherwise. A node that was started again has \
begun anew.\n\n\
Exit codes: 0 all nodes have answered; 1 failure, some have not or refuse the\ncandidate, or more would change than \
--fail-above; 2 usage.\n\n\
Examples:\n  \
agentbus policy diff --watch\n  \
agentbus policy diff --json --fail-above 0.01";

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    operator: Operator,
    /// Look again each two seconds, until Ctrl-C
    #[arg(long, conflicts_with = "fail_above")]
    watch: bool,
    /// Examples of each change
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(0..=Shadow::EXAMPLES_MAX as i64))]
    examples: u16,
    /// Fail where more than this share of the decisions would be another, 0 to 1, or none was made
    #[arg(long, value_name = "SHARE", value_parser = share)]
    fail_above: Option<f64>,
    /// Print all figures as one object of JSON, on one line
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: DiffArgs) -> anyhow::Result<ExitCode> {
    let fleet = Fleet::new(args.operator.connect().await?);
    let look = async || Ok::<_, anyhow::Error>(Look::of(fleet.shadows().await?, args.examples.into()));
    if args.watch {
        return watch(LOOK_EVERY, args.json, async || Ok(look().await?.shown(args.json))).await;
    }
    let look = look().await?;
    ensure!(
        look.nodes.values().flatten().any(|node| node.shadow.is_some()),
        "no candidate judges; `agentbus policy shadow` has one judge"
    );
    say(&look.shown(args.json))?;
    let all = look.comparison.all();
    let too_much = args.fail_above.is_some_and(|share| all.decisions == 0 || all.share() > share);
    Ok(if too_much || !look.is_whole() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What all nodes say at one moment.
struct Look {
    nodes: Answers<NodeShadow>,
    /// The candidate that was wanted last, as the bus counts them.
    sequence: u64,
    comparison: Comparison,
}

impl Look {
    fn of(nodes: Answers<NodeShadow>, examples: usize) -> Self {
        let standings = nodes.values().flatten().filter_map(|node| node.shadow.as_ref());
        let sequence = standings.map(|standing| standing.plan.sequence).max().unwrap_or_default();
        let mut comparison = Comparison::new(examples);
        for node in nodes.values().flatten() {
            let last = node.shadow.as_ref().is_some_and(|standing| standing.plan.sequence == sequence);
            if let Some(summary) = node.summary.clone().filter(|_| last) {
                comparison.merge_told(summary);
            }
        }
        Self { nodes, sequence, comparison }
    }

    /// Whether each node has told of the same candidate.
    fn is_whole(&self) -> bool {
        let told = |node: &NodeShadow| {
            let standing = node.shadow.as_ref();
            standing.is_some_and(|it| it.plan.sequence == self.sequence && it.state != ShadowState::Refused)
        };
        self.nodes.values().all(|node| node.as_ref().is_some_and(told))
    }

    fn shown(&self, json: bool) -> String {
        if json { self.as_json() } else { self.readable(Paint::stdout()) }
    }

    fn as_json(&self) -> String {
        let told = |answer: &Option<NodeShadow>| match answer {
            Some(NodeShadow { shadow, .. }) => json!(shadow),
            None => json!({ "answered": false }),
        };
        let nodes: Map<String, Value> =
            self.nodes.iter().map(|(name, answer)| (name.clone(), told(answer))).collect();
        let mut all = as_json(&self.comparison);
        all.insert("nodes".to_owned(), nodes.into());
        format!("{}\n", printable::json(&Value::Object(all).to_string()))
    }

    fn readable(&self, paint: Paint) -> String {
        let mut page = Page::new(paint);
        for (name, answer) in &self.nodes {
            let (tone, told) = match answer.as_ref().map(|node| &node.shadow) {
                None => (Tone::Bad, "did not answer: of an earlier version, or busy".to_owned()),
                Some(None) => (Tone::Bad, "tries nothing since it began".to_owned()),
                Some(Some(ShadowStanding { plan, .. })) if plan.sequence != self.sequence => {
                    (Tone::Bad, "tries another candidate still; not added up".to_owned())
                }
                Some(Some(standing)) => (Tone::Strong, line(standing)),
            };
            page.headed(&safe(name, 64), tone, &told);
        }
        format!("{}\n{}", readable(&self.comparison), page.into_text())
    }
}
