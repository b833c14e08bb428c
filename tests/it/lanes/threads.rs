//! Do several threads of the fast lane make one node? Each has connections of its own, and what is asked of a node it
//! answers once.

use std::{collections::BTreeSet, time::Duration};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, MessageType, Status},
    tenants::{BusUser, names},
};
use futures_util::{StreamExt as _, future::join_all};

use crate::support::bus::{self, Bus};

const MESSAGES: usize = 48;
const THREADS: u64 = 3;
const A_WHILE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_several_threads_delivers_each_message_once_and_answers_once() {
    let bus = Bus::with(1, |options| {
        let lane: toml::Table = "lane.threads = 3\nlane.busy_poll = \"150us\"".parse().unwrap();
        options.node_overrides.extend(lane);
    })
    .await;
    assert_eq!(bus.counted("agentbus_nats_connected").await, THREADS);
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    let mut inbox = worker.inbox().await.unwrap();
    worker.register(&[]).await.unwrap();
    // One after the other, so that the loops poll; then all at once.
    for number in 0..4 {
        assert_eq!(delivered(&planner, number).await, Status::Delivered);
    }
    let all = join_all((4..MESSAGES).map(|number| delivered(&planner, number))).await;
    assert!(all.iter().all(|status| *status == Status::Delivered), "{all:?}");
    let mut heard = BTreeSet::new();
    while heard.len() < MESSAGES {
        let message = tokio::time::timeout(A_WHILE, inbox.next()).await.unwrap().unwrap();
        let id = message.headers.unwrap().get("Agentbus-Message-Id").unwrap().to_string();
        assert!(heard.insert(id), "a message came twice");
    }
    let more = tokio::time::timeout(Duration::from_millis(200), inbox.next()).await;
    assert!(more.is_err(), "a message came twice");
    // Questions go over the loop that has read them, and their answers come over any.
    let answering = tokio::spawn(async move {
        while let Some(question) = inbox.next().await {
            let answer = Draft::to_agent("planner", "well");
            let answer = Draft { message_type: MessageType::Response, ..answer };
            assert!(worker.answer(&question, answer.encode(Encoding::Json)).await.unwrap());
        }
    });
    for number in 0..8 {
        let question = Draft::to_agent("worker", &format!("question {number}"));
        let question = Draft { message_type: MessageType::Query, ..question };
        let asked = planner.ask(question.encode(Encoding::Json), Patience::FOR_AN_ANSWER).await.unwrap();
        assert!(asked.answer.is_some(), "{:?}", asked.verdict);
    }
    answering.abort();
    // An operator hears of the node once.
    let operator = bus.stack.connect(BusUser::Operator).await.unwrap();
    let reply = operator.new_inbox();
    let mut answers = operator.subscribe(reply.clone()).await.unwrap();
    operator.publish_with_reply(names::NODE_STATUS, reply, "".into()).await.unwrap();
    tokio::time::timeout(A_WHILE, answers.next()).await.unwrap().unwrap();
    let more = tokio::time::timeout(Duration::from_millis(200), answers.next()).await;
    assert!(more.is_err(), "a node answers twice");
    bus.stop().await;
}

async fn delivered(planner: &AgentClient, number: usize) -> Status {
    let draft = Draft::to_agent("worker", &format!("number {number}"));
    bus::send(planner, draft.encode(Encoding::Json)).await.status
}
