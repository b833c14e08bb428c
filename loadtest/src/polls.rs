//! For how long does a task keep a thread of the runtime from others? Under honest load, and under hostile bodies.
//!
//! By the clock of the thread's own processor time, so that what else runs on the machine is not in the figures.
//! What a virtual machine's host takes away is.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Verb},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, future::join_all};
use serde_json::json;

use crate::{
    attack::{self, field::Field},
    options::{PollsOptions, command},
    stages,
    tables::table,
};

const TIMED: &str = "node.poll_clock = \"processor\"";
const TENANT: &str = "acme";
/// Who sends at one time, and who submits.
const SENDERS: usize = 64;
const SUBMITTERS: usize = 16;
/// Of a content, in turns: as most are, as much as is read where it comes, and one for other threads.
const SIZES: [usize; 3] = [400, 5_800, 60_000];
/// One in so many is not of the first size.
const LARGE_EVERY: u64 = 10;
/// Between two registrations, heartbeats, searches.
const PAUSE: Duration = Duration::from_millis(5);
/// For the hostile part, which ends by itself.
const LASTS_MAX: Duration = Duration::from_secs(3600);

/// What a task's polls came to.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Polls {
    all: f64,
    long: f64,
    longest: f64,
}

pub(crate) async fn run(options: &PollsOptions) -> anyhow::Result<()> {
    let mut text = format!("`{}`", command());
    let honest = async |field: &mut Field| {
        honest(field, Duration::from_secs_f64(options.seconds)).await.map(|sent| format!("{sent} messages"))
    };
    text += &part("Honest load", options, honest).await?;
    let hostile = async |field: &mut Field| {
        attack::play(field, &options.only).await;
        Ok(format!("{} hostile tries", field.ledger.tried()))
    };
    text += &part("Hostile bodies", options, hostile).await?;
    println!("{text}");
    Ok(())
}

/// On nodes of its own, because the longest counts from a node's start.
async fn part(
    title: &str,
    options: &PollsOptions,
    play: impl AsyncFnOnce(&mut Field) -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    let agentbus = options.program.path()?;
    let mut field = Field::start(false, agentbus, TIMED, Instant::now() + LASTS_MAX).await?;
    let what = play(&mut field).await?;
    let mut polls = BTreeMap::new();
    for address in field.http() {
        add(&mut polls, &stages::page(&address).await?);
    }
    field.stop().await;
    Ok(format!("\n\n{title}: {what}.\n\n{}", shown(&polls)))
}

/// As many messages as the nodes take, fast lane and durable lane, and what agents ask beside them.
async fn honest(field: &mut Field, duration: Duration) -> anyhow::Result<u64> {
    let planner = field.connect(TENANT, "planner").await?;
    let worker = field.client(TENANT, "worker").await?;
    let (ends, sent) = (Instant::now() + duration, AtomicU64::new(0));
    let senders = (0..SENDERS + SUBMITTERS).map(|at| {
        let verb = if at < SENDERS { Verb::Send } else { Verb::Submit };
        send(&planner, verb, ends, &sent)
    });
    let reading = async {
        let inbox = worker.durable_inbox(&TENANT.parse()?)?;
        let mut messages = inbox.messages().await?;
        while let Ok(Some(Ok(message))) = tokio::time::timeout_at(ends.into(), messages.next()).await {
            let _ = message.ack().await;
        }
        anyhow::Ok(())
    };
    let (_, asked, read) = tokio::join!(join_all(senders), ask(&worker, ends), reading);
    asked.and(read)?;
    Ok(sent.into_inner())
}

/// One message after the other, each with another content.
async fn send(planner: &AgentClient, verb: Verb, ends: Instant, sent: &AtomicU64) {
    while Instant::now() < ends {
        let number = sent.fetch_add(1, Ordering::Relaxed);
        let size = match number.is_multiple_of(LARGE_EVERY) {
            true => SIZES.get((number / LARGE_EVERY) as usize % SIZES.len()),
            false => SIZES.first(),
        };
        let words = "and so on ".repeat(size.copied().unwrap_or_default() / 10);
        let draft = Draft::to_agent("worker", &format!("{number} {words}"));
        let encoding = if number.is_multiple_of(2) { Encoding::Json } else { Encoding::MessagePack };
        // Refused or not: it has been worked on.
        let _ = planner.call(verb, draft.encode(encoding), Patience::default()).await;
    }
}

async fn ask(worker: &AgentClient, ends: Instant) -> anyhow::Result<()> {
    let capabilities = Bytes::from(json!({ "capabilities": ["plan", "build"] }).to_string());
    let search = Bytes::from(json!({ "capability": "plan" }).to_string());
    while Instant::now() < ends {
        for (verb, body) in
            [(Verb::Register, &capabilities), (Verb::Heartbeat, &Bytes::new()), (Verb::Find, &search)]
        {
            worker.call(verb, body.clone(), Patience::default()).await?;
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// Adds what one node says.
fn add(polls: &mut BTreeMap<String, Polls>, page: &str) {
    for line in page.lines() {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let Some((name, labels)) = series.split_once("{task=\"") else { continue };
        let (Some((task, "}")), Ok(value)) = (labels.split_once('"'), value.parse::<f64>()) else { continue };
        let of = polls.entry(task.to_owned()).or_default();
        match name {
            "agentbus_poll_seconds_count" => of.all += value,
            "agentbus_long_polls_total" => of.long += value,
            "agentbus_longest_poll_seconds" => of.longest = of.longest.max(value),
            _ => {}
        }
    }
}

fn shown(polls: &BTreeMap<String, Polls>) -> String {
    let mut table = table(&["task", "polls", "over 200 µs", "longest µs"]);
    for (task, Polls { all, long, longest }) in polls {
        // Only those that are long are told exactly.
        let longest = if *long > 0.0 { format!("{:.0}", longest * 1e6) } else { "≤ 200".to_owned() };
        table.add_row([task.clone(), all.to_string(), long.to_string(), longest]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_nodes_say_is_added_and_the_longest_of_all_counts() {
        let page = |longest: &str| {
            format!(
                "# TYPE agentbus_poll_seconds histogram\nagentbus_poll_seconds_count{{task=\"send\"}} 10\n\
                 agentbus_poll_seconds_bucket{{task=\"send\",le=\"+Inf\"}} 10\n\
                 agentbus_long_polls_total{{task=\"send\"}} 2\nagentbus_longest_poll_seconds{{task=\"send\"}} {longest}\n\
                 agentbus_poll_seconds_count{{task=\"find\"}} 3\n"
            )
        };
        let mut polls = BTreeMap::new();
        add(&mut polls, &page("0.0005"));
        add(&mut polls, &page("0.0003"));
        assert_eq!(polls.get("send"), Some(&Polls { all: 20.0, long: 4.0, longest: 0.0005 }));
        let shown = shown(&polls);
        assert!(shown.contains("500") && shown.contains("≤ 200"), "{shown}");
    }
}
