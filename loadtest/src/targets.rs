//! Which figures were to be beaten, and were they? In tables, and as JSON for whoever follows them over time.

use serde::Serialize;

use crate::{
    figures::{Load, Run, Sample, Spread},
    rig::Side,
};

/// One figure to beat.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Target {
    /// Several have the same where a figure is taken at several loads.
    pub(crate) id: &'static str,
    /// The median.
    pub(crate) value: f64,
    /// Lowest and highest round.
    pub(crate) range: [f64; 2],
    pub(crate) target: f64,
    pub(crate) met: bool,
    pub(crate) unit: &'static str,
    pub(crate) how: String,
}

/// From which side is the target to be reached?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Is {
    AtLeast,
    AtMost,
}

impl Target {
    pub(crate) fn new(
        id: &'static str,
        found: Option<Spread>,
        (is, target): (Is, f64),
        unit: &'static str,
        how: impl Into<String>,
    ) -> Option<Self> {
        let found = found?;
        let met = match is {
            Is::AtLeast => found.median >= target,
            Is::AtMost => found.median <= target,
        };
        Some(Self {
            id,
            value: found.median,
            range: [found.low, found.high],
            target,
            met,
            unit,
            how: how.into(),
        })
    }
}

/// P1 to P4, of `loadtest send`.
pub(crate) fn of_send(run: &Run) -> Vec<Target> {
    let mut targets = Vec::new();
    let ratio = |bus: f64, baseline: f64| bus / baseline;
    for n in [64, 256] {
        let load = Load::InFlight(n);
        let found = run.compared(load, |s| s.rate, ratio);
        targets.extend(Target::new(
            "P1",
            found,
            (Is::AtLeast, 0.65),
            "×",
            format!("rate ÷ baseline, {load}"),
        ));
        let found = run.compared(load, Sample::processor_us, |bus, baseline| baseline / bus);
        let how = format!("processor time of all processes, baseline ÷ bus, {load}");
        targets.extend(Target::new("P1", found, (Is::AtLeast, 0.65), "×", how));
    }
    let found = run.beside_bare_trips();
    let how = format!("P50 ÷ (baseline + a bare round trip to Redis + one to NATS), {}", Load::InFlight(1));
    targets.extend(Target::new("P2", found, (Is::AtMost, 1.2), "×", how));
    for load in run.loads().into_iter().filter(|load| matches!(load, Load::Rate(_))) {
        let found = run.compared(load, |s| s.p50_us, ratio);
        targets.extend(Target::new("P3", found, (Is::AtMost, 2.0), "×", format!("P50 ÷ baseline, {load}")));
        let found = run.compared(load, |s| s.p99_us, ratio);
        targets.extend(Target::new("P3", found, (Is::AtMost, 1.5), "×", format!("P99 ÷ baseline, {load}")));
        let inside = run.spread(Side::Bus, load, |s| s.node_p99_us);
        targets.extend(Target::new(
            "P3",
            inside,
            (Is::AtMost, 500.0),
            "µs",
            format!("P99 inside the node, {load}"),
        ));
    }
    for n in [64, 256] {
        let load = Load::InFlight(n);
        let found = run.spread(Side::Bus, load, |s| s.node_cpu_us);
        let how = format!("node's processor time a message, policy cached, {load}");
        targets.extend(Target::new("P4", found, (Is::AtMost, 9.0), "µs", how));
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_from_its_side_and_one_without_a_figure_is_left_out() {
        let found = Some(Spread { median: 0.7, low: 0.6, high: 0.8 });
        let met = |is| Target::new("P1", found, (is, 0.65), "×", "").map(|target| target.met);
        assert_eq!((met(Is::AtLeast), met(Is::AtMost)), (Some(true), Some(false)));
        assert_eq!(Target::new("P1", None, (Is::AtLeast, 0.65), "×", ""), None);
    }
}
