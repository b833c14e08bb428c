//! Which numbers does the export over OTLP have?

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::counters;

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    pub const ALL: [Signal; 3] = [Signal::Traces, Signal::Metrics, Signal::Logs];

    pub fn as_str(self) -> &'static str {
        match self {
            Signal::Traces => "traces",
            Signal::Metrics => "metrics",
            Signal::Logs => "logs",
        }
    }
}

label!(Signal);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SignalLabel {
    signal: Signal,
}

/// Why something is not exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotExported {
    /// The tenant has had its share: the spans of one message.
    Share,
    /// Too much waited.
    Full,
    /// The collector could not be reached, or failed, each time.
    Failed,
    /// The collector did not want it.
    Refused,
}

impl NotExported {
    const ALL: [NotExported; 4] =
        [NotExported::Share, NotExported::Full, NotExported::Failed, NotExported::Refused];

    fn as_str(self) -> &'static str {
        match self {
            NotExported::Share => "share",
            NotExported::Full => "full",
            NotExported::Failed => "failed",
            NotExported::Refused => "refused",
        }
    }
}

label!(NotExported);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DroppedLabel {
    signal: Signal,
    why: NotExported,
}

#[derive(Debug)]
pub(super) struct OtlpMetrics {
    exported: Family<SignalLabel, Counter>,
    dropped: Family<DroppedLabel, Counter>,
}

impl Default for OtlpMetrics {
    fn default() -> Self {
        let dropped =
            Signal::ALL.iter().flat_map(|&signal| NotExported::ALL.map(|why| DroppedLabel { signal, why }));
        Self {
            exported: counters(Signal::ALL.map(|signal| SignalLabel { signal })),
            dropped: counters(dropped),
        }
    }
}

impl OtlpMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "otlp_exported",
            "Spans, data points and log lines that a collector has taken",
            self.exported.clone(),
        );
        registry.register(
            "otlp_dropped",
            "Spans, data points and log lines that no collector has, by why",
            self.dropped.clone(),
        );
    }
}

impl super::Metrics {
    /// A collector has taken them.
    pub fn exported(&self, signal: Signal, items: usize) {
        self.otlp.exported.get_or_create(&SignalLabel { signal }).inc_by(number(items));
    }

    /// No collector will have them.
    pub fn not_exported(&self, signal: Signal, why: NotExported, items: usize) {
        self.otlp.dropped.get_or_create(&DroppedLabel { signal, why }).inc_by(number(items));
    }
}

pub(super) fn number(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}
