//! How does a test get a whole bus of its own? A stack on free ports, in a folder that goes with it.

use std::time::Duration;

use agentbus::{
    client::{AgentClient, Patience},
    config,
    domain::{AgentId, Verdict},
    servers::{Stack, StackOptions, redis::NODE_USER},
    state::RedisSettings,
    tenants::{Plan, Seed, User},
};
pub(crate) use agentbus_testkit::traffic::BUSY;
use futures_util::Stream;
use tempfile::TempDir;

/// NATS, Redis and nodes, with the example's tenants.
pub(crate) struct Bus {
    pub(crate) stack: Stack,
    _folder: TempDir,
}

impl Bus {
    pub(crate) async fn start(nodes: usize) -> Self {
        Self::with(nodes, |_| {}).await
    }

    pub(crate) async fn with(nodes: usize, change: impl FnOnce(&mut StackOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let executable = env!("CARGO_BIN_EXE_agentbus");
        let mut options = StackOptions::new(folder.path().join("bus"), Plan::example().unwrap(), executable);
        options.nodes = nodes;
        // Few tests are about the model, and those say so.
        options.node_overrides = keywords();
        change(&mut options);
        Self { stack: Stack::start(options).await.unwrap(), _folder: folder }
    }

    /// Connects as an agent of the example.
    pub(crate) async fn agent(&self, tenant: &str, agent: &str) -> AgentClient {
        let agent: AgentId = agent.parse().unwrap();
        let seed = self.stack.seed_path(&User::Agent(tenant.parse().unwrap(), agent.clone()));
        let seed = Seed::read(&seed).unwrap();
        AgentClient::connect(&self.stack.nats_url(), &agent, seed.reveal()).await.unwrap()
    }

    /// Agents of acme that are registered and listen.
    pub(crate) async fn listening(
        &self,
        names: &[&str],
    ) -> Vec<(impl Stream<Item = async_nats::Message> + Unpin + use<>, AgentClient)> {
        let mut listening = Vec::new();
        for name in names {
            let agent = self.agent("acme", name).await;
            agent.register(&[]).await.unwrap();
            listening.push((agent.inbox().await.unwrap(), agent));
        }
        listening
    }

    /// As a node uses Redis.
    pub(crate) fn redis_settings(&self) -> RedisSettings {
        agentbus::app::redis_settings(&redis_of(&self.stack)).unwrap()
    }

    pub(crate) async fn stop(self) {
        self.stack.stop().await;
    }

    /// A number of all nodes, as they show it to whoever asks.
    pub(crate) async fn counted(&self, name: &str) -> u64 {
        let mut sum = 0;
        for node in self.stack.nodes() {
            let text =
                reqwest::get(format!("http://{}/metrics", node.http())).await.unwrap().text().await.unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            sum += line.map_or(0, |number| number.parse::<u64>().unwrap());
        }
        sum
    }
}

/// How the nodes of a stack are told of its Redis.
pub(crate) fn redis_of(stack: &Stack) -> config::Redis {
    let redis = stack.redis().unwrap();
    config::Redis {
        user: Some(NODE_USER.to_owned()),
        password_file: Some(redis.node_password_file()),
        seal_key_file: Some(stack.seal_key_file()),
        ..config::Redis::trusting(redis.url())
    }
}

/// A node's configuration that loads no model, gives up sooner than a test does, and forgets no agent that has no
/// heartbeat as long as one lasts.
pub(crate) fn keywords() -> toml::Table {
    "impact.scorer = \"keywords\"\ndurable.give_up_after = \"9s\"\nregistry.ttl = \"10m\"".parse().unwrap()
}

/// Sends until a node has time for it: on a busy machine Redis, JetStream or the policy may miss their limits,
/// which the sender of a message is told to wait for.
pub(crate) async fn send(agent: &AgentClient, message: bytes::Bytes) -> Verdict {
    sent(agent, message, Patience { attempt: Duration::from_secs(2), deadline: Duration::from_secs(60) })
        .await
}

/// The same, of those whose answer may take its time.
pub(crate) async fn sent(agent: &AgentClient, message: bytes::Bytes, patience: Patience) -> Verdict {
    let mut verdict = agent.send(message.clone(), patience).await.unwrap();
    for _ in 0..200 {
        if !is_busy(&verdict) {
            return verdict;
        }
        tokio::time::sleep(verdict.retry_after.unwrap_or(Duration::from_millis(50))).await;
        verdict = agent.send(message.clone(), patience).await.unwrap();
    }
    panic!("the nodes have no time: {verdict:?}");
}

/// Whether a node had no time for it, or what it needs had none.
pub(crate) fn is_busy(verdict: &Verdict) -> bool {
    BUSY.contains(&verdict.reason)
}
