//! What goes beyond one cluster? Gateways carry what somebody on the other side listens to; leaf nodes are refused.

use std::{fs, path::Path, time::Duration};

use agentbus::{
    domain::Verb,
    servers::{NatsOptions, NatsServer, ports},
    tenants::{BusUser, Plan, Seed, ServerConf, User, connect::options, names, render_server_conf},
};
use async_nats::Client;
use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, timeout};

const SOON: Duration = Duration::from_secs(60);

fn agent(name: &str) -> User {
    let (tenant, agent) = name.split_once('/').unwrap();
    User::Agent(tenant.parse().unwrap(), agent.parse().unwrap())
}

async fn login(server: &NatsServer, dir: &Path, user: &User) -> Client {
    let seed = Seed::read(&user.seed_path(dir)).unwrap();
    options(user, &seed).connect(server.url()).await.unwrap()
}

/// A server of these accounts, with more in its configuration.
async fn server(dir: &Path, name: &str, more: &str) -> NatsServer {
    let folder = dir.join(name);
    fs::create_dir_all(&folder).unwrap();
    let local = ServerConf::local(None, folder.join("jetstream"));
    let conf = ServerConf { server_name: name.to_owned(), accounts: "../nats/accounts.conf".into(), ..local };
    let config = folder.join("server.conf");
    fs::write(&config, format!("{}\n{more}\n", render_server_conf(&conf))).unwrap();
    NatsServer::start(NatsOptions { name: name.to_owned(), config, folder, port: 0 }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_gateway_an_agent_reaches_the_nodes_of_the_other_cluster_and_no_other_tenant() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    Plan::example().unwrap().generate(dir).unwrap();
    let [east, west] = [ports::free().unwrap(), ports::free().unwrap()];
    let both = format!(
        "{{ name: east, urls: [\"nats://127.0.0.1:{east}\"] }}, {{ name: west, urls: [\"nats://127.0.0.1:{west}\"] }}"
    );
    let gateway = |name: &str, port: u16| {
        let route = ports::free().unwrap();
        // A cluster of one: JetStream wants to know where the others would be.
        let cluster = format!(
            "{{ name: {name}, listen: \"127.0.0.1:{route}\", routes: [\"nats://127.0.0.1:{route}\"] }}"
        );
        format!(
            "cluster {cluster}\ngateway {{ name: {name}, listen: \"127.0.0.1:{port}\", gateways: [{both}] }}"
        )
    };
    let east = server(dir, "nats-east", &gateway("east", east)).await;
    let west = server(dir, "nats-west", &gateway("west", west)).await;

    let node = login(&east, dir, &BusUser::Node.into()).await;
    let requests = names::requests_of_all_tenants(Verb::Send);
    let mut requests = node.queue_subscribe(requests, names::NODES_QUEUE.to_owned()).await.unwrap();
    let (planner, stranger) =
        (login(&west, dir, &agent("acme/planner")).await, login(&west, dir, &agent("globex/planner")).await);
    let mut inbox = planner.subscribe("agent.planner.inbox").await.unwrap();
    let mut foreign = stranger.subscribe("agent.planner.inbox").await.unwrap();
    stranger.flush().await.unwrap();
    let started = Instant::now();
    // The gateways find each other a moment after the servers take clients.
    let answer = loop {
        let asked = planner.request("bus.planner.send", "hello".into());
        let answering = async {
            let request = requests.next().await.unwrap();
            assert_eq!(request.subject.as_str(), "tenant.acme.bus.planner.send");
            node.publish(request.reply.unwrap(), "verdict".into()).await.unwrap();
        };
        let (answer, _) = tokio::join!(asked, timeout(Duration::from_secs(1), answering));
        if let Ok(answer) = answer {
            break answer;
        }
        assert!(started.elapsed() < SOON, "{answer:?}");
        sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(&answer.payload[..], b"verdict");
    let delivery = loop {
        node.publish("tenant.acme.agent.planner.inbox", "delivery".into()).await.unwrap();
        if let Ok(delivery) = timeout(Duration::from_millis(500), inbox.next()).await {
            break delivery.unwrap();
        }
        assert!(started.elapsed() < SOON, "nothing is delivered");
    };
    assert_eq!(&delivery.payload[..], b"delivery");
    assert!(timeout(Duration::from_millis(300), foreign.next()).await.is_err(), "it reached another tenant");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_node_with_an_agents_key_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    Plan::example().unwrap().generate(dir).unwrap();
    let port = ports::free().unwrap();
    let mut hub = server(dir, "nats-hub", &format!("leafnodes {{ listen: \"127.0.0.1:{port}\" }}")).await;
    let (folder, config) = (dir.join("leaf"), dir.join("leaf.conf"));
    fs::create_dir(&folder).unwrap();
    let seed = Seed::read(&agent("acme/planner").seed_path(dir)).unwrap();
    let remote = format!("{{ url: \"nats-leaf://127.0.0.1:{port}\", nkey: \"{}\" }}", seed.reveal().trim());
    fs::write(&config, format!("leafnodes {{ reconnect: \"1s\", remotes: [{remote}] }}\n")).unwrap();
    let leaf =
        NatsServer::start(NatsOptions { name: "leaf".to_owned(), config, folder, port: 0 }).await.unwrap();
    let started = Instant::now();
    while !leaf.child().tail().contains("maximum account active connections exceeded") {
        assert!(started.elapsed() < SOON, "hub: {}\nleaf: {}", hub.child().tail(), leaf.child().tail());
        sleep(Duration::from_millis(50)).await;
    }
    hub.stop().await;
}
