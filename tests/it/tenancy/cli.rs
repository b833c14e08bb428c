//! Does `agentbus tenants` do what its help says?

use std::{fs, process::ExitCode};

use agentbus::{
    servers::{self, Tool},
    tenants::{Plan, names},
};
use agentbus_cli::tenants::{TenantsArgs, run};
use clap::Parser;

use super::server::Server;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    tenants: TenantsArgs,
}

pub(super) async fn tenants(line: &[&str]) -> anyhow::Result<ExitCode> {
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

    let apply = ["apply", "--dir", dir, "--server", &server.url];
    for line in [&["check", "--dir", dir][..], &["list", "--dir", dir], &apply, &apply] {
        assert_eq!(tenants(line).await.unwrap(), ExitCode::SUCCESS, "{line:?}");
    }
    server.agent("initech/clerk").await.settle().await;

    fs::write(names::server_conf(server.dir.path()), "broken {").unwrap();
    let refused = tenants(&apply).await.unwrap_err();
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

#[tokio::test]
async fn how_often_a_server_syncs_is_written_once_and_a_server_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("t.toml"), folder.path().join("out"));
    fs::write(&file, Plan::EXAMPLE).unwrap();
    let line = ["generate", "--file", file.to_str().unwrap(), "--out", out.to_str().unwrap()];
    tenants(&[&line[..], &["--sync", "always"]].concat()).await.unwrap();
    let conf = names::server_conf(&out);
    assert!(fs::read_to_string(&conf).unwrap().contains("sync_interval: \"always\""));
    let program = servers::find(Tool::NatsServer).unwrap();
    let checked = std::process::Command::new(program).arg("-t").arg("-c").arg(&conf).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));

    tenants(&[&line[..], &["--sync", "always"]].concat()).await.unwrap();
    let other = tenants(&[&line[..], &["--sync", "2m"]].concat()).await.unwrap_err().to_string();
    assert!(other.contains("says sync_interval \"always\": write \"2m\" there"), "{other}");
    assert!(tenants(&[&line[..], &["--sync", "1m"]].concat()).await.is_err());
}
