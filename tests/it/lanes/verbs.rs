//! What does the bus say to a verb that is none? And does it still take each request once?

use std::time::Duration;

use agentbus::{
    client::Draft,
    domain::{Encoding, Reason, Verb, Verdict},
    wire::decode_verdict,
};
use futures_util::StreamExt as _;

use crate::support::bus::{self, Bus};

#[tokio::test(flavor = "multi_thread")]
async fn a_mistyped_verb_is_told_with_the_verbs_that_there_are_once_and_by_one_node() {
    let bus = Bus::start(2).await;
    let planner = bus.agent("acme", "planner").await;
    let nats = planner.nats();
    let inbox = nats.new_inbox();
    let mut answers = nats.subscribe(inbox.clone()).await.unwrap();
    for verb in ["sned", "SEND", "state_of", "Delete_all_customer_records", "é"] {
        let subject = format!("bus.planner.{verb}");
        nats.publish_with_reply(subject, inbox.clone(), r#"{"text":"wire the money"}"#.into()).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(60), answers.next()).await.unwrap().unwrap();
        let verdict: Verdict = decode_verdict(&answer.payload).unwrap();
        assert_eq!(verdict.reason, Reason::UnknownVerb, "{verb}");
        assert!(Verb::ALL.iter().all(|verb| verdict.detail.contains(verb.as_str())), "{}", verdict.detail);
        let told = String::from_utf8_lossy(&answer.payload);
        assert!(!told.contains("wire") && (verb == "SEND" || !told.contains(verb)), "{told}");
    }
    let more = tokio::time::timeout(Duration::from_millis(300), answers.next()).await;
    assert!(more.is_err(), "answered twice: {more:?}");
    bus.stop().await;
}

/// A request matches the subscription of its verb and that of any verb.
#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_taken_by_one_node_and_once() {
    let bus = Bus::start(2).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let mut inbox = worker.inbox().await.unwrap();
    const MESSAGES: usize = 100;
    for _ in 0..MESSAGES {
        let draft = Draft::to_agent("worker", "the report is ready").encode(Encoding::Json);
        assert_eq!(bus::send(&planner, draft).await.reason, Reason::Delivered);
    }
    for _ in 0..MESSAGES {
        tokio::time::timeout(Duration::from_secs(60), inbox.next()).await.unwrap().unwrap();
    }
    let more = tokio::time::timeout(Duration::from_millis(300), inbox.next()).await;
    assert!(more.is_err(), "delivered twice: {more:?}");
    let mut taken = 0;
    for node in bus.stack.nodes() {
        let text =
            reqwest::get(format!("http://{}/metrics", node.http())).await.unwrap().text().await.unwrap();
        let sent = text
            .lines()
            .filter(|line| line.starts_with("agentbus_requests_total{verb=\"send\",status=\"delivered\""));
        taken += sent.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as usize;
    }
    assert_eq!(taken, MESSAGES, "requests that both nodes have counted");
    bus.stop().await;
}
