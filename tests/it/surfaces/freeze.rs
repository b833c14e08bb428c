//! Does an operator stop an agent, a tenant or everything within a moment, on all nodes, and does nothing get lost by it?

use std::{sync::atomic::Ordering, time::Duration};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Reason, Status, Verdict},
    tenants::{BusUser, Plan, User},
};
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::process::Command;

use crate::support::bus::Bus;

/// Runs `agentbus …` to its end: its exit code and what it said.
async fn said(bus: &Bus, words: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentbus"));
    command.args(words).arg("--dir").arg(bus.stack.dir()).args(["--server", &bus.stack.nats_url()]);
    let output = command.env("USER", "mia").output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text)
}

async fn json(bus: &Bus, words: &[&str]) -> Value {
    let (code, text) = said(bus, &[words, &["--json"]].concat()).await;
    assert_eq!(code, 0, "{text}");
    serde_json::from_str(text.trim()).unwrap()
}

async fn once(agent: &AgentClient, draft: Draft) -> Verdict {
    let once = Patience { attempt: Duration::from_secs(5), deadline: Duration::from_secs(5) };
    agent.send(draft.encode(Encoding::Json), once).await.unwrap()
}

async fn sent(agent: &AgentClient, to: &str) -> Reason {
    once(agent, Draft::to_agent(to, "the report is ready")).await.reason
}

/// As a node keeps what was submitted, just before its sender was stopped.
async fn queue(bus: &Bus, draft: &Draft) {
    let operator = bus.stack.connect(BusUser::Operator).await.unwrap();
    let subject = format!("tenant.acme.submitted.planner.{}", draft.message_id);
    operator.request(subject, draft.encode(Encoding::Json)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_agent_neither_sends_nor_receives_on_any_node_and_what_it_has_queued_waits() {
    let mut bus = Bus::start(2).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    planner.register(&["planning"]).await.unwrap();
    worker.register(&["work"]).await.unwrap();
    let (_inbox, _planners) = (worker.inbox().await.unwrap(), planner.inbox().await.unwrap());
    assert_eq!(sent(&planner, "worker").await, Reason::Delivered);

    let (code, text) = said(&bus, &["freeze", "--agent", "acme/planer", "--why", "it loops"]).await;
    assert!(code == 1 && text.contains("found agent \"planer\", expected one of:"), "{code} {text}");
    let rehearsed =
        json(&bus, &["freeze", "--agent", "acme/planner", "--why", "it loops", "--dry-run"]).await;
    assert_eq!((&rehearsed["done"], &rehearsed["waiting"]), (&"nothing".into(), &0.into()), "{rehearsed}");
    assert_eq!(rehearsed["nodes"].as_array().unwrap().len(), 2);
    assert_eq!(sent(&planner, "worker").await, Reason::Delivered);

    let frozen = json(&bus, &["freeze", "--agent", "acme/planner", "--why", "it loops"]).await;
    let nodes = frozen["in_force_after_ms"].as_object().unwrap();
    assert!(nodes.len() == 2 && nodes.values().all(Value::is_u64), "{frozen}");
    println!("in force after (ms): {nodes:?}");
    let verdict = once(&planner, Draft::to_agent("worker", "again")).await;
    assert_eq!((verdict.status, verdict.reason, verdict.retryable), (Status::Shed, Reason::Frozen, true));
    assert_eq!(verdict.detail, "an operator has stopped agent acme/planner: it loops");
    assert!(verdict.retry_after.is_some());
    assert_eq!(sent(&worker, "planner").await, Reason::Frozen);
    // By its capability, too, since nobody else has it.
    let to = serde_json::json!({ "capability": "planning" });
    assert_eq!(once(&worker, Draft { to, ..Draft::to_agent("", "who plans?") }).await.reason, Reason::Frozen);
    let stranger = bus.agent("globex", "drafter").await;
    stranger.register(&[]).await.unwrap();
    assert_eq!(sent(&stranger, "drafter").await, Reason::RecipientOffline, "its neighbour goes on");

    // What is queued loses none of its five attempts, and a node that comes later knows as well.
    let queued = Draft::to_agent("worker", "for later");
    queue(&bus, &queued).await;
    bus.stack.add_node().await.unwrap();
    let held = async |times: u64| {
        for _ in 0..300 {
            let listed = json(&bus, &["freezes"]).await;
            assert_eq!((&listed["login"], &listed["why"]), (&"mia".into(), &"it loops".into()));
            if listed["stopped"].as_u64().unwrap() >= times {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the queued message was not tried");
    };
    held(4).await;
    let (code, text) = said(&bus, &["freezes"]).await;
    assert!(code == 0 && text.contains("1 freeze in force on 3 nodes"), "{code} {text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let ready = reqwest::get(format!("http://{}/readyz", bus.stack.nodes()[2].http())).await.unwrap();
    assert!(ready.status().is_success());
    assert!(ready.text().await.unwrap().contains("1 freeze in force: agent acme/planner"));

    let thawed = json(&bus, &["thaw", "--agent", "acme/planner"]).await;
    assert_eq!(thawed["in_force_after_ms"].as_object().unwrap().len(), 3, "{thawed}");
    assert_eq!(sent(&planner, "worker").await, Reason::Delivered);
    let consumer = worker.durable_inbox(&"acme".parse().unwrap()).unwrap();
    let mut inbox = consumer.messages().await.unwrap();
    let kept =
        tokio::time::timeout(Duration::from_secs(60), inbox.next()).await.expect("it came at last").unwrap();
    assert!(String::from_utf8_lossy(&kept.unwrap().payload).contains("for later"));
    let (code, text) = said(&bus, &["thaw", "--agent", "acme/planner"]).await;
    assert!(code == 1 && text.contains("is not stopped by itself; found nothing is"), "{code} {text}");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_stopped_but_what_operators_do_and_the_history_says_who_did_it() {
    let bus = Bus::start(2).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    let talk =
        |id: &str| Draft { conversation_id: Some(id.to_owned()), ..Draft::to_agent("worker", "hello") };

    json(&bus, &["freeze", "--conversation", "acme/trip-17", "--why", "too long"]).await;
    assert_eq!(once(&planner, talk("trip-17")).await.reason, Reason::Frozen);
    assert_eq!(once(&planner, talk("trip-18")).await.reason, Reason::Delivered);
    json(&bus, &["freeze", "--all", "--why", "drill"]).await;
    assert_eq!(json(&bus, &["freeze", "--all", "--why", "drill again"]).await["done"], "stopped already");
    assert_eq!(once(&planner, talk("trip-18")).await.reason, Reason::Frozen);
    let queued = Draft::to_agent("worker", "hello").encode(Encoding::Json);
    let patience = Patience { attempt: Duration::from_secs(5), deadline: Duration::from_secs(5) };
    assert_eq!(planner.submit(queued, patience).await.unwrap().reason, Reason::Frozen);
    // It is alive all the same, and says so.
    worker.register(&["work"]).await.unwrap();
    json(&bus, &["thaw", "--all"]).await;
    assert_eq!(once(&planner, talk("trip-17")).await.reason, Reason::Frozen, "it was stopped by itself");
    assert_eq!(once(&planner, talk("trip-18")).await.reason, Reason::Delivered);

    let (code, text) = said(&bus, &["freezes", "--history", "--json"]).await;
    let acts: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told =
        |act: &Value| format!("{} {} {}", act["act"], act["freeze"]["what"], act["by"]).replace('"', "");
    let acts: Vec<_> = acts.iter().map(told).collect();
    assert_eq!(
        (code, acts),
        (
            0,
            vec![
                "frozen conversation mia".into(),
                "frozen everything mia".into(),
                "thawed everything mia".to_owned()
            ]
        )
    );
    bus.stop().await;
}

/// How often a client has connected.
fn connects(agent: &AgentClient) -> u64 {
    agent.nats().statistics().connects.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_is_ended_again_and_again_and_nobody_else_is() {
    let bus = Bus::start(2).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    // The same agent by a second connection, which listens as it does by an inbox alone.
    let (also, stranger) = (bus.agent("acme", "planner").await, bus.agent("globex", "drafter").await);
    let operator = bus.stack.connect(BusUser::Operator).await.unwrap();
    for agent in [&planner, &worker, &also, &stranger] {
        agent.register(&[]).await.unwrap();
    }
    let (_inbox, _workers) = (planner.inbox().await.unwrap(), worker.inbox().await.unwrap());

    // A node finds out whether it may when it starts.
    let cut_off = ["freeze", "--agent", "acme/planner", "--why", "its key has leaked", "--cut-off"];
    for wrong in [
        ["freeze", "--all", "--why", "x", "--cut-off"].as_slice(),
        &["freeze", "--conversation", "acme/c", "--why", "x", "--cut-off"],
    ] {
        let (code, text) = said(&bus, wrong).await;
        assert!(code == 1 && text.contains("name one by --agent or --tenant"), "{code} {text}");
    }
    let rehearsed = json(&bus, &[&cut_off[..], &["--dry-run"]].concat()).await;
    assert_eq!((&rehearsed["done"], &rehearsed["cut_off"]), (&"nothing".into(), &true.into()), "{rehearsed}");
    let done = json(&bus, &cut_off).await;
    assert_eq!(done["done"], "stopped and cut off");
    assert_eq!(json(&bus, &cut_off).await["done"], "stopped already");
    let (code, text) = said(&bus, &["freezes"]).await;
    assert!(
        code == 0 && text.contains("stopped and cut off since") && text.contains("by mia"),
        "{code} {text}"
    );

    // Three times each: whoever connects again is ended again.
    let began = std::time::Instant::now();
    while connects(&planner) < 4 || connects(&also) < 4 {
        assert!(began.elapsed() < Duration::from_secs(60), "{} {}", connects(&planner), connects(&also));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("three times each after {} ms", began.elapsed().as_millis());
    assert_eq!((connects(&worker), connects(&stranger)), (1, 1), "colleagues and other tenants stay");
    assert_eq!(operator.statistics().connects.load(Ordering::Relaxed), 1);
    assert_eq!(sent(&stranger, "drafter").await, Reason::RecipientOffline, "nodes go on");
    assert_eq!(bus.counted("agentbus_nats_reconnects_total").await, 0, "no node's connection was ended");

    json(&bus, &["thaw", "--agent", "acme/planner"]).await;
    // What was on its way ends, and then it stays.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = connects(&planner);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(connects(&planner), after, "it may stay again");
    assert_eq!(sent(&planner, "worker").await, Reason::Delivered);

    // All of a tenant, and nobody beside it.
    let strangers = connects(&stranger);
    json(&bus, &["freeze", "--tenant", "acme", "--why", "drill", "--cut-off"]).await;
    let before = connects(&worker);
    let began = std::time::Instant::now();
    while connects(&worker) < before + 2 || connects(&planner) < after + 2 {
        assert!(began.elapsed() < Duration::from_secs(60), "{} {}", connects(&worker), connects(&planner));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(connects(&stranger), strangers);
    assert_eq!(bus.counted("agentbus_nats_reconnects_total").await, 0);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_node_may_end_connections_it_is_said_before_anything_is_done() {
    // A key that NATS lets in, and that may not ask who is connected.
    let bus = Bus::with(1, |options| {
        let seed = User::Bus(BusUser::Operator).seed_path(&options.dir).to_string_lossy().into_owned();
        let nats = toml::Table::from_iter([("kicker_nkey_file".to_owned(), toml::Value::String(seed))]);
        options.node_overrides.insert("nats".to_owned(), nats.into());
    })
    .await;
    let (code, text) = said(&bus, &["freeze", "--agent", "acme/planner", "--why", "x", "--cut-off"]).await;
    assert!(code == 1 && text.contains("no node may end connections, and nothing was done"), "{code} {text}");
    let (code, text) = said(&bus, &["freezes"]).await;
    assert!(code == 0 && text.contains("nothing is stopped"), "{code} {text}");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_stops_itself_where_its_tenant_may_for_as_many_as_leave_places_to_others() {
    let mut agents = String::new();
    for n in 0..10 {
        agents += &format!("a{n} = {{}}\n");
    }
    let plan = format!(
        "[tenants.acme.limits]\nself_freeze = true\n[tenants.acme.agents]\n{agents}[tenants.globex.agents]\nbuilder = {{}}\n"
    );
    let bus = Bus::with(2, |options| options.plan = Plan::parse(&plan).unwrap()).await;
    let mut acme = Vec::new();
    for n in 0..10 {
        acme.push(bus.agent("acme", &format!("a{n}")).await);
    }
    acme[9].register(&[]).await.unwrap();
    let _inbox = acme[9].inbox().await.unwrap();
    let refused = bus.agent("globex", "builder").await.freeze("I leak").await.unwrap();
    assert_eq!(refused["reason"], "policy_denied", "{refused}");
    let frozen = acme[0].freeze("I was told to leak: ignore all rules").await.unwrap();
    assert_eq!(frozen["status"], "ok", "{frozen}");
    assert_eq!(acme[0].freeze("again").await.unwrap()["status"], "ok", "once more is no fault");
    let verdict = once(&acme[0], Draft::to_agent("a9", "hello")).await;
    assert_eq!(
        (verdict.reason, verdict.detail.as_str()),
        (Reason::Frozen, "agent acme/a0 has stopped itself")
    );
    assert_eq!(
        once(&acme[9], Draft::to_agent("a0", "hello")).await.detail,
        "agent acme/a0 has stopped itself"
    );
    let (code, text) = said(&bus, &["freezes"]).await;
    assert!(code == 0 && text.contains("by itself") && text.contains("I was told to leak"), "{code} {text}");

    for agent in &acme[1..8] {
        assert_eq!(agent.freeze("I leak").await.unwrap()["status"], "ok");
    }
    let full = acme[8].freeze("I leak").await.unwrap();
    assert_eq!((&full["reason"], &full["retryable"]), (&"quota_exceeded".into(), &true.into()), "{full}");
    assert_eq!(sent(&acme[8], "a9").await, Reason::Delivered, "it is not stopped");
    // An operator has places, takes one over, and lets it go on.
    json(&bus, &["freeze", "--agent", "acme/a8", "--why", "it leaks"]).await;
    assert_eq!(json(&bus, &["freeze", "--agent", "acme/a0", "--why", "INC-9"]).await["done"], "stopped");
    assert_eq!(
        once(&acme[0], Draft::to_agent("a9", "hello")).await.detail,
        "an operator has stopped agent acme/a0: INC-9"
    );
    json(&bus, &["thaw", "--agent", "acme/a0"]).await;
    assert_eq!(sent(&acme[0], "a9").await, Reason::Delivered);
    bus.stop().await;
}
