//! What must be impossible, by the server alone. Each attack is a line of a table.

use agentbus::{
    domain::Verb,
    tenants::{BusUser, Plan, names},
};
use async_nats::HeaderMap;
use futures_util::{FutureExt, StreamExt};

use super::server::{Login, NEVER, Server, expect, nothing};

#[derive(Debug, Clone, Copy)]
enum Attack {
    Publish(&'static str),
    Subscribe(&'static str),
    Queue(&'static str, &'static str),
}
use Attack::{Publish, Queue, Subscribe};

/// Carries each attack out, and fails for those that the server did not refuse by name.
async fn all_refused(login: &Login, attacks: &[Attack]) {
    let mut open = Vec::new();
    for &attack in attacks {
        let subject = match attack {
            Publish(subject) => {
                login.publish(subject, None, "{}").await;
                subject
            }
            Subscribe(subject) => {
                drop(login.subscribe(subject).await);
                subject
            }
            Queue(subject, queue) => {
                drop(login.queue(subject, queue).await);
                subject
            }
        };
        login.settle().await;
        if !login.told(&["permissions violation", &format!("\"{subject}\"")]).await {
            open.push(attack);
        }
    }
    assert!(open.is_empty(), "not refused: {open:?}\n{:#?}", login.events());
}

#[tokio::test]
async fn an_agent_can_do_nothing_but_ask_in_its_own_name_and_hear_its_own_inbox() {
    let server = Server::started_and_provisioned(&Plan::example().unwrap()).await;
    let planner = server.agent("acme/planner").await;
    all_refused(
        &planner,
        &[
            // As somebody else, and past the bus.
            Publish("bus.worker.send"),
            Publish("bus.worker.unregister"),
            Publish("bus.planner"),
            Publish("bus.planner2.send"),
            Publish("bus.PLANNER.send"),
            Publish("bus.*.send"),
            Publish("agent.worker.inbox"),
            Publish("agent.planner.inbox"),
            Publish("agent.worker.outcome"),
            // Into another tenant, and into account BUS by its own subjects.
            Publish("tenant.globex.bus.planner.send"),
            Publish("tenant.acme.bus.worker.send"),
            Publish("tenant.globex.agent.builder.inbox"),
            Publish("tenant.acme.stored.worker"),
            Publish("record.acme.planner.m1"),
            Publish("decision.acme.planner.d1"),
            Publish("_R_.aaaaaa.bbbbbb"),
            Publish("_INBOX.worker.x"),
            Publish("_INBOX.node.x"),
            Publish("_INBOX.planner.x"),
            // JetStream, its acknowledgements, its data.
            Publish("$JS.API.INFO"),
            Publish("$JS.API.STREAM.CREATE.MINE"),
            Publish("$JS.API.STREAM.PURGE.RECORDS"),
            Publish("$JS.API.STREAM.DELETE.KV_agentbus_tenants"),
            // Others' durable inboxes, and the streams below.
            Publish("$JS.API.CONSUMER.MSG.NEXT.OUT_acme.worker"),
            Publish("$JS.API.CONSUMER.MSG.NEXT.OUT_acme.*"),
            Publish("$JS.API.CONSUMER.MSG.NEXT.OUT_globex.planner"),
            Publish("$JS.API.CONSUMER.MSG.NEXT.OUT_acme.EVIDENCE"),
            Publish("$JS.API.CONSUMER.MSG.NEXT.OUT_acme.RECEIPTS"),
            Publish("$JS.ACK.OUT_acme.EVIDENCE.1.1.1.1790000000000000000.0"),
            Publish("$JS.API.CONSUMER.DELETE.OUT_acme.OUTCOMES"),
            Publish("tenant.acme.stored.~.~worker.planner.m1"),
            Publish("$JS.API.CONSUMER.MSG.NEXT.IN_acme.NODES"),
            Publish("$JS.API.CONSUMER.MSG.NEXT.DELIBERATIONS_acme.CLERK"),
            Publish("$JS.API.CONSUMER.MSG.NEXT.DELIBERATIONS_acme.WEBHOOKS"),
            Publish("$JS.ACK.DELIBERATIONS_acme.CLERK.1.1.1.1790000000000000000.0"),
            Publish("$JS.API.STREAM.INFO.DELIBERATIONS_acme"),
            Publish("$JS.API.STREAM.MSG.GET.DEAD_acme"),
            Publish("$JS.BUS.API.CONSUMER.MSG.NEXT.OUT_acme.worker"),
            Publish("$JS.BUS.API.CONSUMER.MSG.NEXT.OUT_globex.planner"),
            Publish("$JS.BUS.API.CONSUMER.INFO.OUT_acme.worker"),
            Publish("$JS.BUS.API.STREAM.INFO.OUT_acme"),
            Publish("$JS.API.CONSUMER.INFO.OUT_acme.worker"),
            Publish("$JS.ACK.OUT_acme.worker.1.1.1.1790000000000000000.0"),
            Publish("$JS.ACK.OUT_globex.planner.1.1.1.1790000000000000000.0"),
            Publish("$JS.API.CONSUMER.CREATE.OUT_acme.planner"),
            Publish("$JS.API.CONSUMER.CREATE.OUT_acme.mine.tenant.acme.stored.worker.>"),
            Publish("$JS.API.CONSUMER.DURABLE.CREATE.OUT_acme.planner"),
            Publish("$JS.API.CONSUMER.DELETE.OUT_acme.planner"),
            Publish("$JS.API.CONSUMER.NAMES.OUT_acme"),
            Publish("$JS.API.STREAM.INFO.OUT_acme"),
            Publish("$JS.API.STREAM.NAMES"),
            Publish("$JS.API.STREAM.MSG.GET.OUT_acme"),
            Publish("$JS.API.DIRECT.GET.OUT_acme"),
            Publish("tenant.acme.submitted.planner.m1"),
            Publish("tenant.acme.stored.worker.message.planner.m1"),
            Publish("deliberation.acme.aaaa.vote"),
            Publish("dead.acme.planner.m1"),
            Publish("$KV.agentbus_thresholds.acme"),
            Publish("$JS.ACK.RECORDS.c.1.1.1.1.1"),
            Publish("$JS.FC.KV_agentbus_tenants.c.x"),
            Publish("$KV.agentbus_tenants.acme"),
            // Services and the system.
            Publish("nodes.policy.reload"),
            Publish("nodes.policy.diff"),
            Publish("$KV.agentbus_freezes.all"),
            Publish("$KV.agentbus_policy.bundle"),
            Publish("$KV.agentbus_policy.shadow"),
            Publish("$SRV.PING"),
            Publish("$SYS.REQ.SERVER.PING"),
            Publish("$SYS.REQ.ACCOUNT.globex.CONNZ"),
            Publish("$SYS.REQ.USER.INFO"),
            Publish("$SYS.REQ.SERVER.*.RELOAD"),
            // Ears.
            Subscribe(">"),
            Subscribe("*"),
            Subscribe("*.>"),
            Subscribe("bus.>"),
            Subscribe("bus.planner.send"),
            Subscribe("agent.>"),
            Subscribe("agent.*.inbox"),
            Subscribe("agent.worker.inbox"),
            Subscribe("agent.worker.>"),
            Queue("agent.worker.inbox", "thieves"),
            Queue("agent.*.inbox", "nodes"),
            Subscribe("_INBOX.>"),
            Subscribe("_INBOX.*.*"),
            Subscribe("_INBOX.worker.>"),
            Subscribe("_INBOX.node.>"),
            Subscribe("tenant.>"),
            Subscribe("tenant.globex.agent.builder.inbox"),
            Queue("tenant.*.bus.*.send", "nodes"),
            Subscribe("record.>"),
            Subscribe("_R_.>"),
            Subscribe("$JS.>"),
            Subscribe("$KV.>"),
            Subscribe("$SRV.>"),
            Subscribe("$SYS.>"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_node_can_not_manage_streams_tenants_or_servers_nor_speak_as_an_agent() {
    let server = Server::started_and_provisioned(&Plan::example().unwrap()).await;
    let node = server.bus(BusUser::Node).await;
    all_refused(
        &node,
        &[
            Publish("$JS.API.STREAM.CREATE.MINE"),
            Publish("$JS.API.STREAM.UPDATE.RECORDS"),
            Publish("$JS.API.STREAM.DELETE.RECORDS"),
            Publish("$JS.API.STREAM.PURGE.RECORDS"),
            Publish("$JS.API.STREAM.MSG.DELETE.RECORDS"),
            Publish("$JS.API.STREAM.SNAPSHOT.RECORDS"),
            Publish("$JS.API.STREAM.RESTORE.RECORDS"),
            Publish("$JS.API.STREAM.UPDATE.KV_agentbus_tenants"),
            Publish("$JS.API.STREAM.DELETE.KV_agentbus_tenants"),
            Publish("$JS.API.STREAM.PURGE.KV_agentbus_tenants"),
            Publish("$JS.API.CONSUMER.CREATE.RECORDS.c.record.>"),
            Publish("$JS.API.CONSUMER.CREATE.KV_agentbus_tenants"),
            Publish("$JS.API.CONSUMER.DELETE.RECORDS.c"),
            // With a chosen reply each of these would delete streams.
            Publish("$JS.API.DIRECT.GET.RECORDS.record.acme.planner.m1"),
            Publish("$JS.API.DIRECT.GET.KV_agentbus_tenants.x"),
            Publish("$JS.API.STREAM.CREATE.IN_other"),
            Publish("$JS.API.STREAM.DELETE.OUT_acme"),
            Publish("$JS.API.STREAM.PURGE.OUT_acme"),
            Publish("$JS.API.STREAM.PURGE.DECISIONS"),
            Publish("$JS.API.STREAM.MSG.DELETE.DELIBERATIONS_acme"),
            Publish("$JS.API.STREAM.NAMES"),
            Publish("$JS.API.CONSUMER.CREATE.OUT_acme.mine"),
            Publish("$JS.API.CONSUMER.CREATE.DELIBERATIONS_acme.mine.deliberation.acme.>"),
            Publish("$JS.API.STREAM.MSG.DELETE.DEAD_acme"),
            Publish("$JS.API.CONSUMER.DELETE.IN_acme.NODES"),
            Publish("$JS.API.CONSUMER.MSG.NEXT.OUT_acme.OUTCOMES"),
            Publish("$JS.API.CONSUMER.MSG.NEXT.OUT_acme.RECEIPTS"),
            Publish("$JS.API.CONSUMER.DELETE.OUT_acme.RECEIPTS"),
            Publish("$JS.API.CONSUMER.MSG.NEXT.OUT_acme.worker"),
            Publish("$JS.ACK.OUT_acme.worker.1.1.1.1.1"),
            Publish("directory.acme"),
            Publish("$KV.agentbus_tenants.acme"),
            Publish("tenant.acme.bus.planner.send"),
            Publish("tenant.acme.agent.worker"),
            Publish("tenant.acme.agent.worker.other"),
            Publish("agent.worker.inbox"),
            Publish("nodes.policy.reload"),
            Publish("nodes.policy.pushed"),
            Publish("nodes.policy.diff"),
            Publish("$KV.agentbus_policy.bundle"),
            Publish("$KV.agentbus_policy.shadow"),
            Publish("$SRV.PING"),
            Publish("$SYS.REQ.SERVER.PING"),
            Publish("_INBOX.provisioner.x"),
            Publish("$JS.ACK.RECORDS.c.1.1.1.1.1"),
            // All requests beside the group: nodes would not know of this listener.
            Subscribe("tenant.*.bus.*.send"),
            Queue("tenant.*.bus.*.send", "others"),
            Subscribe("tenant.>"),
            Subscribe("tenant.acme.agent.worker.inbox"),
            Subscribe("record.>"),
            Subscribe("$KV.agentbus_tenants.>"),
            Subscribe("_INBOX.operator.>"),
            Subscribe("_INBOX.provisioner.>"),
            Subscribe("_R_.>"),
            Subscribe(">"),
        ],
    )
    .await;
}

#[tokio::test]
async fn provisioner_operator_and_administrator_keep_to_their_own_work() {
    let server = Server::started_and_provisioned(&Plan::example().unwrap()).await;
    let cases: &[(BusUser, &[Attack])] = &[
        (
            BusUser::Provisioner,
            &[
                Publish("tenant.acme.agent.worker.inbox"),
                Publish("tenant.acme.bus.planner.send"),
                Publish("record.acme.planner.m1"),
                Publish("_R_.a.b"),
                Publish("$JS.API.STREAM.CREATE.OTHER"),
                Publish("$JS.API.STREAM.DELETE.RECORDS"),
                Publish("$JS.API.STREAM.PURGE.RECORDS"),
                Publish("$JS.API.STREAM.DELETE.KV_agentbus_tenants"),
                Publish("$JS.API.STREAM.CREATE.IN_other"),
                Publish("$JS.API.STREAM.PURGE.OUT_acme"),
                Publish("$JS.API.STREAM.PURGE.DELIBERATIONS_acme"),
                Publish("$JS.API.STREAM.DELETE.DELIBERATIONS_other"),
                Publish("$JS.API.CONSUMER.CREATE.DELIBERATIONS_acme.mine"),
                Publish("$JS.API.CONSUMER.CREATE.OUT_acme.mine"),
                Publish("$JS.API.CONSUMER.CREATE.RECORDS.mine"),
                Publish("$JS.API.CONSUMER.MSG.NEXT.OUT_acme.worker"),
                Publish("tenant.acme.stored.worker.message.planner.m1"),
                Publish("deliberation.acme.aaaa.vote"),
                Publish("$KV.other.acme"),
                Publish("$SYS.REQ.SERVER.PING"),
                Subscribe("tenant.>"),
                Subscribe("record.>"),
                Queue("tenant.*.bus.*.send", "nodes"),
            ],
        ),
        (
            BusUser::Operator,
            &[
                Publish("tenant.acme.agent.worker.inbox"),
                Publish("record.acme.planner.m1"),
                // It says what it does with dead letters, and nothing else.
                Publish("record.acme.planner.m1.intent"),
                Publish("record.acme.planner.m1.verdict"),
                Publish("record.acme.planner.~.registration"),
                Publish("record.acme.~.0123456789abcdef01234567.threshold"),
                Publish("$KV.agentbus_tenants.acme"),
                Publish("$JS.API.STREAM.CREATE.MINE"),
                Publish("$JS.API.STREAM.UPDATE.RECORDS"),
                Publish("$JS.API.STREAM.DELETE.RECORDS"),
                Publish("$JS.API.STREAM.MSG.DELETE.RECORDS"),
                // Operators do not vote, decide or deliver, and take only dead letters out.
                Publish("deliberation.acme.aaaa.vote"),
                Publish("tenant.acme.bus.judge.vote"),
                Publish("tenant.acme.stored.worker.message.planner.m1"),
                Publish("dead.acme.planner.m1"),
                Publish("$JS.API.STREAM.MSG.DELETE.DELIBERATIONS_acme"),
                Publish("$JS.API.STREAM.PURGE.DEAD_acme"),
                Publish("$JS.API.CONSUMER.MSG.NEXT.IN_acme.NODES"),
                Publish("$JS.API.DIRECT.GET.RECORDS"),
                Publish("$JS.API.CONSUMER.CREATE.RECORDS"),
                Publish("_R_.a.b"),
                Publish("$SYS.REQ.SERVER.PING"),
                Subscribe("tenant.>"),
                Subscribe("_INBOX.>"),
                Queue("tenant.*.bus.*.send", "nodes"),
            ],
        ),
        (
            BusUser::Admin,
            &[
                Publish("tenant.acme.agent.worker.inbox"),
                Publish("$JS.API.STREAM.DELETE.RECORDS"),
                Publish("$SYS.REQ.CLAIMS.UPDATE"),
                Publish("$SYS.REQ.SERVER.X.KICK"),
                Publish("$SYS.REQ.SERVER.X.LDM"),
                Subscribe("$SYS.>"),
                Subscribe("$SYS.ACCOUNT.>"),
                Subscribe(">"),
            ],
        ),
        (
            BusUser::Kicker,
            &[
                Publish("nodes.heartbeat"),
                Publish("$SYS.REQ.SERVER.PING"),
                Publish("$SYS.REQ.SERVER.PING.SUBSZ"),
                Publish("$SYS.REQ.ACCOUNT.acme.CONNZ"),
                Publish("$SYS.REQ.SERVER.X.RELOAD"),
                Publish("$SYS.REQ.SERVER.X.LDM"),
                Publish("$SYS.REQ.CLAIMS.UPDATE"),
                Publish("agentbus.accounts.held"),
                Publish("agentbus.accounts.offered"),
                Subscribe("agentbus.accounts.offered"),
                Subscribe("$SYS.>"),
                Subscribe("nodes.heartbeat"),
                Subscribe(">"),
            ],
        ),
        (
            BusUser::Keeper,
            &[
                // Only `apply` offers accounts, and only to the keepers that hear it.
                Publish("agentbus.accounts.offered"),
                Publish("$SYS.REQ.SERVER.PING"),
                Publish("$SYS.REQ.SERVER.X.KICK"),
                Publish("$SYS.REQ.SERVER.X.LDM"),
                Publish("$SYS.REQ.CLAIMS.UPDATE"),
                Publish("_INBOX.kicker.x"),
                Subscribe("_INBOX.admin.>"),
                Subscribe("$SYS.>"),
                Subscribe(">"),
            ],
        ),
    ];
    for (user, attacks) in cases {
        all_refused(&server.bus(*user).await, attacks).await;
    }
}

/// Everything that a verdict could hit if the requester chooses where it goes.
#[tokio::test]
async fn a_chosen_reply_subject_reaches_nothing_that_matters() {
    let server = Server::started_and_provisioned(&Plan::example().unwrap()).await;
    let node = server.bus(BusUser::Node).await;
    let mut requests: Vec<_> = Vec::new();
    for &verb in Verb::ALL {
        requests.push(node.queue(&names::requests_of_all_tenants(verb), names::NODES_QUEUE).await);
    }
    let mut own = node.subscribe("_INBOX.node.fence").await;
    node.settle().await;
    let builder = server.agent("globex/builder").await;
    let mut foreign = builder.subscribe("agent.builder.>").await;
    let mut foreign_inbox = builder.subscribe("_INBOX.builder.forged").await;
    builder.settle().await;
    let planner = server.agent("acme/planner").await;

    let replies = [
        "$JS.API.STREAM.PURGE.RECORDS",
        "$JS.API.STREAM.DELETE.RECORDS",
        "$JS.API.STREAM.PURGE.KV_agentbus_tenants",
        "$JS.API.STREAM.DELETE.KV_agentbus_tenants",
        "$JS.API.STREAM.CREATE.MINE",
        "$JS.ACK.RECORDS.c.1.1.1.1.1",
        "$JS.ACK.KV_agentbus_tenants.c.1.1.1.1.1",
        "$JS.FC.KV_agentbus_tenants.c.x",
        "$KV.agentbus_tenants.acme",
        "nodes.policy.reload",
        "nodes.policy.diff",
        "$KV.agentbus_policy.bundle",
        "$KV.agentbus_policy.shadow",
        "$SRV.PING",
        "$SYS.REQ.SERVER.PING",
        "$SYS.REQ.USER.INFO",
        "_R_.aaaaaa.bbbbbb",
        "_INBOX.node.fence",
        "_INBOX.builder.forged",
        "record.acme.planner.forged",
        "decision.acme.planner.forged",
        "tenant.acme.bus.worker.send",
        "tenant.globex.bus.builder.send",
        "tenant.globex.agent.builder.inbox",
        "tenant.acme.agent.worker.inbox",
        "bus.planner.send",
        "bus.worker.send",
        "bus.worker.unregister",
        "bus.worker.heartbeat",
    ];
    let mut through = Vec::new();
    for reply in replies {
        planner.publish("bus.planner.send", Some(reply), "hello").await;
        planner.client.flush().await.unwrap();
        // The server may drop the whole request, as it does with `$JS.ACK` and `_R_`.
        if let Some(request) = nothing(&mut requests[0]).await {
            assert_eq!(request.subject.as_str(), "tenant.acme.bus.planner.send");
            node.client.publish(request.reply.unwrap(), "verdict".into()).await.unwrap();
        }
        node.settle().await;
        tokio::time::sleep(NEVER).await;
        for requests in &mut requests {
            if let Some(Some(message)) = requests.next().now_or_never() {
                through.push(format!("{reply} became {}", message.subject));
            }
        }
        for ears in [&mut own, &mut foreign, &mut foreign_inbox] {
            if let Some(Some(message)) = ears.next().now_or_never() {
                through.push(format!("{reply} reached {}", message.subject));
            }
        }
    }
    assert!(through.is_empty(), "{through:#?}");
    assert_eq!(changed(&server, Some(0)).await, None);
}

/// What a node that was taken over could try: let JetStream's own answers do what it may not. It
/// can *write* to the directory's subjects in this way (see `docs/tenancy.md`, "What remains").
#[tokio::test]
async fn a_nodes_chosen_reply_does_not_manage_streams_either() {
    let server = Server::started_and_provisioned(&Plan::example().unwrap()).await;
    let node = server.bus(BusUser::Node).await;
    let record = r#"{"last_by_subj":"record.acme.planner.none"}"#;
    let asks = [
        ("$JS.API.STREAM.INFO.KV_agentbus_tenants", ""),
        ("$JS.API.STREAM.MSG.GET.KV_agentbus_tenants", r#"{"seq":1}"#),
        ("$JS.API.STREAM.MSG.GET.RECORDS", record),
        ("$JS.API.STREAM.MSG.GET.RECORDS", ""),
        ("_INBOX.node.x", ""),
        ("tenant.acme.agent.worker.inbox", ""),
        ("$JS.API.STREAM.INFO.OUT_acme", ""),
        ("$JS.API.STREAM.MSG.GET.OUT_acme", r#"{"last_by_subj":"tenant.acme.stored.none.message.a.b"}"#),
        ("$JS.API.CONSUMER.INFO.IN_acme.NODES", ""),
        // Its acknowledgement is an answer, too. Last, for it counts as a change.
        ("record.acme.planner.m1", ""),
    ];
    let replies = [
        "$JS.API.STREAM.DELETE.KV_agentbus_tenants",
        "$JS.API.STREAM.PURGE.KV_agentbus_tenants",
        "$JS.API.STREAM.DELETE.RECORDS",
        "$JS.API.STREAM.PURGE.RECORDS",
        "$JS.API.STREAM.CREATE.MINE",
    ];
    let mut done = Vec::new();
    for (ask, payload) in asks {
        for reply in replies {
            node.publish(ask, Some(reply), payload).await;
            node.settle().await;
            let records = if ask.starts_with("record.") { None } else { Some(0) };
            if let Some(found) = changed(&server, records).await {
                done.push(format!("{ask} with reply {reply}: {found}"));
            }
        }
    }
    assert!(done.is_empty(), "{done:#?}");
}

/// What is no longer as it was provisioned. `records`: how many there must be, if that is known.
async fn changed(server: &Server, records: Option<u64>) -> Option<String> {
    let operator = server.bus(BusUser::Operator).await;
    let context = async_nats::jetstream::new(operator.client.clone());
    for (name, messages) in [(names::RECORDS_STREAM, records), (names::TENANTS_STREAM, Some(2))] {
        let Ok(stream) = context.get_stream(name).await else { return Some(format!("{name} is gone")) };
        let state = &stream.cached_info().state;
        let all_kept = state.messages == state.last_sequence;
        if !all_kept || messages.is_some_and(|messages| messages != state.messages) {
            return Some(format!("{name}: {state:?}"));
        }
    }
    None
}

/// Not prevented, and the first thing that `docs/tenancy.md` says of a node that was taken over: the empty
/// answer to a pull that expires deletes a stream. Should the server stop it one day, the words can go.
#[tokio::test]
async fn a_node_that_was_taken_over_can_delete_a_stream_by_a_pull_that_expires() {
    let server = Server::started_and_provisioned(&Plan::example().unwrap()).await;
    let node = server.bus(BusUser::Node).await;
    let pull = "$JS.API.CONSUMER.MSG.NEXT.IN_acme.NODES";
    let reply = "$JS.API.STREAM.DELETE.RECORDS";
    node.publish(pull, Some(reply), r#"{"batch":1,"expires":100000000}"#).await;
    node.settle().await;
    let gone = async {
        while changed(&server, Some(0)).await.is_none() {
            tokio::time::sleep(NEVER).await;
        }
    };
    tokio::time::timeout(super::server::SOON, gone).await.unwrap();
    assert_eq!(changed(&server, None).await, Some("RECORDS is gone".to_owned()));
}

/// Not prevented, and the reason for `Agentbus-Delivery`: within its own tenant, and only there, a
/// requester can have the *verdict* sent where it likes. The text is the node's, not the attacker's.
#[tokio::test]
async fn a_verdict_can_be_misdirected_within_the_tenant_only_so_agents_must_look_at_the_header() {
    let server = Server::start(&Plan::example().unwrap()).await;
    let node = server.bus(BusUser::Node).await;
    let mut requests =
        node.queue(&names::requests_of_all_tenants(agentbus::domain::Verb::Send), names::NODES_QUEUE).await;
    node.settle().await;
    let (worker, stranger) = (server.agent("acme/judge").await, server.agent("globex/judge").await);
    let mut inbox = worker.subscribe("agent.judge.inbox").await;
    let mut foreign = stranger.subscribe("agent.judge.inbox").await;
    worker.settle().await;
    stranger.settle().await;
    let planner = server.agent("acme/planner").await;
    planner.publish("bus.planner.send", Some("agent.judge.inbox"), "forged").await;
    let request = expect(&mut requests).await;
    node.client.publish(request.reply.unwrap(), "verdict".into()).await.unwrap();
    assert_eq!(expect(&mut inbox).await.payload, "verdict");
    assert!(nothing(&mut foreign).await.is_none());
}

#[tokio::test]
async fn headers_that_speak_to_the_server_do_nothing_across_accounts() {
    let server = Server::started_and_provisioned(&Plan::example().unwrap()).await;
    let node = server.bus(BusUser::Node).await;
    let mut requests =
        node.queue(&names::requests_of_all_tenants(agentbus::domain::Verb::Send), names::NODES_QUEUE).await;
    node.settle().await;
    let worker = server.agent("acme/worker").await;
    let mut inbox = worker.subscribe("agent.worker.>").await;
    worker.settle().await;
    let planner = server.agent("acme/planner").await;
    for destination in ["agent.worker.inbox", "bus.worker.send", "_INBOX.planner.trace", "record.x"] {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Trace-Dest", destination);
        headers.insert("Nats-Request-Info", "{\"acc\":\"globex\"}");
        planner.client.publish_with_headers("bus.planner.send", headers, "hello".into()).await.unwrap();
        planner.settle().await;
        while let Some(message) = nothing(&mut requests).await {
            assert_eq!(message.subject.as_str(), "tenant.acme.bus.planner.send");
            let info = message.headers.and_then(|h| h.get("Nats-Request-Info").map(ToString::to_string));
            assert!(!info.unwrap_or_default().contains("globex"), "the server replaces what a client claims");
        }
        assert!(nothing(&mut inbox).await.is_none(), "a trace reached {destination}");
    }
    assert_eq!(changed(&server, Some(0)).await, None);
}

#[tokio::test]
async fn nobody_gets_in_without_a_key_or_past_the_accounts_limits() {
    let text = "[tenants.acme]\nnats = { connections = 3, subscriptions = 4, payload_bytes = 2048 }\n\
                agents = { planner = {} }";
    let server = Server::start(&Plan::parse(text).unwrap()).await;
    let options = || async_nats::ConnectOptions::new().connection_timeout(super::server::SOON);
    assert!(options().connect(&server.url).await.is_err(), "anonymous");
    let stranger = nkeys::KeyPair::new_user().seed().unwrap();
    assert!(options().nkey(stranger).connect(&server.url).await.is_err(), "unknown key");
    assert!(options().user_and_password("node".into(), "node".into()).connect(&server.url).await.is_err());

    let planner = server.agent("acme/planner").await;
    planner.publish("bus.planner.send", None, &"x".repeat(3000)).await;
    assert!(planner.told(&["payload"]).await, "{:?}", planner.events());

    let planner = server.agent("acme/planner").await;
    let mut kept = Vec::new();
    for i in 0..6 {
        kept.push(planner.subscribe(&format!("agent.planner.x{i}")).await);
    }
    assert!(planner.told(&["subscriptions"]).await, "{:?}", planner.events());

    let seed = agentbus::tenants::Seed::read(&server.dir.path().join("keys/acme/planner.nk")).unwrap();
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(options().nkey(seed.reveal().into()).connect(&server.url).await);
    }
    assert!(open.iter().any(Result::is_err), "more connections than the account may have");
}
