//! Can keys be changed while everybody works? The steps of `docs/tenancy.md`, under load.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{AgentId, Encoding, Status},
    tenants::{BusUser, Plan, Seed, User, public_key_of},
};
use futures_util::StreamExt;
use tokio::{process::Command, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::support::bus::{self, Bus};

const ASKERS: usize = 8;
const PATIENCE: Patience =
    Patience { attempt: Duration::from_millis(1500), deadline: Duration::from_secs(60) };

/// One executive and one worker, whose keys these lines say.
fn plan(bus: &str, planner: &str) -> String {
    format!(
        "{bus}\n[tenants.acme.limits]\nmessages_per_minute = 10000000\n[tenants.acme.agents]\n\
         planner = {{ roles = [\"executive\"]{planner} }}\nworker = {{}}\n"
    )
}

/// Whether `agentbus tenants apply` did it, and what it said.
async fn apply(bus: &Bus, text: &str, more: &[&str]) -> (bool, String) {
    let file = bus.stack.dir().join("tenants.toml");
    fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentbus"));
    command.args(["tenants", "apply", "--dir"]).arg(bus.stack.dir()).args(more);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn key_of(path: &Path) -> String {
    Seed::read(path).unwrap().public_key().unwrap()
}

async fn connect(bus: &Bus, agent: &str, seed: &Path) -> Result<AgentClient, agentbus::client::ClientError> {
    let agent: AgentId = agent.parse().unwrap();
    AgentClient::connect(&bus.stack.nats_url(), &agent, Seed::read(seed).unwrap().reveal()).await
}

async fn until_registered(worker: &AgentClient) {
    let entry = worker.register(&[]).await.unwrap();
    assert_eq!(entry["status"], "ok", "{entry}");
    worker.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_and_the_nodes_keys_are_changed_under_load_and_no_message_fails() {
    let mut bus = Bus::with(2, |options| options.plan = Plan::parse(&plan("", "")).unwrap()).await;
    let dir = bus.stack.dir().to_path_buf();
    let user = |agent: &str| User::Agent("acme".parse().unwrap(), agent.parse().unwrap());
    let planner_seed = user("planner").seed_path(&dir);
    let node_seed = User::from(BusUser::Node).seed_path(&dir);

    let worker = connect(&bus, "worker", &user("worker").seed_path(&dir)).await.unwrap();
    let mut inbox = worker.inbox().await.unwrap();
    let registered = tokio::spawn({
        let worker = worker.clone();
        async move {
            loop {
                worker.register(&[]).await.unwrap();
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        }
    });
    until_registered(&worker).await;
    let arrived = Arc::new(Mutex::new(BTreeSet::new()));
    let arrivals = tokio::spawn({
        let arrived = Arc::clone(&arrived);
        async move {
            while let Some(message) = inbox.next().await {
                let message: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
                arrived.lock().unwrap().insert(message["message_id"].as_str().unwrap().to_owned());
            }
        }
    });

    let planner = connect(&bus, "planner", &planner_seed).await.unwrap();
    let current = Arc::new(Mutex::new(planner));
    let stop = CancellationToken::new();
    let mut askers = JoinSet::new();
    for _ in 0..ASKERS {
        let (current, stop) = (Arc::clone(&current), stop.clone());
        askers.spawn(async move {
            let mut delivered = Vec::new();
            while !stop.is_cancelled() {
                let planner = current.lock().unwrap().clone();
                let draft = Draft::to_agent("worker", "the weekly summary is ready");
                let verdict = bus::sent(&planner, draft.encode(Encoding::Json), PATIENCE).await;
                assert_eq!(verdict.status, Status::Delivered, "{verdict:?}");
                delivered.push(draft.message_id);
            }
            delivered
        });
    }

    // 1. New keys, and both are good.
    let (old_planner, old_node) = (key_of(&planner_seed), key_of(&node_seed));
    let new_seed = dir.join("planner.new.nk");
    let new_node_seed = dir.join("node.new.nk");
    let new_planner = public_key_of(&new_seed).unwrap();
    let new_node = public_key_of(&new_node_seed).unwrap();
    let both = plan(
        &format!("[bus]\nnode = {{ nkeys = [{old_node:?}, {new_node:?}] }}"),
        &format!(", nkeys = [{old_planner:?}, {new_planner:?}]"),
    );
    let (done, said) = apply(&bus, &both, &[]).await;
    assert!(done && said.contains("2 to add, 0 to change, 0 to take away"), "{said}");

    // 2. Everybody takes the new one, one after the other.
    let new = connect(&bus, "planner", &new_seed).await.unwrap();
    let old = std::mem::replace(&mut *current.lock().unwrap(), new);
    fs::rename(&new_node_seed, &node_seed).unwrap();
    for node in 0..2 {
        bus.stack.node_mut(node).unwrap().restart().await.unwrap();
    }

    // 3. The old ones open nothing any more; that needs a yes.
    let after = plan("", &format!(", nkey = {new_planner:?}"));
    let (done, said) = apply(&bus, &after, &[]).await;
    assert!(!done && said.contains("- key     BUS/node"), "{said}");
    let old_seed = dir.join("planner.old.nk");
    fs::copy(&planner_seed, &old_seed).unwrap();
    drop(old);
    let (done, said) = apply(&bus, &after, &["--yes"]).await;
    assert!(done && !planner_seed.exists(), "{said}");
    assert!(connect(&bus, "planner", &old_seed).await.is_err(), "the old key opens nothing");
    tokio::time::sleep(Duration::from_millis(500)).await;

    stop.cancel();
    let delivered: Vec<String> = askers.join_all().await.into_iter().flatten().collect();
    let lost = || {
        let arrived = arrived.lock().unwrap();
        delivered.iter().filter(|id| !arrived.contains(*id)).count()
    };
    for _ in 0..600 {
        if lost() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    arrivals.abort();
    registered.abort();
    assert!(delivered.len() > 100, "{}", delivered.len());
    assert_eq!(lost(), 0, "of {} did not arrive", delivered.len());
    println!("{} messages while keys changed, 0 failed", delivered.len());
    bus.stop().await;
}
