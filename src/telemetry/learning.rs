//! Which numbers does the threshold that learns have? Without tenants: their number is not bounded here.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::counters;

const UP: &str = "up";
const DOWN: &str = "down";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

#[derive(Debug)]
pub(super) struct LearningMetrics {
    changes: Family<DirectionLabel, Counter>,
    lost: Counter,
}

impl Default for LearningMetrics {
    fn default() -> Self {
        let changes = counters([UP, DOWN].map(|direction| DirectionLabel { direction }));
        Self { changes, lost: Counter::default() }
    }
}

impl LearningMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "threshold_changes",
            "Thresholds of deliberation that judgements moved, by direction",
            self.changes.clone(),
        );
        registry.register(
            "threshold_lessons_lost",
            "Judgements that could not be learned from",
            self.lost.clone(),
        );
    }
}

impl super::Metrics {
    pub fn threshold_moved(&self, up: bool) {
        let direction = if up { UP } else { DOWN };
        self.learning.changes.get_or_create(&DirectionLabel { direction }).inc();
    }

    pub fn lesson_lost(&self) {
        self.learning.lost.inc();
    }
}
