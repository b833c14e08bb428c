//! What is told of a measurement, and in which unit?

use serde::{Deserialize, Serialize};

use super::{Sample, drift};
use crate::run::{profile::Side, tally::Tally};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    Rate,
    P50,
    P99,
    P999,
    Max,
    InboxP50,
    InboxP99,
    InsideP99,
    RefusedP99,
    NodeProcessor,
    AllProcessor,
    NodeMemory,
    NodeGrowth,
    Drift,
    Errors,
}

impl Metric {
    pub(crate) const ALL: &[Metric] = &[
        Metric::Rate,
        Metric::P50,
        Metric::P99,
        Metric::P999,
        Metric::Max,
        Metric::InboxP50,
        Metric::InboxP99,
        Metric::InsideP99,
        Metric::RefusedP99,
        Metric::NodeProcessor,
        Metric::AllProcessor,
        Metric::NodeMemory,
        Metric::NodeGrowth,
        Metric::Drift,
        Metric::Errors,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Metric::Rate => "rate",
            Metric::P50 => "P50",
            Metric::P99 => "P99",
            Metric::P999 => "P99.9",
            Metric::Max => "longest",
            Metric::InboxP50 => "to the inbox P50",
            Metric::InboxP99 => "to the inbox P99",
            Metric::InsideP99 => "inside the node P99",
            Metric::RefusedP99 => "refused P99",
            Metric::NodeProcessor => "node's processor time",
            Metric::AllProcessor => "all processor time",
            Metric::NodeMemory => "node's memory, most",
            Metric::NodeGrowth => "node's memory, growth",
            Metric::Drift => "P50's drift",
            Metric::Errors => "errors",
        }
    }

    /// As a row of a narrow table, with its unit.
    pub(crate) fn short(self) -> &'static str {
        match self {
            Metric::Rate => "messages/s",
            Metric::P50 => "P50 µs",
            Metric::P99 => "P99 µs",
            Metric::P999 => "P99.9 µs",
            Metric::Max => "longest µs",
            Metric::InboxP50 => "inbox P50 µs",
            Metric::InboxP99 => "inbox P99 µs",
            Metric::InsideP99 => "inside P99 µs",
            Metric::RefusedP99 => "refused P99 µs",
            Metric::NodeProcessor => "node µs",
            Metric::AllProcessor => "all µs",
            Metric::NodeMemory => "node MiB",
            Metric::NodeGrowth => "MiB/million",
            Metric::Drift => "P50 drift %/min",
            Metric::Errors => "errors %",
        }
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Metric::Rate => "messages/s",
            Metric::P50
            | Metric::P99
            | Metric::P999
            | Metric::Max
            | Metric::InboxP50
            | Metric::InboxP99
            | Metric::InsideP99
            | Metric::RefusedP99 => "µs",
            Metric::NodeProcessor | Metric::AllProcessor => "µs a message",
            Metric::NodeMemory => "MiB",
            Metric::NodeGrowth => "MiB a million messages",
            Metric::Drift => "% a minute",
            Metric::Errors => "% of the messages",
        }
    }

    /// Whether more of it is better.
    pub(crate) fn more_is_better(self) -> bool {
        self == Metric::Rate
    }

    /// Of a measurement, if it has that.
    pub(crate) fn of(self, sample: &Sample) -> Option<f64> {
        let Tally { latency, inbox, node_time, refused, answered, .. } = &sample.tally;
        let failed = sample.tally.failed_total() as f64;
        match self {
            Metric::Rate => Some(sample.rate),
            Metric::P50 => (!latency.is_empty()).then(|| latency.at(0.5)),
            Metric::P99 => (!latency.is_empty()).then(|| latency.at(0.99)),
            Metric::P999 => (!latency.is_empty()).then(|| latency.at(0.999)),
            Metric::Max => (!latency.is_empty()).then(|| latency.max()),
            Metric::InboxP50 => (!inbox.is_empty()).then(|| inbox.at(0.5)),
            Metric::InboxP99 => (!inbox.is_empty()).then(|| inbox.at(0.99)),
            Metric::InsideP99 => (!node_time.is_empty()).then(|| node_time.at(0.99)),
            Metric::RefusedP99 => (!refused.is_empty()).then(|| refused.at(0.99)),
            // Of a running bus the processes are not known.
            Metric::NodeProcessor => {
                (sample.side == Side::Bus && sample.memory_mib.node > 0.0).then_some(sample.processor_us.node)
            }
            Metric::AllProcessor => (sample.memory_mib.nats > 0.0).then(|| sample.processor_us.sum()),
            Metric::NodeMemory => {
                (sample.side == Side::Bus && sample.memory_mib.node > 0.0).then_some(sample.memory_mib.node)
            }
            Metric::NodeGrowth => {
                (sample.side == Side::Bus).then(|| drift::growth(&sample.seconds)).flatten()
            }
            Metric::Drift => drift::latency(&sample.seconds),
            Metric::Errors => Some(100.0 * failed / (*answered as f64 + failed).max(1.0)),
        }
    }
}
