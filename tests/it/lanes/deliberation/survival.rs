//! What is left of a deliberation when processes end, and can a plain NATS client take part?

use std::{collections::BTreeSet, process::Stdio};

use agentbus::{
    servers::{self, Tool},
    tenants::User,
};
use tokio::process::Command;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_parked_outlives_the_restart_of_everything() {
    let mut court = Court::sit(2, ONE_OF_TWO).await;
    let draft = severe("open the gate");
    let parked = court.park(&draft).await;
    let stack = &mut court.bus.stack;
    for node in 0..2 {
        stack.node_mut(node).unwrap().child_mut().kill().await;
    }
    stack.redis_mut().unwrap().child_mut().kill().await;
    stack.nats_mut().child_mut().kill().await;
    stack.nats_mut().restart().await.unwrap();
    stack.redis_mut().unwrap().restart().await.unwrap();
    for node in 0..2 {
        stack.node_mut(node).unwrap().restart().await.unwrap();
    }
    // Redis has forgotten the worker; the log forgot nothing.
    assert_eq!(court.worker.register(&[]).await.unwrap()["status"], "ok");
    let repeat = send(&court.planner, &draft).await;
    assert_eq!(repeat.status, Status::Deliberating, "{repeat:?}");
    assert_eq!(repeat.deliberation_id.map(|id| id.to_string()), Some(parked.id.clone()));
    let voted = parked.vote(&court.judge, "approve").await;
    assert_eq!(voted["judgement"], "approved", "{voted}");
    let delivered = take(&court.worker, 1, SOON).await;
    assert_eq!(header(&delivered[0], "Agentbus-Message-Id"), draft.message_id);
    assert_eq!(told(&court.planner).await.reason, Reason::Delivered);
    nothing_for(&court.worker).await;
    court.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_kept_after_the_node_that_parked_it_is_gone() {
    let mut court = Court::sit(2, "timeout = \"4s\"").await;
    let parked = court.park(&severe("open the gate")).await;
    court.bus.stack.node_mut(0).unwrap().child_mut().kill().await;
    court.until(&parked.id, |shown| shown["conclusion"]["reason"] == "deliberation_expired").await;
    assert_eq!(told(&court.planner).await.reason, Reason::DeliberationExpired);
    court.stop().await;
}

/// A node is killed while it parks, and the senders ask again.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_parking_and_answering_leaves_one_deliberation_for_each_message() {
    const MESSAGES: usize = 60;
    let mut court = Court::sit(2, ONE_OF_TWO).await;
    let mut sending = tokio::task::JoinSet::new();
    for number in 0..MESSAGES {
        let planner = court.planner.clone();
        sending.spawn(async move {
            tokio::time::sleep(Duration::from_millis(4 * number as u64)).await;
            send(&planner, &severe(&format!("gate {number}"))).await
        });
    }
    tokio::time::sleep(Duration::from_millis(120)).await;
    court.bus.stack.node_mut(0).unwrap().child_mut().kill().await;
    let verdicts = sending.join_all().await;
    let mut ids = BTreeSet::new();
    for verdict in &verdicts {
        assert_eq!(verdict.status, Status::Deliberating, "{verdict:?}");
        ids.insert(verdict.deliberation_id.as_ref().unwrap().to_string());
    }
    assert_eq!(ids.len(), MESSAGES);
    let list = ask(&court.judge, Verb::Deliberations, json!({})).await;
    assert_eq!(list["total"], MESSAGES, "{}", list["total"]);
    let listed = list["deliberations"].as_array().unwrap();
    let listed: BTreeSet<String> = listed.iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(listed, ids);
    court.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reviewer_needs_the_nats_command_line_and_nothing_else() {
    let Ok(program) = servers::find(Tool::Nats) else {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI needs the nats command line");
        eprintln!("SKIPPED: no nats command line in AGENTBUS_NATS, .servers/bin or PATH");
        return;
    };
    let court = Court::sit(1, ONE_OF_TWO).await;
    let draft = severe("open the gate");
    let verdict = send(&court.planner, &draft).await;
    let seed = court.bus.stack.seed_path(&User::Agent("acme".parse().unwrap(), "judge".parse().unwrap()));
    let nats = async |verb: &str, body: String| -> Value {
        let mut command = Command::new(&program);
        command.args(["--server", &court.bus.stack.nats_url(), "--inbox-prefix", "_INBOX.judge", "--nkey"]);
        command.arg(&seed).args(["request", "--raw", &format!("bus.judge.{verb}"), &body]);
        let output = command.stdin(Stdio::null()).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"))
    };
    let list = nats("deliberations", "{}".to_owned()).await;
    let waiting = &list["deliberations"][0];
    assert_eq!(waiting["id"], verdict.deliberation_id.unwrap().as_str(), "{list}");
    let body = json!({ "id": waiting["id"], "choice": "approve", "digest": waiting["digest"] });
    assert_eq!(nats("vote", body.to_string()).await["judgement"], "approved");
    let delivered = take(&court.worker, 1, SOON).await;
    assert_eq!(header(&delivered[0], "Agentbus-Message-Id"), draft.message_id);
    court.stop().await;
}
