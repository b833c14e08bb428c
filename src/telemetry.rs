//! What a node shows of itself: metrics in Prometheus' text format, and logs.
//!
//! Label values come from closed enums only: no id of an agent, a message or a tenant, and no text
//! of a stranger, ever becomes a label.

use std::{
    io::IsTerminal as _,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{
        counter::Counter,
        exemplar::HistogramWithExemplars,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use tracing_subscriber::{
    EnvFilter, Layer,
    layer::{Layered, SubscriberExt as _},
    reload,
    util::SubscriberInitExt as _,
};

use crate::{
    config::{Log, LogFormat},
    domain::{Reason, Status, Verb},
    impact,
    trace::TraceId,
};

/// A label's value is the enum's word.
macro_rules! label {
    ($name:ident) => {
        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
                EncodeLabelValue::encode(&self.as_str(), encoder)
            }
        }
    };
}

mod breakers;
mod cpu;
mod deliberations;
mod format;
mod guards;
mod http;
mod lane;
mod learning;
mod model;
mod nats;
mod opa;
mod otlp;
mod policy;
mod polls;
mod process;
mod webhook;

use breakers::BreakerMetrics;
use deliberations::DeliberationMetrics;
pub use format::Format;
use guards::GuardMetrics;
pub use http::Closed;
use http::HttpMetrics;
pub use lane::LaneMetrics;
use learning::LearningMetrics;
use model::ModelMetrics;
pub use nats::{EndedFor, NatsMetrics};
use opa::OpaMetrics;
use otlp::OtlpMetrics;
pub use otlp::{NotExported, Signal};
use policy::PolicyMetrics;
pub use polls::Polls;
use webhook::WebhookMetrics;

/// The stages of a message's way, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    Admit,
    Decode,
    Constitution,
    Structure,
    Recipient,
    Policy,
    Impact,
    Claim,
    Deliver,
    Record,
}

impl Stage {
    pub const ALL: &[Stage] = &[
        Stage::Admit,
        Stage::Decode,
        Stage::Constitution,
        Stage::Structure,
        Stage::Recipient,
        Stage::Policy,
        Stage::Impact,
        Stage::Claim,
        Stage::Deliver,
        Stage::Record,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Admit => "admit",
            Stage::Decode => "decode",
            Stage::Constitution => "constitution",
            Stage::Structure => "structure",
            Stage::Recipient => "recipient",
            Stage::Policy => "policy",
            Stage::Impact => "impact",
            Stage::Claim => "claim",
            Stage::Deliver => "deliver",
            Stage::Record => "record",
        }
    }
}

label!(Stage);
label!(Verb);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    verb: Verb,
    status: &'static str,
    reason: &'static str,
}

/// Of a request that is no message and was done: nothing is delivered.
const DONE: &str = "ok";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerbLabel {
    verb: Verb,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabel {
    part: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RevisionLabel {
    revision: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    source: &'static str,
}

/// From 1 µs to about 2 s, doubling.
#[derive(Debug, Clone)]
struct Latency;

impl MetricConstructor<Histogram> for Latency {
    fn new_metric(&self) -> Histogram {
        latency()
    }
}

impl MetricConstructor<TracedHistogram> for Latency {
    fn new_metric(&self) -> TracedHistogram {
        TracedHistogram::new(latencies())
    }
}

/// Of each bucket it names a trace that is exported.
type TracedHistogram = HistogramWithExemplars<TraceLabel>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TraceLabel {
    trace_id: String,
}

/// Counters that are there from the start: the first event is a rise then, which alerts see.
fn counters<L: Clone + Eq + std::hash::Hash>(labels: impl IntoIterator<Item = L>) -> Family<L, Counter> {
    let counters = Family::<L, Counter>::default();
    for label in labels {
        drop(counters.get_or_create(&label));
    }
    counters
}

fn latency() -> Histogram {
    Histogram::new(latencies())
}

fn latencies() -> impl Iterator<Item = f64> {
    exponential_buckets(1e-6, 2.0, 22)
}

/// Every number a node exports. Cheap to write from any task.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    outcomes: Family<Outcome, Counter>,
    /// In the order of [`Stage::ALL`], looked up once: each message passes nearly all of them.
    stages: Vec<Histogram>,
    requests: Family<VerbLabel, TracedHistogram, Latency>,
    repeats: Counter,
    takeovers: Counter,
    records_dropped: Counter,
    delivered: Counter,
    missed: Counter,
    opa: OpaMetrics,
    otlp: OtlpMetrics,
    policy: PolicyMetrics,
    model: ModelMetrics,
    guards: GuardMetrics,
    cpu: cpu::CpuMetrics,
    pub polls: Polls,
    pub deliberations: DeliberationMetrics,
    pub lane: LaneMetrics,
    pub nats: NatsMetrics,
    webhook: WebhookMetrics,
    breakers: BreakerMetrics,
    http: HttpMetrics,
    learning: LearningMetrics,
    pub in_flight: Gauge<i64, AtomicI64>,
    pub store_healthy: Gauge<i64, AtomicI64>,
    pub tenants: Gauge<i64, AtomicI64>,
    state_forged: Family<KindLabel, Counter>,
    ready: Gauge<i64, AtomicI64>,
    parts: Family<PartLabel, Gauge<i64, AtomicI64>>,
    causes: Family<PartLabel, Gauge<i64, AtomicI64>>,
    clock_ahead: Family<SourceLabel, Gauge<f64, AtomicU64>>,
    pub memory_used: Gauge<f64, AtomicU64>,
    policy_info: Family<RevisionLabel, Gauge<i64, AtomicI64>>,
    streams_filled: Family<KindLabel, Gauge<f64, AtomicU64>>,
}

impl Metrics {
    /// Panics of the model that were caught, since the node began.
    pub fn model_restarts(&self) -> u64 {
        self.model.restarts()
    }

    pub fn new(node: &str) -> Self {
        let mut all = Registry::default();
        all.register_collector(Box::new(process::Process::starting_now()));
        let registry = all.sub_registry_with_prefix("agentbus");
        registry.register(
            "build",
            "Version and node, as labels",
            Info::new(vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("node", node.to_owned())]),
        );
        let stages = Family::<StageLabel, Histogram, Latency>::new_with_constructor(Latency);
        let of_stage = |&stage| stages.get_or_create(&StageLabel { stage }).clone();
        let metrics = Self {
            outcomes: Family::default(),
            stages: Stage::ALL.iter().map(of_stage).collect(),
            requests: Family::new_with_constructor(Latency),
            repeats: Counter::default(),
            takeovers: Counter::default(),
            records_dropped: Counter::default(),
            delivered: Counter::default(),
            missed: Counter::default(),
            opa: OpaMetrics::default(),
            otlp: OtlpMetrics::default(),
            policy: PolicyMetrics::default(),
            model: ModelMetrics::default(),
            guards: GuardMetrics::default(),
            cpu: cpu::CpuMetrics::default(),
            polls: Polls::default(),
            deliberations: DeliberationMetrics::default(),
            lane: LaneMetrics::default(),
            nats: NatsMetrics::default(),
            webhook: WebhookMetrics::default(),
            breakers: BreakerMetrics::default(),
            http: HttpMetrics::default(),
            learning: LearningMetrics::default(),
            in_flight: Gauge::default(),
            store_healthy: Gauge::default(),
            tenants: Gauge::default(),
            state_forged: Family::default(),
            ready: Gauge::default(),
            parts: Family::default(),
            causes: Family::default(),
            clock_ahead: Family::default(),
            memory_used: Gauge::default(),
            policy_info: Family::default(),
            streams_filled: Family::default(),
            registry: Registry::default(),
        };
        registry.register("requests", "Answered requests by verdict", metrics.outcomes.clone());
        registry.register_with_unit(
            "stage",
            "Time in one stage of a message's way",
            Unit::Seconds,
            stages.clone(),
        );
        registry.register_with_unit(
            "request",
            "Time from reading a request to handing over its answer",
            Unit::Seconds,
            metrics.requests.clone(),
        );
        registry.register("repeats", "Messages answered with a stored verdict", metrics.repeats.clone());
        registry.register("takeovers", "Claims taken over from a node that died", metrics.takeovers.clone());
        registry.register(
            "records_dropped",
            "Verdicts, votes and registrations that could not be recorded",
            metrics.records_dropped.clone(),
        );
        registry.register("deliveries", "Messages handed to an inbox", metrics.delivered.clone());
        registry.register("missed", "Matching agents that did not get a broadcast", metrics.missed.clone());
        registry.register(
            "streams_filled",
            "Of the bytes of its stream, those taken by the tenant that has most of them taken",
            metrics.streams_filled.clone(),
        );
        registry.register(
            "state_forged",
            "Values in the shared store that no node wrote, which were not believed",
            metrics.state_forged.clone(),
        );
        registry.register("ready", "1 while the node is ready", metrics.ready.clone());
        registry.register(
            "part_healthy",
            "1 for each part that is up as /readyz has it",
            metrics.parts.clone(),
        );
        registry.register(
            "part_cause",
            "1 for each part that is not up for a reason of its own, and not since another is not",
            metrics.causes.clone(),
        );
        registry.register_with_unit(
            "clock_ahead",
            "By how much this node's clock is ahead of a server's, or behind",
            Unit::Seconds,
            metrics.clock_ahead.clone(),
        );
        registry.register(
            "memory_used_ratio",
            "Of the memory that the node may have, the share that is used; 0 where nobody says",
            metrics.memory_used.clone(),
        );
        registry.register("policy_info", "The policy in force, as a label", metrics.policy_info.clone());
        metrics.policy.register(registry);
        metrics.opa.register(registry);
        metrics.otlp.register(registry);
        metrics.model.register(registry);
        metrics.guards.register(registry);
        metrics.cpu.register(registry);
        metrics.polls.register(registry);
        metrics.deliberations.register(registry);
        metrics.lane.register(registry);
        metrics.nats.register(registry);
        metrics.webhook.register(registry);
        metrics.breakers.register(registry);
        metrics.http.register(registry);
        metrics.learning.register(registry);
        registry.register("in_flight", "Requests being worked on", metrics.in_flight.clone());
        registry.register(
            "store_healthy",
            "1 while the shared store takes what is written",
            metrics.store_healthy.clone(),
        );
        registry.register("tenants", "Tenants in the directory", metrics.tenants.clone());
        Self { registry: all, ..metrics }
    }

    /// How full the fullest of the tenants' streams of a kind is, from 0 to 1.
    pub fn filled(&self, kind: &'static str, share: f64) {
        self.streams_filled.get_or_create(&KindLabel { kind }).set(share);
    }

    /// One request is answered. `trace`: the one that tells of it.
    pub fn answered(
        &self,
        verb: Verb,
        (status, reason): (Status, Reason),
        elapsed: Duration,
        trace: Option<TraceId>,
    ) {
        self.count(verb, (status.as_str(), reason.as_str()), elapsed, trace);
    }

    /// So many requests are answered alike where they are read, at once.
    pub fn answered_alike(&self, verb: Verb, (status, reason): (Status, Reason), count: u64) {
        let outcome = Outcome { verb, status: status.as_str(), reason: reason.as_str() };
        self.outcomes.get_or_create(&outcome).inc_by(count);
        let requests = self.requests.get_or_create(&VerbLabel { verb });
        (0..count).for_each(|_| requests.observe(0.0, None, None));
    }

    /// A request that is no message is done, such as a registration.
    pub fn done(&self, verb: Verb, elapsed: Duration) {
        self.count(verb, (DONE, DONE), elapsed, None);
    }

    fn count(
        &self,
        verb: Verb,
        (status, reason): (&'static str, &'static str),
        elapsed: Duration,
        trace: Option<TraceId>,
    ) {
        self.outcomes.get_or_create(&Outcome { verb, status, reason }).inc();
        let when = trace.map(|_| SystemTime::now());
        let trace = trace.map(|trace| TraceLabel { trace_id: trace.to_string() });
        self.requests.get_or_create(&VerbLabel { verb }).observe(elapsed.as_secs_f64(), trace, when);
    }

    pub fn stage(&self, stage: Stage, elapsed: Duration) {
        if let Some(took) = self.stages.get(stage as usize) {
            took.observe(elapsed.as_secs_f64());
        }
    }

    pub fn repeated(&self) {
        self.repeats.inc();
    }

    pub fn record_dropped(&self) {
        self.records_dropped.inc();
    }

    pub fn took_over(&self) {
        self.takeovers.inc();
    }

    pub fn delivered(&self, delivered: u32, missed: u32) {
        self.delivered.inc_by(delivered.into());
        self.missed.inc_by(missed.into());
    }

    /// What was found in the shared store since the start that no node wrote, by kind.
    pub fn forged(&self, counted: &[(&'static str, u64)]) {
        for &(kind, count) in counted {
            self.state_forged.get_or_create(&KindLabel { kind }).inner().store(count, Ordering::Relaxed);
        }
    }

    /// Whether the node is ready; which of its parts are up, and which are not for a reason of their own.
    pub fn health(&self, ready: bool, parts: impl Iterator<Item = (&'static str, bool, bool)>) {
        self.ready.set(ready.into());
        // Some are named only while there is something to say.
        self.parts.clear();
        self.causes.clear();
        for (part, up, cause) in parts {
            self.parts.get_or_create(&PartLabel { part }).set(up.into());
            self.causes.get_or_create(&PartLabel { part }).set(cause.into());
        }
    }

    /// By how many seconds the clock is ahead of each that was asked.
    pub fn clock_ahead(&self, sources: &[(&'static str, f64)]) {
        for &(source, ahead) in sources {
            self.clock_ahead.get_or_create(&SourceLabel { source }).set(ahead);
        }
    }

    /// By which policy messages are governed, and whether what was read last is refused.
    pub fn governed_by(&self, revision: &str, refused: bool) {
        let label = RevisionLabel { revision: revision.to_owned() };
        if self.policy_info.get(&label).is_none() {
            self.policy_info.clear();
        }
        if !revision.is_empty() {
            self.policy_info.get_or_create(&label).set(1);
        }
        self.policy.refused.set(refused.into());
    }

    /// Whether a candidate judges beside the policy in force.
    pub fn shadow_judging(&self, judging: bool) {
        self.policy.shadow_judging.set(judging.into());
    }

    /// All numbers, as OpenMetrics.
    pub fn encode(&self) -> String {
        self.encode_as(Format::OpenMetrics)
    }

    /// All numbers.
    pub fn encode_as(&self, format: Format) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        match format {
            Format::OpenMetrics => text,
            Format::Text => format::text_of(&text),
        }
    }
}

impl impact::Meter for Metrics {
    fn see(&self, event: impact::Event) {
        self.model.see(event);
    }

    fn see_of_guard(&self, guard: &str, event: impact::Event) {
        self.guards.see(guard, event);
    }
}

/// What passes the filter.
type Filtered = Layered<reload::Layer<EnvFilter, tracing_subscriber::Registry>, tracing_subscriber::Registry>;

/// Takes what is logged besides.
pub type LogExport = Box<dyn Layer<Filtered> + Send + Sync>;

/// Logs go to stderr: for people on a terminal, JSON otherwise; and to `export`. What is logged can be changed by what
/// is returned.
pub fn init_logs(log: &Log, export: Option<LogExport>) -> Result<LogFilter, String> {
    let (filter, handle) = reload::Layer::new(LogFilter::parse(&log.filter)?);
    let json = match log.format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter).with(export);
    let done = if json { registry.with(layer.json()).try_init() } else { registry.with(layer).try_init() };
    done.map_err(|cause| format!("logs are set up already: {cause}"))?;
    Ok(LogFilter(handle))
}

/// What is logged.
#[derive(Debug, Clone)]
pub struct LogFilter(reload::Handle<EnvFilter, tracing_subscriber::Registry>);

impl LogFilter {
    /// Whether a filter can be used.
    pub fn parse(filter: &str) -> Result<EnvFilter, String> {
        EnvFilter::try_new(filter)
            .map_err(|cause| format!("log.filter: found {filter:?}, expected a tracing filter: {cause}"))
    }

    /// From now on.
    pub fn set(&self, filter: EnvFilter) {
        // Fails only when the subscriber is gone, and then nothing is logged.
        let _ = self.0.reload(filter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_is_measured_under_its_own_name() {
        let metrics = Metrics::new("node-1");
        for (at, stage) in Stage::ALL.iter().enumerate() {
            (0..=at).for_each(|_| metrics.stage(*stage, Duration::from_millis(1)));
        }
        let text = metrics.encode();
        for (at, stage) in Stage::ALL.iter().enumerate() {
            let line = format!("agentbus_stage_seconds_count{{stage=\"{}\"}} {}\n", stage.as_str(), at + 1);
            assert!(text.contains(&line), "{line}{text}");
        }
    }
}
