//! Do nodes of the last version and of this one do the same work? Over the same servers, as docs/operations.md
//! says to upgrade: what one began the other ends, both ways, and side by side they lose and double nothing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use agentbus::{
    client::{AgentClient, Draft, Patience, is_delivery, outcome},
    domain::{Encoding, MessageType, Priority, Reason, Status, Verb, Verdict},
    servers::{Node, NodeOptions, redis::NODE_USER},
    tenants::{BusUser, Plan, User},
};
use async_nats::jetstream;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{
    bus::{self, Bus, keywords},
    last_version,
};

const PLAN: &str = "[tenants.acme.limits]\nmessages_per_minute = 10000000\n\
    [tenants.acme.agents]\nplanner = { roles = [\"executive\"] }\nworker = { roles = [\"implementer\"] }\n\
    helper = { roles = [\"implementer\"] }\njudge = { roles = [\"judicial\"] }\narbiter = { roles = [\"judicial\"] }\n\
    [tenants.acme.deliberation.terms]\nrule = \"quorum\"\nmin_approvals = 2\n";
const SOON: Duration = Duration::from_secs(60);
const PATIENT: Patience = Patience { attempt: Duration::from_secs(2), deadline: SOON };

/// One NATS, one Redis, and a node of each version that run or not.
struct Upgrade {
    bus: Bus,
    last: NodeOptions,
    books: Books,
    planner: AgentClient,
    worker: AgentClient,
    helper: AgentClient,
    judge: AgentClient,
    arbiter: AgentClient,
}

impl Upgrade {
    /// No node runs yet. `None`: the last version is not here.
    async fn begin() -> Option<Self> {
        let program = last_version::program()?;
        let bus = Bus::with(0, |options| {
            options.plan = Plan::parse(PLAN).unwrap();
            options.node_overrides.extend(toml::toml! { durable = { give_up_after = "60s" } });
        })
        .await;
        std::fs::write(bus.stack.dir().join("tenants.toml"), PLAN).unwrap();
        let last = last_node(&bus, program);
        let agent = |name| bus.agent("acme", name);
        let (planner, worker, helper) =
            (agent("planner").await, agent("worker").await, agent("helper").await);
        let (judge, arbiter) = (agent("judge").await, agent("arbiter").await);
        let books = Books::default();
        books.of_recipient(&worker).await;
        books.of_recipient(&helper).await;
        books.of_sender(&planner);
        Some(Self { bus, last, books, planner, worker, helper, judge, arbiter })
    }

    /// The operator publishes the tenants, by the program of either version.
    fn apply(&self, program: &Path) {
        let mut apply = Command::new(program);
        apply.args(["tenants", "apply", "--yes", "--server", &self.bus.stack.nats_url(), "--dir"]);
        let output = apply.arg(self.bus.stack.dir()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    async fn parked(&self, text: &str) -> (Draft, Value) {
        let draft = Draft { priority: Priority::Critical, ..Draft::to_agent("worker", text) };
        let verdict = bus::send(&self.planner, draft.encode(Encoding::Json)).await;
        assert_eq!(verdict.status, Status::Deliberating, "{verdict:?}");
        let id = json!({ "id": verdict.deliberation_id.unwrap().to_string() });
        let shown = ask(&self.judge, Verb::Deliberations, &id).await;
        (draft, shown["deliberation"].clone())
    }

    async fn begin_work(&self, capability: &str) -> Begun {
        let registered = self.worker.register(&["sum"]).await.unwrap();
        assert_eq!(registered["status"], "ok", "{registered}");
        let sent = Draft::to_agent("worker", "sent").encode(Encoding::MessagePack);
        let told = bus::send(&self.planner, sent.clone()).await;
        assert_eq!(told.reason, Reason::Delivered, "{told:?}");
        let (draft, parked) = self.parked("parked").await;
        let voted = vote(&self.judge, &parked).await;
        assert_eq!(voted["status"], "ok", "{voted}");
        let kept = Draft::new(json!({ "capability": capability }), json!({ "text": "nobody can yet" }));
        let stored = self.planner.submit(kept.encode(Encoding::Json), PATIENT).await.unwrap();
        assert_eq!(stored.reason, Reason::Stored, "{stored:?}");
        Begun { sent, told, draft, parked, kept }
    }

    async fn end_work(&self, capability: &str, begun: Begun) {
        let Begun { sent, told, draft, parked, kept } = begun;
        assert_eq!(bus::send(&self.planner, sent).await, told, "a repeat has the verdict there was");
        assert_eq!(self.books.came(&told), 1);
        let beat = ask(&self.worker, Verb::Heartbeat, &json!({})).await;
        assert_eq!(beat["status"], "ok", "{beat}");
        let found = ask(&self.planner, Verb::Find, &json!({ "capability": "sum" })).await;
        assert_eq!(found["agents"][0]["id"], "worker", "{found}");
        answered(&self.planner).await;

        let voted = vote(&self.arbiter, &parked).await;
        assert_eq!(voted["judgement"], "approved", "{voted}");
        let registered = self.helper.register(&[capability]).await.unwrap();
        assert_eq!(registered["status"], "ok", "{registered}");
        for draft in [draft, kept] {
            let verdict = self.books.outcome(&draft.message_id).await;
            assert_eq!(verdict.reason, Reason::Delivered, "{verdict:?}");
            self.books.all_came(&[draft.message_id]).await;
        }
    }
}

/// Of one version, for the other to end.
struct Begun {
    sent: Bytes,
    told: Verdict,
    draft: Draft,
    parked: Value,
    kept: Draft,
}

/// Configured as the last version was.
fn last_node(bus: &Bus, executable: PathBuf) -> NodeOptions {
    let (nats, server) = (bus.stack.nats_url(), bus.stack.redis().unwrap());
    let (redis, user) = (server.url(), NODE_USER);
    let path = |path: PathBuf| path.display().to_string();
    let seed = path(bus.stack.seed_path(&User::Bus(BusUser::Node)));
    let (password, seal) = (path(server.node_password_file()), path(bus.stack.seal_key_file()));
    let mut config = keywords();
    config.extend(toml::toml! {
        nats = { url = nats, nkey_file = seed }
        redis = { url = redis, user = user, password_file = password, seal_key_file = seal }
        durable = { give_up_after = "60s" }
    });
    let folder = bus.stack.dir().join("last");
    NodeOptions { name: "last".to_owned(), executable, folder, config, http_port: 0 }
}

async fn ask(agent: &AgentClient, verb: Verb, body: &Value) -> Value {
    let answer = agent.call(verb, body.to_string().into(), PATIENT).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

async fn vote(voter: &AgentClient, parked: &Value) -> Value {
    let (id, digest) = (&parked["id"], &parked["digest"]);
    ask(voter, Verb::Vote, &json!({ "id": id, "choice": "approve", "digest": digest })).await
}

fn question() -> Bytes {
    Draft { message_type: MessageType::Query, ..Draft::to_agent("worker", "how much?") }
        .encode(Encoding::Json)
}

/// Asks until there is an answer: on a busy machine one of the nodes may be late.
async fn answered(planner: &AgentClient) {
    for _ in 0..5 {
        let asked = planner.ask(question(), Patience::FOR_AN_ANSWER).await.unwrap();
        if asked.answer.is_some() {
            return;
        }
        println!("no answer: {:?}", asked.verdict);
    }
    panic!("five questions in a row without an answer");
}

/// What agents got: how often each message, and what its sender was told in the end.
#[derive(Clone, Default)]
struct Books {
    came: Arc<Mutex<BTreeMap<String, usize>>>,
    outcomes: Arc<Mutex<BTreeMap<String, Vec<Verdict>>>>,
}

impl Books {
    /// Of both inboxes of an agent, which answers what it is asked.
    async fn of_recipient(&self, agent: &AgentClient) {
        let (books, live) = (self.clone(), agent.clone());
        let mut inbox = agent.inbox().await.unwrap();
        tokio::spawn(async move {
            while let Some(message) = inbox.next().await {
                books.enter(&message);
                let to = json!({ "agent": "planner" });
                let answer =
                    Draft { message_type: MessageType::Response, ..Draft::new(to, json!({ "sum": 4 })) };
                let _ = live.answer(&message, answer.encode(Encoding::Json)).await;
            }
        });
        let (books, agent) = (self.clone(), agent.clone());
        tokio::spawn(async move {
            let mut kept = agent.durable_inbox(&"acme".parse().unwrap()).unwrap().messages().await.unwrap();
            while let Some(message) = kept.next().await {
                let Ok(message) = message else { continue };
                if is_delivery(&message, agent.id()) {
                    books.enter(&message);
                }
                let _ = message.double_ack().await;
            }
        });
    }

    fn of_sender(&self, agent: &AgentClient) {
        let (books, agent) = (self.clone(), agent.clone());
        tokio::spawn(async move {
            let mut kept = agent.durable_inbox(&"acme".parse().unwrap()).unwrap().messages().await.unwrap();
            while let Some(message) = kept.next().await {
                let Ok(message) = message else { continue };
                if let Some(verdict) = outcome(&message, agent.id()) {
                    let id = verdict.message_id.as_ref().unwrap().to_string();
                    books.outcomes.lock().unwrap().entry(id).or_default().push(verdict);
                }
                let _ = message.double_ack().await;
            }
        });
    }

    fn enter(&self, message: &async_nats::Message) {
        let id = message.headers.as_ref().unwrap().get("Agentbus-Message-Id").unwrap().to_string();
        *self.came.lock().unwrap().entry(id).or_default() += 1;
    }

    fn came(&self, verdict: &Verdict) -> usize {
        let id = verdict.message_id.as_ref().unwrap().to_string();
        self.came.lock().unwrap().get(&id).copied().unwrap_or_default()
    }

    /// The last word on a message: what is parked is told of twice.
    async fn outcome(&self, id: &str) -> Verdict {
        let started = Instant::now();
        loop {
            let told = self.outcomes.lock().unwrap().get(id).cloned().unwrap_or_default();
            let last = told.last().filter(|verdict| verdict.status != Status::Deliberating);
            if let Some(verdict) = last {
                return verdict.clone();
            }
            assert!(started.elapsed() < SOON, "no outcome of {id}: {told:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Each of these came, and once.
    async fn all_came(&self, ids: &[String]) {
        let started = Instant::now();
        let missing = || {
            let came = self.came.lock().unwrap();
            ids.iter().filter(|id| !came.contains_key(*id)).count()
        };
        while missing() > 0 {
            assert!(started.elapsed() < SOON, "{} of {} are lost", missing(), ids.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // A second one would have come by now.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let came = self.came.lock().unwrap();
        let doubled: Vec<_> = came.iter().filter(|(_, times)| **times > 1).collect();
        assert!(doubled.is_empty(), "{doubled:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_version_began_the_other_ends_and_back() {
    let Some(mut upgrade) = Upgrade::begin().await else { return };
    upgrade.apply(&upgrade.last.executable);
    let mut last = Node::start(upgrade.last.clone()).await.unwrap();

    let begun = upgrade.begin_work("later-1").await;
    last.stop().await;
    upgrade.bus.stack.add_node().await.unwrap();
    upgrade.end_work("later-1", begun).await;

    // It did not do well, so everything is as it was before.
    upgrade.apply(Path::new(env!("CARGO_BIN_EXE_agentbus")));
    let begun = upgrade.begin_work("later-2").await;
    upgrade.bus.stack.node_mut(0).unwrap().stop().await;
    last.restart().await.unwrap();
    upgrade.end_work("later-2", begun).await;

    last.stop().await;
    upgrade.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_both_versions_share_the_work_and_nothing_is_lost_or_doubled() {
    let Some(mut upgrade) = Upgrade::begin().await else { return };
    let mut last = Node::start(upgrade.last.clone()).await.unwrap();
    upgrade.bus.stack.add_node().await.unwrap();
    assert_eq!(upgrade.worker.register(&["sum"]).await.unwrap()["status"], "ok");

    let (mut sent, mut kept) = (BTreeMap::new(), Vec::new());
    for round in 0..10 {
        if round == 7 {
            // This much of the load finds one node alone.
            last.stop().await;
        }
        let mut work = JoinSet::new();
        for _ in 0..16 {
            let planner = upgrade.planner.clone();
            work.spawn(async move {
                let message = Draft::to_agent("worker", "the weekly summary").encode(Encoding::MessagePack);
                let verdict = bus::send(&planner, message.clone()).await;
                assert_eq!(bus::send(&planner, message).await, verdict);
                verdict
            });
        }
        for _ in 0..8 {
            let draft = Draft::to_agent("worker", "when there is time");
            kept.push(draft.message_id.clone());
            let stored = upgrade.planner.submit(draft.encode(Encoding::Json), PATIENT).await.unwrap();
            assert_eq!(stored.reason, Reason::Stored, "{stored:?}");
        }
        let (draft, parked) = upgrade.parked("is this right?").await;
        vote(&upgrade.judge, &parked).await;
        assert_eq!(vote(&upgrade.arbiter, &parked).await["judgement"], "approved");
        kept.push(draft.message_id);
        answered(&upgrade.planner).await;
        let beat = ask(&upgrade.worker, Verb::Heartbeat, &json!({})).await;
        assert_eq!(beat["status"], "ok", "{beat}");
        let found = ask(&upgrade.planner, Verb::Find, &json!({ "agent": "worker" })).await;
        assert_eq!(found["total"], 1, "{found}");
        while let Some(verdict) = work.join_next().await {
            let verdict = verdict.unwrap();
            assert_eq!(verdict.reason, Reason::Delivered, "{verdict:?}");
            sent.insert(verdict.message_id.as_ref().unwrap().to_string(), verdict.node);
        }
    }

    let mut governed = Vec::new();
    for id in &kept {
        let verdict = upgrade.books.outcome(id).await;
        assert_eq!(verdict.reason, Reason::Delivered, "{verdict:?}");
        governed.push(verdict.node);
    }
    let ids: Vec<String> = sent.keys().chain(&kept).cloned().collect();
    upgrade.books.all_came(&ids).await;
    for (what, nodes) in [("sent", sent.into_values().collect()), ("submitted", governed)] {
        let share = |name| nodes.iter().filter(|node: &&String| *node == name).count();
        let (last, this) = (share("last"), share("node-1"));
        assert!(last > 3 && this > 3 && last + this == nodes.len(), "{what}: {last} and {this}");
    }
    upgrade.bus.stop().await;
}

/// What is stored on these subjects of a stream, as an operator sees it.
async fn stored(bus: &Bus, stream: &str, subjects: &str) -> Vec<String> {
    let operator = jetstream::new(bus.stack.connect(BusUser::Operator).await.unwrap());
    let stream = operator.get_stream_no_info(stream).await.unwrap();
    let stored = stream.info_with_subjects(subjects).await.unwrap();
    stored.map_ok(|(subject, _)| subject).try_collect().await.unwrap()
}

async fn until_nothing_is_stored(bus: &Bus, stream: &str, subjects: &str) {
    let started = Instant::now();
    loop {
        let left = stored(bus, stream, subjects).await;
        if left.is_empty() {
            return;
        }
        assert!(started.elapsed() < SOON, "still there: {left:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_version_has_let_go_when_it_was_acknowledged_the_last_one_stores_no_second_time() {
    let Some(mut upgrade) = Upgrade::begin().await else { return };
    upgrade.bus.stack.add_node().await.unwrap();
    let drafts = [(); 8].map(|()| Draft::to_agent("worker", "when there is time"));
    for draft in &drafts {
        let kept = upgrade.planner.submit(draft.encode(Encoding::Json), PATIENT).await.unwrap();
        assert_eq!(kept.reason, Reason::Stored, "{kept:?}");
    }
    let ids: Vec<String> = drafts.iter().map(|draft| draft.message_id.clone()).collect();
    upgrade.books.all_came(&ids).await;
    until_nothing_is_stored(&upgrade.bus, "OUT_acme", "tenant.acme.stored.*.message.*.*").await;
    upgrade.bus.stack.node_mut(0).unwrap().stop().await;

    let mut last = Node::start(upgrade.last.clone()).await.unwrap();
    // As after the window in which JetStream knows them for repeats.
    let node = jetstream::new(upgrade.bus.stack.connect(BusUser::Node).await.unwrap());
    for draft in &drafts {
        let subject = format!("tenant.acme.submitted.planner.{}", draft.message_id);
        node.publish(subject, draft.encode(Encoding::Json)).await.unwrap().await.unwrap();
    }
    until_nothing_is_stored(&upgrade.bus, "IN_acme", ">").await;
    let again = stored(&upgrade.bus, "OUT_acme", "tenant.acme.stored.*.message.*.*").await;
    assert!(again.is_empty(), "stored twice: {again:?}");
    upgrade.books.all_came(&ids).await;
    last.stop().await;
    upgrade.bus.stop().await;
}
