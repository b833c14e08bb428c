//! What does a node say while a part of it does not work, and once it does again? By its health, its numbers,
//! its log, and its verdicts.

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Reason, Status, Verdict},
    tenants::{BusUser, names},
};
use async_nats::jetstream::{
    self,
    stream::{Config, DiscardPolicy},
};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{logged, numbers, until};
use crate::support::bus::{self, Bus, keywords};

async fn send(planner: &AgentClient, content: Value) -> Verdict {
    let draft = Draft::new(json!({ "agent": "worker" }), content);
    planner.send(draft.encode(Encoding::Json), Patience::default()).await.unwrap()
}

/// Asks until a message is delivered.
async fn delivers(planner: &AgentClient) {
    for _ in 0..1_200 {
        if send(planner, json!({ "text": "are you back?" })).await.status == Status::Delivered {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("nothing is delivered");
}

/// That it serves all the same, with this part degraded for this reason.
async fn is_degraded(http: &str, part: &str, why: &str) {
    let says = |report: &Value| {
        let part = &report["parts"][part];
        part["state"] == "degraded" && part["note"].as_str().is_some_and(|note| note.contains(why))
    };
    let (_, report) = until(http, |status, report| status == 200 && says(report)).await;
    assert_eq!(report["status"], "degraded", "{report}");
    let numbers = numbers(http).await;
    for line in ["agentbus_ready 1", &format!("agentbus_part_healthy{{part=\"{part}\"}} 0")] {
        assert!(numbers.contains(line), "{line} is not in\n{numbers}");
    }
}

async fn is_well(http: &str, part: &str) {
    until(http, |status, report| status == 200 && report["parts"][part]["state"] == "up").await;
    assert!(numbers(http).await.contains(&format!("agentbus_part_healthy{{part=\"{part}\"}} 1")));
}

fn away(records: &Config) -> Config {
    Config { subjects: vec!["elsewhere".to_owned()], ..records.clone() }
}

fn full(records: &Config) -> Config {
    Config { max_bytes: 1, discard: DiscardPolicy::New, ..records.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_jetstream_takes_no_records_nothing_is_delivered_and_with_it_the_node_is_well_by_itself() {
    let bus = Bus::start(1).await;
    let http = bus.stack.nodes()[0].http();
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    delivers(&planner).await;
    let provisioner = jetstream::new(bus.stack.connect(BusUser::Provisioner).await.unwrap());
    let records = provisioner.get_stream(names::RECORDS_STREAM).await.unwrap().cached_info().config.clone();
    for (change, part, why, told) in [
        (away(&records), "records", "takes no records: it does not answer", "there is no stream for records"),
        (full(&records), "outbox", "has not confirmed records", "maximum bytes exceeded"),
    ] {
        provisioner.update_stream(&change).await.unwrap();
        // What is delivered while it is not known yet is delivered: the record went ahead of it.
        let refused = loop {
            let verdict = send(&planner, json!({ "text": "hello" })).await;
            if verdict.status != Status::Delivered {
                break verdict;
            }
            // Within the tenant's rate.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        // The second time its breaker may be open.
        assert!([Reason::AuditUnavailable, Reason::BreakerOpen].contains(&refused.reason), "{refused:?}");
        assert!(refused.retryable, "{refused:?}");
        is_degraded(&http, part, why).await;
        logged(bus.stack.nodes()[0].child().log(), told).await;

        provisioner.update_stream(&records).await.unwrap();
        delivers(&planner).await;
        is_well(&http, part).await;
    }
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_records_that_is_full_is_told_though_nobody_sends_anything() {
    let bus = Bus::start(1).await;
    let http = bus.stack.nodes()[0].http();
    is_well(&http, "records").await;
    let provisioner = jetstream::new(bus.stack.connect(BusUser::Provisioner).await.unwrap());
    let records = provisioner.get_stream(names::RECORDS_STREAM).await.unwrap().cached_info().config.clone();
    let in_number = Config { max_messages: 1, discard: DiscardPolicy::New, ..records.clone() };
    for (change, why) in
        [(full(&records), "maximum bytes exceeded"), (in_number, "maximum messages exceeded")]
    {
        provisioner.update_stream(&change).await.unwrap();
        is_degraded(&http, "records", why).await;
        provisioner.update_stream(&records).await.unwrap();
        is_well(&http, "records").await;
    }
    bus.stop().await;
}

/// What a rule fails on is a message's own fault; that nobody was asked is the node's.
const MODULE: &str = "package agentbus.modules.own
default allow := false
allow if not input.message.content.runaway
allow := \"no\" if input.message.content.two_answers
allow if {
	input.message.content.runaway
	n := numbers.range(1, 1000)
	count([1 | some a in n; some b in n; some c in n; a + b + c > 0]) < 0
}";

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_has_no_time_for_a_question_is_told_and_a_rule_that_fails_is_its_messages_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("own.rego"), MODULE).unwrap();
    let bus = Bus::with(1, |options| {
        let dir = folder.path().display().to_string();
        options.node_overrides = keywords();
        options.node_overrides.extend(toml::toml! {
            policy = { dir = dir }
            cpu = { threads = 1, queue = 2 }
        });
    })
    .await;
    let http = bus.stack.nodes()[0].http();
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    delivers(&planner).await;

    let draft = Draft::new(json!({ "agent": "worker" }), json!({ "two_answers": true }));
    let failed = bus::send(&planner, draft.encode(Encoding::Json)).await;
    assert_eq!(failed.reason, Reason::PolicyFailed, "{failed:?}");
    logged(bus.stack.nodes()[0].child().log(), "no policy decision").await;
    is_well(&http, "policy").await;

    // One thread, and room for one of this tenant's.
    let many = || join_all((0..8).map(|number| send(&planner, json!({ "runaway": true, "number": number }))));
    let unavailable = loop {
        let heard = many().await;
        assert!(heard.iter().all(|verdict| verdict.status != Status::Delivered), "{heard:?}");
        let found = heard.into_iter().find(|verdict| verdict.reason == Reason::PolicyUnavailable);
        if let Some(verdict) = found {
            break verdict;
        }
    };
    assert!(unavailable.retryable, "{unavailable:?}");
    is_degraded(&http, "policy", "the last question: ").await;
    let counted = numbers(&http).await;
    let count = counted.lines().find_map(|line| line.strip_prefix("agentbus_policy_unavailable_total "));
    assert!(count.is_some_and(|count| count != "0"), "{counted}");

    delivers(&planner).await;
    is_well(&http, "policy").await;
    bus.stop().await;
}
