//! Does another constitution come into force on all nodes before a message needs it, and do agents learn of it by asking?

use std::time::Duration;

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Reason, Verb, Verdict},
    tenants::BusUser,
};
use async_nats::Client;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::{process::Command, task::JoinHandle};

use crate::support::bus::Bus;

const OLD: &str = "cdd01ef066bc6cf2";
const NEW: &str = "0123456789abcdef";
const UNKNOWN: &str = "ffffffffffffffff";

/// Runs `agentbus constitution …` to its end: its exit code and what it said.
async fn said(bus: &Bus, words: &[&str]) -> (i32, String) {
    agentbus(bus, &[&["constitution"], words].concat()).await
}

async fn agentbus(bus: &Bus, words: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentbus"));
    command.args(words);
    command.arg("--dir").arg(bus.stack.dir()).args(["--server", &bus.stack.nats_url()]);
    let output = command.env("USER", "mia").output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text)
}

async fn done(bus: &Bus, words: &[&str]) -> Value {
    let (code, text) = said(bus, &[words, &["--json"]].concat()).await;
    assert_eq!(code, 0, "{text}");
    serde_json::from_str(text.trim()).unwrap()
}

async fn naming(agent: &AgentClient, hash: &str) -> Verdict {
    let draft = Draft { constitutional_hash: hash.to_owned(), ..Draft::to_agent("worker", "hello") };
    let once = Patience { attempt: Duration::from_secs(5), deadline: Duration::from_secs(5) };
    agent.send(draft.encode(Encoding::Json), once).await.unwrap()
}

async fn until(agent: &AgentClient, hash: &str, reason: Reason) -> Verdict {
    for _ in 0..300 {
        let verdict = naming(agent, hash).await;
        if verdict.reason == reason {
            return verdict;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{hash} never came to {reason:?}");
}

async fn about(agent: &AgentClient) -> Value {
    agent.json(Verb::About, "{}".to_owned()).await.unwrap()
}

/// A node that is heard and says nothing of constitutions, as one that hangs there.
async fn stuck(node: &Client) -> JoinHandle<()> {
    let mut pings = node.subscribe("$SRV.PING.agentbus").await.unwrap();
    node.flush().await.unwrap();
    let node = node.clone();
    tokio::spawn(async move {
        while let Some(ping) = pings.next().await {
            let pong = json!({ "metadata": { "node": "node-stuck" } }).to_string();
            node.publish(ping.reply.unwrap(), pong.into()).await.unwrap();
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_constitution_is_in_force_everywhere_before_it_is_needed_and_a_node_that_lacks_it_stops_that() {
    let mut bus = Bus::start(2).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    let told = about(&planner).await;
    assert_eq!(told["constitutions"], json!([{ "hash": OLD, "preferred": true }]), "{told}");
    assert_eq!((&told["status"], &told["protocol"]), (&json!("ok"), &json!(1)), "{told}");
    assert!(told["limits"]["content_bytes"].is_u64() && told["time"].is_u64(), "{told}");
    let refused = naming(&planner, UNKNOWN).await;
    assert_eq!((refused.reason, refused.retryable), (Reason::ConstitutionalHashMismatch, false));

    // What another node knows may be known here in a moment.
    let node = bus.stack.connect(BusUser::Node).await.unwrap();
    let beat = json!({ "id": "x", "name": "node-x", "links": [], "constitutions": [NEW] }).to_string();
    let beating = {
        let (node, beat) = (node.clone(), beat.clone());
        tokio::spawn(async move {
            loop {
                node.publish("nodes.heartbeat", beat.clone().into()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
    };
    let pending = until(&planner, NEW, Reason::ConstitutionPending).await;
    assert!(pending.retryable && pending.retry_after.is_some(), "{pending:?}");
    beating.abort();
    until(&planner, NEW, Reason::ConstitutionalHashMismatch).await;

    let (code, text) = said(&bus, &["activate", NEW, "--why", "amendment 7"]).await;
    assert!(code == 1 && text.contains("expected one that was proposed"), "{code} {text}");
    let proposed = done(&bus, &["propose", NEW, "--why", "amendment 7"]).await;
    let nodes = proposed["in_force_after_ms"].as_object().unwrap();
    assert!(nodes.len() == 2 && nodes.values().all(Value::is_u64), "{proposed}");
    println!("in force after (ms): {nodes:?}");
    for _ in 0..10 {
        assert_eq!(naming(&planner, NEW).await.reason, Reason::Delivered);
        assert_eq!(naming(&planner, OLD).await.reason, Reason::Delivered);
    }
    let both = json!([{ "hash": OLD, "preferred": true }, { "hash": NEW, "preferred": false }]);
    assert_eq!(about(&planner).await["constitutions"], both);

    let answering = stuck(&node).await;
    let (code, text) = said(&bus, &["activate", NEW, "--why", "amendment 7"]).await;
    assert!(
        code == 1 && text.contains("nothing was done") && text.contains("by node-stuck"),
        "{code} {text}"
    );
    assert_eq!(about(&planner).await["constitutions"], both);
    let (code, text) = said(&bus, &["status"]).await;
    assert!(code == 1 && text.contains("does not answer"), "{code} {text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    done(&bus, &["activate", NEW, "--why", "amendment 7", "--without", "node-stuck"]).await;
    answering.abort();
    let told = about(&planner).await;
    assert_eq!(told["constitutions"][1], json!({ "hash": NEW, "preferred": true }), "{told}");

    let (code, text) = said(&bus, &["retire", NEW, "--why", "oops"]).await;
    assert!(code == 1 && text.contains("activate another first"), "{code} {text}");
    // A node that comes later goes by what was left, not by its configuration.
    bus.stack.add_node().await.unwrap();
    let retired = done(&bus, &["retire", OLD, "--why", "amendment 7"]).await;
    assert_eq!(retired["in_force_after_ms"].as_object().unwrap().len(), 3, "{retired}");
    until(&planner, OLD, Reason::ConstitutionalHashMismatch).await;
    // Who types a message names what is preferred, without knowing of it.
    let (code, text) = agentbus(&bus, &["send", "--as", "acme/planner", "--to", "worker", "hello"]).await;
    assert!(code == 0 && text.starts_with("delivered"), "{code} {text}");
    let status = done(&bus, &["status"]).await;
    assert_eq!(status["nodes"].as_object().unwrap().len(), 3, "{status}");
    let acts: Vec<_> = status["history"].as_array().unwrap().iter().map(|act| &act["what"]).collect();
    assert_eq!(acts, ["proposed", "activated", "retired"]);
    assert_eq!(status["history"][0]["login"], "mia");
    bus.stop().await;
}
