//! Does a receiver learn of every deliberation, although it fails, hangs or is away?

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use agentbus::{
    breakers::{Breaker, Kind},
    config,
    cpu::{Cpu, CpuSettings},
    domain::{Choice, DeliberationId, Event, Judgement, Parked, Rule, RuleKind, Timestamp, Vote, Voter, Why},
    nats::WebhookDispatcher,
    servers::NatsServer,
    shutdown::Shutdown,
    skew::Skew,
    supervisor::Supervisor,
    telemetry::Metrics,
    tenants::{BusUser, Directory, Plan, StoreSettings, names::WEBHOOKS_CONSUMER, provision},
    webhook::Webhook,
};
use async_nats::jetstream;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::IntoResponse,
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::mpsc::{Receiver, Sender, channel},
};

use crate::support::{bus::Bus, servers::nats};

const KEY: [u8; 32] = [42; 32];
/// Long enough for any machine; nothing waits so long that goes well.
const PATIENCE: Duration = Duration::from_secs(60);

/// NATS with what provisioning makes for the webhook.
struct World {
    server: NatsServer,
    folder: TempDir,
    context: jetstream::Context,
    shutdown: Shutdown,
}

/// For its owner only, as a node wants it.
fn secret_file(path: &Path) {
    std::fs::write(path, format!("whsec_{}\n", STANDARD.encode(KEY))).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

impl World {
    async fn start() -> Self {
        let (server, folder) = nats("jetstream { store_dir: \"{folder}/js\" }").await;
        let client = async_nats::connect(server.url()).await.unwrap();
        let plan = Plan::parse("[tenants.acme]").unwrap();
        provision(&client, &plan, &StoreSettings::default()).await.unwrap();
        let context = jetstream::new(client);
        Self { server, folder, context, shutdown: Shutdown::default() }
    }

    fn secret_file(&self) -> PathBuf {
        let path = self.folder.path().join("webhook.secret");
        secret_file(&path);
        path
    }

    /// What a node with the webhook runs.
    async fn node(
        &self,
        url: String,
        attempts: u32,
        timeout: Duration,
    ) -> (Arc<WebhookDispatcher>, Arc<Metrics>) {
        let settings = config::Webhook { url, secret_file: self.secret_file(), timeout, attempts };
        let client = async_nats::connect(self.server.url()).await.unwrap();
        let metrics = Arc::new(Metrics::new("node"));
        let webhook = Webhook::open(&settings).unwrap();
        let directory = Directory::watch(&client, self.shutdown.token().clone(), self.shutdown.tracker());
        let cpu = Cpu::start(CpuSettings { threads: 2, queue: 64 }, Arc::new(())).unwrap();
        let guarded = (webhook, Arc::new(Breaker::alone(Kind::Webhook)));
        let dispatcher =
            WebhookDispatcher::new(client, guarded, attempts, now, Arc::clone(&metrics), Arc::new(cpu));
        dispatcher.start(directory, Skew::default(), &self.shutdown, &Supervisor::default());
        (dispatcher, metrics)
    }

    async fn append(&self, parked: &Parked, event: &Event) {
        let subject = format!("deliberation.{}.{}.{}", parked.tenant, parked.id, event.kind());
        let json = serde_json::to_vec(event).unwrap();
        self.context.publish(subject, json.into()).await.unwrap().await.unwrap();
    }

    async fn park(&self, number: u32) -> Parked {
        let parked = parked(number);
        self.append(&parked, &Event::Parked(Box::new(parked.clone()))).await;
        parked
    }

    /// Waits until the consumer has nothing more to hand out and to hear of.
    async fn settled(&self) {
        let stream = self.context.get_stream("DELIBERATIONS_acme").await.unwrap();
        let settled = async {
            loop {
                let info = stream.consumer_info(WEBHOOKS_CONSUMER).await.unwrap();
                if info.num_pending == 0 && info.num_ack_pending == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, settled).await.expect("events are left");
    }

    async fn stop(self) {
        self.shutdown.request();
        assert!(self.shutdown.finished_within(PATIENCE).await, "calls go on after the stop");
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(u64::try_from(since.as_millis()).unwrap())
}

fn parked(number: u32) -> Parked {
    let id: DeliberationId = format!("{number:024x}").parse().unwrap();
    let voter = Voter { roles: BTreeSet::from(["judicial".to_owned()]), weight: 1 };
    let at = now();
    Parked {
        id,
        tenant: "acme".parse().unwrap(),
        sender: "planner".parse().unwrap(),
        message_id: format!("m{number}").parse().unwrap(),
        message: r#"{"content":"the launch code is hunter2"}"#.to_owned(),
        digest: "0a".repeat(32),
        why: Why::Impact { score: 0.91, threshold: 0.8 },
        notes: Default::default(),
        impact: None,
        policy_revision: "r1".to_owned(),
        decision_id: "d1".to_owned(),
        node: "node-1".to_owned(),
        rule: Rule { kind: RuleKind::Quorum, min_approvals: 1, distinct_roles: 2 },
        voters: BTreeMap::from([("judge".parse().unwrap(), voter.clone())]),
        stand_ins: BTreeMap::from([("controller".parse().unwrap(), voter)]),
        parked_at: at,
        escalate_at: None,
        deadline: at.plus(Duration::from_secs(3600)),
        traceparent: None,
    }
}

/// One call as the receiver saw it.
#[derive(Debug)]
struct Call {
    id: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// HMAC by hand, so that the test does not agree with itself.
    fn assert_signed(&self) {
        self.assert_signed_by(&KEY);
    }

    fn assert_signed_by(&self, key: &[u8]) {
        let mut inner = Sha256::new();
        let mut outer = Sha256::new();
        let mut block = [0; 64];
        block[..key.len()].copy_from_slice(key);
        inner.update(block.map(|byte| byte ^ 0x36));
        outer.update(block.map(|byte| byte ^ 0x5c));
        let timestamp = self.header("webhook-timestamp");
        inner.update(format!("{}.{timestamp}.", self.id));
        inner.update(&self.body);
        outer.update(inner.finalize());
        let signature = format!("v1,{}", STANDARD.encode(outer.finalize()));
        assert_eq!(self.header("webhook-signature"), signature);
        let sent: u64 = timestamp.parse().unwrap();
        assert!(now().0 / 1000 - sent < PATIENCE.as_secs(), "signed at {sent}");
    }
}

/// Decides by how many times it was called for the same id before.
type Behaviour = fn(usize) -> Reply;

enum Reply {
    Accept,
    Fail,
    Hang,
    Redirect,
}

struct Desk {
    calls: Sender<Call>,
    seen: parking_lot::Mutex<BTreeMap<String, usize>>,
    behaviour: Behaviour,
}

/// A receiver on loopback. It ends with the test's runtime.
async fn receiver(address: SocketAddr, behaviour: Behaviour) -> (String, Receiver<Call>) {
    let (calls, seen) = channel(1024);
    let desk = Arc::new(Desk { calls, seen: parking_lot::Mutex::default(), behaviour });
    let listener = TcpListener::bind(address).await.unwrap();
    let url = format!("http://{}/hook?who=us", listener.local_addr().unwrap());
    let app = Router::new().route("/hook", post(hear)).with_state(desk);
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, seen)
}

async fn hear(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    let before = {
        let mut seen = desk.seen.lock();
        let count = seen.entry(id.clone()).or_default();
        *count += 1;
        *count - 1
    };
    desk.calls.send(Call { id, headers, body }).await.unwrap();
    match (desk.behaviour)(before) {
        Reply::Accept => StatusCode::NO_CONTENT.into_response(),
        Reply::Fail => (StatusCode::INTERNAL_SERVER_ERROR, "out of order").into_response(),
        Reply::Redirect => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, "/hook")]).into_response(),
        Reply::Hang => std::future::pending().await,
    }
}

const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
const SECOND: Duration = Duration::from_secs(1);

/// The call that says that a node's level is this one, for this part.
async fn health_of(calls: &mut Receiver<Call>, level: &str, part: &str) -> Call {
    loop {
        let call = next(calls).await;
        let told = call.json();
        let ill = part.is_empty() || told["data"]["parts"][part]["note"].is_string();
        if told["type"] == "node.health" && told["data"]["to"] == level && ill {
            return call;
        }
    }
}

/// A node that starts says so, too.
async fn of_deliberation(calls: &mut Receiver<Call>) -> Call {
    loop {
        let call = next(calls).await;
        if call.json()["type"] != "node.health" {
            return call;
        }
    }
}

async fn next(calls: &mut Receiver<Call>) -> Call {
    tokio::time::timeout(PATIENCE, calls.recv()).await.expect("no call").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_twice_gets_the_same_signed_event_until_it_accepts() {
    let world = World::start().await;
    let behaviour: Behaviour = |before| if before < 2 { Reply::Fail } else { Reply::Accept };
    let (url, mut calls) = receiver(ANYWHERE, behaviour).await;
    let (hooks, metrics) = world.node(url, 10, 5 * SECOND).await;
    let parked = world.park(1).await;
    let first = next(&mut calls).await;
    first.assert_signed();
    for repeat in [next(&mut calls).await, next(&mut calls).await] {
        repeat.assert_signed();
        assert_eq!((&repeat.id, &repeat.body), (&first.id, &first.body));
    }
    world.settled().await;
    assert_eq!(hooks.trouble(), None);
    let text = metrics.encode();
    assert!(text.contains("webhook_calls_total{outcome=\"refused\"} 2"), "{text}");
    assert!(text.contains("webhook_calls_total{outcome=\"ok\"} 1"), "{text}");

    assert_eq!(first.id, format!("acme.{}.parked", parked.id));
    assert_eq!(first.header("content-type"), "application/json");
    let told = first.json();
    assert_eq!(told["type"], "deliberation.parked");
    let data = &told["data"];
    for (key, value) in [("tenant", "acme"), ("sender", "planner"), ("message_id", "m1")] {
        assert_eq!(data[key], value);
    }
    assert_eq!(data["why"], "its impact is 0.91, at or above 0.80");
    assert_eq!(data["voters"][0]["id"], "judge");
    assert_eq!(data["rule"]["kind"], "quorum");
    let deadline = humantime::parse_rfc3339(data["deadline"].as_str().unwrap()).unwrap();
    assert_eq!(deadline, UNIX_EPOCH + Duration::from_millis(parked.deadline.0));
    assert!(calls.try_recv().is_err(), "called again after it had accepted");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_is_parked_escalated_and_decided_and_never_the_message() {
    let world = World::start().await;
    let (url, mut calls) = receiver(ANYWHERE, |_| Reply::Accept).await;
    world.node(url, 10, 5 * SECOND).await;
    let parked = world.park(1).await;
    let vote = |comment: &str| Vote {
        voter: "judge".parse().unwrap(),
        choice: Choice::Approve,
        comment: comment.to_owned(),
        at: now(),
    };
    let at = now();
    world.append(&parked, &Event::Vote(vote("hunter2 is short"))).await;
    world.append(&parked, &Event::Escalated { at }).await;
    let (judgement, detail) = (Judgement::Approved, "2 of 2 approve".to_owned());
    let vote = Some(vote("hunter2 it is"));
    world.append(&parked, &Event::Decided { judgement, at, detail, vote }).await;
    let told: BTreeMap<String, Call> =
        [next(&mut calls).await, next(&mut calls).await, next(&mut calls).await]
            .into_iter()
            .map(|call| (call.json()["type"].as_str().unwrap().to_owned(), call))
            .collect();
    let types: Vec<_> = told.keys().map(String::as_str).collect();
    assert_eq!(types, ["deliberation.decided", "deliberation.escalated", "deliberation.parked"]);
    for call in told.values() {
        call.assert_signed();
        let text = String::from_utf8(call.body.to_vec()).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(call.json()["data"]["message_id"], "m1", "{text}");
    }
    let decided = told["deliberation.decided"].json();
    assert_eq!(decided["data"]["judgement"], "approved");
    assert_eq!(decided["data"]["detail"], "2 of 2 approve");
    world.settled().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_or_redirects_is_called_again() {
    let world = World::start().await;
    let behaviour: Behaviour = |before| match before {
        0 => Reply::Hang,
        1 => Reply::Redirect,
        _ => Reply::Accept,
    };
    let (url, mut calls) = receiver(ANYWHERE, behaviour).await;
    let (_, metrics) = world.node(url, 10, 2 * SECOND).await;
    world.park(1).await;
    for _ in 0..3 {
        next(&mut calls).await.assert_signed();
    }
    world.settled().await;
    let text = metrics.encode();
    for outcome in ["timed_out", "refused", "ok"] {
        assert!(text.contains(&format!("webhook_calls_total{{outcome=\"{outcome}\"}} 1")), "{text}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_while_the_receiver_was_away_is_told_when_it_comes() {
    let world = World::start().await;
    let port = crate::support::servers::port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let (hooks, _) = world.node(format!("http://{address}/hook"), 10, SECOND).await;
    for number in 1..=3 {
        world.park(number).await;
    }
    let waiting = async {
        while hooks.trouble().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("nothing is wrong without a receiver");
    assert!(hooks.trouble().unwrap().contains("not reachable"), "{:?}", hooks.trouble());
    let (_, mut calls) = receiver(address, |_| Reply::Accept).await;
    let told: BTreeSet<_> =
        [next(&mut calls).await, next(&mut calls).await, next(&mut calls).await].map(|call| call.id).into();
    assert_eq!(told.len(), 3, "{told:?}");
    world.settled().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_share_the_events_and_each_is_told() {
    const EVENTS: u32 = 60;
    let world = World::start().await;
    let behaviour: Behaviour = |before| if before == 0 { Reply::Fail } else { Reply::Accept };
    let (url, mut calls) = receiver(ANYWHERE, behaviour).await;
    let (_, one) = world.node(url.clone(), 10, 5 * SECOND).await;
    let (_, two) = world.node(url, 10, 5 * SECOND).await;
    for number in 1..=EVENTS {
        world.park(number).await;
    }
    let mut told: BTreeMap<String, (u32, Bytes)> = BTreeMap::new();
    for _ in 0..2 * EVENTS {
        let call = next(&mut calls).await;
        call.assert_signed();
        let (count, body) = told.entry(call.id.clone()).or_insert((0, call.body.clone()));
        *count += 1;
        assert_eq!(*body, call.body, "the nodes tell different things of {}", call.id);
    }
    assert_eq!(told.len(), usize::try_from(EVENTS).unwrap());
    assert!(told.values().all(|(count, _)| *count == 2), "{told:?}");
    world.settled().await;
    for metrics in [one, two] {
        let text = metrics.encode();
        assert!(text.contains("webhook_calls_total{outcome=\"ok\"}"), "one node told nothing: {text}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_given_up_after_its_attempts_and_one_that_cannot_be_read_at_once() {
    let world = World::start().await;
    let (url, mut calls) = receiver(ANYWHERE, |_| Reply::Fail).await;
    let (_, metrics) = world.node(url, 2, 10 * SECOND).await;
    world.park(1).await;
    let text = "deliberation.acme.000000000000000000000002.parked";
    world.context.publish(text, "hunter2".into()).await.unwrap().await.unwrap();
    // Its beginning is not there, so nothing can be said of it.
    world.append(&parked(3), &Event::Escalated { at: now() }).await;
    let mut old = parked(4);
    old.deadline = Timestamp(old.deadline.0 - 2 * 24 * 3600 * 1000);
    world.append(&old, &Event::Parked(Box::new(old.clone()))).await;
    world.settled().await;
    for _ in 0..2 {
        assert!(next(&mut calls).await.id.ends_with("01.parked"));
    }
    assert!(calls.try_recv().is_err(), "called more often than told to");
    let text = metrics.encode();
    for (why, count) in [("attempts", 1), ("unreadable", 2), ("stale", 1)] {
        assert!(text.contains(&format!("webhook_dropped_total{{why=\"{why}\"}} {count}")), "{text}");
    }
    world.stop().await;
}

/// By what provisioning makes, with a node's permissions and its configuration.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_calls_the_webhook_that_it_is_configured_with() {
    let (url, mut calls) = receiver(ANYWHERE, |_| Reply::Accept).await;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("webhook.secret");
    secret_file(&secret);
    let mut bus = Bus::with(1, |options| {
        let webhook = toml::Table::from_iter([
            ("url".to_owned(), url.into()),
            ("secret_file".to_owned(), secret.to_string_lossy().into_owned().into()),
        ]);
        options.node_overrides.insert("webhook".to_owned(), webhook.into());
    })
    .await;
    let context = jetstream::new(bus.stack.connect(BusUser::Node).await.unwrap());
    let parked = parked(7);
    let event = Event::Parked(Box::new(parked.clone()));
    let subject = format!("deliberation.acme.{}.parked", parked.id);
    let json = serde_json::to_vec(&event).unwrap();
    context.publish(subject, json.into()).await.unwrap().await.unwrap();
    let call = of_deliberation(&mut calls).await;
    call.assert_signed();
    assert_eq!(call.json()["data"]["message_id"], "m7");
    let url = format!("http://{}/readyz", bus.stack.nodes()[0].http());
    let health: Value =
        serde_json::from_str(&reqwest::get(url).await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(health["parts"]["webhook"]["state"], "up", "{health}");

    // A node that is no longer well says so.
    bus.stack.redis_mut().unwrap().child_mut().pause();
    let call = health_of(&mut calls, "degraded", "store").await;
    call.assert_signed();
    let told = call.json();
    assert_eq!(told["data"]["node"], "node-1", "{told}");
    bus.stack.redis_mut().unwrap().child_mut().resume();
    health_of(&mut calls, "healthy", "").await;

    // Another secret, and SIGHUP: from then on it signs. One that others can read is not taken over.
    let other = [7; 32];
    for (key, mode) in [(other, 0o600), (KEY, 0o644)] {
        std::fs::write(&secret, format!("whsec_{}\n", STANDARD.encode(key))).unwrap();
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(mode)).unwrap();
        let node = bus.stack.node_mut(0).unwrap();
        let before = std::fs::read_to_string(node.child().log()).unwrap().matches("SIGHUP").count();
        node.child_mut().reload();
        while std::fs::read_to_string(node.child().log()).unwrap().matches("SIGHUP").count() == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let parked = super::webhook::parked(u32::from(key[0]) + 10);
        let event = serde_json::to_vec(&Event::Parked(Box::new(parked.clone()))).unwrap();
        let subject = format!("deliberation.acme.{}.parked", parked.id);
        context.publish(subject, event.into()).await.unwrap().await.unwrap();
        of_deliberation(&mut calls).await.assert_signed_by(&other);
    }
    let log = std::fs::read_to_string(bus.stack.nodes()[0].child().log()).unwrap();
    assert!(log.contains("webhook.secret_file: ") && log.contains("mode 0644"), "{log}");
    bus.stop().await;
}
