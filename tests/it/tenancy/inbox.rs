//! An agent's durable inbox: what an ordinary JetStream client can do with it, and nobody else.

use std::{process::Stdio, time::Duration};

use agentbus::{
    domain::Verb,
    servers::{self, Tool},
    tenants::{BusUser, Plan, names},
};
use async_nats::{
    HeaderMap,
    jetstream::{self, consumer::PullConsumer},
};
use futures_util::{FutureExt, StreamExt};
use tokio::{process::Command, time::timeout};

use super::server::{Login, NEVER, SOON, Server, expect};

/// As a node stores a message for an agent of acme.
async fn store(node: &Login, agent: &str, id: &str, payload: &str) {
    let subject = format!("tenant.acme.stored.{agent}.message.planner.{id}");
    let mut headers = HeaderMap::new();
    headers.insert("Agentbus-Delivery", "d");
    let answer = node.client.request_with_headers(subject, headers, payload.to_owned().into()).await.unwrap();
    let answer = String::from_utf8_lossy(&answer.payload).into_owned();
    assert!(answer.contains("\"seq\""), "{answer}");
}

/// Delivered, acknowledged, waiting: what an attack on somebody's inbox would change.
async fn state(operator: &Login, agent: &str) -> (u64, u64, usize, usize) {
    let context = jetstream::new(operator.client.clone());
    let consumer: PullConsumer = context.get_consumer_from_stream(agent, "OUT_acme").await.unwrap();
    let info = consumer.cached_info();
    (info.num_pending, info.ack_floor.stream_sequence, info.num_ack_pending, info.num_redelivered)
}

#[tokio::test]
async fn async_nats_reads_an_agents_durable_inbox_and_acknowledges() {
    let server = Server::started_and_provisioned(&Plan::example().unwrap()).await;
    let (node, operator) = (server.bus(BusUser::Node).await, server.bus(BusUser::Operator).await);
    for id in ["m1", "m2", "m3"] {
        store(&node, "worker", id, id).await;
    }
    store(&node, "judge", "m4", "not the worker's").await;
    let worker = server.agent("acme/worker").await;
    let context = jetstream::with_domain(worker.client.clone(), names::INBOX_DOMAIN);
    let consumer: PullConsumer = context.get_consumer_from_stream("worker", "OUT_acme").await.unwrap();
    let mut messages = consumer.messages().await.unwrap();
    for id in ["m1", "m2", "m3"] {
        let message = timeout(SOON, messages.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(message.payload, id);
        assert_eq!(message.subject.as_str(), format!("tenant.acme.stored.worker.message.planner.{id}"));
        assert!(message.headers.as_ref().is_some_and(|headers| headers.get("Agentbus-Delivery").is_some()));
        message.double_ack().await.unwrap();
    }
    // One that comes while the client waits.
    store(&node, "worker", "m5", "m5").await;
    let message = timeout(SOON, messages.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(message.payload, "m5");
    message.double_ack().await.unwrap();
    assert_eq!(state(&operator, "worker").await, (0, 5, 0, 0));
    assert_eq!(state(&operator, "judge").await, (1, 0, 0, 0));
    assert!(worker.events().is_empty(), "{:?}", worker.events());
    assert!(node.events().is_empty(), "{:?}", node.events());
}

#[tokio::test]
async fn the_nats_tool_reads_an_agents_durable_inbox() {
    let server = Server::started_and_provisioned(&Plan::example().unwrap()).await;
    let (node, operator) = (server.bus(BusUser::Node).await, server.bus(BusUser::Operator).await);
    store(&node, "worker", "m1", "hello from afar").await;
    let output = Command::new(servers::find(Tool::Nats).unwrap())
        .args(["--server", &server.url, "--inbox-prefix", "_INBOX.worker", "--nkey"])
        .arg(server.dir.path().join("keys/acme/worker.nk"))
        .args(["consumer", "next", "OUT_acme", "worker", "--timeout", "5s", "--ack"])
        .env("XDG_CONFIG_HOME", server.dir.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(SOON, output).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("hello from afar"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    // The tool does not wait for the server to have taken its acknowledgement.
    let taken = async {
        while state(&operator, "worker").await != (0, 1, 0, 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, taken).await.unwrap();
}

#[tokio::test]
async fn who_listens_hears_of_an_outcome_as_soon_as_it_is_stored_and_nobody_else_does() {
    let server = Server::started_and_provisioned(&Plan::example().unwrap()).await;
    let node = server.bus(BusUser::Node).await;
    let (planner, stranger) = (server.agent("acme/planner").await, server.agent("globex/planner").await);
    let mut outcomes = planner.subscribe("agent.planner.outcome").await;
    let mut foreign = stranger.subscribe("agent.planner.>").await;
    planner.settle().await;
    stranger.settle().await;
    let subject = "tenant.acme.stored.planner.outcome.planner.m1~judged";
    node.client.request(subject, "outcome".into()).await.unwrap();
    let outcome = expect(&mut outcomes).await;
    assert_eq!((outcome.subject.as_str(), &outcome.payload[..]), ("agent.planner.outcome", &b"outcome"[..]));
    assert!(super::server::nothing(&mut foreign).await.is_none());
}

/// What answers to an agent's own three requests could do if the server sent them where it likes.
#[tokio::test]
async fn a_chosen_reply_subject_on_the_inboxs_requests_reaches_nothing_that_matters() {
    let server = Server::started_and_provisioned(&Plan::example().unwrap()).await;
    let (node, operator) = (server.bus(BusUser::Node).await, server.bus(BusUser::Operator).await);
    let mut ears = Vec::new();
    for &verb in Verb::ALL {
        ears.push(node.queue(&names::requests_of_all_tenants(verb), names::NODES_QUEUE).await);
    }
    ears.push(node.queue(&names::answers_to("*"), names::NODES_QUEUE).await);
    let stranger = server.agent("globex/planner").await;
    ears.push(stranger.subscribe("agent.planner.>").await);
    stranger.settle().await;
    node.settle().await;
    for id in ["j1", "j2"] {
        store(&node, "judge", id, "judge's own").await;
    }
    let before = (2, 0, 0, 0);
    // The server counts what a consumer has to deliver a moment after it has stored it.
    while state(&operator, "judge").await != before {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let worker = server.agent("acme/worker").await;
    let context = jetstream::with_domain(worker.client.clone(), names::INBOX_DOMAIN);
    let own: PullConsumer = context.get_consumer_from_stream("worker", "OUT_acme").await.unwrap();

    let replies = [
        "$JS.API.STREAM.DELETE.OUT_acme",
        "$JS.API.STREAM.PURGE.OUT_acme",
        "$JS.API.STREAM.DELETE.RECORDS",
        "$JS.API.CONSUMER.DELETE.OUT_acme.judge",
        "$JS.API.CONSUMER.MSG.NEXT.OUT_acme.judge",
        "$JS.API.CONSUMER.MSG.NEXT.OUT_acme.worker",
        "$JS.API.CONSUMER.INFO.OUT_acme.judge",
        "$JS.BUS.API.CONSUMER.MSG.NEXT.OUT_acme.judge",
        "$JS.BUS.API.CONSUMER.MSG.NEXT.OUT_acme.worker",
        "$JS.BUS.API.CONSUMER.INFO.OUT_acme.judge",
        "$JS.ACK.OUT_acme.judge.1.1.1.1790000000000000000.0",
        "$JS.ACK.OUT_acme.worker.1.1.1.1790000000000000000.0",
        "bus.judge.vote",
        "bus.judge.answer.node.token",
        "bus.worker.submit",
        "bus.planner.send",
        "tenant.acme.bus.judge.vote",
        "tenant.acme.submitted.planner.forged",
        "tenant.acme.stored.judge.message.planner.forged",
        "tenant.globex.agent.planner.inbox",
        "deliberation.acme.aaaa.vote",
        "dead.acme.planner.forged",
        "$KV.agentbus_tenants.acme",
    ];
    // A pull request, and a vote: whatever the answer's destination may want to read.
    let payload = r#"{"batch":1,"expires":500000000,"id":"aaaa","choice":"approve"}"#;
    let pull = r#"{"batch":1,"expires":200000000}"#;
    let next = "$JS.API.CONSUMER.MSG.NEXT.OUT_acme.worker";
    let mut through = Vec::new();
    let mut stored = 2;
    for (at, reply) in replies.into_iter().enumerate() {
        // There already, and coming while the request waits.
        for (way, first) in [("ready", true), ("waiting", false)] {
            let id = format!("{way}{at}");
            stored += 1;
            if first {
                store(&node, "worker", &id, payload).await;
                worker.publish(next, Some(reply), pull).await;
                worker.settle().await;
            } else {
                worker.publish(next, Some(reply), pull).await;
                worker.settle().await;
                store(&node, "worker", &id, payload).await;
            }
        }
        // Answers without a body, with a JSON body, and of an acknowledgement that asks for more.
        worker.publish(next, Some(reply), r#"{"batch":1,"no_wait":true}"#).await;
        worker.publish(next, Some(reply), "{broken").await;
        worker.publish("$JS.BUS.API.CONSUMER.INFO.OUT_acme.worker", Some(reply), "").await;
        let ack = "$JS.ACK.OUT_acme.worker.1.1.1.1790000000000000000.0";
        worker.publish(ack, Some(reply), "+ACK").await;
        worker.publish(ack, Some(reply), "+NXT {\"batch\":1,\"expires\":1000000}").await;
        worker.settle().await;
        tokio::time::sleep(NEVER).await;
        for ears in &mut ears {
            while let Some(Some(message)) = ears.next().now_or_never() {
                through.push(format!("{reply} became {} {:?}", message.subject, message.payload));
            }
        }
        if state(&operator, "judge").await != before {
            through.push(format!("{reply} changed the judge's inbox"));
        }
    }
    assert!(through.is_empty(), "{through:#?}");
    let context = jetstream::new(operator.client.clone());
    for (stream, messages) in
        [("OUT_acme", stored), ("IN_acme", 0), ("OUT_globex", 0), ("RECORDS", 0), ("DELIBERATIONS_acme", 0)]
    {
        let state = context.get_stream(stream).await.unwrap().cached_info().state.clone();
        assert_eq!((state.messages, state.last_sequence), (messages, messages), "{stream}");
    }
    // The worker reached its own inbox with it: the test would notice.
    assert!(own.get_info().await.unwrap().delivered.consumer_sequence > 20);
}

#[tokio::test]
async fn an_inbox_bounds_what_an_agent_can_leave_waiting_at_the_server() {
    let server = Server::started_and_provisioned(&Plan::example().unwrap()).await;
    let worker = server.agent("acme/worker").await;
    let mut answers = worker.subscribe("_INBOX.worker.pull").await;
    let next = "$JS.API.CONSUMER.MSG.NEXT.OUT_acme.worker";
    for (pull, refused) in [
        (r#"{"batch":1001,"expires":1000000000}"#, "Exceeded MaxRequestBatch of 1000"),
        (r#"{"batch":1,"expires":601000000000}"#, "Exceeded MaxRequestExpires of 10m0s"),
    ] {
        worker.publish(next, Some("_INBOX.worker.pull"), pull).await;
        assert_eq!(expect(&mut answers).await.description.as_deref(), Some(refused));
    }
    for _ in 0..33 {
        worker.publish(next, Some("_INBOX.worker.pull"), r#"{"batch":1,"expires":60000000000}"#).await;
    }
    assert_eq!(expect(&mut answers).await.description.as_deref(), Some("Exceeded MaxWaiting"));
}
