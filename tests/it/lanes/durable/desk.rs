//! A bus for tests of the durable lane, and a look at what JetStream holds for it.

use std::{collections::HashMap, time::Duration};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Reason, Status, Verdict},
    servers::StackOptions,
    tenants::{BusUser, Plan, names},
    wire::decode_verdict,
};
use async_nats::jetstream::{
    self,
    consumer::{FromConsumer as _, pull},
    message::StreamMessage,
};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use tempfile::TempDir;

use crate::support::bus::Bus;

/// High limits, so that load does not meet them.
const PLAN: &str = "[tenants.acme.limits]\nmessages_per_minute = 10000000\n\
    [tenants.acme.agents]\nplanner = { roles = [\"executive\"] }\nworker = { roles = [\"implementer\"] }\n\
    helper = { roles = [\"implementer\"] }\n";

/// What the operator demands: one text is denied, one makes a rule fail, one is never done with, and one
/// goes durably although it was sent.
const MODULE: &str = "package agentbus.modules.desk\n\n\
    default allow := false\n\n\
    allow if input.message.content.text != \"forbidden\"\n\n\
    allow := \"no\" if input.message.content.text == \"two answers\"\n\n\
    allow if {\n  input.message.content.text == \"endless\"\n  \
    count([1 | some a in many; some b in many; some c in many; a + b + c > 0]) < 0\n}\n\n\
    many := numbers.range(1, 1000) if input.message.content.text == \"endless\"\n\n\
    reasons contains \"it is forbidden\" if input.message.content.text == \"forbidden\"\n\n\
    obligations := {\"lane\": \"durable\"} if input.message.content.text == \"for later\"\n";

pub(super) const PATIENT: Patience =
    Patience { attempt: Duration::from_millis(1500), deadline: Duration::from_secs(60) };
/// Nothing comes within this.
pub(super) const SILENCE: Duration = Duration::from_millis(400);
/// On a busy machine: what a node had in hand comes again after 30 s, and then one at a time, each 15 s later.
const SOON: Duration = Duration::from_secs(180);

/// Dropping it ends every process of it.
pub(super) struct Desk {
    pub(super) bus: Bus,
    operator: jetstream::Context,
    _policy: TempDir,
}

impl Desk {
    pub(super) async fn start(nodes: usize) -> Self {
        Self::with(nodes, "", |_| {}).await
    }

    /// With more of the tenants file, and other settings.
    pub(super) async fn with(nodes: usize, plan: &str, change: impl FnOnce(&mut StackOptions)) -> Self {
        let policy = tempfile::tempdir().unwrap();
        std::fs::write(policy.path().join("desk.rego"), MODULE).unwrap();
        let bus = Bus::with(nodes, |options| {
            options.plan = Plan::parse(&format!("{PLAN}{plan}")).unwrap();
            let dir = policy.path().display().to_string();
            options.node_overrides.extend([("policy".to_owned(), toml::toml! { dir = dir }.into())]);
            change(options);
        })
        .await;
        let operator = bus.stack.connect(BusUser::Operator).await.unwrap();
        Self { bus, operator: jetstream::new(operator), _policy: policy }
    }

    pub(super) async fn agent(&self, id: &str) -> AgentClient {
        self.bus.agent("acme", id).await
    }

    /// The last message on these subjects of a stream.
    pub(super) async fn last(&self, stream: &str, subjects: &str) -> Option<StreamMessage> {
        let stream = self.operator.get_stream_no_info(stream).await.unwrap();
        stream.get_last_raw_message_by_subject(subjects).await.ok()
    }

    /// The last message on these subjects, as soon as there is one.
    pub(super) async fn waits_for(&self, stream: &str, subjects: &str) -> StreamMessage {
        for _ in 0..600 {
            if let Some(message) = self.last(stream, subjects).await {
                return message;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("nothing on {subjects} of {stream}");
    }

    /// How many messages are on each subject of a stream.
    pub(super) async fn count(&self, stream: &str, subjects: &str) -> HashMap<String, usize> {
        let stream = self.operator.get_stream_no_info(stream).await.unwrap();
        let counted = stream.info_with_subjects(subjects).await.unwrap();
        counted.try_collect().await.unwrap()
    }

    /// Leaves a stream no room for anything.
    pub(super) async fn fill(&self, stream: &str) {
        let provisioner = jetstream::new(self.bus.stack.connect(BusUser::Provisioner).await.unwrap());
        let config = provisioner.get_stream(stream).await.unwrap().cached_info().config.clone();
        provisioner.update_stream(jetstream::stream::Config { max_bytes: 1, ..config }).await.unwrap();
    }

    /// What a node has in hand and does not settle is handed out again after so long; unless said, after 30 s.
    pub(super) async fn come_again_after(&self, ack_wait: Duration) {
        let provisioner = jetstream::new(self.bus.stack.connect(BusUser::Provisioner).await.unwrap());
        let stream = self.operator.get_stream("IN_acme").await.unwrap();
        let nodes = stream.consumer_info(names::NODES_CONSUMER).await.unwrap();
        let config = pull::Config::try_from_consumer_config(nodes.config).unwrap();
        provisioner.create_consumer_on_stream(pull::Config { ack_wait, ..config }, "IN_acme").await.unwrap();
    }

    /// A number of the first node.
    pub(super) async fn number(&self, name: &str) -> i64 {
        let node = self.bus.stack.nodes().first().unwrap();
        let text =
            reqwest::get(format!("http://{}/metrics", node.http())).await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
    }

    /// Waits until a number of the first node is this.
    pub(super) async fn until(&self, name: &str, wanted: i64) {
        let started = std::time::Instant::now();
        loop {
            let found = self.number(name).await;
            if found == wanted {
                return;
            }
            assert!(started.elapsed() < SOON, "{name}: found {found}, expected {wanted}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until nothing is left to be governed.
    pub(super) async fn is_empty(&self) -> bool {
        let started = std::time::Instant::now();
        while started.elapsed() < SOON {
            let stream = self.operator.get_stream("IN_acme").await.unwrap();
            if stream.cached_info().state.messages == 0 {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        false
    }
}

pub(super) fn note(to: &str, text: &str) -> Draft {
    Draft::to_agent(to, text)
}

pub(super) async fn submit(agent: &AgentClient, draft: &Draft) -> Verdict {
    agent.submit(draft.encode(Encoding::MessagePack), PATIENT).await.unwrap()
}

/// Submits what must be kept, once: an answer that was lost is not asked for.
pub(super) async fn keep(agent: &AgentClient, draft: &Draft) {
    let once = Patience { attempt: PATIENT.deadline, ..PATIENT };
    let verdict = agent.submit(draft.encode(Encoding::MessagePack), once).await.unwrap();
    assert_eq!((verdict.status, verdict.reason), (Status::Stored, Reason::Stored), "{verdict:?}");
}

/// What is kept for an agent.
pub(super) struct Kept(pull::Stream);

impl Kept {
    pub(super) async fn of(agent: &AgentClient) -> Self {
        let consumer = agent.durable_inbox(&"acme".parse().unwrap()).unwrap();
        Self(consumer.messages().await.unwrap())
    }

    /// The next message or outcome, acknowledged.
    pub(super) async fn next(&mut self) -> async_nats::Message {
        let next = tokio::time::timeout(SOON, self.0.next()).await.expect("nothing came in time");
        let message = next.unwrap().unwrap();
        message.double_ack().await.unwrap();
        message.message.clone()
    }

    pub(super) async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(SILENCE, self.0.next()).await.is_err()
    }
}

pub(super) async fn live(outcomes: &mut (impl Stream<Item = async_nats::Message> + Unpin)) -> Verdict {
    decode_verdict(&next(outcomes).await.payload).unwrap()
}

pub(super) async fn next(
    outcomes: &mut (impl Stream<Item = async_nats::Message> + Unpin),
) -> async_nats::Message {
    tokio::time::timeout(SOON, outcomes.next()).await.expect("no outcome in time").unwrap()
}

pub(super) fn header<'a>(headers: &'a async_nats::HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.as_str())
}
