//! What is stopped, on which node, how much it has held up, and who did that?

use std::process::ExitCode;

use agentbus::{
    domain::{Freeze, FrozenBy},
    nats::{Answers, Fleet, FreezeBucket, NodeFreezes},
    phrase::counted,
};
use clap::Args;
use serde_json::json;

use super::known::somebody_cuts_off;
use crate::{
    context::{Paint, Tone, safe, say},
    in_force,
    operator::Operator,
    printable::{self, Page},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 all nodes have the same in force; 1 failure, or they do not; 2 usage.\n\n\
Examples:\n  \
agentbus freezes\n  \
agentbus freezes --history")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    operator: Operator,
    /// Show what was frozen and thawed so far instead, the newest last
    #[arg(long)]
    history: bool,
    /// Print each as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let client = args.operator.connect().await?;
    let bucket = FreezeBucket::new(client.clone());
    if args.history {
        say(&history(&bucket, args.json).await?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let last = bucket.last().await?;
    let fleet = Fleet::new(client);
    let nodes = in_force::names(&fleet).await?;
    let answers = fleet.freezes(&nodes, last.revision).await?;
    let agree = answers.values().all(|it| it.as_ref().is_some_and(|it| it.revision == last.revision));
    let mut page = Page::new(Paint::stdout());
    let mut lines = String::new();
    for freeze in &last.freezes {
        let stopped = stopped(&answers, freeze);
        if args.json {
            let mut line = json!(freeze);
            if let Some(fields) = line.as_object_mut() {
                fields.insert("stopped".to_owned(), json!(stopped));
                if freeze.cut_off {
                    fields.insert("cuts_off".to_owned(), json!(somebody_cuts_off(&answers)));
                }
            }
            lines += &format!("{}\n", printable::json(&line.to_string()));
            continue;
        }
        page.headed(&freeze.scope.to_string(), Tone::Bad, &format!("stopped {}", told(freeze)));
        page.field("why", &safe(&freeze.why, 400));
        page.field("held up", &counted(stopped, "time"));
        if freeze.cut_off && !somebody_cuts_off(&answers) {
            page.field("cut off", "no node can end its connections at the moment");
        }
    }
    if args.json {
        say(&lines)?;
    } else {
        page.own(&match (last.freezes.len(), agree) {
            (0, true) => format!("nothing is stopped, on {}", counted(nodes.len(), "node")),
            (many, true) => {
                format!("{} in force on {}", counted(many, "freeze"), counted(nodes.len(), "node"))
            }
            (_, false) => without(&answers, last.revision),
        });
        say(&page.into_text())?;
    }
    Ok(if agree { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// By all nodes since each has it in force. By what it stops, since who has stopped it may have been exchanged, and a node
/// of an earlier version does not say who.
fn stopped(answers: &Answers<NodeFreezes>, freeze: &Freeze) -> u64 {
    let all = answers.values().flatten().flat_map(|answer| &answer.freezes);
    all.filter(|of_node| of_node.freeze.scope == freeze.scope).map(|of_node| of_node.stopped).sum()
}

fn without(answers: &Answers<NodeFreezes>, revision: u64) -> String {
    let lacks = |answer: &Option<NodeFreezes>| answer.as_ref().is_none_or(|it| it.revision != revision);
    let names: Vec<_> = answers.iter().filter(|(_, it)| lacks(it)).map(|(node, _)| safe(node, 64)).collect();
    format!("not in force, as far as they say, on: {}", names.join(", "))
}

fn told(freeze: &Freeze) -> String {
    let cut_off = if freeze.cut_off { " and cut off" } else { "" };
    let by = by(freeze).map(|by| format!(" by {by}")).unwrap_or_default();
    format!("{cut_off} since {}{by}", at(freeze.at.0 / 1000)).trim_start().to_owned()
}

fn by(freeze: &Freeze) -> Option<String> {
    match &freeze.by {
        Some(FrozenBy::Policy { module }) => Some(format!("the policy's rule {}", safe(module, 64))),
        Some(FrozenBy::Agent) => Some("itself".to_owned()),
        None => freeze.login.as_ref().map(|login| safe(login, 64)),
    }
}

fn at(seconds: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(time).to_string()
}

async fn history(bucket: &FreezeBucket, as_json: bool) -> anyhow::Result<String> {
    let mut page = Page::new(Paint::stdout());
    let mut lines = String::new();
    let mut before: Vec<Freeze> = Vec::new();
    for (seconds, state) in bucket.history().await? {
        let seconds = u64::try_from(seconds).unwrap_or_default();
        let thawed_by = state.thawed_by.as_ref().map(|login| safe(login, 64));
        let thawed = state.thawed.iter().map(|freeze| ("thawed", freeze, thawed_by.clone()));
        let new = state.freezes.iter().filter(|freeze| !before.contains(freeze));
        for (act, freeze, by) in new.map(|freeze| ("frozen", freeze, by(freeze))).chain(thawed) {
            if as_json {
                let line = json!({ "at": at(seconds), "act": act, "by": by, "freeze": freeze });
                lines += &format!("{}\n", printable::json(&line.to_string()));
                continue;
            }
            let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
            page.headed(&at(seconds), Tone::Strong, &format!("{} {act}{by}", freeze.scope));
            page.field("why", &safe(&freeze.why, 400));
        }
        before = state.freezes;
    }
    Ok(if as_json { lines } else { page.into_text() })
}
