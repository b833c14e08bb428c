//! Does an operator see what a candidate would change, while it judges beside, and that it changes nothing?

use std::{fs, time::Duration};

use agentbus::{
    client::{AgentClient, Draft},
    domain::{Encoding, Reason, Status, Timestamp},
    nats::ShadowBucket,
    policy::{ShadowOffer, ShadowPlan},
    skew::wall_clock,
    tenants::BusUser,
};
use serde_json::Value;

use super::{ALLOWS, page, policy, said};
use crate::support::bus::{self, Bus};

/// Denies what is for one recipient.
const CANDIDATE: &str = r#"package agentbus.modules.own

default allow := false

allow if input.recipient.id != "scribe"

reasons contains "it is on leave" if input.recipient.id == "scribe"
"#;

async fn sent(sender: &AgentClient, to: &str) -> Reason {
    bus::send(sender, Draft::to_agent(to, "the report").encode(Encoding::Json)).await.reason
}

/// Asks until all nodes have counted so many decisions together.
async fn diff(bus: &Bus, decisions: u64, words: &[&str]) -> (i32, Value) {
    let words = [&["policy", "diff", "--json"], words].concat();
    for _ in 0..200 {
        let (code, text) = said(bus, &words).await;
        let told: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
        if told["all"]["decisions"].as_u64() >= Some(decisions) {
            return (code, told);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{decisions} decisions were never compared");
}

fn shadows<'a>(answers: &'a [Value], field: &str) -> Vec<&'a Value> {
    answers.iter().map(|answer| &answer["shadow"][field]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_judges_beside_on_all_nodes_until_it_is_pushed_or_stopped_or_its_time_is_over() {
    let (folder, candidate) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [own, other] = [&folder, &candidate].map(|it| it.path().to_str().unwrap().to_owned());
    fs::write(folder.path().join("own.rego"), ALLOWS).unwrap();
    fs::write(candidate.path().join("own.rego"), CANDIDATE).unwrap();
    let mut bus = Bus::with(0, |options| {
        let policy = "[policy.bundle]\nfrom = \"bus\"\n";
        options.node_overrides.extend(policy.parse::<toml::Table>().unwrap());
    })
    .await;
    assert_eq!(said(&bus, &["policy", "push", &own, "--revision", "v1"]).await.0, 0);
    for _ in 0..2 {
        bus.stack.add_node().await.unwrap();
    }
    let planner = bus.agent("acme", "planner").await;
    let _listening = bus.listening(&["worker", "scribe"]).await;
    let (code, text) = said(&bus, &["policy", "diff"]).await;
    assert!(code == 1 && text.contains("no candidate judges; `agentbus policy shadow`"), "{code} {text}");

    let (code, text) = said(&bus, &["policy", "shadow", &other, "--for", "1h"]).await;
    assert!(code == 0 && text.contains("judges beside on 2 of 2 nodes: 100 % of the messages"), "{text}");
    for number in 0..20 {
        let to = if number % 4 == 0 { "scribe" } else { "worker" };
        assert_eq!(sent(&planner, to).await, Reason::Delivered);
    }
    let (code, told) = diff(&bus, 20, &["--fail-above", "0.2"]).await;
    assert_eq!((code, &told["by_rule"]["own"]["newly_denied"]), (1, &told["all"]["newly_denied"]), "{told}");
    assert!(told["all"]["newly_denied"].as_u64() >= Some(5), "{told}");
    assert_eq!(told["examples"][0]["after"], "denied: own: it is on leave");
    assert_eq!(told["examples"].as_array().unwrap().len(), 5);
    assert_eq!(diff(&bus, 20, &["--fail-above", "0.9", "--examples", "1"]).await.0, 0);
    let (code, text) = said(&bus, &["policy", "diff"]).await;
    assert!(code == 0 && text.contains("newly denied") && text.contains("100 % of the messages"), "{text}");

    let (code, answers) = policy(&bus, "status").await;
    assert_eq!((code, shadows(&answers, "state")), (0, vec![&"judging".into(); 2]), "{answers:?}");
    let ready: Value = serde_json::from_str(&page(&bus, 0, "/readyz").await).unwrap();
    assert_eq!(
        (&ready["status"], &ready["parts"]["shadow"]["state"]),
        (&"ready".into(), &"up".into()),
        "{ready}"
    );
    assert!(page(&bus, 1, "/metrics").await.contains("agentbus_policy_shadow_judging 1"));
    let changed = bus.counted(r#"agentbus_policy_shadow_total{outcome="changed"}"#).await;
    assert_eq!(told["all"]["newly_denied"], changed);
    // A node that begins later has it too.
    bus.stack.add_node().await.unwrap();
    let (_, answers) = policy(&bus, "status").await;
    assert_eq!(shadows(&answers, "state"), vec![&Value::from("judging"); 3], "{answers:?}");

    // It comes into force, and is tried no more.
    let (code, text) = said(&bus, &["policy", "push", &other, "--revision", "v2"]).await;
    assert!(code == 0 && text.contains("in force on 3 nodes"), "{text}");
    assert_eq!(sent(&planner, "scribe").await, Reason::PolicyDenied);
    let (_, answers) = policy(&bus, "status").await;
    assert_eq!(shadows(&answers, "state"), vec![&Value::from("in_force"); 3], "{answers:?}");
    assert!(said(&bus, &["policy", "rollback"]).await.1.contains("pushed v1"));
    assert_eq!(said(&bus, &["policy", "shadow", "--stop"]).await, (0, "no candidate judges\n".to_owned()));
    assert_eq!(sent(&planner, "scribe").await, Reason::Delivered);

    // Its time is over, by itself.
    let (code, text) = said(&bus, &["policy", "shadow", &other, "--share", "0.5", "--for", "1s"]).await;
    assert!(code == 0 && text.contains("50 % of the messages"), "{text}");
    for _ in 0..200 {
        let (_, answers) = policy(&bus, "status").await;
        if shadows(&answers, "state") == vec![&Value::from("over"); 3] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (_, answers) = policy(&bus, "status").await;
    assert_eq!(shadows(&answers, "state"), vec![&Value::from("over"); 3]);

    // What no node can load, each of them says, and messages fare as before.
    let operator = bus.stack.connect(BusUser::Operator).await.unwrap();
    let bucket = ShadowBucket::new(operator);
    let sequence = bucket.last().await.unwrap().unwrap().plan.sequence;
    let plan = ShadowPlan { sequence, share: 1.0, until: Timestamp(wall_clock().0 + 60_000) };
    bucket.put(ShadowOffer { plan, packed: "no bundle".into() }).await.unwrap();
    let (mut code, mut text) = (0, String::new());
    for _ in 0..100 {
        (code, text) = said(&bus, &["policy", "diff"]).await;
        if text.matches("refused: the bundle: it is no tar.gz").count() == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(code == 1 && text.matches("refused: the bundle: it is no tar.gz").count() == 3, "{text}");
    let verdict = bus::send(&planner, Draft::to_agent("scribe", "the report").encode(Encoding::Json)).await;
    assert_eq!(verdict.status, Status::Delivered);
    let (code, text) = said(&bus, &["policy", "shadow", "--stop"]).await;
    assert!(code == 0 && text.contains("no candidate judges any more on 3 nodes"), "{code} {text}");
    bus.stop().await;
}
