//! `agentbus status`: all nodes of the bus on one screen.

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use agentbus::{
    breakers::Standing,
    nats::{Answers, Fleet, FleetError, Level, NodeStatus},
    phrase::counted,
};
use clap::Args;
use serde_json::json;

use super::{
    context::{Paint, Tone, safe, say},
    operator::Operator,
    printable::{self, Page},
    watch::watch,
};

const MB: u64 = 1_000_000;
/// Characters of why something is not up.
const WHY_MAX: usize = 300;
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 all nodes are healthy and alike; 1 failure, or they are not; 2\n\
usage.\n\n\
Examples:\n  \
agentbus status\n  \
agentbus status --watch")]
pub(super) struct StatusArgs {
    #[command(flatten)]
    operator: Operator,
    /// Look again each second, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Print each node's answer as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let fleet = Fleet::new(args.operator.connect().await?);
    if args.watch {
        return watch(LOOK_EVERY, args.json, async || {
            let answers = match fleet.status().await {
                Err(FleetError::Nobody) => Answers::new(),
                answers => answers?,
            };
            Ok(shown(&answers, args.json))
        })
        .await;
    }
    let answers = fleet.status().await?;
    say(&shown(&answers, args.json))?;
    let well = answers.values().flatten().all(|node| node.level == Level::Healthy);
    let well = well && answers.values().all(Option::is_some) && differences(&answers).is_empty();
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn shown(answers: &Answers<NodeStatus>, json: bool) -> String {
    if json { lines(answers) } else { readable(answers, Paint::stdout()) }
}

fn lines(answers: &Answers<NodeStatus>) -> String {
    let line = |(node, answer): (&String, &Option<NodeStatus>)| {
        let answer = match answer {
            Some(answer) => json!(answer),
            None => json!({ "node": node, "answered": false }),
        };
        format!("{}\n", printable::json(&answer.to_string()))
    };
    answers.iter().map(line).collect()
}

fn readable(answers: &Answers<NodeStatus>, paint: Paint) -> String {
    let mut table = printable::table(["node", "level", "up", "req/s", "busy", "memory", "clock", "policy"]);
    for (name, answer) in answers {
        let name = safe(name, 64);
        let Some(node) = answer else {
            table.add_row([name.as_str(), "silent", "", "", "", "", "", ""]);
            continue;
        };
        table.add_row([
            name,
            node.level.as_str().to_owned(),
            humantime::format_duration(Duration::from_secs(shortened(node.uptime_s))).to_string(),
            format!("{:.0}", node.per_second),
            node.in_flight.to_string(),
            memory(node),
            node.clock_ahead_ms.map_or_else(|| "?".to_owned(), |ms| format!("{ms:+} ms")),
            safe(&node.policy, 64).chars().take(8).collect(),
        ]);
    }
    let mut page = Page::new(paint);
    page.own(&table.to_string());
    for node in answers.values().flatten() {
        for (part, status) in &node.parts {
            let tone = if status.state == "down" { Tone::Bad } else { Tone::Strong };
            let told = match &status.because_of {
                Some(cause) => format!("{part} {}, since {} is", status.state, safe(cause, 64)),
                None => format!("{part} {}: {}", status.state, safe(&status.note, WHY_MAX)),
            };
            page.headed(&safe(&node.node, 64), tone, &told);
        }
        for breaker in &node.breakers {
            page.headed(&safe(&node.node, 64), Tone::Strong, &open(breaker));
        }
    }
    for difference in differences(answers) {
        page.headed("mixed", Tone::Strong, &difference);
    }
    let waiting = answers.values().flatten().map(|node| node.waiting).max().unwrap_or_default();
    let all: f64 = answers.values().flatten().map(|node| node.per_second).sum();
    let (nodes, waiting) = (counted(answers.len(), "node"), counted(waiting.max(0), "message"));
    page.own(&format!("{nodes}, {all:.0} requests/s; {waiting} on the durable lanes"));
    page.into_text()
}

/// And what it may have, where it is near that.
fn memory(node: &NodeStatus) -> String {
    let (used, limit) = (node.memory_bytes / MB, node.memory_limit_bytes / MB);
    if used * 2 > limit && limit > 0 { format!("{used} of {limit} MB") } else { format!("{used} MB") }
}

fn open(breaker: &Standing) -> String {
    let Standing { kind, target, why, retry_ms } = breaker;
    let of = if target.is_empty() { String::new() } else { format!(" of {}", safe(target, 64)) };
    let again = match retry_ms {
        Some(ms) => format!("tried again within {} s", ms.div_ceil(1_000)),
        None => format!("waits for `agentbus recover {}`", safe(kind, 20)),
    };
    format!("breaker {}{of} is open: {}; {again}", safe(kind, 20), safe(why, WHY_MAX))
}

/// Of an uptime the two largest units are of interest.
fn shortened(seconds: u64) -> u64 {
    match seconds {
        0..3_600 => seconds,
        3_600..86_400 => seconds / 60 * 60,
        _ => seconds / 3_600 * 3_600,
    }
}

/// What nodes of one bus should have in common, and have not.
fn differences(answers: &Answers<NodeStatus>) -> Vec<String> {
    let of = |what: &str, field: fn(&NodeStatus) -> &str| {
        let values: BTreeSet<_> = answers.values().flatten().map(field).collect();
        let shown: Vec<_> = values.iter().map(|value| safe(value, 40)).collect();
        (values.len() > 1).then(|| format!("{what}: {}", shown.join(", ")))
    };
    let all = [
        of("versions", |node| &node.version),
        of("policies", |node| &node.policy),
        of("models", |node| &node.model),
        of("constitutions", |node| &node.constitutions),
    ];
    all.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use agentbus::nats::PartStatus;

    use super::*;

    fn node(name: &str, level: Level) -> NodeStatus {
        NodeStatus {
            node: name.to_owned(),
            version: "0.1.0".to_owned(),
            uptime_s: 93_784,
            level,
            score: 1.0,
            parts: Default::default(),
            breakers: Vec::new(),
            policy: "0123456789abcdef".to_owned(),
            model: "keywords".to_owned(),
            constitutions: "cdd01ef066bc6cf2".to_owned(),
            clock_ahead_ms: Some(-3),
            in_flight: 12,
            waiting: 7,
            requests: 1_000,
            refused: 10,
            per_second: 1_234.4,
            memory_bytes: 81_000_000,
            memory_limit_bytes: 512_000_000,
        }
    }

    #[test]
    fn a_fleet_is_shown_with_what_is_wrong_and_what_differs_in_eighty_columns() {
        let mut other = node("node-2", Level::Critical);
        other.policy = "fedcba9876543210".to_owned();
        let status =
            PartStatus { state: "down".to_owned(), note: "it waits for Redis".to_owned(), because_of: None };
        let follows = PartStatus { because_of: Some("store".to_owned()), ..status.clone() };
        other.parts.extend([("store".to_owned(), status), ("policy".to_owned(), follows)]);
        let breaker = |target: &str, retry_ms| Standing {
            kind: "jetstream".to_owned(),
            target: target.to_owned(),
            why: "JetStream did not confirm in time".to_owned(),
            retry_ms,
        };
        other.breakers.extend([breaker("acme", Some(1_500)), breaker("", None)]);
        let answers: Answers<NodeStatus> = [
            ("node-1".to_owned(), Some(node("node-1", Level::Healthy))),
            ("node-2".to_owned(), Some(other)),
            ("node-3".to_owned(), None),
        ]
        .into();
        let text = readable(&answers, Paint::never());
        for expected in [
            "1day 2h",
            "silent",
            "node-2  store down: it waits for Redis",
            "node-2  policy down, since store is",
            "node-2  breaker jetstream of acme is open: JetStream did not confirm in time;",
            "tried again within 2 s",
            "for `agentbus recover jetstream`",
            "mixed  policies: 0123456789abcdef, fedcba9876543210",
            "3 nodes, 2469 requests/s; 7 messages on the durable lanes",
        ] {
            assert!(text.contains(expected), "{expected} is not in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert_eq!(differences(&answers).len(), 1);
    }
}
