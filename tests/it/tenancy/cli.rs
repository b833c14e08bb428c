//! Does `agentbus tenants` do what its help says?

use std::{fs, process::ExitCode};

use agentbus::{
    cli::tenants::{TenantsArgs, run},
    tenants::{Plan, names},
};
use clap::Parser;

use super::server::Server;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    tenants: TenantsArgs,
}

async fn tenants(line: &[&str]) -> anyhow::Result<ExitCode> {
    run(Cli::try_parse_from([&["tenants"], line].concat())?.tenants).await
}

#[tokio::test]
async fn apply_brings_a_new_tenant_to_a_running_server() {
    let server = Server::started_and_provisioned(&Plan::example().unwrap()).await;
    let dir = server.dir.path().to_str().unwrap();
    let missing = tenants(&["apply", "--dir", dir]).await.unwrap_err();
    assert!(missing.to_string().contains("agentbus tenants example"), "{missing}");

    let text = format!("{}\n[tenants.initech.agents]\nclerk = {{}}\n", Plan::EXAMPLE);
    fs::write(server.dir.path().join("tenants.toml"), text).unwrap();
    let unknown = tenants(&["apply", "--dir", dir]).await.unwrap_err();
    assert!(unknown.to_string().contains("--server"), "{unknown}");
    assert!(!server.dir.path().join("keys/initech").exists(), "nothing changes without a server to tell");

    fs::write(server.dir.path().join("up.json"), format!("{{\"nats_url\":\"{}\"}}", server.url)).unwrap();
    for command in ["check", "list", "apply", "apply"] {
        assert_eq!(tenants(&[command, "--dir", dir]).await.unwrap(), ExitCode::SUCCESS, "{command}");
    }
    server.agent("initech/clerk").await.settle().await;

    fs::write(names::server_conf(server.dir.path()), "broken {").unwrap();
    let refused = tenants(&["apply", "--dir", dir]).await.unwrap_err();
    assert!(refused.to_string().contains("were not published"), "{refused}");
}

#[tokio::test]
async fn generate_writes_a_configuration_once_and_leaves_it_to_the_operator() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (dir.path().join("t.toml"), dir.path().join("out"));
    fs::write(&file, Plan::EXAMPLE).unwrap();
    let line = ["generate", "--file", file.to_str().unwrap(), "--out", out.to_str().unwrap()];
    tenants(&line).await.unwrap();
    fs::write(names::server_conf(&out), "mine").unwrap();
    tenants(&line).await.unwrap();
    assert_eq!(fs::read(names::server_conf(&out)).unwrap(), b"mine");
    assert!(tenants(&["generate", "--wrong"]).await.is_err());
}
