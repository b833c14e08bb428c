//! Does the load test see what is lost, doubled, refused or late? Against a node that does so on purpose.

#![allow(clippy::unwrap_used, reason = "tests")]

use agentbus::{
    servers::{Stack, StackOptions},
    tenants::{BusUser, Plan, Seed, User},
};

use super::*;

const PLAN: &str = "[tenants.acme.agents]\nplanner = {}\nworker = {}\n";
const WARM_UP: Duration = Duration::from_millis(100);
const LENGTH: Duration = Duration::from_millis(400);

async fn agent(stack: &Stack, id: &str) -> AgentClient {
    let seed = stack.seed_path(&User::Agent("acme".parse().unwrap(), id.parse().unwrap()));
    let seed = Seed::read(&seed).unwrap();
    AgentClient::connect(&stack.nats_url(), &id.parse().unwrap(), seed.reveal()).await.unwrap()
}

/// Answers each request after a while, and hands it over once.
#[derive(Clone, Copy)]
struct Serving {
    /// So often the first one is handed over.
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

async fn serve(stack: &Stack, Serving { first, lies, each_takes }: Serving) {
    let node = stack.connect(BusUser::Node).await.unwrap();
    let mut requests = node.queue_subscribe("tenant.*.bus.*.send", "nodes".to_owned()).await.unwrap();
    node.flush().await.unwrap();
    tokio::spawn(async move {
        let mut number = 0;
        while let Some(request) = requests.next().await {
            for _ in 0..if number == 0 { first } else { 1 } {
                node.publish("tenant.acme.agent.worker.inbox", request.payload.clone()).await.unwrap();
            }
            tokio::time::sleep(each_takes).await;
            let answer = if lies && number == 0 { b"no" } else { crate::echo::ANSWER };
            node.publish(request.reply.unwrap(), answer.into()).await.unwrap();
            number += 1;
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_lost_or_doubled_or_answered_otherwise_is_counted_in_either_loop() {
    for (first, lies, miscounted, failures) in
        [(1, false, 0, 0), (0, false, 1, 0), (2, false, 1, 0), (1, true, 0, 1), (0, true, 0, 1)]
    {
        for rate in [None, Some(200)] {
            let folder = tempfile::tempdir().unwrap();
            let options = StackOptions::new(folder.path(), Plan::parse(PLAN).unwrap(), "no node");
            let stack = Stack::start(StackOptions { nodes: 0, redis: false, ..options }).await.unwrap();
            let arrived = count_arrivals(&agent(&stack, "worker").await).await.unwrap();
            serve(&stack, Serving { first, lies, ..Serving::default() }).await;
            let sender = agent(&stack, "planner").await;
            let template = Template::new("worker", 512).unwrap();
            let parties = Arc::new(Parties { sender, template, arrived });
            let own = std::process::id();
            let processes = Processes { node: own, nats: own, redis: None };
            let measured = match rate {
                None => closed(&parties, Expected::Echo, 4, WARM_UP, LENGTH, processes).await,
                Some(rate) => open(&parties, Expected::Echo, rate, WARM_UP, LENGTH, processes).await,
            };
            let measured = measured.unwrap();
            assert_eq!(
                (measured.miscounted, measured.failures.values().sum::<u64>()),
                (miscounted, failures),
                "{first} of the first, {rate:?} a second: {measured:?}"
            );
            assert!(measured.answered > 0 && measured.answered <= parties.template.made(), "{measured:?}");
            assert_eq!(measured.latency.len(), measured.answered);
            stack.stop().await;
        }
    }
}

/// What a stall keeps from being sent is late from when it should have left.
#[tokio::test(flavor = "multi_thread")]
async fn in_an_open_loop_the_wait_of_what_could_not_be_sent_counts() {
    let record = Record::new(Expected::Echo, Duration::ZERO, Duration::from_secs(1)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = StackOptions::new(folder.path(), Plan::parse(PLAN).unwrap(), "no node");
    let stack = Stack::start(StackOptions { nodes: 0, redis: false, ..options }).await.unwrap();
    let arrived = count_arrivals(&agent(&stack, "worker").await).await.unwrap();
    serve(&stack, Serving { each_takes: Duration::from_millis(50), ..Serving::default() }).await;
    let sender = agent(&stack, "planner").await;
    let template = Template::new("worker", 512).unwrap();
    let parties = Arc::new(Parties { sender, template, arrived });
    let own = std::process::id();
    let processes = Processes { node: own, nats: own, redis: None };
    // A hundred are due in a second, and one at a time takes 50 ms: the twentieth is 800 ms late or more.
    let measured = paced(&parties, record, 100, 1, processes).await.unwrap();
    assert!(measured.held_back > 0 && measured.answered <= 21, "{measured:?}");
    assert!(measured.latency.max() >= 500_000, "{} µs", measured.latency.max());
    stack.stop().await;
}
