//! Does the durable lane keep its promise while servers of a cluster die? `loadtest chaos` shows it of one server
//! under SIGKILL, `loadtest stops` of nodes that are stopped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{AgentId, Encoding, Status, Verdict},
    servers::{Node, NodeOptions},
    tenants::{BusUser, Plan, Seed, User},
    wire,
};
use agentbus_testkit::{
    books::{Fate, Key, Seen, To},
    checker::{Records, check, waiting},
};
use async_nats::jetstream::{self, stream::LastRawMessageErrorKind};
use tokio::task::JoinSet;

use crate::support::{cluster::Cluster, servers};

const MESSAGES: usize = 300;
const IN_FLIGHT: usize = 8;
/// An election on a busy machine takes seconds, and a message may be out for thirty.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_loses_a_server_loses_no_submitted_message_and_doubles_none() {
    let plan = "[tenants.acme.limits]\nmessages_per_minute = 10000000\n\
        [tenants.acme.agents]\nplanner = { roles = [\"executive\"] }\nworker = {}\n";
    let mut cluster = Cluster::start(Plan::parse(plan).unwrap()).await;
    let (redis, _redis_folder) = servers::redis().await;
    let folder = tempfile::tempdir().unwrap();
    let mut nodes = Vec::new();
    for number in 1..=2 {
        let config = format!(
            "impact.scorer = \"keywords\"\n[nats]\nurl = {:?}\nnkey_file = {:?}\n\
             [redis]\nurl = {:?}\nuser = \"agentbus\"\npassword_file = {:?}\nallow_no_seal = true",
            cluster.urls(),
            User::from(BusUser::Node).seed_path(cluster.dir()),
            redis.url(),
            redis.node_password_file()
        );
        let options = NodeOptions {
            name: format!("node-{number}"),
            executable: env!("CARGO_BIN_EXE_agentbus").into(),
            folder: folder.path().into(),
            config: config.parse().unwrap(),
            http_port: 0,
        };
        nodes.push(Node::start(options).await.unwrap());
    }
    let operator = jetstream::new(cluster.connect(BusUser::Operator).await);
    let leader = leader(&operator, "OUT_acme").await;

    let planner = agent(&mut cluster, "planner", (leader + 1) % 3).await;
    let acked = submit(planner, |done| {
        let cluster = &mut cluster;
        async move {
            while done.load(Ordering::Relaxed) < MESSAGES / 3 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            cluster.server_mut(leader).child_mut().kill().await;
            while done.load(Ordering::Relaxed) < 2 * MESSAGES / 3 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            cluster.server_mut(leader).restart().await.unwrap();
        }
    })
    .await;
    assert_eq!(acked.len(), MESSAGES, "every message is kept in the end");

    let started = Instant::now();
    let submitted: Vec<Seen> = acked.iter().flat_map(|id| submitted(id)).collect();
    let seen = loop {
        let seen = [submitted.clone(), stored(&operator).await].concat();
        let inbound = operator.get_stream("IN_acme").await.map(|stream| stream.cached_info().state.messages);
        let settled = waiting(&seen) == 0 && inbound.as_ref().is_ok_and(|n| *n == 0);
        if settled || started.elapsed() > PATIENCE {
            println!("settled after {:?}, {inbound:?} wait", started.elapsed());
            break seen;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    assert_eq!(check(&seen, Records::Unread).faults, []);
    let outcomes = seen.iter().filter(|line| matches!(line, Seen::Outcome { .. })).count();
    assert_eq!(outcomes, MESSAGES, "each sender is told once");
    for node in &mut nodes {
        let exit = node.stop().await;
        assert!(exit.0.success(), "{exit}: {}", node.child().tail());
    }
}

/// Submits all messages, each until it is kept, while `meanwhile` goes on. Ids of those that were kept.
async fn submit<F: Future<Output = ()>>(
    planner: AgentClient,
    meanwhile: impl FnOnce(Arc<AtomicUsize>) -> F,
) -> Vec<String> {
    let (next, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut workers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (planner, next, done) = (planner.clone(), Arc::clone(&next), Arc::clone(&done));
        workers.spawn(async move {
            let mut acked = Vec::new();
            while next.fetch_add(1, Ordering::Relaxed) < MESSAGES {
                let draft = Draft::to_agent("worker", "the weekly summary is ready");
                let patience = Patience { attempt: Duration::from_millis(1500), deadline: PATIENCE };
                let verdict = planner.submit(draft.encode(Encoding::MessagePack), patience).await.unwrap();
                // Delivered: nobody heard that it was stored, and it was asked again.
                assert!(matches!(verdict.status, Status::Stored | Status::Delivered), "{verdict:?}");
                acked.push(draft.message_id);
                done.fetch_add(1, Ordering::Relaxed);
            }
            acked
        });
    }
    let all = async {
        let mut acked = Vec::new();
        while let Some(ended) = workers.join_next().await {
            acked.extend(ended.unwrap());
        }
        acked
    };
    tokio::join!(all, meanwhile(Arc::clone(&done))).0
}

/// The number, from 0, of the server that leads a stream.
async fn leader(context: &jetstream::Context, stream: &str) -> usize {
    let stream = context.get_stream(stream).await.unwrap();
    let leader = stream.cached_info().cluster.clone().unwrap().leader.unwrap();
    leader.strip_prefix("nats-").unwrap().parse::<usize>().unwrap() - 1
}

/// Connected to this server, and to another when it ends.
async fn agent(cluster: &mut Cluster, id: &str, server: usize) -> AgentClient {
    let id: AgentId = id.parse().unwrap();
    let user = User::Agent("acme".parse().unwrap(), id.clone());
    let seed = Seed::read(&user.seed_path(cluster.dir())).unwrap();
    AgentClient::connect(&cluster.server_mut(server).url(), &id, seed.reveal()).await.unwrap()
}

fn key(sender: &str, message: &str) -> Key {
    Key { tenant: "acme".to_owned(), sender: sender.to_owned(), message: message.to_owned() }
}

/// What its sender has seen of a message that was kept.
fn submitted(id: &str) -> [Seen; 2] {
    let key = key("planner", id);
    let status = Some("stored".to_owned());
    [
        Seen::Submitting { key: key.clone(), to: To::One, fate: Fate::Delivered },
        Seen::Submitted { key, status, reason: "stored".to_owned() },
    ]
}

/// The deliveries and outcomes that the durable inboxes hold.
async fn stored(context: &jetstream::Context) -> Vec<Seen> {
    let mut seen = Vec::new();
    let Ok(stream) = context.get_stream("OUT_acme").await else { return seen };
    let last = stream.cached_info().state.last_sequence;
    for sequence in 1..=last {
        let message = match stream.get_raw_message(sequence).await {
            Ok(message) => message,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => continue,
            // A server that is just coming back; asked again with the next look.
            Err(_) => return Vec::new(),
        };
        let tokens: Vec<&str> = message.subject.split('.').collect();
        let [_, _, _, reader, kind, sender, id] = tokens[..] else { panic!("{tokens:?}") };
        seen.push(match kind {
            "message" => {
                let decision = message.headers.get("Agentbus-Decision").unwrap().to_string();
                Seen::Read {
                    key: key(sender, id),
                    recipient: reader.to_owned(),
                    sequence,
                    decision,
                    acked: false,
                }
            }
            "outcome" => outcome(reader, sequence, &wire::decode_verdict(&message.payload).unwrap()),
            // A receipt, which nobody reads.
            _ => continue,
        });
    }
    seen
}

fn outcome(reader: &str, sequence: u64, verdict: &Verdict) -> Seen {
    Seen::Outcome {
        tenant: "acme".to_owned(),
        reader: reader.to_owned(),
        message: verdict.message_id.as_ref().unwrap().to_string(),
        sequence,
        status: verdict.status.as_str().to_owned(),
        reason: verdict.reason.as_str().to_owned(),
        decision: verdict.decision_id.clone(),
        delivered: verdict.reach.as_ref().map(|reach| reach.delivered),
    }
}
