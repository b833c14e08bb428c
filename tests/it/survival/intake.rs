//! Can bytes of an agent hurt the nodes, and is a part of a node that dies unseen?

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use agentbus::{
    app::{self, Reload},
    client::{AgentClient, Draft, Patience},
    config::{self, LogFormat, NodeConfig},
    domain::{Encoding, Reason, Verdict},
    servers::node::get_status,
    shutdown::Shutdown,
    skew,
    supervisor::Supervisor,
    telemetry,
    tenants::{BusUser, Plan, StoreSettings, User, provision},
};
use base64::Engine as _;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::support::{
    bus::{self, Bus, redis_of},
    raw::RawClient,
    root, servers,
};

const WAIT: Duration = Duration::from_secs(60);

/// Header blocks as nobody should write them, and as some do.
fn blocks() -> Vec<Vec<u8>> {
    let one = |line: &[u8]| [b"NATS/1.0\r\n", line, b"\r\n\r\n"].concat();
    let mut blocks: Vec<Vec<u8>> = [
        &b"X: a\rb"[..],
        b"X: a\nb",
        b"X: \xff",
        b"abc",
        b": b",
        b"a b: c",
        b"a\x01b: c",
        b"\xc3\xa9: c",
        b"a: \x01",
        b"a: \0",
        b"a: b\r\n c",
        b"traceparent: 00-\r-",
        b"Agentbus-Recipient: worker\r\nNats-Msg-Id: 1",
    ]
    .into_iter()
    .map(one)
    .collect();
    blocks.extend(
        [
            &b"NATS/1.0\r\n\r\n"[..],
            b"NATS/1.0 abc\r\n\r\n",
            b"NATS/1.0 1\r\n\r\n",
            b"NATS/1.0 99999 x\r\n\r\n",
            b"NATS/1.0 503\r\n\r\n",
            b"NATS/1.1\r\nA: b\r\n\r\n",
            b"nats/1.0\r\n\r\n",
            b"NATS/1.0\r\nA: b\r\n",
            b"NATS/1.0\nA: b\n\n",
            b"FOO\r\n\r\n",
            b"\r\n\r\n",
            b"\0\0\0\0",
        ]
        .map(<[u8]>::to_vec),
    );
    blocks.push(one(&[&b"a: "[..], &vec![b'x'; 60_000]].concat()));
    blocks.push(one("a: b\r\n".repeat(5_000).trim_end().as_bytes()));
    blocks
}

pub(crate) async fn send(agent: &AgentClient, to: &str) -> Verdict {
    let draft = Draft::to_agent(to, "hello there").encode(Encoding::MessagePack);
    bus::send(agent, draft).await
}

/// The value of a metric without labels.
async fn metric(http: &str, name: &str) -> u64 {
    let text = reqwest::get(format!("{http}/metrics")).await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.split(' ').nth(1)?.parse::<f64>().ok()).unwrap_or_default() as u64
}

#[tokio::test]
async fn no_headers_and_no_subject_of_an_agent_costs_a_node_its_connection() {
    let bus = Bus::start(1).await;
    let planner = bus.agent("acme", "planner").await;
    let worker = bus.agent("acme", "worker").await;
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    assert_eq!(send(&planner, "worker").await.reason, Reason::Delivered);

    let seed = bus.stack.seed_path(&User::Agent("globex".parse().unwrap(), "drafter".parse().unwrap()));
    let mut stranger = RawClient::connect(&bus.stack.nats_url(), &seed).await;
    let http = format!("http://{}", bus.stack.nodes()[0].http());
    let before = metric(&http, "agentbus_nats_reconnects_total").await;
    let verbs = ["heartbeat", "send", "submit", "ask", "find", "vote", "answer", "answer.x.y", "nothing"];
    let mut written = 0;
    for verb in verbs {
        for block in blocks() {
            stranger.hpub(format!("bus.drafter.{verb}").as_bytes(), "_INBOX.drafter.r", &block, b"{}").await;
            written += 1;
        }
        stranger.round_trip().await;
        assert_eq!(send(&planner, "worker").await.reason, Reason::Delivered, "after {verb}");
    }
    for token in [&b"\xff\xfe"[..], b"\x01", b"\xc3\x28", &[b'x'; 900]] {
        for subject in
            [&b"bus.drafter.answer.node."[..], b"bus.drafter.answer.", b"bus.drafter.", b"bus.drafter.send."]
        {
            stranger.write(&[b"PUB ", subject, token, b" _INBOX.drafter.\xff 2\r\n{}\r\n"].concat()).await;
        }
    }
    stranger.round_trip().await;
    assert_eq!(send(&planner, "worker").await.reason, Reason::Delivered);
    assert_eq!(metric(&http, "agentbus_nats_reconnects_total").await, before);
    assert_eq!(metric(&http, "agentbus_request_panics_total").await, 0);
    let unreadable = metric(&http, "agentbus_headers_unreadable_total").await;
    assert!(unreadable > written / 2, "{unreadable} of {written} blocks");
    for (path, port) in [("/livez", &http), ("/readyz", &http)] {
        assert_eq!(reqwest::get(format!("{port}{path}")).await.unwrap().status(), 200);
    }
    bus.stop().await;
}

/// ARCHITECTURE.md: strangers can write to what the intake subscribes to, and to nothing else of a node.
#[tokio::test]
async fn only_the_intake_listens_where_agents_can_write() {
    let bus = Bus::start(1).await;
    let admin = bus.stack.connect(BusUser::Admin).await.unwrap();
    let asked = json!({"subscriptions": true, "auth": true, "limit": 1000}).to_string();
    let answer = admin.request("$SYS.REQ.SERVER.PING.CONNZ", asked.into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    let connections = answer["data"]["connections"].as_array().unwrap();
    let nodes: Vec<_> = connections
        .iter()
        .filter(|c| c["name"].as_str().is_some_and(|name| name.starts_with("agentbus node")))
        .collect();
    assert!(nodes.len() >= 4, "{nodes:?}");
    let mut strangers = Vec::new();
    for connection in nodes {
        let name = connection["name"].as_str().unwrap();
        for subject in connection["subscriptions_list"].as_array().into_iter().flatten() {
            let subject = subject.as_str().unwrap();
            // What an account imports as a service: everything that an agent's publish can become.
            if subject.starts_with("tenant.") {
                strangers.push(name.to_owned());
            } else if !name.ends_with("intake") {
                let own = [
                    "_INBOX.node.",
                    "_INBOX.kicker.",
                    "directory.",
                    "nodes.heartbeat",
                    "nodes.policy.pushed",
                    "nodes.freeze.changed",
                    "nodes.constitution.changed",
                    "bus.*.answer.",
                    // What servers say of connections.
                    "$SYS.ACCOUNT.*.SERVER.CONNS",
                ];
                assert!(own.iter().any(|prefix| subject.starts_with(prefix)), "{name} listens to {subject}");
            }
        }
    }
    assert!(!strangers.is_empty() && strangers.iter().all(|name| name.ends_with("intake")), "{strangers:?}");
    bus.stop().await;
}

/// Everything that a node needs and that could end: `nodes/parts.rs` shows that there is nothing else.
const PARTS: [&str; 41] = [
    "attendance",
    "breakers",
    "busy poll",
    "connections",
    "constitutions",
    "cut off",
    "deliberations",
    "directory",
    "evidence",
    "fill",
    "freezes",
    "freezes wanted",
    "gate",
    "health",
    "health webhook",
    "http",
    "intake",
    "jetstream",
    "lane",
    "lane connection",
    "lane records",
    "lane session",
    "memory",
    "otlp",
    "outbox",
    "peers",
    "records",
    "recovery records",
    "redis breaker",
    "redis changes",
    "redis connections",
    "redis pipe",
    "redis probe",
    "registrations",
    "reload",
    "senders",
    "server time",
    "shadow",
    "thresholds",
    "usage",
    "webhook",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_dies_is_started_again() {
    let bus = Bus::start(0).await;
    let port = servers::port();
    let (supervisor, shutdown) = (Supervisor::default(), Shutdown::default());
    let folder = tempfile::tempdir().unwrap();
    let mut config = node(&bus, port);
    config.webhook = Some(webhook(folder.path()));
    let otlp = toml::toml! { endpoint = "http://127.0.0.1:1" };
    config.otlp = Some(otlp.try_into().unwrap());
    config.lane = config::Lane { threads: 2, busy_poll: Duration::from_micros(100) };
    // What is logged of it is of no matter here.
    let log = config::Log { format: LogFormat::Human, filter: "off".to_owned() };
    let filter = telemetry::init_logs(&log, None);
    let read = config.clone();
    let reload =
        Reload::new(signal(SignalKind::hangup()).unwrap(), move || Ok(read.clone()), filter.unwrap());
    let (parts, stop) = (supervisor.clone(), shutdown.clone());
    let running = tokio::spawn(app::run_with(config, Some(reload), stop, parts, skew::wall_clock));
    ready(port).await;
    let planner = bus.agent("acme", "planner").await;
    let worker = bus.agent("acme", "worker").await;
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    let mut names = supervisor.names();
    names.sort_unstable();
    assert_eq!(names, PARTS);
    for name in names {
        supervisor.end(name);
        let restarted = async {
            while supervisor.restarts(name) == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let in_time = tokio::time::timeout(WAIT, restarted).await;
        assert!(in_time.is_ok(), "{name} was not started again");
        ready(port).await;
        assert_eq!(send(&planner, "worker").await.reason, Reason::Delivered, "after {name}");
        let draft = Draft::to_agent("worker", "hello again").encode(Encoding::Json);
        let submitted = planner.submit(draft, Patience::default()).await.unwrap();
        // An answer that was lost is asked for again, when it may have been delivered.
        let kept = [Reason::Stored, Reason::Delivered].contains(&submitted.reason);
        assert!(kept, "after {name}: {submitted:?}");
    }
    let told = reqwest::get(format!("http://127.0.0.1:{port}/readyz")).await.unwrap().text().await.unwrap();
    assert!(told.contains("restarts") && told.contains("intake 2 times,"), "{told}");
    shutdown.request();
    running.await.unwrap().unwrap();
    bus.stop().await;
}

#[tokio::test]
async fn a_part_that_does_not_stay_ends_the_node_with_a_word() {
    let bus = Bus::start(0).await;
    let port = servers::port();
    let supervisor = Supervisor::default();
    let running = tokio::spawn(app::run_with(
        node(&bus, port),
        None,
        Shutdown::default(),
        supervisor.clone(),
        skew::wall_clock,
    ));
    ready(port).await;
    let ended = async {
        while !running.is_finished() {
            supervisor.end("directory");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        running.await.unwrap()
    };
    let ended = tokio::time::timeout(WAIT, ended).await.expect("the node goes on");
    assert!(ended.unwrap_err().to_string().contains("directory"));
    bus.stop().await;
}

/// One that nobody answers.
fn webhook(folder: &Path) -> config::Webhook {
    let secret_file = folder.join("webhook.secret");
    std::fs::write(
        &secret_file,
        format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode([7; 32])),
    )
    .unwrap();
    std::fs::set_permissions(&secret_file, Permissions::from_mode(0o600)).unwrap();
    let url = "http://127.0.0.1:1/".to_owned();
    config::Webhook { url, secret_file, timeout: Duration::from_secs(1), attempts: 1 }
}

pub(crate) fn node(bus: &Bus, port: u16) -> NodeConfig {
    let mut config = NodeConfig::default();
    config.node.name = "node-1".to_owned();
    config.nats.url = bus.stack.nats_url();
    let seed: PathBuf = bus.stack.seed_path(&User::Bus(BusUser::Node));
    config.nats.nkey_file = Some(seed);
    config.redis = Some(redis_of(&bus.stack));
    config.http.listen = ([127, 0, 0, 1], port).into();
    config.impact.scorer = agentbus::impact::ScorerKind::Keywords;
    config
}

pub(crate) async fn ready(port: u16) {
    let is_ready = async {
        while get_status(port, "/readyz").await.ok() != Some(200) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(WAIT, is_ready).await.expect("the node is not ready");
}

/// The way by TLS, as a node goes it: the server demands it after its greeting.
#[tokio::test]
async fn a_node_takes_requests_by_tls() {
    let file = |name: &str| root().join("src/http/test").join(name);
    let [ca, leaf, key] = ["ca.pem", "leaf.pem", "leaf.key.pem"].map(file);
    let (nats, _folder) = servers::nats(&format!(
        "listen: \"127.0.0.1:-1\"\njetstream {{ store_dir: \"{{folder}}/jetstream\" }}\n\
         tls {{ cert_file: {leaf:?}, key_file: {key:?} }}\n"
    ))
    .await;
    let url = nats.url().replace("nats://127.0.0.1", "tls://localhost");
    let client =
        async_nats::ConnectOptions::new().add_root_certificates(ca.clone()).connect(&url).await.unwrap();
    provision(&client, &Plan::example().unwrap(), &StoreSettings::default()).await.unwrap();
    let port = servers::port();
    let _node = tokio::process::Command::new(env!("CARGO_BIN_EXE_agentbus"))
        .args([
            "node",
            "--server",
            &url,
            "--http",
            &format!("127.0.0.1:{port}"),
            "--set",
            "impact.scorer=keywords",
        ])
        .env("SSL_CERT_FILE", &ca)
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    ready(port).await;
    let answer = client.request("tenant.acme.bus.planner.find", "{}".into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(answer["status"], "ok", "{answer}");
}
