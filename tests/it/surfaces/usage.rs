//! Is what agents have used counted once each, over nodes that come and go?

use std::{fs, time::Duration};

use agentbus::{
    client::{Draft, Patience},
    domain::{Encoding, Reason},
};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::bus::{self, Bus};

async fn usage(bus: &Bus, words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentbus"));
    command.arg("usage").args(words).arg("--dir").arg(bus.stack.dir());
    let output =
        command.args(["--server", &bus.stack.nats_url()]).env("COLUMNS", "80").output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_in_the_sums_once_though_the_nodes_stop_and_start() {
    let mut bus = Bus::start(2).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    assert!(usage(&bus, &[]).await.contains("nothing was used in that time"));

    let text = |to: &str| Draft::to_agent(to, "the report is ready").encode(Encoding::Json);
    let (mut bytes, mut busy) = (0, 0);
    let once = Patience { attempt: Duration::from_secs(5), deadline: Duration::from_secs(5) };
    for turn in 0..20 {
        if turn % 5 == 4 {
            // A node that stops tells what it has counted; the next run begins anew.
            let node = bus.stack.node_mut(turn % 2).unwrap();
            node.stop().await;
            node.restart().await.unwrap();
        }
        let message = text("worker");
        let mut reason = Reason::Overloaded;
        // What finds no room is a message, too.
        while bus::BUSY.contains(&reason) {
            bytes += message.len();
            reason = planner.send(message.clone(), once).await.unwrap().reason;
            busy += u64::from(bus::BUSY.contains(&reason));
        }
        assert_eq!(reason, Reason::Delivered);
    }
    assert_eq!(bus::send(&worker, text("nobody")).await.reason, Reason::RecipientUnknown);
    for node in 0..2 {
        let node = bus.stack.node_mut(node).unwrap();
        node.stop().await;
        node.restart().await.unwrap();
    }

    let lines: Vec<Value> =
        usage(&bus, &["--json"]).await.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |agent: &str| lines.iter().find(|line| line["agent"] == agent).unwrap();
    let planner = of("planner");
    let found = json!([planner["messages"], planner["bytes"], planner["refused"], planner["deliveries"]]);
    assert_eq!(found, json!([20 + busy, bytes, busy, 20]), "{planner}");
    assert_eq!(
        (&planner["scored"], &planner["tokens"]),
        (&json!(20), &json!(0)),
        "by keywords, without a model"
    );
    assert!(of("worker")["refused"].as_u64().unwrap() >= 1);

    let prices = bus.stack.dir().join("prices.toml");
    fs::write(&prices, "currency = \"EUR\"\ndeliveries = 0.5\n").unwrap();
    let csv = usage(&bus, &["--by", "tenant", "--csv", "--prices", prices.to_str().unwrap()]).await;
    assert!(csv.starts_with("tenant,messages,") && csv.ends_with(",10.0000\n"), "{csv}");
    let table = usage(&bus, &["--tenant", "acme", "--by", "hour", "--since", "2h"]).await;
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    println!("{table}");
    bus.stop().await;
}

#[cfg(feature = "model")]
#[tokio::test(flavor = "multi_thread")]
async fn what_the_model_has_read_is_counted_once_where_it_is_known_by_then() {
    let patient = "[limits]\ndeadline = \"55s\"\n[idempotency]\nlease = \"90s\"\n[impact]\nthreads = 1\n";
    let mut bus = Bus::with(1, |options| options.node_overrides = patient.parse().unwrap()).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    for number in 0..3 {
        // An id is read too where it spells words.
        let draft = Draft {
            message_id: number.to_string(),
            ..Draft::to_agent("worker", "count the rows of the attached table")
        };
        assert_eq!(bus::send(&planner, draft.encode(Encoding::Json)).await.reason, Reason::Delivered);
    }
    let node = bus.stack.node_mut(0).unwrap();
    node.stop().await;
    node.restart().await.unwrap();
    let used: Value = serde_json::from_str(&usage(&bus, &["--json"]).await).unwrap();
    let tokens = used["tokens"].as_u64().unwrap();
    assert!(used["scored"] == 3 && (7..21).contains(&tokens), "seven words and their frame, once: {used}");
    bus.stop().await;
}
