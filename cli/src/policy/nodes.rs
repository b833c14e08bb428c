//! What do all nodes say of their policy?

use std::{
    collections::BTreeSet,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use agentbus::{
    nats::{Answers, Fleet, NodePolicy, PolicyRequest},
    phrase::counted,
    policy::{Loaded, opa::ServerStanding},
};
use clap::Args;
use serde_json::json;

use super::shadow::line;
use crate::{
    context::{Paint, Tone, safe, say},
    operator::Operator,
    printable::{self, Page},
};

/// Characters of why a policy is refused.
const WHY_MAX: usize = 400;

#[derive(Debug, Args)]
pub(super) struct NodesArgs {
    #[command(flatten)]
    operator: Operator,
    /// Print each node's answer as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn status(args: NodesArgs) -> anyhow::Result<ExitCode> {
    ask(args, PolicyRequest::Status).await
}

pub(super) async fn reload(args: NodesArgs) -> anyhow::Result<ExitCode> {
    ask(args, PolicyRequest::Reload).await
}

async fn ask(args: NodesArgs, request: PolicyRequest) -> anyhow::Result<ExitCode> {
    let fleet = Fleet::new(args.operator.connect().await?);
    let answers = fleet.ask(request).await?;
    let text = if args.json { lines(&answers) } else { readable(&answers, request, Paint::stdout()) };
    say(&text)?;
    Ok(if agree(&answers) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether all have answered, have the same policy, and refuse none.
fn agree(answers: &Answers) -> bool {
    let fine = |NodePolicy { standing, busy, .. }: &NodePolicy| {
        standing.refused.is_none() && standing.unreachable.is_none() && !busy
    };
    let all = answers.values().all(|answer| answer.as_ref().is_some_and(fine));
    all && revisions(answers).len() == 1
}

fn revisions(answers: &Answers) -> BTreeSet<&str> {
    answers.values().flatten().map(|answer| &*answer.standing.revision).collect()
}

fn lines(answers: &Answers) -> String {
    let line = |(node, answer): (&String, &Option<NodePolicy>)| {
        let answer = match answer {
            Some(answer) => json!(answer),
            None => json!({ "node": node, "answered": false }),
        };
        format!("{}\n", printable::json(&answer.to_string()))
    };
    answers.iter().map(line).collect()
}

fn readable(answers: &Answers, asked: PolicyRequest, paint: Paint) -> String {
    let mut page = Page::new(paint);
    for (node, answer) in answers {
        let Some(NodePolicy { standing, loaded, busy, shadow, opa, .. }) = answer else {
            page.headed(&safe(node, 64), Tone::Bad, "did not answer: of an earlier version, or busy");
            continue;
        };
        let age = age(standing.since.0);
        page.headed(
            &safe(node, 64),
            Tone::Strong,
            &format!("{} in force for {age}", safe(&standing.revision, 64)),
        );
        if let Some(label) = &standing.bundle {
            page.field("bundle", &safe(&label.to_string(), 200));
        }
        match loaded {
            Some(Loaded { changed: false, .. }) => page.field("read", "what is in force already"),
            Some(Loaded { tests, trial, .. }) => {
                let (tests, tried) = (counted(*tests, "test"), counted(trial.tried, "question"));
                let told = format!(
                    "put in force: {tests} passed; of {tried} of late it answers {} otherwise",
                    trial.changed
                );
                page.field("read", &told);
            }
            None if asked == PolicyRequest::Reload && standing.follows => {
                page.field("read", "nothing: it follows bundles by itself; push another");
            }
            None => {}
        }
        if *busy {
            page.field("busy", "other reloads wait already; nothing was read");
        }
        if let Some(refused) = &standing.refused {
            page.field("refused", &safe(&refused.why, WHY_MAX));
        }
        if let Some(why) = &standing.unreachable {
            page.field("bundles", &safe(why, WHY_MAX));
        }
        for ServerStanding { name, problem } in opa {
            let told = problem.as_ref().map_or_else(|| "answers".to_owned(), |why| safe(why, WHY_MAX));
            page.field("OPA", &format!("{}: {told}", safe(name, 128)));
        }
        if let Some(shadow) = shadow {
            page.field("shadow", &line(shadow));
        }
    }
    let (nodes, revisions) = (counted(answers.len(), "node"), revisions(answers).len());
    page.own(&match revisions {
        0 | 1 => format!("{nodes}, one policy"),
        many => format!("{nodes}, {many} policies: a message is judged by that of the node it comes to"),
    });
    page.into_text()
}

fn age(since: u64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let age = now.saturating_sub(Duration::from_millis(since));
    humantime::format_duration(Duration::from_secs(age.as_secs())).to_string()
}
