//! Does one tenant's heavy work hold up another's messages? Against a node with a rule that runs away on
//! some content, and large messages at the same time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Reason, Status},
    tenants::Plan,
};
use futures_util::StreamExt as _;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::support::bus::{self, Bus, keywords};

/// Expensive over each content, and without an end where it says so.
const MODULE: &str = "package agentbus.modules.own
default allow := false
allow if {
	count([word | some word in object.get(input.message.content, \"words\", []); word != \"\"]) >= 0
	not input.message.content.runaway
}
allow if {
	input.message.content.runaway
	n := numbers.range(1, 1000)
	count([1 | some a in n; some b in n; some c in n; a + b + c > 0]) < 0
}";
/// At one time, of the tenant that means no good.
const CROWD: usize = 8;
const MESSAGES: usize = 30;

/// Sends what is heavy over and over, and returns the reasons that were heard.
fn crowd(sender: &AgentClient, over: &Arc<AtomicBool>) -> Vec<JoinHandle<Vec<Reason>>> {
    // Some 60 KiB of small values: much to read for the decoder as well as for the rule.
    let words: Vec<String> = (0..3_500).map(|n| format!("word-{n:08}")).collect();
    (0..CROWD)
        .map(|at| {
            let (sender, over, words) = (sender.clone(), Arc::clone(over), words.clone());
            tokio::spawn(async move {
                let mut heard = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let content = match at % 2 {
                        0 => json!({ "runaway": true }),
                        _ => json!({ "runaway": true, "words": words }),
                    };
                    let draft = Draft::new(json!({"agent": "worker"}), content);
                    let once = Patience { attempt: Duration::from_secs(5), deadline: Duration::from_secs(5) };
                    // Without an answer in time it is not counted.
                    if let Ok(verdict) = sender.send(draft.encode(Encoding::Json), once).await {
                        assert_ne!(verdict.status, Status::Delivered, "{verdict:?}");
                        heard.push(verdict.reason);
                    }
                }
                heard
            })
        })
        .collect()
}

/// A bus with one node and an operator's module.
async fn with_module(module: &str) -> (Bus, TempDir) {
    let policy = tempfile::tempdir().unwrap();
    std::fs::write(policy.path().join("own.rego"), module).unwrap();
    let mut config = keywords();
    let dir = toml::Value::from(policy.path().display().to_string());
    config.insert("policy".into(), toml::Table::from_iter([("dir".to_owned(), dir)]).into());
    // What a flood is refused for is not to be its rate.
    let plan = Plan::EXAMPLE.replace("messages_per_minute = 10000 ", "messages_per_minute = 10000000 ");
    let bus = Bus::with(1, |options| {
        options.node_overrides = config;
        options.plan = Plan::parse(&plan).unwrap();
    })
    .await;
    (bus, policy)
}

async fn numbers(bus: &Bus) -> String {
    let url = format!("http://{}/metrics", bus.stack.nodes()[0].http());
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

/// Waits until the numbers are so; what they are then.
async fn until(bus: &Bus, come: impl Fn(&str) -> bool) -> String {
    for _ in 0..1_200 {
        let now = numbers(bus).await;
        if come(&now) {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came to that: {}", numbers(bus).await);
}

fn number(numbers: &str, name: &str) -> f64 {
    let line = numbers.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    let line = line.unwrap_or_else(|| panic!("{name} is not in\n{numbers}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Each recipient sees what is for it only, so each gets a copy of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_broadcast_that_is_redacted_for_each_recipient_reaches_each_as_its_own_copy() {
    const AGENTS: [&str; 4] = ["scribe", "judge", "worker", "steward"];
    let module = "package agentbus.modules.own
allow := true
obligations := {\"redact\": [other | some other in [\"scribe\", \"judge\", \"worker\", \"steward\"]; other != input.recipient.id]}";
    let (bus, _policy) = with_module(module).await;
    let planner = bus.agent("acme", "planner").await;
    let mut inboxes = Vec::new();
    for name in AGENTS {
        let agent = bus.agent("acme", name).await;
        agent.register(&[]).await.unwrap();
        inboxes.push((name, agent.inbox().await.unwrap(), agent));
    }
    for (filler, on_threads) in [(20, false), (20_000, true)] {
        let before = number(&numbers(&bus).await, "agentbus_cpu_run_seconds_count{work=\"encode\"}");
        let mut content = json!({ "filler": "x".repeat(filler) });
        for name in AGENTS {
            content[name] = json!(format!("for {name} alone"));
        }
        let draft = Draft::new(json!({"broadcast": {}}), content);
        let verdict = bus::send(&planner, draft.encode(Encoding::Json)).await;
        let reached = verdict.reach.as_ref().map(|reach| reach.delivered);
        assert_eq!(reached, Some(4), "{verdict:?}");
        for (name, inbox, _) in &mut inboxes {
            let copy = inbox.next().await.unwrap();
            let copy: serde_json::Value = serde_json::from_slice(&copy.payload).unwrap();
            for other in AGENTS {
                let expected = if other == *name { format!("for {name} alone") } else { "[redacted]".into() };
                assert_eq!(copy["content"][other], expected, "{name} sees of {other}");
            }
            assert_eq!(copy["content"]["filler"].as_str().map(str::len), Some(filler));
        }
        // A thread counts after it has answered.
        let encoded = before + if on_threads { 4.0 } else { 0.0 };
        until(&bus, |now| number(now, "agentbus_cpu_run_seconds_count{work=\"encode\"}") == encoded).await;
    }
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenants_runaway_rules_and_large_messages_keep_no_other_tenant_waiting() {
    let (bus, _policy) = with_module(MODULE).await;
    let hostile = bus.agent("acme", "planner").await;
    bus.agent("acme", "worker").await.register(&[]).await.unwrap();
    let (planner, builder) = (bus.agent("globex", "planner").await, bus.agent("globex", "builder").await);
    builder.register(&[]).await.unwrap();
    let mut inbox = builder.inbox().await.unwrap();

    let over = Arc::new(AtomicBool::new(false));
    let crowd = crowd(&hostile, &over);
    tokio::time::sleep(Duration::from_millis(500)).await;
    for number in 0..MESSAGES {
        // Every third is large itself, and each content is another, so none is remembered.
        let text = format!("{number} {}", "x".repeat(if number % 3 == 0 { 20_000 } else { 20 }));
        let draft = Draft::to_agent("builder", &text);
        let verdict = bus::send(&planner, draft.encode(Encoding::Json)).await;
        assert_eq!(verdict.status, Status::Delivered, "{verdict:?}");
        let delivered = inbox.next().await.unwrap();
        let delivered: serde_json::Value = serde_json::from_slice(&delivered.payload).unwrap();
        assert_eq!(delivered["content"]["text"], text);
    }
    over.store(true, Ordering::Relaxed);
    let mut heard = Vec::new();
    for one in crowd {
        heard.extend(one.await.unwrap());
    }
    assert!(heard.contains(&Reason::PolicyFailed), "{heard:?}");

    // Every rule that came to something did so on the threads for computing, and so did large bodies.
    let numbers = until(&bus, |now| {
        let number = |name: &str| number(now, name);
        let asked = number("agentbus_policy_decisions_total{source=\"rego\"}");
        let unavailable = number("agentbus_policy_unavailable_total");
        number("agentbus_cpu_run_seconds_count{work=\"policy\"}") >= asked - unavailable
            && number("agentbus_cpu_run_seconds_count{work=\"decode\"}") >= (MESSAGES / 3) as f64
            && number("agentbus_poll_seconds_count{task=\"send\"}") >= MESSAGES as f64
    })
    .await;
    assert_eq!(number(&numbers, "agentbus_cpu_panics_total"), 0.0);
    // By the clock on the wall, so they are shown and not judged.
    for line in numbers.lines().filter(|line| line.contains("long_poll") || line.contains("longest_poll")) {
        println!("{line}");
    }
    bus.stop().await;
}
