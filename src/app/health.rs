//! How well is the node? What each of its parts says, and the numbers that are read off them.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::Stores;
use crate::{
    admin::{Health, Part, PartState, Report},
    bus::{
        Bus, DeadlineWorker, Inbound, JetStreamLane, Outbox, Peers, RecordsProbe, RoundTrips, StreamUsage,
        WebhookDispatcher,
    },
    impact::semantic,
    lanes::Lanes,
    phrase::counted,
    review::Thresholds,
    skew::Skew,
    state::Forgery,
    supervisor::Supervisor,
    telemetry::{Format, Metrics, PolicyCounts},
    tenants::Directory,
};

/// A node to which no message of its own has come back for so long takes no requests.
const SILENT_MAX: Duration = Duration::from_secs(5);
/// And after so long it should be restarted.
const SILENT_FOR_GOOD: Duration = Duration::from_secs(30);

/// The node's health, as far as it has come.
pub(super) struct NodeHealth {
    node: String,
    metrics: Arc<Metrics>,
    serving: OnceLock<Serving>,
    /// What the words are scored with, or why they are not.
    model: OnceLock<Result<String, String>>,
    phase: Mutex<Phase>,
    started: Instant,
}

pub(super) struct Serving {
    pub bus: Arc<Bus>,
    /// Of the connection for JetStream and the directory.
    pub jetstream: Arc<RoundTrips>,
    pub peers: Arc<Peers>,
    pub skew: Skew,
    pub records: Arc<RecordsProbe>,
    pub supervisor: Supervisor,
    pub directory: Arc<Directory>,
    pub stores: Stores,
    pub lanes: Arc<Lanes>,
    pub outbox: Arc<Outbox>,
    pub deadlines: DeadlineWorker,
    pub stream_usage: Arc<StreamUsage>,
    pub lane: Arc<JetStreamLane>,
    pub inbound: Arc<Inbound>,
    /// Absent: there is none.
    pub webhooks: Option<Arc<WebhookDispatcher>>,
    pub thresholds: Arc<Thresholds>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Serving,
    Stopping,
}

impl NodeHealth {
    pub(super) fn new(node: &str, metrics: Arc<Metrics>) -> Self {
        Self {
            node: node.to_owned(),
            metrics,
            serving: OnceLock::new(),
            model: OnceLock::new(),
            phase: Mutex::new(Phase::Starting),
            started: Instant::now(),
        }
    }

    pub(super) fn serve(&self, serving: Serving) {
        // Called once; a second value would be dropped.
        let _ = self.serving.set(serving);
    }

    pub(super) fn model(&self, model: &semantic::Prepared) {
        let _ = self.model.set(model.state.clone());
    }

    pub(super) fn started(&self) {
        *self.phase.lock() = Phase::Serving;
    }

    pub(super) fn stopping(&self) {
        *self.phase.lock() = Phase::Stopping;
    }

    /// For how long no message of this node to itself has come back, over the connection that has been
    /// silent longest: the one for requests, the one for JetStream, the one for the durable lane.
    fn silent_for(&self) -> (&'static str, Duration) {
        let Some(serving) = self.serving.get() else { return ("", self.started.elapsed()) };
        let intake = serving.bus.silent_for().unwrap_or(self.started.elapsed());
        let all = [
            ("requests", intake),
            ("JetStream", serving.jetstream.silent_for()),
            ("the durable lane", serving.lane.silent_for()),
        ];
        all.into_iter().max_by_key(|(_, silent)| *silent).unwrap_or_default()
    }

    fn nats(&self) -> Part {
        let (connection, silent) = self.silent_for();
        let connected = self.serving.get().is_some_and(|serving| serving.bus.connected());
        if connected && silent < SILENT_MAX {
            return Part { name: "nats", state: PartState::Up, note: String::new() };
        }
        let note = match connection {
            "" => "not connected yet; trying without end".to_owned(),
            _ => format!(
                "no message has come back over the connection for {connection} for {} s; trying again without end",
                silent.as_secs()
            ),
        };
        Part { name: "nats", state: PartState::Down, note }
    }

    fn name(&self) -> Part {
        let (state, note) = match self.serving.get() {
            Some(serving) if serving.peers.has_namesake() => (
                PartState::Degraded,
                format!("another node is called {} too: give each its own name (node.name)", self.node),
            ),
            _ => (PartState::Up, String::new()),
        };
        Part { name: "name", state, note }
    }

    fn clock(&self) -> Part {
        let (state, note) = match self.serving.get().and_then(|serving| serving.skew.told()) {
            Some(off) => (PartState::Down, off),
            None => (PartState::Up, String::new()),
        };
        Part { name: "clock", state, note }
    }

    fn outbox(&self) -> Part {
        let outbox = self.serving.get().map(|serving| &serving.outbox).filter(|outbox| outbox.connected());
        let (state, note) = match outbox.map(|outbox| outbox.records_late()) {
            None => (PartState::Down, "the connection for deliveries is not there".to_owned()),
            Some(None) => (PartState::Up, String::new()),
            Some(Some(late)) => {
                let late = late.as_secs();
                (
                    PartState::Degraded,
                    format!("JetStream has not confirmed records for {late} s: nothing is delivered"),
                )
            }
        };
        Part { name: "outbox", state, note }
    }

    /// All nodes share JetStream, so none is the better for it that another takes the requests.
    fn records(&self) -> Part {
        let (state, note) = match self.serving.get().map(|serving| serving.records.trouble()) {
            None => (PartState::Down, "not connected yet".to_owned()),
            Some(None) => (PartState::Up, String::new()),
            Some(Some(why)) => {
                (PartState::Degraded, format!("JetStream takes no records: {why}; nothing is delivered"))
            }
        };
        Part { name: "records", state, note }
    }

    fn policy(&self) -> Part {
        let gate = self.serving.get().map(|serving| &serving.lanes.gate);
        let (state, note) = match gate.map(|gate| (gate.trouble(), gate.revision())) {
            None => (PartState::Down, "not in force yet".to_owned()),
            Some((None, revision)) => (PartState::Up, revision.to_string()),
            Some((Some(why), _)) => (PartState::Degraded, format!("the last question: {why}")),
        };
        Part { name: "policy", state, note }
    }

    fn lane(&self) -> Part {
        let serving = self.serving.get().filter(|serving| serving.lane.connected());
        let (state, note) = match serving.map(|serving| serving.inbound.absent()) {
            // The fast lane does without.
            None => (PartState::Degraded, "the connection for the durable lane is not there".to_owned()),
            Some(0) => (PartState::Up, String::new()),
            Some(absent) => (
                PartState::Degraded,
                format!(
                    "{} without streams; make them by `agentbus tenants apply`",
                    counted(absent, "tenant")
                ),
            ),
        };
        Part { name: "lane", state, note }
    }

    fn tenants(&self) -> Part {
        let directory = self.serving.get().map(|serving| &serving.directory).filter(|d| d.is_ready());
        match directory.map(|directory| directory.tenants().len()) {
            Some(0) => Part {
                name: "tenants",
                state: PartState::Degraded,
                note: "the directory is empty; publish tenants by `agentbus tenants apply`".to_owned(),
            },
            Some(count) => Part { name: "tenants", state: PartState::Up, note: counted(count, "tenant") },
            None => Part {
                name: "tenants",
                state: PartState::Down,
                note: "the directory is not read yet; is the bus provisioned (`agentbus tenants apply`)?"
                    .to_owned(),
            },
        }
    }

    fn scorer(&self) -> Part {
        let (state, note) = match self.model.get() {
            None => (PartState::Down, "not loaded yet".to_owned()),
            Some(Ok(model)) => {
                match self.serving.get().and_then(|serving| serving.lanes.assessor.trouble()) {
                    Some(why) => (PartState::Degraded, format!("{model}; the last text: {why}")),
                    None => (PartState::Up, model.clone()),
                }
            }
            Some(Err(cause)) => (
                PartState::Degraded,
                format!("none: messages whose words could matter are not delivered ({cause})"),
            ),
        };
        Part { name: "model", state, note }
    }

    /// `None`: no stream is nearly full.
    fn streams(&self) -> Option<Part> {
        let note = self.serving.get().map(|serving| serving.stream_usage.note())?;
        // What is full is refused by name, to who fills it: the node is well.
        (!note.is_empty()).then_some(Part { name: "streams", state: PartState::Up, note })
    }

    fn deliberations(&self) -> Part {
        let (state, note) = match self.serving.get().map(|serving| serving.deadlines.absent()) {
            None => (PartState::Down, "not connected yet".to_owned()),
            Some(0) => (PartState::Up, String::new()),
            Some(absent) => (
                PartState::Degraded,
                format!(
                    "{} without a stream of deliberations: nothing of theirs is parked or released; make it by \
                     `agentbus tenants apply`",
                    counted(absent, "tenant")
                ),
            ),
        };
        Part { name: "deliberations", state, note }
    }

    /// `None`: the node has no webhook.
    fn webhook(&self) -> Option<Part> {
        let webhooks = self.serving.get().and_then(|serving| serving.webhooks.as_ref())?;
        let (state, note) = match webhooks.trouble() {
            None => (PartState::Up, String::new()),
            Some(trouble) => (PartState::Degraded, trouble),
        };
        Some(Part { name: "webhook", state, note })
    }

    /// `None`: all is well, or no tenant learns.
    fn learning(&self) -> Option<Part> {
        let note = self.serving.get()?.thresholds.trouble()?;
        Some(Part { name: "thresholds", state: PartState::Degraded, note })
    }

    fn store(&self) -> Part {
        let stores = self.serving.get().map(|serving| &serving.stores);
        let (state, note) = match stores.map(|stores| stores.redis.as_ref()) {
            None => (PartState::Down, "not opened yet".to_owned()),
            Some(None) => (PartState::Up, "in memory: this node shares nothing with others".to_owned()),
            Some(Some(redis)) => match (redis.refusal(), redis.distrust()) {
                (Some(refusal), _) => {
                    (PartState::Degraded, format!("{refusal}; messages are refused, retryable"))
                }
                (None, _) if !redis.healthy() => (
                    PartState::Degraded,
                    "redis does not answer: messages are refused, retryable, until it does".to_owned(),
                ),
                (None, Some(distrust)) => (PartState::Degraded, distrust),
                (None, None) => (PartState::Up, "redis".to_owned()),
            },
        };
        Part { name: "store", state, note }
    }
}

impl Health for NodeHealth {
    fn report(&self) -> Report {
        let phase = match *self.phase.lock() {
            Phase::Starting => (PartState::Down, "starting"),
            Phase::Serving => (PartState::Up, "serving"),
            Phase::Stopping => (PartState::Down, "stopping: finishing requests in flight"),
        };
        let mut parts = vec![
            Part { name: "node", state: phase.0, note: phase.1.to_owned() },
            self.name(),
            self.clock(),
            self.nats(),
            self.outbox(),
            self.records(),
            self.lane(),
            self.tenants(),
            self.store(),
            self.policy(),
            self.scorer(),
            self.deliberations(),
        ];
        parts.extend(self.streams());
        parts.extend(self.webhook());
        parts.extend(self.learning());
        parts.extend(self.serving.get().and_then(|serving| restarted(&serving.supervisor)));
        // A node that never was connected waits for NATS; a restart would not help it.
        let serving = self.serving.get().is_some_and(|serving| serving.bus.silent_for().is_some());
        let live = !serving || self.silent_for().1 < SILENT_FOR_GOOD;
        Report { node: self.node.clone(), live, parts }
    }

    fn thresholds(&self) -> serde_json::Value {
        let serving = self.serving.get();
        serving.map_or(serde_json::Value::Null, |serving| serving.thresholds.shown())
    }

    fn metrics(&self, format: Format) -> String {
        if let Some(serving) = self.serving.get() {
            let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
            self.metrics.tenants.set(count(serving.directory.tenants().len()));
            self.metrics.in_flight.set(count(serving.lanes.admission.in_flight()));
            let gate = serving.lanes.gate.counters();
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            self.metrics.policy(PolicyCounts {
                cached: read(&gate.hits),
                evaluated: read(&gate.misses) + read(&gate.uncached),
                denied: read(&gate.denied),
                failed: read(&gate.failed),
                unavailable: read(&gate.unavailable),
            });
            self.metrics
                .store_healthy
                .set(serving.stores.redis.as_ref().is_none_or(|redis| redis.serves()).into());
            self.metrics.clock_ahead(&serving.skew.ahead());
            if let Some(redis) = &serving.stores.redis {
                let counts = Forgery::ALL.map(|what| (what.as_str(), redis.forged(what)));
                self.metrics.forged(&counts);
            }
        }
        let report = self.report();
        let parts = report.parts.iter().map(|part| (part.name, part.state == PartState::Up));
        self.metrics.health(report.ready(), parts);
        self.metrics.encode_as(format)
    }
}

/// `None`: no part had to be started again of late.
fn restarted(supervisor: &Supervisor) -> Option<Part> {
    let counts = supervisor.names().into_iter().map(|name| (name, supervisor.restarts(name)));
    let again: Vec<_> = counts
        .filter(|(_, restarts)| *restarts > 0)
        .map(|(name, restarts)| format!("{name} {}", counted(restarts, "time")))
        .collect();
    let note = format!("started again of late: {}; the log says why", again.join(", "));
    (!again.is_empty()).then_some(Part { name: "restarts", state: PartState::Degraded, note })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use tokio_util::{sync::CancellationToken, task::TaskTracker};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_restart_is_told_for_a_minute_and_then_no_more() {
        let (supervisor, tracker) = (Supervisor::default(), TaskTracker::new());
        for name in ["intake", "lane"] {
            supervisor.keep(name, &tracker, CancellationToken::new(), std::future::pending);
        }
        let after = async |seconds| {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            restarted(&supervisor).map(|part| {
                assert_eq!((part.name, part.state), ("restarts", PartState::Degraded));
                part.note
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
