//! Does what is set to wait for a person wait for one, and does it work again then?

use std::time::Duration;

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Reason, Status, Verdict},
    tenants::{BusUser, names},
};
use async_nats::jetstream;
use tokio::process::Command;

use crate::support::bus::Bus;

async fn command(bus: &Bus, words: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentbus"));
    command.args(words).arg("--dir").arg(bus.stack.dir());
    let output =
        command.args(["--server", &bus.stack.nats_url()]).env("COLUMNS", "80").output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text)
}

async fn say(planner: &AgentClient) -> Verdict {
    let draft = Draft::to_agent("worker", "hello");
    planner.send(draft.encode(Encoding::Json), Patience::default()).await.unwrap()
}

/// Within the tenant's rate.
async fn until(planner: &AgentClient, wished: impl Fn(&Verdict) -> bool) -> Verdict {
    let said = async {
        loop {
            let verdict = say(planner).await;
            if wished(&verdict) {
                return verdict;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), said).await.expect("it does not come to that")
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_fail_are_left_alone_by_a_breaker_that_a_person_releases() {
    let bus = Bus::with(1, |options| {
        let breakers = "[breakers]\nrecords = { failures = 3, open_for = '15s', recovery = 'manual' }";
        options.node_overrides.extend(breakers.parse::<toml::Table>().unwrap());
    })
    .await;
    let listening = bus.listening(&["worker"]).await;
    let planner = bus.agent("acme", "planner").await;
    let provisioner = jetstream::new(bus.stack.connect(BusUser::Provisioner).await.unwrap());
    let records = provisioner.get_stream(names::RECORDS_STREAM).await.unwrap().cached_info().config.clone();
    let away = jetstream::stream::Config { subjects: vec!["nowhere".to_owned()], ..records.clone() };
    provisioner.update_stream(&away).await.unwrap();
    let open = until(&planner, |verdict| verdict.reason == Reason::BreakerOpen).await;
    assert!(open.retryable && open.retry_after.is_some(), "{open:?}");
    let (_, text) = command(&bus, &["status"]).await;
    assert!(text.contains("waits for `agentbus recover records`"), "{text}");

    provisioner.update_stream(&records).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let still = say(&planner).await;
    assert_eq!(still.reason, Reason::BreakerOpen, "{still:?}");
    let (code, text) = command(&bus, &["recover", "records"]).await;
    assert!(code == 0 && text.contains("1 breaker let the next call through"), "{code} {text}");
    assert!(text.contains("begun anew: outbox"), "{text}");
    until(&planner, |verdict| verdict.status == Status::Delivered).await;
    let (code, text) = command(&bus, &["recover", "records", "--json"]).await;
    assert!(code == 0 && text.contains("\"released\":0"), "{code} {text}");
    assert_eq!(command(&bus, &["recover", "weather"]).await.0, 2);

    // What the node did about it is on record, of no tenant and without anybody's words.
    let on_record = async {
        loop {
            let (code, text) = command(&bus, &["records", "--tenant", "bus"]).await;
            assert_eq!(code, 0, "{text}");
            let records: Vec<serde_json::Value> =
                text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let steps = records.iter().flat_map(|record| record["steps"].as_array().unwrap());
            let has =
                |what: &str, of: &str| steps.clone().any(|step| step["what"] == what && step["of"] == of);
            if has("recover", "records") && has("breaker_closed", "records") && has("part_renewed", "outbox")
            {
                return records;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let records = tokio::time::timeout(Duration::from_secs(60), on_record).await.expect("on record");
    assert!(
        records.iter().all(|record| record["kind"] == "recovery" && record["over_ms"].is_u64()),
        "{records:?}"
    );
    assert!(records.len() <= 8, "sums, and no flood: {}", records.len());
    drop(listening);
    bus.stop().await;
}
