//! Which constitutions are in force, on which nodes, and who has done that?

use std::process::ExitCode;

use agentbus::{
    domain::{Amendment, Amendments},
    nats::{Answers, ConstitutionBucket, Fleet, NodeConstitutions},
    phrase::counted,
};
use clap::Args;
use serde_json::json;

use crate::{
    context::{Paint, Tone, safe, say},
    in_force,
    operator::Operator,
    printable::{self, Page},
};

/// That RFC 3339 can write.
const LAST_SECOND: u64 = 253_402_300_799;

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all nodes have the same in force; 1 failure, or they do not; 2 usage.\n\n\
Examples:\n  \
agentbus constitution status\n  \
agentbus constitution status --json"
)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    operator: Operator,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let client = args.operator.connect().await?;
    let bucket = ConstitutionBucket::new(client.clone());
    let last = bucket.last().await?;
    let history: Vec<Amendment> = match last {
        None => Vec::new(),
        Some(_) => bucket.history().await?.into_iter().map(|(_, _, state)| state.act).collect(),
    };
    let fleet = Fleet::new(client);
    let names = in_force::names(&fleet).await?;
    let revision = last.as_ref().map_or(0, |(revision, _)| *revision);
    let answers = fleet.constitutions(&names, revision).await?;
    let agree = agree(&answers, revision);
    if args.json {
        let state = last.map(|(_, Amendments { accepted, preferred, .. })| {
            json!({ "accepted": accepted,
            "preferred": preferred })
        });
        let told = json!({ "revision": revision, "state": state, "nodes": answers, "history": history });
        say(&format!("{}\n", printable::json(&told.to_string())))?;
    } else {
        say(&readable(&answers, revision, &history))?;
    }
    Ok(if agree { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether all nodes say the same, of the last state.
fn agree(answers: &Answers<NodeConstitutions>, revision: u64) -> bool {
    let said = |answer: &NodeConstitutions| (answer.accepted.clone(), answer.preferred);
    let first = answers.values().flatten().next().map(said);
    let same = |answer: &NodeConstitutions| answer.revision == revision && Some(said(answer)) == first;
    answers.values().all(|answer| answer.as_ref().is_some_and(same))
}

fn readable(answers: &Answers<NodeConstitutions>, revision: u64, history: &[Amendment]) -> String {
    let mut page = Page::new(Paint::stdout());
    for (node, answer) in answers {
        let Some(NodeConstitutions { accepted, preferred, revision: its, .. }) = answer else {
            page.headed(&safe(node, 64), Tone::Bad, "does not answer");
            continue;
        };
        let word = |hash| if Some(hash) == *preferred { "active" } else { "may be named" };
        let told: Vec<_> = accepted.iter().map(|it| format!("{} {}", it.hash, word(it.hash))).collect();
        let old = if *its < revision { ", not the last state" } else { "" };
        let tone = if *its < revision { Tone::Bad } else { Tone::Strong };
        page.headed(&safe(node, 64), tone, &format!("{}{old}", told.join(", ")));
    }
    for Amendment { what, hash, why, at, login } in history {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs((at.0 / 1_000).min(LAST_SECOND));
        let by = login.as_ref().map(|login| format!(" by {}", safe(login, 64))).unwrap_or_default();
        let at = humantime::format_rfc3339_seconds(time).to_string();
        page.headed(&at, Tone::Quiet, &format!("{hash} {what}{by}"));
        page.field("why", &safe(why, 400));
    }
    page.own(&match (agree(answers, revision), history.is_empty()) {
        (true, true) => format!("as it is configured, on {}", counted(answers.len(), "node")),
        (true, false) => format!("the same on {}", counted(answers.len(), "node")),
        (false, _) => "not the same on all nodes".to_owned(),
    });
    page.into_text()
}
