//! What must hold for every implementation?

use std::{sync::Arc, time::Duration};

use agentbus::{
    domain::DecisionId,
    state::{
        Before, Claim, Clock, ConversationLabels as _, Idempotency, Lifetimes, ManualClock, MemoryStore,
        Registration, Registry, StoreError, Tracked, VERDICT_BYTES_MAX,
    },
};

use super::{DIGEST, LIFETIMES, Node, OTHER_DIGEST, Server, agent, capability, message, record, tenant};

mod causes;
mod labels;
mod pasts;

/// Lets time pass for a store: really, or by hand.
enum Time {
    Real,
    Manual(ManualClock),
}

impl Time {
    async fn pass(&self, by: Duration) {
        match self {
            Time::Real => tokio::time::sleep(by).await,
            Time::Manual(clock) => clock.advance(by),
        }
    }
}

fn memory() -> (MemoryStore, Time) {
    let (clock, time) = Clock::manual();
    (MemoryStore::with(LIFETIMES, 1000, clock), Time::Manual(time))
}

#[tokio::test]
async fn memory_keeps_the_registry_contract() {
    let (store, time) = memory();
    registry_contract(&store, &time).await;
}

#[tokio::test]
async fn memory_keeps_the_idempotency_contract() {
    let (store, time) = memory();
    idempotency_contract(&store, &time).await;
}

#[tokio::test]
async fn redis_keeps_the_registry_contract() {
    let server = Server::start();
    let node = Node::ready(&server, LIFETIMES).await;
    registry_contract(&*node.store, &Time::Real).await;
    assert!(node.stop().await, "tasks outlive the store");
}

#[tokio::test]
async fn redis_keeps_the_idempotency_contract() {
    let server = Server::start();
    let node = Node::ready(&server, LIFETIMES).await;
    idempotency_contract(&*node.store, &Time::Real).await;
}

#[tokio::test]
async fn memory_keeps_the_contract_of_pasts() {
    let (store, time) = memory();
    pasts::contract(&store, &time).await;
}

#[tokio::test]
async fn redis_keeps_the_contract_of_pasts() {
    let server = Server::start();
    let node = Node::ready(&server, LIFETIMES).await;
    pasts::contract(&*node.store, &Time::Real).await;
}

#[tokio::test]
async fn memory_keeps_the_contract_of_labels() {
    let (store, time) = memory();
    labels::contract(&store).await;
    time.pass(Duration::from_secs(24 * 3_600)).await;
    let gone = store.labels(&tenant("acme"), &"grows".parse().unwrap()).await.unwrap();
    assert!(gone.is_empty(), "nobody has looked at it for a day: {gone:?}");
}

#[tokio::test]
async fn redis_keeps_the_contract_of_labels() {
    let server = Server::start();
    let node = Node::ready(&server, LIFETIMES).await;
    labels::contract(&*node.store).await;
    for key in ["agentbus:{acme}:labels:grows", "agentbus:{acme}:labelled:busy"] {
        let left: i64 = server.tell(&format!("PTTL {key}")).trim_start_matches(':').trim().parse().unwrap();
        assert!((1..=86_400_000).contains(&left), "{key} lives {left} ms");
    }
    // What no node wrote is no label, and nothing is taken for a conversation without any.
    for (key, command) in [("broken", "ZADD"), ("other", "SET")] {
        let given = if command == "ZADD" { "0 NOT-A-LABEL" } else { "pii" };
        server.tell(&format!("{command} agentbus:{{acme}}:labels:{key} {given}"));
        assert!(node.store.labels(&tenant("acme"), &key.parse().unwrap()).await.is_err(), "{key}");
    }
}

#[tokio::test]
async fn memory_keeps_the_contract_of_causes() {
    let (store, _) = memory();
    causes::contract(&store).await;
}

#[tokio::test]
async fn redis_keeps_the_contract_of_causes() {
    let server = Server::start();
    let lifetimes = Lifetimes { window: Duration::from_secs(60), ..LIFETIMES };
    let node = Node::ready(&server, lifetimes).await;
    causes::contract(&*node.store).await;
    for (kind, most) in [
        ("cause:worker:message:answer", lifetimes.window),
        ("conversation:planner/c1", Duration::from_secs(3_600)),
    ] {
        let left = server.tell(&format!("PTTL agentbus:{{acme}}:{kind}"));
        let left: u128 = left.trim_start_matches(':').trim().parse().unwrap();
        assert!((1..=most.as_millis()).contains(&left), "{kind} lives {left} ms");
    }
    // What no node wrote is no cause, and counts for nothing.
    server.tell("SET agentbus:{acme}:cause:worker:message:strange nonsense");
    assert!(causes::known(&*node.store, "worker", "strange", None).await.is_err());
    server.tell("SET agentbus:{acme}:conversation:worker/own -7");
    let known = causes::known(&*node.store, "worker", "other", None).await.unwrap();
    assert_eq!((known.cause, known.messages), (None, 0));
}

/// Of Redis, or of what is spoken to like Redis.
pub(super) async fn all(node: &Node) {
    registry_contract(&*node.store, &Time::Real).await;
    idempotency_contract(&*node.store, &Time::Real).await;
    pasts::contract(&*node.store, &Time::Real).await;
    labels::contract(&*node.store).await;
    causes::contract(&*node.store).await;
}

async fn registry_contract<R: Tracked>(store: &R, time: &Time) {
    members_are_those_that_registered(store).await;
    quota_counts_live_agents_only(store, time).await;
    heartbeats_keep_an_agent_alive(store, time).await;
    epochs_change_with_the_members_only(store, time).await;
}

async fn members_are_those_that_registered(store: &dyn Registry) {
    let acme = tenant("acme");
    let (nlp, sql) = (capability("nlp"), capability("sql:read"));
    assert!(store.agents(&acme).await.unwrap().is_empty());
    assert_eq!(store.agent(&acme, &agent("writer")).await.unwrap(), None);
    assert!(!store.unregister(&acme, &agent("writer")).await.unwrap());

    let registered = Registration::Registered { ttl: LIFETIMES.agent, before: Before::Nothing };
    let writer = record("writer", &["nlp", "sql:read"]);
    assert_eq!(store.register(&acme, &writer, 10).await.unwrap(), registered);
    assert_eq!(store.register(&acme, &record("editor", &["nlp"]), 10).await.unwrap(), registered);
    assert_eq!(store.register(&acme, &record("mute", &[]), 10).await.unwrap(), registered);
    assert_eq!(store.agent(&acme, &agent("writer")).await.unwrap().as_deref(), Some(&writer));
    assert_eq!(*store.holders(&acme, &nlp).await.unwrap(), [agent("editor"), agent("writer")]);
    assert_eq!(*store.agents(&acme).await.unwrap(), [agent("editor"), agent("mute"), agent("writer")]);

    // Another tenant sees none of it, and may use the same names.
    let globex = tenant("globex");
    assert!(store.agents(&globex).await.unwrap().is_empty());
    assert!(store.holders(&globex, &nlp).await.unwrap().is_empty());
    assert_eq!(store.agent(&globex, &agent("writer")).await.unwrap(), None);
    store.register(&globex, &record("writer", &[]), 10).await.unwrap();
    assert_eq!(store.holders(&acme, &nlp).await.unwrap().len(), 2);

    // A second registration replaces the first, capabilities and all.
    let writer = agentbus::domain::AgentRecord {
        description: "writes \"texts\"\n".to_owned(),
        encoding: Some(agentbus::domain::Encoding::Json),
        ..record("writer", &["sql:read", "new"])
    };
    for before in [Before::Other, Before::Same] {
        let answer = store.register(&acme, &writer, 10).await.unwrap();
        assert_eq!(answer, Registration::Registered { ttl: LIFETIMES.agent, before });
    }
    assert_eq!(store.agent(&acme, &agent("writer")).await.unwrap().as_deref(), Some(&writer));
    assert_eq!(*store.holders(&acme, &nlp).await.unwrap(), [agent("editor")]);
    assert_eq!(*store.holders(&acme, &capability("new")).await.unwrap(), [agent("writer")]);

    assert!(store.unregister(&acme, &agent("writer")).await.unwrap());
    assert!(!store.unregister(&acme, &agent("writer")).await.unwrap());
    assert_eq!(store.agent(&acme, &agent("writer")).await.unwrap(), None);
    assert!(store.holders(&acme, &sql).await.unwrap().is_empty());
    assert_eq!(*store.agents(&acme).await.unwrap(), [agent("editor"), agent("mute")]);
}

async fn quota_counts_live_agents_only(store: &dyn Registry, time: &Time) {
    let quota = tenant("quota");
    for id in ["one", "two"] {
        let answer = store.register(&quota, &record(id, &[]), 2).await.unwrap();
        assert!(matches!(answer, Registration::Registered { .. }));
    }
    let answer = store.register(&quota, &record("three", &["x"]), 2).await.unwrap();
    assert_eq!(answer, Registration::QuotaExceeded { agents: 2 });
    assert_eq!(store.agent(&quota, &agent("three")).await.unwrap(), None);
    assert!(store.holders(&quota, &capability("x")).await.unwrap().is_empty());
    // Who is in may change its entry.
    let answer = store.register(&quota, &record("two", &["x"]), 2).await.unwrap();
    assert!(matches!(answer, Registration::Registered { .. }));

    time.pass(LIFETIMES.agent + Duration::from_millis(100)).await;
    assert!(store.agents(&quota).await.unwrap().is_empty());
    assert!(store.holders(&quota, &capability("x")).await.unwrap().is_empty());
    assert_eq!(store.agent(&quota, &agent("two")).await.unwrap(), None);
    let answer = store.register(&quota, &record("three", &["x"]), 2).await.unwrap();
    assert!(matches!(answer, Registration::Registered { .. }));
    assert_eq!(*store.holders(&quota, &capability("x")).await.unwrap(), [agent("three")]);
    let none = store.register(&tenant("nothing"), &record("one", &[]), 0).await.unwrap();
    assert_eq!(none, Registration::QuotaExceeded { agents: 0 });
}

async fn heartbeats_keep_an_agent_alive(store: &dyn Registry, time: &Time) {
    let beat = tenant("beat");
    store.register(&beat, &record("alive", &["x"]), 9).await.unwrap();
    store.register(&beat, &record("silent", &["x"]), 9).await.unwrap();
    for _ in 0..4 {
        time.pass(LIFETIMES.agent / 3).await;
        assert!(store.heartbeat(&beat, &agent("alive")).await.unwrap());
    }
    assert_eq!(*store.agents(&beat).await.unwrap(), [agent("alive")]);
    assert_eq!(*store.holders(&beat, &capability("x")).await.unwrap(), [agent("alive")]);
    assert!(store.agent(&beat, &agent("alive")).await.unwrap().is_some());
    assert!(!store.heartbeat(&beat, &agent("silent")).await.unwrap());
    assert!(!store.heartbeat(&beat, &agent("never")).await.unwrap());
}

async fn epochs_change_with_the_members_only(store: &dyn Tracked, time: &Time) {
    let tenant = tenant("epoch");
    let empty = store.epoch(&tenant).await.unwrap();
    store.register(&tenant, &record("a", &["x"]), 9).await.unwrap();
    let one = store.epoch(&tenant).await.unwrap();
    assert_ne!(empty, one);
    store.heartbeat(&tenant, &agent("a")).await.unwrap();
    store.register(&tenant, &record("a", &["x"]), 9).await.unwrap();
    assert_eq!(store.epoch(&tenant).await.unwrap(), one, "nothing changed");
    store.register(&tenant, &record("a", &["y"]), 9).await.unwrap();
    let changed = store.epoch(&tenant).await.unwrap();
    assert_ne!(changed, one);
    store.register(&tenant, &record("b", &[]), 9).await.unwrap();
    let two = store.epoch(&tenant).await.unwrap();
    store.unregister(&tenant, &agent("b")).await.unwrap();
    let left = store.epoch(&tenant).await.unwrap();
    assert!(two != changed && left != two);
    time.pass(LIFETIMES.agent + Duration::from_millis(100)).await;
    assert_ne!(store.epoch(&tenant).await.unwrap(), left, "an agent that expired is a change");
}

async fn idempotency_contract(store: &dyn Idempotency, time: &Time) {
    a_message_has_one_outcome(store).await;
    a_claim_can_be_given_back(store).await;
    a_lease_that_ran_out_is_taken_over(store, time).await;
    the_decision_that_the_first_holder_names_is_told_to_whoever_takes_over(store, time).await;
    a_recorded_verdict_is_settled_like_any(store, time).await;
    the_window_ends(store, time).await;
    a_verdict_can_be_kept_for_longer(store, time).await;
    let (big, mine) = (vec![0; VERDICT_BYTES_MAX + 1], token(store, "big").await);
    let answer = store.settle(&message("big"), &DIGEST, mine, &big, Duration::ZERO).await;
    assert!(matches!(answer, Err(StoreError::Unexpected { .. })));
}

async fn token(store: &dyn Idempotency, id: &str) -> agentbus::state::ClaimToken {
    match store.claim(&message(id), &DIGEST, None).await.unwrap() {
        Claim::Mine { token } => token,
        other => panic!("{id} is {other:?}"),
    }
}

async fn a_message_has_one_outcome(store: &dyn Idempotency) {
    let key = message("one");
    let mine = token(store, "one").await;
    assert_eq!(store.claim(&key, &OTHER_DIGEST, None).await.unwrap(), Claim::Conflict);
    let Claim::Pending { lease_left } = store.claim(&key, &DIGEST, None).await.unwrap() else {
        panic!("not pending")
    };
    assert!(lease_left <= LIFETIMES.lease && !lease_left.is_zero());

    // Not valid UTF-8, and not empty of anything that could be taken for a mark.
    let verdict = b"S\0P\xff\r\nverdict";
    store.settle(&key, &DIGEST, mine, verdict, Duration::ZERO).await.unwrap();
    let settled = Claim::Settled { verdict: verdict.to_vec() };
    assert_eq!(store.claim(&key, &DIGEST, None).await.unwrap(), settled);
    assert_eq!(store.claim(&key, &OTHER_DIGEST, None).await.unwrap(), Claim::Conflict);
    // The first verdict stays.
    store.settle(&key, &DIGEST, mine, b"other", Duration::ZERO).await.unwrap();
    store.release(&key, mine).await.unwrap();
    assert_eq!(store.claim(&key, &DIGEST, None).await.unwrap(), settled);

    // The same id of another sender or tenant is another message.
    let mut others = message("one");
    others.sender = agent("worker");
    assert!(matches!(store.claim(&others, &OTHER_DIGEST, None).await.unwrap(), Claim::Mine { .. }));
    let mut elsewhere = message("one");
    elsewhere.tenant = tenant("globex");
    assert!(matches!(store.claim(&elsewhere, &DIGEST, None).await.unwrap(), Claim::Mine { .. }));
}

async fn a_claim_can_be_given_back(store: &dyn Idempotency) {
    let first = token(store, "back").await;
    store.release(&message("back"), first).await.unwrap();
    let second = token(store, "back").await;
    assert_ne!(first, second);
    // A token that is no longer current changes nothing.
    store.release(&message("back"), first).await.unwrap();
    store.settle(&message("back"), &DIGEST, first, b"late", Duration::ZERO).await.unwrap();
    let answer = store.claim(&message("back"), &DIGEST, None).await.unwrap();
    assert!(matches!(answer, Claim::Pending { .. }), "{answer:?}");
}

async fn a_lease_that_ran_out_is_taken_over(store: &dyn Idempotency, time: &Time) {
    let key = message("lease");
    let dead = token(store, "lease").await;
    time.pass(LIFETIMES.lease + Duration::from_millis(50)).await;
    assert_eq!(store.claim(&key, &OTHER_DIGEST, None).await.unwrap(), Claim::Conflict);
    let Claim::TakenOver { token, .. } = store.claim(&key, &DIGEST, None).await.unwrap() else {
        panic!("not taken over")
    };
    store.settle(&key, &DIGEST, dead, b"from the dead", Duration::ZERO).await.unwrap();
    let answer = store.claim(&key, &DIGEST, None).await.unwrap();
    assert!(matches!(answer, Claim::Pending { .. }), "{answer:?}");

    // Whether the dead one acted is still open when its heir gives up.
    store.release(&key, token).await.unwrap();
    let Claim::TakenOver { token, .. } = store.claim(&key, &DIGEST, None).await.unwrap() else {
        panic!("the doubt is lost")
    };
    store.settle(&key, &DIGEST, token, b"verdict", Duration::ZERO).await.unwrap();
    let settled = Claim::Settled { verdict: b"verdict".to_vec() };
    assert_eq!(store.claim(&key, &DIGEST, None).await.unwrap(), settled);
}

/// Through all who take it over, and give it back.
async fn the_decision_that_the_first_holder_names_is_told_to_whoever_takes_over(
    store: &dyn Idempotency,
    time: &Time,
) {
    let (named, other) = (DecisionId::new(9, 7, 1), DecisionId::new(9, 7, 2));
    let claim =
        async |id: &str, named: &DecisionId| store.claim(&message(id), &DIGEST, Some(named)).await.unwrap();
    let Claim::Mine { token } = claim("named", &named).await else { panic!("not mine") };
    let pending = claim("named", &other).await;
    assert!(matches!(pending, Claim::Pending { lease_left } if lease_left <= LIFETIMES.lease), "{pending:?}");
    let conflict = store.claim(&message("named"), &OTHER_DIGEST, Some(&other)).await.unwrap();
    assert_eq!(conflict, Claim::Conflict);
    // One that is given back is as if it had never been.
    store.release(&message("named"), token).await.unwrap();
    assert!(matches!(claim("named", &named).await, Claim::Mine { .. }));
    // The lease of the first runs out, then that of who took over; who gives it back leaves no lease.
    for gives_back in [false, true] {
        time.pass(LIFETIMES.lease + Duration::from_millis(50)).await;
        let taken = claim("named", &other).await;
        let Claim::TakenOver { token, first } = taken else { panic!("not taken over: {taken:?}") };
        assert_eq!(first.as_ref(), Some(&named));
        assert!(matches!(claim("named", &other).await, Claim::Pending { .. }));
        if gives_back {
            store.release(&message("named"), token).await.unwrap();
        }
    }
    let taken = claim("named", &other).await;
    let Claim::TakenOver { token, first: Some(_) } = taken else { panic!("not taken over: {taken:?}") };
    store.settle(&message("named"), &DIGEST, token, b"verdict", Duration::ZERO).await.unwrap();
    assert_eq!(claim("named", &other).await, Claim::Settled { verdict: b"verdict".to_vec() });
    let Claim::Mine { token } = claim("named-recorded", &named).await else { panic!("not mine") };
    store.settle_recorded(&message("named-recorded"), &DIGEST, token, b"verdict").await.unwrap();
    assert_eq!(claim("named-recorded", &other).await, Claim::Settled { verdict: b"verdict".to_vec() });
}

async fn a_recorded_verdict_is_settled_like_any(store: &dyn Idempotency, time: &Time) {
    let (key, late) = (message("recorded"), message("recorded-late"));
    let (mine, dead) = (token(store, "recorded").await, token(store, "recorded-late").await);
    store.settle_recorded(&key, &DIGEST, mine, b"verdict").await.unwrap();
    // What nobody has claimed is not settled either.
    store.settle_recorded(&message("unclaimed"), &DIGEST, mine, b"verdict").await.unwrap();
    token(store, "unclaimed").await;
    let settled = Claim::Settled { verdict: b"verdict".to_vec() };
    assert_eq!(store.claim(&key, &DIGEST, None).await.unwrap(), settled);
    assert_eq!(store.claim(&key, &OTHER_DIGEST, None).await.unwrap(), Claim::Conflict);

    time.pass(LIFETIMES.lease + Duration::from_millis(50)).await;
    let taken = store.claim(&late, &DIGEST, None).await.unwrap();
    assert!(matches!(taken, Claim::TakenOver { .. }), "{taken:?}");
    store.settle_recorded(&late, &DIGEST, dead, b"from the dead").await.unwrap();
    let answer = store.claim(&late, &DIGEST, None).await.unwrap();
    assert!(matches!(answer, Claim::Pending { .. }), "{answer:?}");

    time.pass(LIFETIMES.window).await;
    assert!(matches!(store.claim(&key, &OTHER_DIGEST, None).await.unwrap(), Claim::Mine { .. }));
}

async fn a_verdict_can_be_kept_for_longer(store: &dyn Idempotency, time: &Time) {
    let (mine, longer) = (token(store, "longer").await, LIFETIMES.window);
    store.settle(&message("longer"), &DIGEST, mine, b"verdict", longer).await.unwrap();
    // Past its own window, and short of another.
    time.pass(LIFETIMES.window + Duration::from_millis(500)).await;
    let answer = store.claim(&message("longer"), &DIGEST, None).await.unwrap();
    assert_eq!(answer, Claim::Settled { verdict: b"verdict".to_vec() });
    time.pass(longer).await;
    assert!(matches!(
        store.claim(&message("longer"), &OTHER_DIGEST, None).await.unwrap(),
        Claim::Mine { .. }
    ));
}

async fn the_window_ends(store: &dyn Idempotency, time: &Time) {
    let mine = token(store, "window").await;
    store.settle(&message("window"), &DIGEST, mine, b"verdict", Duration::ZERO).await.unwrap();
    time.pass(LIFETIMES.window + Duration::from_millis(100)).await;
    let answer = store.claim(&message("window"), &OTHER_DIGEST, None).await.unwrap();
    assert!(matches!(answer, Claim::Mine { .. }), "{answer:?}");
}

#[tokio::test]
async fn a_full_memory_refuses_new_messages_and_forgets_none() {
    let (clock, time) = Clock::manual();
    let store = MemoryStore::with(LIFETIMES, 2, clock);
    let first = token(&store, "first").await;
    store.settle(&message("first"), &DIGEST, first, b"verdict", Duration::ZERO).await.unwrap();
    token(&store, "second").await;
    assert_eq!(store.claim(&message("third"), &DIGEST, None).await, Err(StoreError::Full));
    let settled = Claim::Settled { verdict: b"verdict".to_vec() };
    assert_eq!(store.claim(&message("first"), &DIGEST, None).await.unwrap(), settled);
    time.advance(LIFETIMES.window);
    token(&store, "third").await;
}

/// 64 tasks on two nodes want the same message at the same instant, many times over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_nodes_gets_a_message() {
    let server = Server::start();
    let long = agentbus::state::Lifetimes {
        lease: Duration::from_secs(30),
        window: Duration::from_secs(60),
        ..LIFETIMES
    };
    let nodes = [Node::ready(&server, long).await, Node::ready(&server, long).await];
    for round in 0..20 {
        let key = Arc::new(message(&format!("race-{round}")));
        let start = Arc::new(tokio::sync::Barrier::new(64));
        let tasks: Vec<_> = (0..64)
            .map(|i| {
                let (store, key, start) =
                    (Arc::clone(&nodes[i % 2].store), Arc::clone(&key), Arc::clone(&start));
                tokio::spawn(async move {
                    start.wait().await;
                    store.claim(&key, &DIGEST, None).await
                })
            })
            .collect();
        let mut mine = 0;
        for task in tasks {
            match task.await.unwrap().unwrap() {
                Claim::Mine { .. } => mine += 1,
                Claim::Pending { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(mine, 1, "round {round}");
    }
}

/// While the settings are being changed node by node, a claim has the lease of the node that took it.
#[tokio::test]
async fn a_lease_does_not_depend_on_the_settings_of_who_asks() {
    let server = Server::start();
    let (short, long) = (Duration::from_millis(300), Duration::from_secs(60));
    let with = |window, lease| agentbus::state::Lifetimes { window, lease, ..LIFETIMES };
    let first = Node::ready(&server, with(Duration::from_secs(600), long)).await;
    let second = Node::ready(&server, with(Duration::from_secs(1_200), short)).await;

    token(&*first.store, "long").await;
    let answer = second.store.claim(&message("long"), &DIGEST, None).await.unwrap();
    let Claim::Pending { lease_left } = answer else { panic!("{answer:?} while the lease runs") };
    assert!(lease_left > long - Duration::from_secs(20) && lease_left <= long, "{lease_left:?}");

    token(&*second.store, "short").await;
    tokio::time::sleep(short + Duration::from_millis(50)).await;
    let answer = first.store.claim(&message("short"), &DIGEST, None).await.unwrap();
    assert!(matches!(answer, Claim::TakenOver { .. }), "{answer:?} after the lease");
}
