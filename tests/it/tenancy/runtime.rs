//! What happens when tenants come and go while everybody is connected?

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use agentbus::tenants::{BusUser, Plan, names, reload};
use futures_util::StreamExt;

use super::server::{Server, expect};

const MORE: &str = "[tenants.initech]\nagents = { clerk = { roles = [\"executive\"] } }\n";

#[tokio::test]
async fn a_tenant_is_added_and_removed_while_the_others_stay_connected() {
    let plan = Plan::example().unwrap();
    let server = Server::started_and_provisioned(&plan).await;
    let admin = server.bus(BusUser::Admin).await;
    let node = server.bus(BusUser::Node).await;
    let planner = server.agent("acme/planner").await;
    let worker = server.agent("acme/worker").await;
    let mut requests =
        node.queue(&names::requests_of_all_tenants(agentbus::domain::Verb::Send), names::NODES_QUEUE).await;
    let mut inbox = worker.subscribe("agent.worker.>").await;
    node.settle().await;
    worker.settle().await;

    let larger = Plan::parse(&format!("{}\n{MORE}", Plan::EXAMPLE)).unwrap();
    assert!(larger.generate(server.dir.path()).unwrap().changed);
    let servers = reload(&admin.client).await.unwrap();
    assert_eq!(servers.len(), 1);
    assert_eq!(servers[0].outcome, Ok(()));

    let clerk = server.agent("initech/clerk").await;
    for (login, agent, tenant) in [(&clerk, "clerk", "initech"), (&planner, "planner", "acme")] {
        login.publish(&format!("bus.{agent}.send"), None, "hello").await;
        let request = expect(&mut requests).await;
        assert_eq!(request.subject.as_str(), format!("tenant.{tenant}.bus.{agent}.send"));
    }
    node.publish("tenant.acme.agent.worker.inbox", None, "hello").await;
    expect(&mut inbox).await;
    let mut new_inbox = clerk.subscribe("agent.clerk.>").await;
    clerk.settle().await;
    node.publish("tenant.initech.agent.clerk.inbox", None, "hello").await;
    expect(&mut new_inbox).await;

    // Gone again: the tenant's connection ends, its key opens nothing.
    plan.generate(server.dir.path()).unwrap();
    assert_eq!(reload(&admin.client).await.unwrap()[0].outcome, Ok(()));
    assert!(clerk.told(&["disconnected"]).await, "{:?}", clerk.events());
    planner.publish("bus.planner.send", None, "hello").await;
    assert_eq!(expect(&mut requests).await.subject.as_str(), "tenant.acme.bus.planner.send");
    for (who, login) in [("node", &node), ("planner", &planner), ("worker", &worker)] {
        assert!(login.events().is_empty(), "{who}: {:?}", login.events());
    }
}

#[tokio::test]
async fn a_configuration_that_is_refused_leaves_the_server_as_it_was() {
    let plan = Plan::example().unwrap();
    let server = Server::start(&plan).await;
    let admin = server.bus(BusUser::Admin).await;
    std::fs::write(names::accounts_conf(server.dir.path()), "accounts { broken").unwrap();
    let servers = reload(&admin.client).await.unwrap();
    assert!(servers[0].outcome.is_err(), "{servers:?}");
    server.agent("acme/planner").await;
    let nobody = server.agent("acme/planner").await;
    assert!(reload(&nobody.client).await.is_err(), "only the administrator can ask");
}

/// Whether one try of a message is answered.
async fn answered(planner: &async_nats::Client) -> bool {
    let ask = planner.request("bus.planner.send", "hello".into());
    matches!(tokio::time::timeout(Duration::from_secs(2), ask).await, Ok(Ok(_)))
}

/// Requests all the while, and counts what a reload costs.
#[tokio::test]
async fn requests_in_flight_during_a_reload_are_answered_or_a_later_try_succeeds() {
    let plan = Plan::example().unwrap();
    let server = Server::start(&plan).await;
    let admin = server.bus(BusUser::Admin).await;
    let node = server.bus(BusUser::Node).await;
    let mut requests =
        node.queue(&names::requests_of_all_tenants(agentbus::domain::Verb::Send), names::NODES_QUEUE).await;
    node.settle().await;
    let client = node.client.clone();
    let answering = tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let (Some(reply), client) = (request.reply, client.clone()) else { continue };
            // Late enough that many requests are in the node's hands when the reload comes; as many
            // at a time as there are askers.
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                client.publish(reply, "verdict".into()).await.unwrap();
            });
        }
    });

    const RELOADS: u32 = 10;
    const ASKERS: u32 = 64;
    static SENT: AtomicU32 = AtomicU32::new(0);
    static LOST: AtomicU32 = AtomicU32::new(0);
    let stop = tokio_util::sync::CancellationToken::new();
    let mut askers = Vec::new();
    let planners: Vec<_> = [server.agent("acme/planner").await, server.agent("acme/planner").await]
        .into_iter()
        .map(std::sync::Arc::new)
        .collect();
    for i in 0..ASKERS {
        let (planner, stop) = (planners[i as usize % 2].clone(), stop.clone());
        askers.push(tokio::spawn(async move {
            while !stop.is_cancelled() {
                SENT.fetch_add(1, Ordering::Relaxed);
                let mut tries = 0;
                while !answered(&planner.client).await {
                    tries += 1;
                    assert!(tries < 10, "a reload is over after a moment");
                    LOST.fetch_add(1, Ordering::Relaxed);
                    // As any client does: no two tries within the same instant.
                    tokio::time::sleep(Duration::from_millis(20 * tries)).await;
                }
            }
        }));
    }
    for i in 0..RELOADS {
        let text = format!("{}\n{}", Plan::EXAMPLE, if i % 2 == 0 { MORE } else { "" });
        Plan::parse(&text).unwrap().generate(server.dir.path()).unwrap();
        assert_eq!(reload(&admin.client).await.unwrap()[0].outcome, Ok(()));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop.cancel();
    for asker in askers {
        asker.await.unwrap();
    }
    for planner in planners {
        assert!(planner.events().is_empty(), "connections survive: {:?}", planner.events());
    }
    answering.abort();
    let (sent, lost) = (SENT.load(Ordering::Relaxed), LOST.load(Ordering::Relaxed));
    #[allow(clippy::print_stderr, reason = "a figure for whoever runs it with --nocapture")]
    {
        eprintln!("{RELOADS} reloads: {lost} of {sent} requests unanswered");
    }
    assert!(sent > 100, "{sent}");
    // At most what was in flight at the two instants of each.
    assert!(lost <= 2 * RELOADS * ASKERS, "{lost} of {sent}");
}
