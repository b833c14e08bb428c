//! Does an operator have nodes ask OPA servers, and see which of them answer?

use std::{fs, path::Path, process::Output};

use agentbus::{
    client::Draft,
    domain::{Encoding, Status},
    policy::PolicySources,
};
use serde_json::Value;
use tokio::process::Command;

use crate::support::{
    bus::{self, Bus},
    opa::{self, Opa},
};

const OWN: &str = "package agentbus.modules.own\n\ndefault allow := false\n\n\
                   allow if not input.message.content.denied\n";

fn program(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentbus"));
    command.args(words);
    command
}

fn sources(folder: &Path) -> PolicySources {
    PolicySources::read(Some(folder), true).unwrap()
}

async fn page(bus: &Bus, path: &str) -> String {
    reqwest::get(format!("http://{}{path}", bus.stack.nodes()[0].http())).await.unwrap().text().await.unwrap()
}

async fn part(bus: &Bus) -> (String, String) {
    let ready: Value = serde_json::from_str(&page(bus, "/readyz").await).unwrap();
    let part = &ready["parts"]["opa"];
    (part["state"].as_str().unwrap().to_owned(), part["note"].as_str().unwrap().to_owned())
}

/// One server answers, one never was there. Then neither does, and Rego in process decides.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_asks_opa_servers_and_says_which_of_them_answer() {
    let Some(opa) = opa::program() else { return };
    let (folder, made) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(folder.path().join("own.rego"), OWN).unwrap();
    let (dir, bundle) = (folder.path().to_str().unwrap(), made.path().join("opa.tar.gz"));
    let build = ["policy", "build", dir, "--revision", "v1", "--for", "opa", "--output"];
    let Output { status, stdout, .. } = program(&build).arg(&bundle).output().await.unwrap();
    let revision = sources(folder.path()).revision();
    assert!(status.success() && String::from_utf8_lossy(&stdout).contains(&*revision));
    let mut server = Opa::with_bundle(&opa, &bundle).await;
    let (url, nowhere) = (server.url(), "http://127.0.0.1:9");

    let policy = format!(
        "[policy]\ndir = {dir:?}\nmode = \"opa_or_rego\"\n[policy.opa]\nservers = \"{url}, {nowhere}\"\ntimeout = \"600ms\""
    );
    let bus =
        Bus::with(1, |options| options.node_overrides.extend(policy.parse::<toml::Table>().unwrap())).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    let send = async |draft: Draft| bus::send(&planner, draft.encode(Encoding::Json)).await;

    while part(&bus).await.0 != "degraded" {}
    let note = part(&bus).await.1;
    let address = url.strip_prefix("http://").unwrap();
    assert!(
        note.starts_with(&format!("{address} answer; 127.0.0.1:9 is not asked: not reachable")),
        "{note}"
    );
    let verdict = send(Draft::to_agent("worker", "the report is ready")).await;
    assert_eq!((verdict.status, verdict.policy_revision.as_deref()), (Status::Delivered, Some(&*revision)));
    let numbers = page(&bus, "/metrics").await;
    for line in [
        "agentbus_policy_decisions_total{source=\"opa\"} 1".to_owned(),
        "agentbus_policy_decisions_total{source=\"rego\"} 0".to_owned(),
        format!("agentbus_opa_requests_total{{server=\"{address}\",outcome=\"answered\"}} 1"),
        format!("agentbus_opa_up{{server=\"{address}\"}} 1"),
        "agentbus_opa_up{server=\"127.0.0.1:9\"} 0".to_owned(),
    ] {
        assert!(numbers.contains(&line), "{line} is not in\n{numbers}");
    }

    let config = bus.stack.dir().join("nodes/node-1.toml");
    let check = ["config", "check", "--connect", "--config", config.to_str().unwrap()];
    let Output { status, stdout, .. } = program(&check).output().await.unwrap();
    let told = String::from_utf8(stdout).unwrap();
    assert!(!status.success(), "{told}");
    assert!(told.contains(&format!("ok      opa: {address} answers by policy {revision}")), "{told}");
    assert!(told.contains("FAILED  opa: policy.opa.servers: 127.0.0.1:9: not reachable"), "{told}");
    let mut doctor = program(&["doctor", "--as", "acme/worker", "--server", &bus.stack.nats_url(), "--dir"]);
    let told = doctor.arg(bus.stack.dir()).env("COLUMNS", "400").output().await.unwrap().stdout;
    let told = String::from_utf8_lossy(&told);
    let answers = format!("✓  OPA: {} answers node-1", url.trim_start_matches("http://"));
    assert!(
        told.contains(&answers) && told.contains("✗  OPA: 127.0.0.1:9 is not asked by node-1:"),
        "{told}"
    );

    server.kill();
    let verdict = send(Draft::to_agent("worker", "another report is ready")).await;
    assert_eq!(verdict.status, Status::Delivered, "{verdict:?}");
    while !part(&bus).await.1.starts_with("Rego in process answers alone; ") {}
    let numbers = page(&bus, "/metrics").await;
    assert!(numbers.contains("agentbus_policy_instead_of_opa_total 1"), "{numbers}");
    bus.stop().await;
}
