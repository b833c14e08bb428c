//! Is no message lost, and none judged by two policies, while one after the other comes into force?
//!
//! `make policy-swaps` makes it a hundred.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use agentbus::{
    client::{AgentClient, Draft, Patience, is_delivery},
    domain::{Encoding, Status},
    tenants::Plan,
};
use futures_util::StreamExt as _;
use serde_json::{Map, Value, json};

use super::{policy, said};
use crate::support::bus::{self, Bus};

const SWAPS: usize = 5;
/// For what was sent to be in all inboxes.
const ARRIVES_WITHIN: Duration = Duration::from_secs(60);

/// Each policy hides a value of its own, by each of two modules: so each copy says by which it was judged.
const MODULES: [&str; 2] = ["left", "right"];

fn module(name: &str, number: usize) -> String {
    format!(
        "package agentbus.modules.{name}\n\nallow := true\n\nobligations := {{\"redact\": [\"{name}.v{number}\"]}}\n"
    )
}

/// With a value for each policy.
fn content(policies: usize) -> Value {
    let values: Map<String, Value> = (0..policies).map(|number| (format!("v{number}"), 1.into())).collect();
    MODULES.iter().map(|&name| (name.to_owned(), Value::from(values.clone()))).collect::<Map<_, _>>().into()
}

/// By which policy a copy was judged, as each module says.
fn judged_by(content: &Value) -> BTreeSet<&str> {
    let hidden = |name| content[name].as_object().unwrap().iter().filter(|(_, it)| **it == "[redacted]");
    MODULES.iter().flat_map(|&name| hidden(name)).map(|(value, _)| value.as_str()).collect()
}

/// All copies of a message: who has it, and what judged it.
type Copies = BTreeMap<String, Vec<(String, BTreeSet<String>)>>;

#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Copies>>);

impl Seen {
    fn see(&self, agent: &AgentClient, payload: &[u8]) {
        let message: Value = serde_json::from_slice(payload).unwrap();
        let by = judged_by(&message["content"]).into_iter().map(str::to_owned).collect();
        let id = message["message_id"].as_str().unwrap().to_owned();
        self.0.lock().unwrap().entry(id).or_default().push((agent.id().to_string(), by));
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().values().map(Vec::len).sum()
    }
}

/// Reads both inboxes of an agent until the test ends.
async fn listen(agent: &AgentClient, seen: &Seen) {
    agent.register(&[]).await.unwrap();
    let (mut live, heard, reader) = (agent.inbox().await.unwrap(), seen.clone(), agent.clone());
    tokio::spawn(async move {
        while let Some(message) = live.next().await {
            if !message.payload.is_empty() {
                heard.see(&reader, &message.payload);
            }
        }
    });
    let kept = agent.durable_inbox(&"acme".parse().unwrap()).unwrap();
    let (mut kept, heard, reader) = (kept.messages().await.unwrap(), seen.clone(), agent.clone());
    tokio::spawn(async move {
        while let Some(message) = kept.next().await {
            let Ok(message) = message else { continue };
            if is_delivery(&message, reader.id()) {
                heard.see(&reader, &message.payload);
            }
            message.ack().await.unwrap();
        }
    });
}

/// A message that the bus has taken: its id, to whom it is, and the policy that its verdict names, if it does.
struct Taken {
    id: String,
    to: BTreeSet<&'static str>,
    revision: Option<String>,
}

fn draft(to: Value, policies: usize) -> (String, bytes::Bytes) {
    let draft = Draft::new(to, content(policies));
    (draft.json()["message_id"].as_str().unwrap().to_owned(), draft.encode(Encoding::Json))
}

/// To one and to all in turn, until the stop.
async fn send(sender: AgentClient, policies: usize, stop: Arc<AtomicBool>) -> Vec<Taken> {
    let mut taken = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let (to, address) = match taken.len() % 2 {
            0 => (BTreeSet::from(["worker"]), json!({"agent": "worker"})),
            _ => (BTreeSet::from(["scribe", "worker"]), json!({"broadcast": {}})),
        };
        let (id, message) = draft(address, policies);
        let verdict = bus::send(&sender, message).await;
        assert_eq!(verdict.status, Status::Delivered, "{verdict:?}");
        assert!(verdict.policy_revision.is_some(), "{verdict:?}");
        taken.push(Taken { id, to, revision: verdict.policy_revision });
    }
    taken
}

/// By the durable lane.
async fn submit(sender: AgentClient, policies: usize, stop: Arc<AtomicBool>) -> Vec<Taken> {
    let patience = Patience { attempt: Duration::from_secs(2), deadline: Duration::from_secs(60) };
    let mut taken = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let (id, message) = draft(json!({"agent": "worker"}), policies);
        let verdict = sender.submit(message, patience).await.unwrap();
        assert_eq!(verdict.status, Status::Stored, "{verdict:?}");
        taken.push(Taken { id, to: BTreeSet::from(["worker"]), revision: None });
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    taken
}

/// Waits until all nodes have it: its revision, and the milliseconds between the first and the last of them.
async fn in_force(bus: &Bus, nodes: usize, name: &str) -> (String, u64) {
    for _ in 0..300 {
        let (_, answers) = policy(bus, "status").await;
        let all: Vec<&Value> =
            answers.iter().filter(|answer| answer["bundle"]["revision"] == *name).collect();
        if all.len() == nodes {
            let since: BTreeSet<u64> = all.iter().map(|answer| answer["since"].as_u64().unwrap()).collect();
            let apart = since.last().unwrap() - since.first().unwrap();
            return (all[0]["revision"].as_str().unwrap().to_owned(), apart);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{name} never came into force on {nodes} nodes");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_lost_or_judged_by_a_mix_while_policies_are_pushed() {
    let swaps = env::var("POLICY_SWAPS").map_or(SWAPS, |count| count.parse().unwrap());
    let nodes = if swaps > SWAPS { 3 } else { 2 };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let write = |number| {
        for name in MODULES {
            fs::write(folder.path().join(format!("{name}.rego")), module(name, number)).unwrap();
        }
    };
    // As fast as the machine is: no rate is in the way.
    let plan = Plan::EXAMPLE.replace("messages_per_minute = 10000 ", "messages_per_minute = 10000000 ");
    let mut bus = Bus::with(0, |options| {
        options.plan = Plan::parse(&plan).unwrap();
        let policy = "[policy.bundle]\nfrom = \"bus\"\n";
        options.node_overrides.extend(policy.parse::<toml::Table>().unwrap());
    })
    .await;
    write(0);
    assert_eq!(said(&bus, &["policy", "push", &path, "--revision", "v0"]).await.0, 0);
    for _ in 0..nodes {
        bus.stack.add_node().await.unwrap();
    }
    let seen = Seen::default();
    let mut agents = Vec::new();
    for name in ["worker", "scribe"] {
        let agent = bus.agent("acme", name).await;
        listen(&agent, &seen).await;
        agents.push(agent);
    }
    let (planner, stop) = (bus.agent("acme", "planner").await, Arc::new(AtomicBool::new(false)));
    let sending = tokio::spawn(send(planner.clone(), swaps + 1, Arc::clone(&stop)));
    let submitting = tokio::spawn(submit(planner, swaps + 1, Arc::clone(&stop)));

    let mut revisions = BTreeMap::new();
    let mut times = Vec::new();
    for number in 0..=swaps {
        let mut text = String::new();
        if number > 0 {
            write(number);
            let name = format!("v{number}");
            let code;
            (code, text) = said(&bus, &["policy", "push", &path, "--revision", &name]).await;
            assert!(code == 0 && text.contains("in force on "), "{code} {text}");
            let took = text.split("the last after ").nth(1).and_then(|rest| rest.split(' ').next());
            times.push(took.unwrap().parse::<u64>().unwrap());
        }
        let (revision, apart) = in_force(&bus, nodes, &format!("v{number}")).await;
        revisions.insert(revision, format!("v{number}"));
        if let Some(took) = times.last_mut().filter(|_| !text.contains(&format!("on {nodes} nodes"))) {
            // One of them has not told in time: it was at the most so much later.
            *took += apart;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut taken = sending.await.unwrap();
    taken.extend(submitting.await.unwrap());
    let copies: usize = taken.iter().map(|message| message.to.len()).sum();
    let ended = tokio::time::Instant::now() + ARRIVES_WITHIN;
    while seen.len() < copies && tokio::time::Instant::now() < ended {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seen = seen.0.lock().unwrap().clone();
    let (mut lost, mut mixed, mut by) = (0, 0, BTreeSet::new());
    for Taken { id, to, revision } in &taken {
        let copies = seen.get(id).map(Vec::as_slice).unwrap_or_default();
        let all: BTreeSet<&str> = copies.iter().map(|(agent, _)| agent.as_str()).collect();
        lost += usize::from(all != *to || copies.len() != to.len());
        let mut judged: BTreeSet<&str> = copies.iter().flat_map(|(_, by)| by).map(String::as_str).collect();
        judged.extend(revision.as_ref().map(|revision| revisions[revision].as_str()));
        mixed += usize::from(judged.len() > 1);
        by.extend(judged);
    }
    times.sort_unstable();
    println!(
        "policy-swaps: {swaps} swaps on {nodes} nodes, {} messages, {lost} lost, {mixed} judged by a mix; \
         from push to the last node {} to {} ms, median {}",
        taken.len(),
        times[0],
        times[swaps - 1],
        times[swaps / 2]
    );
    assert_eq!((lost, mixed), (0, 0));
    assert!(by.len() > swaps / 2, "messages were judged by {by:?} alone");
    bus.stop().await;
}
