//! What must be possible: the table of the protocol, and each line of the allow-lists.

use agentbus::{
    domain::Verb,
    tenants::{BusUser, Plan, ProvisionError, StoreSettings, names, provision},
};
use async_nats::jetstream::{self, stream::StorageType};
use futures_util::StreamExt;

use super::server::{Server, expect, nothing};

#[tokio::test]
async fn a_request_reaches_the_node_stamped_with_tenant_and_agent_and_is_answered() {
    let server = Server::start(&Plan::example().unwrap()).await;
    let node = server.bus(BusUser::Node).await;
    for &verb in Verb::ALL {
        let mut requests = node.queue(&names::requests_of_all_tenants(verb), names::NODES_QUEUE).await;
        node.settle().await;
        for (tenant, agent) in [("acme", "planner"), ("globex", "builder")] {
            let login = server.agent(&format!("{tenant}/{agent}")).await;
            let client = login.client.clone();
            let subject = format!("bus.{agent}.{}", verb.as_str());
            let answer = tokio::spawn(async move { client.request(subject, "hello".into()).await });
            let request = expect(&mut requests).await;
            assert_eq!(request.subject.as_str(), format!("tenant.{tenant}.bus.{agent}.{verb}"));
            let reply = request.reply.unwrap();
            assert!(reply.starts_with("_R_."), "{reply}");
            assert_eq!(reply.split('.').count(), 3, "the node's allow-list has three tokens: {reply}");
            node.client.publish(reply, "verdict".into()).await.unwrap();
            assert_eq!(answer.await.unwrap().unwrap().payload, "verdict");
            assert!(login.events().is_empty(), "{:?}", login.events());
        }
    }
    assert!(node.events().is_empty(), "{:?}", node.events());
}

#[tokio::test]
async fn the_node_reaches_inbox_and_outcome_and_knows_at_once_who_is_offline() {
    let server = Server::start(&Plan::example().unwrap()).await;
    let node = server.bus(BusUser::Node).await;
    let worker = server.agent("acme/worker").await;
    let mut inbox = worker.subscribe("agent.worker.>").await;
    worker.settle().await;
    for kind in ["inbox", "outcome"] {
        let reply = "bus.worker.answer.token";
        node.publish(&format!("tenant.acme.agent.worker.{kind}"), Some(reply), "hello").await;
        let message = expect(&mut inbox).await;
        assert_eq!(message.subject.as_str(), format!("agent.worker.{kind}"));
        assert_eq!(message.reply.unwrap().as_str(), reply, "the reply subject passes through unchanged");
    }
    for offline in ["tenant.acme.agent.judge.inbox", "tenant.globex.agent.builder.inbox"] {
        let error = node.client.request(offline, "hello".into()).await.unwrap_err();
        assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders, "{offline}");
    }
    assert!(node.events().is_empty(), "{:?}", node.events());
}

#[tokio::test]
async fn a_node_records_reads_back_and_answers_the_operator() {
    let server = Server::started_and_provisioned(&Plan::example().unwrap()).await;
    let node = server.bus(BusUser::Node).await;
    let context = jetstream::new(node.client.clone());
    let ack = context.publish("record.acme.planner.m1", "{}".into()).await.unwrap().await.unwrap();
    assert_eq!((ack.stream.as_str(), ack.sequence), (names::RECORDS_STREAM, 1));
    // Stream info of the records is not the node's.
    let records = context.get_stream_no_info(names::RECORDS_STREAM).await.unwrap();
    let record = records.get_last_raw_message_by_subject("record.acme.planner.m1").await.unwrap();
    assert_eq!(record.payload, "{}");

    // The graceful stop's fence: a request to oneself.
    let mut fence = node.subscribe("_INBOX.node.fence").await;
    node.publish("_INBOX.node.fence", None, "fence").await;
    expect(&mut fence).await;

    let operator = server.bus(BusUser::Operator).await;
    let mut pings = node.subscribe("$SRV.PING").await;
    node.settle().await;
    let client = operator.client.clone();
    let pong = tokio::spawn(async move { client.request("$SRV.PING", "".into()).await });
    let ping = expect(&mut pings).await;
    node.client.publish(ping.reply.unwrap(), "pong".into()).await.unwrap();
    assert_eq!(pong.await.unwrap().unwrap().payload, "pong");

    let records = jetstream::new(operator.client.clone()).get_stream(names::RECORDS_STREAM).await.unwrap();
    assert_eq!(records.cached_info().state.messages, 1);
    let record = records.get_last_raw_message_by_subject("record.acme.planner.m1").await.unwrap();
    assert_eq!(record.payload, "{}");
    assert!(node.events().is_empty(), "{:?}", node.events());
    assert!(operator.events().is_empty(), "{:?}", operator.events());
}

#[tokio::test]
async fn async_nats_micro_services_run_with_the_nodes_permissions() {
    use async_nats::service::ServiceExt;
    let server = Server::start(&Plan::example().unwrap()).await;
    let node = server.bus(BusUser::Node).await;
    let service = node
        .client
        .service_builder()
        .queue_group(names::NODES_QUEUE)
        .start("agentbus", "0.1.0")
        .await
        .unwrap();
    let mut endpoint =
        service.endpoint(names::requests_of_all_tenants(agentbus::domain::Verb::Send)).await.unwrap();
    node.settle().await;
    tokio::spawn(async move {
        let request = endpoint.next().await.unwrap();
        request.respond(Ok("verdict".into())).await.unwrap();
        endpoint.next().await;
    });
    let planner = server.agent("acme/planner").await;
    let answer = planner.client.request("bus.planner.send", "hello".into()).await.unwrap();
    assert_eq!(answer.payload, "verdict");
    let operator = server.bus(BusUser::Operator).await;
    for verb in ["PING", "INFO", "STATS"] {
        for subject in [format!("$SRV.{verb}"), format!("$SRV.{verb}.agentbus")] {
            let answer = operator.client.request(subject, "".into()).await.unwrap();
            assert!(String::from_utf8_lossy(&answer.payload).contains("agentbus"), "{verb}");
        }
    }
    assert!(node.events().is_empty(), "{:?}", node.events());
}

#[tokio::test]
async fn two_nodes_share_requests_and_each_goes_to_one() {
    let server = Server::start(&Plan::example().unwrap()).await;
    let (one, two) = (server.bus(BusUser::Node).await, server.bus(BusUser::Node).await);
    let subject = names::requests_of_all_tenants(agentbus::domain::Verb::Send);
    let mut first = one.queue(&subject, names::NODES_QUEUE).await;
    let mut second = two.queue(&subject, names::NODES_QUEUE).await;
    one.settle().await;
    two.settle().await;
    let planner = server.agent("acme/planner").await;
    for _ in 0..50 {
        planner.publish("bus.planner.send", None, "hello").await;
    }
    let mut counts = [0, 0];
    while nothing(&mut first).await.is_some() {
        counts[0] += 1;
    }
    while nothing(&mut second).await.is_some() {
        counts[1] += 1;
    }
    assert_eq!(counts[0] + counts[1], 50);
    assert!(counts.iter().all(|&n| n > 5), "{counts:?}");
}

#[tokio::test]
async fn provisioning_again_changes_nothing_and_a_smaller_plan_removes() {
    let plan = Plan::example().unwrap();
    let server = Server::start(&plan).await;
    let login = server.bus(BusUser::Provisioner).await;
    let settings = StoreSettings { records_bytes: Some(1 << 20), ..StoreSettings::default() };
    let first = provision(&login.client, &plan, &settings).await.unwrap();
    assert_eq!((first.put.len(), first.unchanged.len(), first.removed.len()), (2, 0, 0));
    // Eight streams of the bus, and four of each tenant with the nodes', the clerk's, the webhooks', the evidence's and
    // its agents' consumers.
    assert_eq!((first.created.len(), first.left.len()), (8 + 2 * (4 + 12), 0), "{:?}", first.created);
    let second = provision(&login.client, &plan, &settings).await.unwrap();
    assert_eq!((second.put.len(), second.unchanged.len(), second.removed.len()), (0, 2, 0));
    assert_eq!((second.created, second.changed, second.left), (Vec::new(), Vec::new(), Vec::new()));

    let smaller = Plan::parse("[tenants.acme]").unwrap();
    let third = provision(&login.client, &smaller, &StoreSettings::default()).await.unwrap();
    assert_eq!((third.put.len(), third.removed), (1, vec!["globex".to_owned()]));
    // What may hold messages is told, and kept.
    assert!(third.created.is_empty(), "{:?}", third.created);
    let inboxes = ["judge", "planner", "scribe", "steward", "watcher", "worker"];
    let mut left: Vec<_> = inboxes.iter().map(|agent| format!("OUT_acme/{agent}")).collect();
    left.extend(["DEAD_globex", "DELIBERATIONS_globex", "IN_globex", "OUT_globex"].map(str::to_owned));
    assert_eq!(third.left, left);
    assert!(third.changed.is_empty(), "{:?}", third.changed);
    let fourth = provision(&login.client, &smaller, &StoreSettings::default()).await.unwrap();
    assert_eq!((fourth.unchanged.len(), fourth.removed.len()), (1, 0));
    assert!(login.events().is_empty(), "{:?}", login.events());

    let stream = jetstream::new(login.client.clone()).get_stream(names::RECORDS_STREAM).await.unwrap();
    let config = &stream.cached_info().config;
    // As it was made, for nobody said otherwise since.
    assert_eq!(config.max_bytes, 1 << 20);
    assert_eq!(config.max_age.as_secs(), 86_400);
    assert_eq!(config.storage, StorageType::File);
    assert!(!config.allow_direct && config.deny_delete && config.deny_purge && !config.allow_rollup);

    let said = StoreSettings { records_bytes: Some(2 << 20), ..StoreSettings::default() };
    let fifth = provision(&login.client, &smaller, &said).await.unwrap();
    assert_eq!(fifth.changed, ["RECORDS: max_bytes 1048576 → 2097152"]);
}

#[tokio::test]
async fn what_changed_in_the_tenants_file_changes_in_its_place() {
    let plan = Plan::example().unwrap();
    let server = Server::started_and_provisioned(&plan).await;
    let node = server.bus(BusUser::Node).await;
    let worker = server.agent("acme/worker").await;
    let context = jetstream::with_domain(worker.client.clone(), names::INBOX_DOMAIN);
    for id in ["m1", "m2"] {
        let subject = format!("tenant.acme.stored.worker.message.planner.{id}");
        node.client.request(subject, id.into()).await.unwrap();
    }
    let inbox: jetstream::consumer::PullConsumer =
        context.get_consumer_from_stream("worker", "OUT_acme").await.unwrap();
    let mut messages = inbox.fetch().max_messages(1).messages().await.unwrap();
    messages.next().await.unwrap().unwrap().double_ack().await.unwrap();

    let text = Plan::EXAMPLE
        .replace("[tenants.acme.agents]", "[tenants.acme.store]\ninbox_age = \"2h\"\n[tenants.acme.agents]");
    let changed = Plan::parse(&text).unwrap();
    let provisioner = server.bus(BusUser::Provisioner).await;
    let again = provision(&provisioner.client, &changed, &StoreSettings::default()).await.unwrap();
    // Of no interest to nodes, so the tenant itself did not change.
    assert_eq!((again.put.len(), again.created.len(), again.left.len()), (0, 0, 0));
    assert_eq!(again.changed, ["OUT_acme: max_age 7days → 2h"]);
    let outbound = jetstream::new(provisioner.client.clone()).get_stream("OUT_acme").await.unwrap();
    assert_eq!(outbound.cached_info().config.max_age.as_secs(), 7_200);
    let mut messages = inbox.fetch().max_messages(1).messages().await.unwrap();
    assert_eq!(messages.next().await.unwrap().unwrap().payload, "m2", "the inbox is where it was");

    // As docs/tenancy.md removes what an agent left.
    let context = jetstream::new(provisioner.client.clone());
    context.delete_consumer_from_stream("worker", "OUT_acme").await.unwrap();
    context.delete_stream("OUT_globex").await.unwrap();
    assert!(provisioner.events().is_empty(), "{:?}", provisioner.events());
}

#[tokio::test]
async fn streams_that_do_not_fit_are_named_with_their_tenant_and_size() {
    let text = "[tenants.acme]\n[tenants.initech.store]\ninbox_bytes = 1000000000000\n";
    let plan = Plan::parse(text).unwrap();
    let server = Server::start(&plan).await;
    let provisioner = server.bus(BusUser::Provisioner).await;
    let settings = StoreSettings::default();
    let error = provision(&provisioner.client, &plan, &settings).await.unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, ProvisionError::NoRoom { bytes: 1_000_000_000_000, .. }), "{message}");
    for fact in ["OUT_initech", "tenant initech", &settings.reserved_bytes(&plan).to_string()] {
        assert!(message.contains(fact), "{message:?} does not say {fact:?}");
    }
}

#[tokio::test]
async fn an_operator_looks_at_a_dead_letter_sends_it_again_and_takes_it_out() {
    let server = Server::started_and_provisioned(&Plan::example().unwrap()).await;
    let (node, operator) = (server.bus(BusUser::Node).await, server.bus(BusUser::Operator).await);
    let dead = jetstream::new(node.client.clone());
    dead.publish("dead.acme.planner.m1", "message".into()).await.unwrap().await.unwrap();
    let context = jetstream::new(operator.client.clone());
    let letters = context.get_stream("DEAD_acme").await.unwrap();
    let letter = letters.get_last_raw_message_by_subject("dead.acme.planner.m1").await.unwrap();
    let again = context.publish("tenant.acme.submitted.planner.m1", letter.payload).await.unwrap();
    assert_eq!(again.await.unwrap().stream, "IN_acme");
    letters.delete_message(letter.sequence).await.unwrap();
    // A node of its own accord takes up what waits.
    let waiting: jetstream::consumer::PullConsumer =
        jetstream::new(node.client.clone()).get_consumer_from_stream("NODES", "IN_acme").await.unwrap();
    let mut messages = waiting.fetch().max_messages(1).messages().await.unwrap();
    let message = messages.next().await.unwrap().unwrap();
    assert_eq!(message.payload, "message");
    message.double_ack().await.unwrap();
    assert!(node.events().is_empty(), "{:?}", node.events());
    assert!(operator.events().is_empty(), "{:?}", operator.events());
}
