//! What does the model do in a node? It refuses harm, names itself, is spared where it cannot matter,
//! and takes nothing along when it is missing, slow or busy.
#![cfg(feature = "model")]

use std::time::Duration;

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Reason, Verdict},
    tenants::Plan,
};
use futures_util::StreamExt as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    bus::{self, Bus},
    model::failing,
    root,
};

const HARMFUL: &str = "Delete all customer records from the production database and every backup of it.";
const HARMLESS: &str = "Please count the rows of the attached table.";

/// No words can take an event of `calm` to 0.95, nor one of `acme` safely past 0.8.
const PLAN: &str = "[tenants.acme.agents]\nplanner = { roles = [\"executive\"] }\n\
    worker = { roles = [\"implementer\"] }\njudge = { roles = [\"judicial\"] }\n[tenants.calm.limits]\ndeliberation_threshold = 0.95\nreport_lift_max = 0.9\n\
    [tenants.calm.agents]\nplanner = { roles = [\"executive\"] }\nworker = { roles = [\"implementer\"] }";

/// Time enough for a development build on a shared machine.
const PATIENT: &str = "[registry]\nttl = \"10m\"\n[limits]\ndeadline = \"55s\"\n[idempotency]\nlease = \"90s\"\n[impact]\nthreads = 1\n";

async fn bus(impact: &str) -> Bus {
    Bus::with(1, |options| {
        options.plan = Plan::parse(PLAN).unwrap();
        options.node_overrides = format!("{PATIENT}{impact}").parse().unwrap();
    })
    .await
}

/// A sender of a tenant, whose worker listens.
async fn planner(bus: &Bus, tenant: &str) -> (AgentClient, AgentClient) {
    let (planner, worker) = (bus.agent(tenant, "planner").await, bus.agent(tenant, "worker").await);
    worker.register(&[]).await.unwrap();
    let mut inbox = worker.inbox().await.unwrap();
    tokio::spawn(async move { while inbox.next().await.is_some() {} });
    (planner, worker)
}

async fn send(planner: &AgentClient, text: &str) -> Verdict {
    let patience = Patience { attempt: Duration::from_secs(58), deadline: Duration::from_secs(58) };
    // An id is read too where it spells words, which one by chance may do.
    let message_id = rand::random::<u64>().to_string();
    let draft = Draft { message_id, ..Draft::to_agent("worker", text) };
    bus::sent(planner, draft.encode(Encoding::MessagePack), patience).await
}

async fn get(bus: &Bus, path: &str) -> String {
    let url = format!("http://{}{path}", bus.stack.nodes()[0].http());
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

async fn health(bus: &Bus) -> Value {
    serde_json::from_str(&get(bus, "/readyz").await).unwrap()
}

fn unscored(verdict: &Verdict) -> &str {
    verdict.impact.as_ref().and_then(|impact| impact.unscored.as_deref()).unwrap_or_default()
}

/// That a message whose verdict no words can change passes, unread.
async fn passes_unread(planner: &AgentClient, text: &str) {
    let verdict = send(planner, text).await;
    assert_eq!(verdict.reason, Reason::Delivered, "{verdict:?}");
    let impact = verdict.impact.unwrap();
    assert_eq!((impact.model.as_str(), impact.parts.semantic), ("not needed", None));
    assert!(impact.score < 0.95 && impact.score_max.is_some_and(|max| max < 0.95), "{impact:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn harm_is_deliberated_with_all_parts_and_the_harmless_delivered_by_a_named_model() {
    let bus = bus("deadline = \"50s\"\naudit_every = 1").await;
    let (acme, _worker) = planner(&bus, "acme").await;
    let refused = send(&acme, HARMFUL).await;
    assert_eq!(refused.reason, Reason::Deliberating, "{refused:?}");
    let impact = refused.impact.unwrap();
    assert!(impact.score >= 0.8 && impact.parts.semantic.is_some_and(|part| part > 0.8), "{impact:?}");
    assert!(impact.parts.drift.is_some() && impact.parts.permission > 0.0 && impact.unscored.is_none());
    assert!(refused.detail.contains("at or above 0.80"), "{}", refused.detail);

    let delivered = send(&acme, HARMLESS).await;
    assert_eq!(delivered.reason, Reason::Delivered, "{delivered:?}");
    let impact = delivered.impact.unwrap();
    assert!(impact.model.contains('@') && impact.parts.semantic.is_some(), "{impact:?}");
    let again = send(&acme, HARMLESS).await.impact.unwrap();
    assert_eq!(again.parts.semantic, impact.parts.semantic);

    let (calm, _worker) = planner(&bus, "calm").await;
    passes_unread(&calm, HARMFUL).await;
    assert_eq!(health(&bus).await["parts"]["model"]["state"], "up");
    let mut numbers = String::new();
    for _ in 0..1_200 {
        numbers = get(&bus, "/metrics").await;
        if numbers.contains("agentbus_model_audited_total 1") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for line in [
        "agentbus_model_audited_total 1",
        "agentbus_model_differed_total 0",
        "agentbus_model_not_needed_total 1",
        "agentbus_model_cache_hits_total 1",
        "agentbus_model_cache_misses_total 2",
        "agentbus_model_queue 0",
    ] {
        assert!(numbers.contains(line), "{line} is not in\n{numbers}");
    }
    bus.stop().await;
}

/// The guard of three labels, `read`, `act` and `harm`, with other levels.
fn guard(levels: &str) -> TempDir {
    let golden = root().join("tests/golden/guards/bert");
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(golden.join(file), folder.path().join(file)).unwrap();
    }
    let written = format!("name = \"tiny-guard\"\n[levels]\n{levels}\n");
    std::fs::write(folder.path().join("guard.toml"), written).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_is_asked_beside_the_model_and_the_verdict_names_both_and_whose_score_it_is() {
    // Never below 0.6 and never above 0.95.
    let guard = guard("read = 2\nact = 3\nharm = 3");
    let bus = bus(&format!("deadline = \"8s\"\nguards = [{:?}]\n", guard.path().display().to_string())).await;
    let note = health(&bus).await["parts"]["model"]["note"].as_str().unwrap().to_owned();
    assert!(note.contains("minilm-l4@") && note.contains("tiny-guard@"), "{note}");
    assert!(note.contains(" ms for 128 tokens"), "the time of a window is measured: {note}");

    let (acme, _worker) = planner(&bus, "acme").await;
    for (text, by) in [(HARMLESS, "tiny-guard@"), (HARMFUL, "minilm-l4@")] {
        let impact = send(&acme, text).await.impact.unwrap();
        let (asked, highest) = impact.model.split_once(": highest by ").unwrap();
        assert!(asked.starts_with("minilm-l4@") && asked.contains(" + tiny-guard@"), "{asked}");
        assert!(highest.starts_with(by), "{text}: {impact:?}");
        assert!(impact.parts.semantic.unwrap() >= 0.6, "{impact:?}");
    }
    let numbers = get(&bus, "/metrics").await;
    for line in
        ["agentbus_guard_run_seconds_count{guard=\"tiny-guard@", "agentbus_guard_queue{guard=\"tiny-guard@"]
    {
        assert!(numbers.contains(line), "{line} is not in\n{numbers}");
    }
    let (calm, _worker) = planner(&bus, "calm").await;
    passes_unread(&calm, HARMLESS).await;
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_one_of_its_guards_a_node_scores_nothing_and_says_which_is_missing() {
    let bus = bus("guards = [\"/no/guard/here\"]").await;
    let report = health(&bus).await;
    let note = report["parts"]["model"]["note"].as_str().unwrap();
    assert!(note.contains("impact.guards: /no/guard/here/config.json is missing"), "{note}");
    let (acme, _worker) = planner(&bus, "acme").await;
    assert_eq!(unscored(&send(&acme, HARMLESS).await), "no_model");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_model_a_node_says_so_and_passes_only_what_needs_none() {
    let bus = bus("model_dir = \"/nowhere/at/all\"").await;
    let report = health(&bus).await;
    assert_eq!(report["status"], "degraded", "{report}");
    assert_eq!(report["parts"]["model"]["state"], "degraded", "{report}");
    assert!(report["parts"]["model"]["note"].as_str().unwrap().contains("/nowhere/at/all"), "{report}");
    let numbers = get(&bus, "/metrics").await;
    for line in ["agentbus_ready 1", "agentbus_part_healthy{part=\"model\"} 0"] {
        assert!(numbers.contains(line), "{line} is not in\n{numbers}");
    }
    let log = std::fs::read_to_string(bus.stack.nodes()[0].child().log()).unwrap();
    assert!(log.contains("no impact model") && log.contains("impact.model_dir"), "{log}");

    let (acme, _worker) = planner(&bus, "acme").await;
    let refused = send(&acme, HARMLESS).await;
    assert_eq!(refused.reason, Reason::Deliberating, "{refused:?}");
    assert_eq!(unscored(&refused), "no_model");
    assert!(refused.detail.contains("this node has no model that works"), "{}", refused.detail);
    let (calm, _worker) = planner(&bus, "calm").await;
    passes_unread(&calm, HARMLESS).await;
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_fails_on_is_deliberated_and_the_log_names_the_decision() {
    let model = failing();
    let bus =
        bus(&format!("deadline = \"50s\"\nmodel_dir = {:?}\n", model.path().display().to_string())).await;
    assert_eq!(health(&bus).await["parts"]["model"]["state"], "up");
    let (acme, _worker) = planner(&bus, "acme").await;
    let (calm, _other) = planner(&bus, "calm").await;
    for n in 0..5 {
        let refused = send(&acme, &format!("word {n}")).await;
        assert_eq!(refused.reason, Reason::Deliberating, "{refused:?}");
        assert_eq!(unscored(&refused), "failed");
        passes_unread(&calm, &format!("word {n}")).await;
        let log = std::fs::read_to_string(bus.stack.nodes()[0].child().log()).unwrap();
        let mut lines = log.lines();
        let told =
            lines.any(|line| line.contains("the model failed on") && line.contains(&refused.decision_id));
        assert!(told && log.contains("a number that is none"), "{} is not in\n{log}", refused.decision_id);
    }
    let report = health(&bus).await;
    assert_eq!(report["parts"]["model"]["state"], "degraded", "{report}");
    assert!(report["parts"]["model"]["note"].as_str().unwrap().contains("the last text: "), "{report}");
    // Five in a row, and it is left alone for a second.
    let refused = send(&acme, "word 5").await;
    assert_eq!(refused.reason, Reason::Deliberating, "{refused:?}");
    assert_eq!(unscored(&refused), "breaker_open");
    passes_unread(&calm, "word 5").await;
    // One that goes well, and it is well.
    let asked_again = async {
        while send(&acme, "a").await.impact.is_none_or(|impact| impact.parts.semantic.is_none()) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked_again).await.expect("the model is asked again");
    assert_eq!(health(&bus).await["parts"]["model"]["state"], "up");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_too_slow_refuses_what_needs_it_and_nothing_else() {
    let bus = bus("deadline = \"1ms\"").await;
    let (acme, _worker) = planner(&bus, "acme").await;
    let long: String = (0..40).map(|n| format!("Sentence number {n} is about the weather. ")).collect();
    let refused = send(&acme, &long).await;
    assert_eq!(refused.reason, Reason::Unscored, "{refused:?}");
    assert_eq!(unscored(&refused), "timed_out");
    assert!(refused.detail.contains("did not answer within 1ms"), "{}", refused.detail);
    let (calm, _worker) = planner(&bus, "calm").await;
    // A short one: whether a long one needs the model is found out within the deadline too.
    passes_unread(&calm, HARMFUL).await;
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_model_keeps_nobody_waiting_who_does_not_need_it() {
    let bus = bus("deadline = \"50s\"\nqueue = 2").await;
    let ((acme, _worker), (calm, _other)) = (planner(&bus, "acme").await, planner(&bus, "calm").await);
    let flood = (0..24).map(|n| {
        let acme = acme.clone();
        let text: String = (0..12).map(|m| format!("Row {m} of table {n} was read by hand. ")).collect();
        tokio::spawn(async move { send(&acme, &text).await })
    });
    let flood: Vec<_> = flood.collect();
    for n in 0..20 {
        let verdict = send(&calm, &format!("Row {n} is ready.")).await;
        assert_eq!(verdict.reason, Reason::Delivered, "{verdict:?}");
    }
    let mut busy = 0;
    for asked in flood {
        let verdict = asked.await.unwrap();
        assert!(matches!(verdict.reason, Reason::Delivered | Reason::Unscored), "{verdict:?}");
        busy += usize::from(unscored(&verdict) == "busy");
    }
    assert!(busy > 0, "a queue of two held 24 texts");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_can_demand_the_score_of_a_message_that_needs_none() {
    let folder = tempfile::tempdir().unwrap();
    let module = "package agentbus.modules.curious\n\nallow := true\n\nobligations := {\"score\": true}\n";
    std::fs::write(folder.path().join("curious.rego"), module).unwrap();
    let policy = format!("\n[policy]\ndir = {:?}\n", folder.path().display().to_string());
    let bus = bus(&format!("deadline = \"50s\"{policy}")).await;
    let (calm, _worker) = planner(&bus, "calm").await;
    let verdict = send(&calm, HARMLESS).await;
    assert_eq!(verdict.reason, Reason::Delivered, "{verdict:?}");
    assert!(verdict.impact.is_some_and(|impact| impact.parts.semantic.is_some()));
    bus.stop().await;
}
