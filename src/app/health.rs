//! How well is the node? Its parts say so themselves; here they are listed, and the numbers read off them.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::Stores;
use crate::{
    admin::{self, Board, Report},
    breakers::{Breakers, Counts, Kind},
    health::{Health, Part, State},
    lanes::Lanes,
    memory::Memory,
    policy::{Rollout, ShadowState, Standing},
    review::Thresholds,
    skew::Skew,
    state::Forgery,
    supervisor::Supervisor,
    telemetry::{Format, Metrics},
    tenants::Directory,
};

mod behind;
mod graph;
mod history;
mod mended;
mod parts;
mod recovery;
mod status;

use behind::Behind;
use history::{History, Notices};
use parts::DIRECTORY_UNREAD;
pub(super) use parts::{Beside, Connections, Decisions, LanePart, Name, Opa, Policy, Scorer};

/// A node to which no message of its own has come back for so long should be restarted.
const SILENT_FOR_GOOD: Duration = Duration::from_secs(30);

/// The node's health, as far as it has come.
pub(super) struct NodeHealth {
    node: String,
    metrics: Arc<Metrics>,
    parts: Board,
    breakers: Arc<Breakers>,
    supervisor: Supervisor,
    progress: Arc<Progress>,
    pub started: Instant,
    connections: OnceLock<Arc<Connections>>,
    numbers: OnceLock<Numbers>,
    history: History,
    notices: Notices,
    /// How often an operator had it recover, by kind.
    recovered: Mutex<BTreeMap<&'static str, u64>>,
}

/// What numbers are read off when somebody asks for them.
pub(super) struct Numbers {
    pub directory: Arc<Directory>,
    pub lanes: Arc<Lanes>,
    pub rollout: Arc<Rollout>,
    pub skew: Skew,
    pub memory: Memory,
    pub stores: Stores,
    pub thresholds: Arc<Thresholds>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Serving,
    Stopping,
}

/// How far the node is, which is a part like any other.
struct Progress(Mutex<Phase>);

impl Part for Progress {
    fn health(&self) -> Option<Health> {
        Some(match *self.0.lock() {
            Phase::Starting => Health::down("starting"),
            Phase::Serving => Health::up("serving"),
            Phase::Stopping => Health::down("stopping: finishing requests in flight"),
        })
    }
}

/// The parts in the order in which they are shown, with what is said of each until it is there.
fn parts() -> Board {
    let down = |why: &str| Some(Health::down(why));
    let parts = [
        ("node", None),
        ("name", Some(Health::up(""))),
        ("clock", Some(Health::up(""))),
        ("memory", None),
        ("nats", down("not connected yet; trying without end")),
        ("outbox", down("the connection for deliveries is not there")),
        ("records", down("not connected yet")),
        ("lane", Some(Health::degraded("the connection for the durable lane is not there"))),
        ("tenants", down(DIRECTORY_UNREAD)),
        ("freezes", down("what is frozen is not known: not connected yet")),
        ("constitutions", down("which constitutions are in force is not known: not connected yet")),
        ("store", down("not opened yet")),
        ("policy", down("not in force yet")),
        ("shadow", None),
        ("opa", None),
        ("decisions", None),
        ("model", down("not loaded yet")),
        ("deliberations", down("not connected yet")),
        ("streams", None),
        ("webhook", None),
        ("thresholds", None),
        ("restarts", None),
    ];
    Board::new(parts, graph::cause_of)
}

impl NodeHealth {
    pub(super) fn new(
        node: &str,
        metrics: Arc<Metrics>,
        breakers: Arc<Breakers>,
        supervisor: Supervisor,
    ) -> Self {
        let (parts, progress) = (parts(), Arc::new(Progress(Mutex::new(Phase::Starting))));
        parts.add("node", Arc::clone(&progress) as Arc<dyn Part>);
        Self {
            node: node.to_owned(),
            metrics,
            parts,
            breakers,
            supervisor,
            progress,
            started: Instant::now(),
            connections: OnceLock::new(),
            numbers: OnceLock::new(),
            history: History::default(),
            notices: Notices::default(),
            recovered: Mutex::default(),
        }
    }

    /// A part is there.
    pub(super) fn add(&self, name: &'static str, part: Arc<dyn Part>) {
        self.parts.add(name, Behind::of(name, part, &self.breakers));
    }

    /// By these it is told whether the node should be restarted.
    pub(super) fn connected_by(&self, connections: Connections) {
        let connections = Arc::new(connections);
        self.add("nats", Arc::clone(&connections) as Arc<dyn Part>);
        // Called once; a second value would be dropped.
        let _ = self.connections.set(connections);
    }

    pub(super) fn numbers(&self, numbers: Numbers) {
        let _ = self.numbers.set(numbers);
    }

    pub(super) fn started(&self) {
        *self.progress.0.lock() = Phase::Serving;
    }

    pub(super) fn stopping(&self) {
        *self.progress.0.lock() = Phase::Stopping;
    }

    /// A node that never was connected waits for NATS; a restart would not help it.
    fn live(&self) -> bool {
        let connections = self.connections.get().filter(|connections| connections.were_there());
        connections.is_none_or(|connections| connections.silent_for().1 < SILENT_FOR_GOOD)
    }
}

impl admin::Health for NodeHealth {
    fn report(&self) -> Report {
        Report { node: self.node.clone(), live: self.live(), parts: self.parts.read() }
    }

    fn thresholds(&self) -> serde_json::Value {
        self.numbers.get().map_or(serde_json::Value::Null, |numbers| numbers.thresholds.shown())
    }

    fn metrics(&self, format: Format) -> String {
        if let Some(numbers) = self.numbers.get() {
            numbers.tell(&self.metrics);
        }
        if let Some(connections) = self.connections.get() {
            self.metrics.nats.gates(connections.bus.gates());
        }
        let report = self.report();
        let parts = report.parts.iter().map(|part| {
            let up = part.health.state == State::Up;
            (part.name, up, !up && part.cause.is_none())
        });
        self.metrics.health(report.ready(), parts);
        for kind in Kind::ALL {
            let Counts { open, opened, refused, .. } = self.breakers.counts(kind);
            self.metrics.breakers(kind.as_str(), open, opened, refused);
        }
        self.metrics.encode_as(format)
    }
}

impl Numbers {
    fn tell(&self, metrics: &Metrics) {
        let Self { directory, lanes, rollout, skew, memory, stores, thresholds: _ } = self;
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        metrics.tenants.set(count(directory.tenants().len()));
        let Standing { revision, refused, .. } = rollout.standing();
        metrics.governed_by(&revision, refused.is_some());
        let beside = rollout.gate().shadow().and_then(|shadow| shadow.standing(&revision));
        metrics.shadow_judging(beside.is_some_and(|beside| beside.state == ShadowState::Judging));
        for server in rollout.modes().opa().iter().flat_map(|opa| opa.standing(&revision)) {
            metrics.opa_server(&server.name, server.problem.is_none());
        }
        metrics.in_flight.set(count(lanes.admission.in_flight()));
        metrics.store_healthy.set(stores.redis.as_ref().is_none_or(|redis| redis.serves()).into());
        metrics.clock_ahead(&skew.ahead());
        metrics.memory_used.set(memory.reading().share());
        if let Some(redis) = &stores.redis {
            let counts = Forgery::ALL.map(|what| (what.as_str(), redis.forged(what)));
            metrics.forged(&counts);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use tokio_util::{sync::CancellationToken, task::TaskTracker};

    use super::*;
    use crate::admin::PartHealth;

    #[test]
    fn before_a_part_is_there_it_is_said_what_it_waits_for() {
        let health = NodeHealth::new(
            "node-1",
            Arc::new(Metrics::new("node-1")),
            Arc::default(),
            Supervisor::default(),
        );
        let report = admin::Health::report(&health);
        assert!(report.live && !report.ready());
        let said = report.parts.iter().map(|PartHealth { name, health, .. }| {
            format!("{name} {}: {}", health.state.as_str(), health.note)
        });
        let expected = [
            "node down: starting",
            "name up: ",
            "clock up: ",
            "nats down: not connected yet; trying without end",
            "outbox down: the connection for deliveries is not there",
            "records down: not connected yet",
            "lane degraded: the connection for the durable lane is not there",
            "tenants down: the directory is not read yet; is the bus provisioned (`agentbus tenants apply`)?",
            "freezes down: what is frozen is not known: not connected yet",
            "constitutions down: which constitutions are in force is not known: not connected yet",
            "store down: not opened yet",
            "policy down: not in force yet",
            "model down: not loaded yet",
            "deliberations down: not connected yet",
        ];
        assert_eq!(said.collect::<Vec<_>>(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_is_told_for_a_minute_and_then_no_more() {
        let (supervisor, tracker) = (Supervisor::default(), TaskTracker::new());
        for name in ["intake", "lane"] {
            supervisor.keep(name, &tracker, CancellationToken::new(), std::future::pending);
        }
        let after = async |seconds| {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            supervisor.health().map(|health| {
                assert_eq!(health.state, State::Degraded);
                health.note
            })
        };
        assert_eq!(after(1).await, None);
        supervisor.end("intake");
        assert!(after(10).await.unwrap().contains("intake 1 time;"), "the other part has not ended");
        supervisor.end("intake");
        assert!(after(48).await.unwrap().contains("intake 2 times;"));
        // Each for a minute of its own.
        assert!(after(4).await.unwrap().contains("intake 1 time;"));
        assert_eq!(after(10).await, None);
    }
}
