//! Do the stores keep what `agentbus::state` promises: in memory, in Redis, and while Redis fails?
//!
//! Every implementation runs the same contract; time is moved by hand where the store lets us, and
//! lifetimes are short where it does not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{sync::Arc, time::Duration};

use agentbus::{
    domain::{AgentId, AgentRecord, CapabilityId, TenantId},
    skew::Skew,
    state::{Digest, Lifetimes, MessageKey, RedisSettings, RedisStore, SealKeys, StoreError, Trust},
    supervisor::Supervisor,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod breakers;
mod cache;
mod contract;
mod faults;
mod figures;
mod forged;
mod golden;
mod limits;
mod modes;
mod rights;
pub(crate) mod server;

use server::Server;

/// Far more than anything takes that goes well.
const SOON: Duration = Duration::from_secs(60);
const DIGEST: Digest = [7; 32];
const OTHER_DIGEST: Digest = [8; 32];

/// Short enough to wait for, long enough for a busy machine.
const LIFETIMES: Lifetimes = Lifetimes {
    agent: Duration::from_millis(2_000),
    window: Duration::from_millis(4_000),
    lease: Duration::from_millis(1_200),
};

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn agent(id: &str) -> AgentId {
    id.parse().unwrap()
}

fn capability(id: &str) -> CapabilityId {
    id.parse().unwrap()
}

fn record(id: &str, capabilities: &[&str]) -> AgentRecord {
    AgentRecord {
        id: agent(id),
        capabilities: Arc::new(capabilities.iter().map(|c| capability(c)).collect()),
        encoding: None,
        description: String::new(),
    }
}

fn message(id: &str) -> MessageKey {
    MessageKey { tenant: tenant("acme"), sender: agent("planner"), message: id.parse().unwrap() }
}

/// One key, of a letter.
fn sealed_by(letter: char) -> Trust {
    let key = String::from(letter).repeat(32);
    Trust { keys: Some(SealKeys::parse(&key).unwrap()), unsealed_for: Duration::ZERO }
}

/// A store on its own connections, whose tasks end with it.
struct Node {
    store: Arc<RedisStore>,
    shutdown: CancellationToken,
    tracker: TaskTracker,
}

impl Node {
    fn start(server: &Server, lifetimes: Lifetimes) -> Self {
        Self::start_with(server, |settings| {
            settings.lifetimes = lifetimes;
            // A busy machine may be late.
            settings.command_timeout = Duration::from_secs(2);
        })
    }

    fn start_with(server: &Server, set: impl FnOnce(&mut RedisSettings)) -> Self {
        Self::at(server.url(), set)
    }

    fn at(url: String, set: impl FnOnce(&mut RedisSettings)) -> Self {
        let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
        let mut settings = RedisSettings::new(url);
        settings.trust = sealed_by('a');
        set(&mut settings);
        let store = RedisStore::connect(
            settings,
            shutdown.clone(),
            &tracker,
            &Supervisor::default(),
            &Skew::default(),
        )
        .unwrap();
        Self { store: Arc::new(store), shutdown, tracker }
    }

    async fn ready(server: &Server, lifetimes: Lifetimes) -> Self {
        let node = Self::start(server, lifetimes);
        assert!(node.store.ready(SOON).await, "redis does not answer");
        node
    }

    /// Stops all tasks, and says whether they ended in time.
    async fn stop(self) -> bool {
        self.shutdown.cancel();
        self.tracker.close();
        tokio::time::timeout(SOON, self.tracker.wait()).await.is_ok()
    }
}

/// Asks until the answer is as wished; how long that took.
async fn eventually<F: Future<Output = bool>>(mut ask: impl FnMut() -> F) -> Duration {
    let start = tokio::time::Instant::now();
    while !ask().await {
        assert!(start.elapsed() < SOON, "not within {SOON:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    start.elapsed()
}

fn could_not_ask(error: &StoreError) -> bool {
    matches!(error, StoreError::Timeout { .. } | StoreError::Disconnected)
}
