//! Is what `docs/runbooks.md` says of backup and restore true? By its own words, with real servers.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use agentbus::{
    client::{AgentClient, Draft},
    domain::{Encoding, Reason},
    servers::RedisData,
    tenants::{BusUser, Plan},
};
use async_nats::jetstream;
use futures_util::StreamExt as _;

use crate::{
    support::{
        bus::{Bus, send},
        root,
    },
    surfaces::clients::{AGENTBUS, text},
};

/// The command of the page, with its folder.
fn backup_command(folder: &Path) -> String {
    let page = fs::read_to_string(root().join("docs/runbooks.md")).unwrap();
    let lines = page.split("\n    tar -C .agentbus ").nth(1).unwrap().split("\n\n").next().unwrap();
    format!("tar -C {} {}", folder.display(), lines.replace("\\\n", " "))
}

fn shell(command: &str, folder: &Path) {
    let output = Command::new("sh").args(["-c", command]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{command}: {}", text(&output.stderr));
}

async fn inbox(worker: &AgentClient, count: usize) -> Vec<String> {
    let inbox = worker.durable_inbox(&"acme".parse().unwrap()).unwrap();
    let messages = inbox.messages().await.unwrap().take(count);
    let ids = messages.map(|message| {
        message.unwrap().headers.clone().unwrap().get("Agentbus-Message-Id").unwrap().to_string()
    });
    ids.collect().await
}

async fn count(bus: &Bus, stream: &str) -> u64 {
    let context = jetstream::new(bus.stack.connect(BusUser::Operator).await.unwrap());
    context.get_stream(stream).await.unwrap().cached_info().state.messages
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_was_restored_from_its_backup_knows_what_it_knew() {
    let place = tempfile::tempdir().unwrap();
    let (first, restored) = (place.path().join("first"), place.path().join("restored"));
    let bus = Bus::with(1, |options| {
        options.redis_data = RedisData::OnDisk;
        options.dir = first.clone();
    })
    .await;
    fs::write(first.join("tenants.toml"), Plan::EXAMPLE).unwrap();
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let live = worker.inbox().await.unwrap();
    let told = Draft::to_agent("worker", "told before").encode(Encoding::Json);
    let verdict = send(&planner, told.clone()).await;
    assert_eq!(verdict.reason, Reason::Delivered, "{verdict:?}");
    let mut submitted = Vec::new();
    for number in 0..5 {
        let draft = Draft::to_agent("worker", &format!("kept {number}"));
        assert_eq!(
            planner.submit(draft.encode(Encoding::Json), Default::default()).await.unwrap().reason,
            Reason::Stored
        );
        submitted.push(draft.message_id.clone());
    }
    let started = Instant::now();
    while count(&bus, "OUT_acme").await < 5 {
        assert!(started.elapsed() < Duration::from_secs(60), "what was submitted is not governed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let known = count(&bus, "RECORDS").await;
    drop((planner, worker, live));
    bus.stop().await;
    shell(&backup_command(&first), place.path());

    fs::create_dir(&restored).unwrap();
    shell("chmod 700 restored && tar -C restored -xzf backup.tar.gz", place.path());
    let bus = Bus::with(1, |options| {
        options.redis_data = RedisData::OnDisk;
        options.dir = restored.clone();
    })
    .await;
    let mut dry = Command::new(AGENTBUS);
    dry.args(["tenants", "apply", "--dry-run", "--server", &bus.stack.nats_url(), "--dir"]).arg(&restored);
    let output = dry.output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    let again = send(&planner, told).await;
    assert_eq!(
        (again.reason, again.decision_id),
        (verdict.reason, verdict.decision_id),
        "a repeat is known as one"
    );
    let mut came = inbox(&worker, 5).await;
    came.sort();
    submitted.sort();
    assert_eq!(came, submitted);
    assert!(count(&bus, "RECORDS").await >= known, "records are missing");
    bus.stop().await;
}
