//! Does the load test see what is lost, doubled, refused or late? Against a node that does so on purpose.

use agentbus::{
    servers::{Stack, StackOptions},
    tenants::{BusUser, Plan},
};

use futures_util::StreamExt as _;

use super::*;
use crate::{
    echo,
    run::{profile::Side, shelf, tally::Tally, world},
};

const LENGTH: Duration = Duration::from_millis(400);
const PROFILE: &str =
    "about = \"x\"\nsides = [\"baseline\"]\n[[group]]\nname = \"acme\"\n[[group.mix]]\nbytes = [512]\n";

/// What the node does on purpose.
#[derive(Clone, Copy)]
struct Serving {
    /// So often the first message is handed over.
    first: usize,
    /// The first one is answered with another word.
    lies: bool,
    each_takes: Duration,
}

impl Default for Serving {
    fn default() -> Self {
        Self { first: 1, lies: false, each_takes: Duration::ZERO }
    }
}

/// Answers each request after a while, and hands it over once.
async fn serve(stack: &Stack, Serving { first, lies, each_takes }: Serving) {
    let node = stack.connect(BusUser::Node).await.unwrap();
    let mut requests = node.queue_subscribe("tenant.*.bus.*.send", "nodes".to_owned()).await.unwrap();
    node.flush().await.unwrap();
    tokio::spawn(async move {
        let mut number = 0;
        while let Some(request) = requests.next().await {
            for _ in 0..if number == 0 { first } else { 1 } {
                node.publish("tenant.acme-1.agent.r-1.inbox", request.payload.clone()).await.unwrap();
            }
            tokio::time::sleep(each_takes).await;
            let answer = if lies && number == 0 { b"no" } else { echo::ANSWER };
            node.publish(request.reply.unwrap(), answer.into()).await.unwrap();
            number += 1;
        }
    });
}

/// What a client process sees of it, and how many messages it misses or has too many of.
async fn seen(load: &str, serving: Serving, waiting_max: u32) -> (Tally, u64) {
    let profile = shelf::parse(&format!("{PROFILE}[[load]]\n{load}\n")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan::parse(&world::tenants_file(&profile).unwrap()).unwrap();
    let options = StackOptions::new(folder.path(), plan, "no node");
    let stack = Stack::start(StackOptions { nodes: 0, redis: false, ..options }).await.unwrap();
    serve(&stack, serving).await;
    let job = Job {
        nats: stack.nats_url(),
        side: Side::Baseline,
        keys: stack.dir().to_owned(),
        process: 0,
        load: profile.load[0].clone(),
        profile,
        corpora: Default::default(),
    };
    let agents = agents::connect(&job).await.unwrap();
    let streams = stream::build(&job, &agents).unwrap();
    let running = pace::start(&streams, &job, waiting_max);
    tokio::time::sleep(LENGTH).await;
    running.stop().await.unwrap();
    let mut all = Tally::default();
    stream::taken(&streams).iter().for_each(|part| all.add(&part.tally));
    let miscounted = stream::sent(&streams).miscounted(settled(&agents.arrivals).await);
    stack.stop().await;
    (all, miscounted)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_lost_or_doubled_or_answered_otherwise_is_counted_in_either_loop() {
    for (first, lies, miscounted, failures) in
        [(1, false, 0, 0), (0, false, 1, 0), (2, false, 1, 0), (1, true, 0, 1), (0, true, 0, 1)]
    {
        for load in ["in_flight = 4", "rate = 200"] {
            let serving = Serving { first, lies, ..Serving::default() };
            let (tally, found) = seen(load, serving, pace::WAITING_MAX).await;
            assert_eq!(
                (found, tally.failed_total()),
                (miscounted, failures),
                "{first} of the first, {load}: {tally:?}"
            );
            assert!(tally.answered > 0, "{tally:?}");
            assert_eq!(tally.latency.count(), tally.answered);
        }
    }
}

/// What a stall keeps from being sent is late from when it should have left.
#[tokio::test(flavor = "multi_thread")]
async fn in_an_open_loop_the_wait_of_what_could_not_be_sent_counts() {
    let serving = Serving { each_takes: Duration::from_millis(50), ..Serving::default() };
    // Forty are due in four tenths of a second, and one at a time takes 50 ms: the eighth is 300 ms late or more.
    let (tally, _) = seen("rate = 100", serving, 1).await;
    assert!(tally.held_back > 0 && tally.answered <= 9, "{tally:?}");
    assert!(tally.latency.max() >= 250_000.0, "{} µs", tally.latency.max());
}
