//! Does a node's copy of the tenants follow what was published?

use std::{sync::Arc, time::Duration};

use agentbus::tenants::{BusUser, Directory, Plan, StoreSettings, provision, reload};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::server::{SOON, Server};

/// Waits until the directory holds exactly these tenants.
async fn holds(directory: &Directory, ids: &[&str]) {
    let seen = || {
        let mut seen: Vec<_> = directory.tenants().keys().map(ToString::to_string).collect();
        seen.sort();
        seen
    };
    let arrives = async {
        while seen() != ids {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(SOON, arrives).await.is_err() {
        panic!("{:?}, not {ids:?}", seen());
    }
}

#[tokio::test]
async fn a_node_waits_for_provisioning_and_then_follows_every_change() {
    let plan = Plan::example().unwrap();
    let server = Server::start(&plan).await;
    let node = server.bus(BusUser::Node).await;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let directory = Directory::watch(&node.client, stop.clone(), &tasks);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!directory.is_ready(), "nothing is provisioned yet");
    assert!(directory.tenant(&"acme".parse().unwrap()).is_none());

    let provisioner = server.bus(BusUser::Provisioner).await;
    let settings = StoreSettings::default();
    provision(&provisioner.client, &plan, &settings).await.unwrap();
    timeout(SOON, directory.ready()).await.unwrap();
    holds(&directory, &["acme", "globex"]).await;
    let acme = directory.tenant(&"acme".parse().unwrap()).unwrap();
    assert_eq!(*acme, plan.tenants()[0]);

    let smaller = Plan::parse("[tenants.acme]\nlimits = { agents = 7 }\n[tenants.initech]").unwrap();
    // The rights to a new tenant's streams come with the accounts.
    smaller.generate(server.dir.path()).unwrap();
    reload(&server.bus(BusUser::Admin).await.client).await.unwrap();
    provision(&provisioner.client, &smaller, &settings).await.unwrap();
    holds(&directory, &["acme", "initech"]).await;
    assert_eq!(directory.tenant(&"acme".parse().unwrap()).unwrap().limits.agents, 7);
    assert!(node.events().is_empty(), "{:?}", node.events());

    stop.cancel();
    tasks.close();
    timeout(SOON, tasks.wait()).await.expect("the task ends with its token");
    assert_eq!(Arc::strong_count(&directory), 1, "nothing else holds the directory");
}

#[tokio::test]
async fn a_published_tenant_that_cannot_be_read_is_unknown() {
    let plan = Plan::example().unwrap();
    let server = Server::started_and_provisioned(&plan).await;
    let node = server.bus(BusUser::Node).await;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let directory = Directory::watch(&node.client, stop.clone(), &tasks);
    holds(&directory, &["acme", "globex"]).await;
    let provisioner = server.bus(BusUser::Provisioner).await;
    let put = |key: &str, value: &str| {
        let (client, subject, value) =
            (provisioner.client.clone(), format!("$KV.agentbus_tenants.{key}"), value.to_owned());
        async move { client.request(subject, value.into()).await.unwrap() }
    };
    put("acme", "{\"id\":\"globex\"}").await;
    holds(&directory, &["globex"]).await;
    put("globex", "not json").await;
    holds(&directory, &[]).await;
    put("NOT-A-TENANT", "{}").await;
    assert!(directory.is_ready());
    provision(&provisioner.client, &plan, &StoreSettings::default()).await.unwrap();
    holds(&directory, &["acme", "globex"]).await;
    stop.cancel();
}

#[tokio::test]
async fn a_node_keeps_its_tenants_while_the_server_is_away_and_sees_what_changed_after() {
    let plan = Plan::example().unwrap();
    let mut server = Server::started_and_provisioned(&plan).await;
    let node = server.bus(BusUser::Node).await;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let directory = Directory::watch(&node.client, stop.clone(), &tasks);
    holds(&directory, &["acme", "globex"]).await;
    server.restart().await;
    holds(&directory, &["acme", "globex"]).await;
    let provisioner = server.bus(BusUser::Provisioner).await;
    let smaller = Plan::parse("[tenants.acme]").unwrap();
    provision(&provisioner.client, &smaller, &StoreSettings::default()).await.unwrap();
    holds(&directory, &["acme"]).await;
    assert!(directory.is_ready());
    stop.cancel();
}
