//! A node is told of one NATS server of three. What do agents notice when that one leaves, in order or not, and
//! when all three are started again?

use std::collections::{BTreeMap, BTreeSet};

use agentbus::{
    servers::{NodeOptions, RedisServer, redis::NODE_USER},
    tenants::{BusUser, Seed, User},
};
use futures_util::StreamExt as _;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::support::{bus::keywords, cluster::Cluster as Servers, servers};

/// For what follows by itself, on a busy machine.
const SOON: Duration = Duration::from_secs(60);
const SUBMITTED: usize = 40;

/// The agents know the servers that stay; the node, [`TOLD`] alone.
struct Trio {
    servers: Servers,
    node: agentbus::servers::Node,
    planner: AgentClient,
    worker: AgentClient,
    receipts: Receipts,
    _redis: (RedisServer, TempDir),
}

const TOLD: usize = 0;

impl Trio {
    async fn start() -> Self {
        let servers = Servers::start(cluster::plan()).await;
        let redis = servers::redis().await;
        let seed = User::Bus(BusUser::Node).seed_path(servers.dir()).display().to_string();
        let password = redis.0.node_password_file().display().to_string();
        let (nats, url) = (servers.url(TOLD), redis.0.url());
        let mut config = keywords();
        config.extend(toml::toml! {
            nats = { url = nats, nkey_file = seed }
            redis = { url = url, user = NODE_USER, password_file = password, allow_no_seal = true }
        });
        let executable = env!("CARGO_BIN_EXE_agentbus").into();
        let folder = servers.dir().join("nodes");
        let options = NodeOptions { name: "node-1".to_owned(), executable, folder, config, http_port: 0 };
        let node = agentbus::servers::Node::start(options).await.unwrap();
        let planner = agent(&servers, TOLD + 1, "planner").await;
        let worker = agent(&servers, TOLD + 2, "worker").await;
        let receipts = Receipts::of(&worker, "acme").await.unwrap();
        register(&worker).await;
        let beating = worker.clone();
        tokio::spawn(async move {
            loop {
                let _ = beating.register(&[]).await;
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
        });
        serving_again(&planner).await;
        Self { servers, node, planner, worker, receipts, _redis: redis }
    }

    /// Some seconds of messages on both lanes.
    fn load(&self) -> Load {
        let sender = self.planner.clone();
        let how = traffic::Persistence { deadline: SOON, ..PERSISTENT };
        let sending = Traffic { how, in_flight: 8, ..traffic(&sender, 400, Duration::from_millis(100)) };
        let sent = tokio::spawn(async move { sending.run(Arc::default()).await });
        let submitted = tokio::spawn(async move {
            let mut ids = BTreeSet::new();
            for _ in 0..SUBMITTED {
                let draft = Draft::to_agent("worker", "when there is time");
                let patience = Patience { attempt: Duration::from_secs(1), deadline: SOON };
                let kept = sender.submit(draft.encode(Encoding::Json), patience).await.unwrap();
                assert_eq!(kept.reason, Reason::Stored, "{kept:?}");
                ids.insert(draft.message_id);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            ids
        });
        Load { sent, submitted }
    }

    /// Nothing of it is lost, and nothing came twice.
    async fn balances(&self, load: Load) {
        let heard = load.sent.await.unwrap();
        println!("{:?}, the slowest after {:?}", heard.by_reason(), heard.slowest);
        let mut faults = heard.faults(&self.receipts).await;
        // Sent to see whether somebody serves.
        faults.retain(not_of_another_round);
        assert_eq!(faults, []);
        assert_eq!(heard.by_reason().keys().collect::<Vec<_>>(), [&"delivered"]);
        let submitted = load.submitted.await.unwrap();
        let mut came: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut inbox =
            self.worker.durable_inbox(&"acme".parse().unwrap()).unwrap().messages().await.unwrap();
        let all = async {
            while !submitted.iter().all(|id| came.contains_key(id)) {
                let Some(Ok(message)) = inbox.next().await else { continue };
                let headers = message.headers.clone().unwrap();
                let read = |name| headers.get(name).unwrap().to_string();
                // Where an acknowledgement was lost a delivery comes again, and is the same.
                came.entry(read("Agentbus-Message-Id")).or_default().insert(read("Agentbus-Delivery"));
                let _ = message.double_ack().await;
            }
        };
        let in_time = tokio::time::timeout(SOON, all).await.is_ok();
        assert!(in_time, "{} of {SUBMITTED} came", came.len());
        assert!(came.values().all(|deliveries| deliveries.len() == 1), "{came:?}");
    }

    /// Until a message is delivered at once.
    async fn serving(&self) {
        let started = Instant::now();
        let mut heard = Vec::new();
        let patience = Patience { attempt: Duration::from_secs(1), deadline: Duration::from_secs(1) };
        loop {
            let draft = Draft::to_agent("worker", "are you back?");
            let last = self.planner.send(draft.encode(Encoding::MessagePack), patience).await;
            let what =
                last.map_or_else(|error| error.to_string(), |verdict| verdict.reason.as_str().to_owned());
            if what == "delivered" {
                break;
            }
            heard.push((started.elapsed().as_millis(), what));
            if started.elapsed() > SOON {
                panic!("{heard:?}\n{}", self.node.child().tail());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        println!("serving after {:?}: {heard:?}", started.elapsed());
    }

    async fn reconnects(&self) -> u64 {
        let url = format!("http://{}/metrics", self.node.http());
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("agentbus_nats_reconnects_total "));
        count.unwrap().parse().unwrap()
    }

    /// Requests come in by another connection than before.
    async fn moved(&self, before: u64) -> Duration {
        let started = Instant::now();
        while self.reconnects().await == before {
            assert!(started.elapsed() < SOON, "the node stays with a server that leaves");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        started.elapsed()
    }

    async fn stop(mut self) {
        self.node.stop().await;
    }
}

struct Load {
    sent: JoinHandle<traffic::Heard>,
    submitted: JoinHandle<BTreeSet<String>>,
}

async fn agent(servers: &Servers, server: usize, id: &str) -> AgentClient {
    let id: agentbus::domain::AgentId = id.parse().unwrap();
    let user = User::Agent("acme".parse().unwrap(), id.clone());
    let seed = Seed::read(&user.seed_path(servers.dir())).unwrap();
    AgentClient::connect(&servers.url(server), &id, seed.reveal()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_leaves_a_server_that_is_about_to_stop_for_one_it_was_only_told_of() {
    let mut trio = Trio::start().await;
    let (load, before) = (trio.load(), trio.reconnects().await);
    let leaving = trio.servers.server_mut(TOLD).child();
    let pid = Pid::from_raw(leaving.pid().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::USR2).unwrap();
    // Long before the server ends its connections.
    println!("moved after {:?}", trio.moved(before).await);
    trio.serving().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    trio.servers.server_mut(TOLD).child_mut().kill().await;
    trio.serving().await;
    trio.balances(load).await;
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_goes_on_with_the_others_when_the_one_server_it_was_told_of_is_killed_or_stalls() {
    let mut trio = Trio::start().await;
    for stall in [false, true] {
        let (load, before) = (trio.load(), trio.reconnects().await);
        trio.receipts.more(20, SOON).await.unwrap();
        let child = trio.servers.server_mut(TOLD).child_mut();
        if stall {
            child.pause();
        } else {
            child.kill().await;
        }
        println!("stall {stall}: moved after {:?}", trio.moved(before).await);
        trio.serving().await;
        trio.balances(load).await;
        if !stall {
            // Back to it, so that it can leave another time.
            trio.servers.server_mut(TOLD).restart().await.unwrap();
            trio.node.restart().await.unwrap();
            register(&trio.worker).await;
        }
    }
    trio.servers.server_mut(TOLD).child_mut().resume();
    trio.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_serves_again_when_the_whole_cluster_was_restarted() {
    let mut trio = Trio::start().await;
    let load = trio.load();
    trio.receipts.more(20, SOON).await.unwrap();
    trio.servers.restart().await;
    trio.serving().await;
    trio.balances(load).await;
    trio.stop().await;
}
