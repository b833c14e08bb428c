//! Which figures were to be beaten, and were they? In lines, and as JSON for whoever follows them over time.

use serde::Serialize;

use crate::{spread::Spread, tables::show};

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
    /// To be reached from below, or not to be passed.
    pub(crate) at_least: bool,
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
            at_least: is == Is::AtLeast,
            met,
            unit,
            how: how.into(),
        })
    }
}

/// What was wanted, what was found; a line each.
pub(crate) fn shown(targets: &[Target]) -> String {
    let lines = targets.iter().map(|target| {
        let met = if target.met { "met" } else { "NOT MET" };
        format!("- {} {met}: {}, wanted {}: {}", target.id, target.found(), target.wanted(), target.how)
    });
    lines.collect::<Vec<_>>().join("\n")
}

impl Target {
    pub(crate) fn found(&self) -> String {
        let [low, high] = self.range;
        show(Some(Spread { median: self.value, low, high }))
    }

    pub(crate) fn wanted(&self) -> String {
        format!("{} {} {}", if self.at_least { "≥" } else { "≤" }, self.target, self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_from_its_side_and_one_without_a_figure_is_left_out() {
        let found = Some(Spread { median: 0.7, low: 0.6, high: 0.8 });
        let met = |is| Target::new("P1", found, (is, 0.65), "×", "").map(|target| target.met);
        assert_eq!((met(Is::AtLeast), met(Is::AtMost)), (Some(true), Some(false)));
        let target = Target::new("P1", found, (Is::AtLeast, 0.65), "×", "rate").unwrap();
        assert_eq!(shown(&[target]), "- P1 met: 0.70 (0.60–0.80), wanted ≥ 0.65 ×: rate");
        assert_eq!(Target::new("P1", None, (Is::AtLeast, 0.65), "×", ""), None);
    }
}
