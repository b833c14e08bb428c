//! Redis behind Sentinels, Redis as a cluster, and Valkey in place of Redis: do nodes go on when a server of each is killed?

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use agentbus::state::{
    CacheLimits, CachedRegistry, Claim, Clock, Idempotency as _, Lifetimes, MessageKey, Registry as _,
};
use tokio::time::sleep;

use super::{
    DIGEST, LIFETIMES, Node, SOON, Server, agent, contract, eventually, record,
    server::{NODE, OPERATOR, Setup},
    tenant,
};
use crate::{
    support::{root, servers},
    surfaces::clients::text,
};

/// One after another without end, for this tenant: how many were the caller's, and how long none was at most.
struct Load {
    node: Arc<Node>,
    tenant: &'static str,
    claimed: usize,
    gap: Duration,
}

impl Load {
    fn of(node: &Arc<Node>, tenant: &'static str) -> Self {
        Self { node: Arc::clone(node), tenant, claimed: 0, gap: Duration::ZERO }
    }

    fn key(&self, number: usize) -> MessageKey {
        let message = format!("{}-{number}", self.tenant).parse().unwrap();
        MessageKey { tenant: tenant(self.tenant), sender: agent("planner"), message }
    }

    /// So many more.
    async fn goes_on(&mut self, count: usize) {
        for _ in 0..count {
            let started = Instant::now();
            let key = self.key(self.claimed);
            // What was heard and not answered may be claimed already.
            while !matches!(
                self.node.store.claim(&key, &DIGEST, None).await,
                Ok(Claim::Mine { .. } | Claim::TakenOver { .. } | Claim::Pending { .. })
            ) {
                assert!(started.elapsed() < SOON, "{} cannot claim any more", self.tenant);
                sleep(Duration::from_millis(5)).await;
            }
            self.claimed += 1;
            self.gap = self.gap.max(started.elapsed());
        }
    }

    async fn is_known(&self, number: usize) -> bool {
        // Until its lease ends, and taken over after that.
        let found = self.node.store.claim(&self.key(number), &DIGEST, None).await;
        matches!(found, Ok(Claim::Pending { .. } | Claim::TakenOver { .. }))
    }
}

async fn node(url: String) -> Arc<Node> {
    let node = Node::at(url, |settings| settings.lifetimes = Lifetimes::default());
    assert!(node.store.ready(SOON).await, "redis does not answer");
    Arc::new(node)
}

async fn until(server: &Server, command: &str, says: &str) {
    eventually(async || server.says(command, says)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_sentinels_a_node_goes_on_when_the_primary_is_killed_and_when_a_sentinel_is() {
    let lines = format!("masterauth {OPERATOR}\nrepl-diskless-sync-delay 0\n");
    let mut primary = Server::with(Setup { rights: "+role", lines: lines.clone(), ..Setup::default() });
    let follow = format!("{lines}replicaof 127.0.0.1 {}\n", primary.port());
    let replica = Server::with(Setup { rights: "+role", lines: follow, ..Setup::default() });
    until(&primary, "INFO replication", "state=online").await;
    let watch = format!(
        "sentinel sentinel-pass {OPERATOR}\nsentinel monitor bus 127.0.0.1 {} 2\nsentinel auth-pass bus {OPERATOR}\n\
         sentinel down-after-milliseconds bus 500\nsentinel failover-timeout bus 3000\n",
        primary.port()
    );
    let mut sentinels = [(); 3].map(|()| {
        Server::with(Setup {
            rights: "+hello +ping +sentinel|get-master-addr-by-name +sentinel|sentinels",
            lines: watch.clone(),
            sentinel: true,
            ..Setup::default()
        })
    });
    for sentinel in &sentinels {
        until(sentinel, "SENTINEL CKQUORUM bus", "+OK 3 usable").await;
        until(sentinel, "SENTINEL REPLICAS bus", "slave").await;
    }
    let [first, second, third] =
        sentinels.each_ref().map(|sentinel| format!("127.0.0.1:{}", sentinel.port()));
    let node = node(format!(
        "redis-sentinel://agentbus:{NODE}@{first}?node={second}&node={third}&sentinelServiceName=bus"
    ))
    .await;

    let mut load = Load::of(&node, "acme");
    load.goes_on(100).await;
    until(&primary, "WAIT 1 10000", ":1").await;
    primary.kill();
    load.goes_on(100).await;
    println!("primary killed: no claim for {:?} at most", load.gap);
    until(&replica, "ROLE", "master").await;
    assert!(load.is_known(0).await, "what the replica had confirmed was forgotten");

    load.gap = Duration::ZERO;
    sentinels[0].kill();
    load.goes_on(100).await;
    println!("sentinel killed: no claim for {:?} at most", load.gap);
    // The old primary comes back as the replica, and nobody follows it.
    primary.start_again();
    until(&primary, "ROLE", "slave").await;
    load.goes_on(100).await;
    assert!(load.is_known(0).await);
}

/// Keys of each primary are among theirs.
const TENANTS: [&str; 4] = ["acme", "hooli", "umbrella", "soylent"];

/// Three primaries with a replica each.
struct Cluster(Vec<Server>);

impl Cluster {
    async fn start() -> Self {
        let servers: Vec<(u16, Server)> = (0..6)
            .map(|_| {
                let bus = servers::port();
                let lines = format!(
                    "cluster-enabled yes\ncluster-port {bus}\ncluster-node-timeout 3000\nmasterauth {OPERATOR}\n\
                     repl-diskless-sync-delay 0\n"
                );
                let rights = "+cluster|slots +cluster|info";
                (bus, Server::with(Setup { rights, lines, ..Setup::default() }))
            })
            .collect();
        let (first, slots) = (&servers[0].1, ["0 5460", "5461 10922", "10923 16383"]);
        for ((bus, server), number) in servers.iter().zip(0..) {
            if let Some(slots) = slots.get(number) {
                assert!(server.tell(&format!("CLUSTER ADDSLOTSRANGE {slots}")).contains("+OK"));
            }
            let meet = format!("CLUSTER MEET 127.0.0.1 {} {bus}", server.port());
            assert!(number == 0 || first.tell(&meet).contains("+OK"));
        }
        for (_, server) in &servers {
            until(server, "CLUSTER INFO", "cluster_known_nodes:6").await;
        }
        let id = |server: &Server| server.tell("CLUSTER MYID").lines().nth(1).unwrap().to_owned();
        for number in 3..6 {
            let follow = format!("CLUSTER REPLICATE {}", id(&servers[number - 3].1));
            until(&servers[number].1, &follow, "+OK").await;
        }
        let servers: Vec<Server> = servers.into_iter().map(|(_, server)| server).collect();
        for server in &servers {
            until(server, "CLUSTER INFO", "cluster_state:ok").await;
        }
        for primary in &servers[..3] {
            until(primary, "INFO replication", "state=online").await;
        }
        Self(servers)
    }

    fn url(&self) -> String {
        let nodes: String = self.0[1..].iter().map(|s| format!("node=127.0.0.1:{}&", s.port())).collect();
        format!("redis-cluster://agentbus:{NODE}@127.0.0.1:{}?{nodes}", self.0[0].port())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_changes_are_told_by_each_primary_and_nodes_go_on_when_one_is_killed() {
    let mut cluster = Cluster::start().await;
    let (writer, reader) = (node(cluster.url()).await, node(cluster.url()).await);
    // Of itself it asks no more within the test.
    let limits = CacheLimits { ttl: Duration::from_secs(3_600), ..CacheLimits::default() };
    let cached = CachedRegistry::with(Arc::clone(&reader.store), limits, Clock::machine());
    let change = async |round: &str| {
        eventually(async || cached.is_trusted()).await;
        for name in TENANTS {
            let (id, tenant) = (agent(&format!("{round}-{name}")), tenant(name));
            eventually(async || cached.agent(&tenant, &id).await.is_ok_and(|found| found.is_none())).await;
            eventually(async || writer.store.register(&tenant, &record(id.as_str(), &[]), 99).await.is_ok())
                .await;
            let told =
                eventually(async || cached.agent(&tenant, &id).await.is_ok_and(|found| found.is_some()));
            println!("{round}: {name} is told after {:?}", told.await);
        }
    };
    change("before").await;

    let mut loads = BTreeMap::from(TENANTS.map(|name| (name, Load::of(&writer, name))));
    for load in loads.values_mut() {
        load.goes_on(20).await;
    }
    // Its replica has it all, or has taken its place on a machine that stood still.
    eventually(async || [":1", "-ERR"].iter().any(|says| cluster.0[0].tell("WAIT 1 10000").contains(says)))
        .await;
    cluster.0[0].kill();
    for (name, load) in &mut loads {
        load.goes_on(20).await;
        println!("{name}: no claim for {:?} at most", load.gap);
        assert!(load.is_known(0).await, "{name}: what the replica had was forgotten");
    }
    change("after").await;
}

/// A Valkey, where there is one; CI leaves nothing out.
#[tokio::test]
async fn valkey_keeps_the_contracts_of_redis_and_comes_back_after_a_kill() {
    let program = root().join(".servers/bin/valkey-server");
    if !program.exists() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "`deploy/install-servers --clients` installs Valkey"
        );
        return println!("SKIPPED: no Valkey; `deploy/install-servers --clients` installs it");
    }
    let version = std::process::Command::new(&program).arg("--version").output().unwrap();
    println!("{}", text(&version.stdout));
    let mut server = Server::with(Setup { program: Some(program), ..Setup::default() });
    let node = Arc::new(Node::ready(&server, LIFETIMES).await);
    contract::all(&node).await;
    let mut load = Load::of(&node, "umbrella");
    load.goes_on(20).await;
    server.kill();
    server.start_again();
    load.goes_on(20).await;
    println!("killed: no claim for {:?} at most", load.gap);
}
