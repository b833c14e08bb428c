//! What is run for which figure?

use std::time::Duration;

use super::over_nats;
use crate::{
    run::{
        profile::{Load, Profile, Side},
        sheet::Report,
    },
    targets::Target,
};

/// Counted of each measurement; a profile of its own right may take longer.
const MEASURE: Duration = Duration::from_secs(2);
const BESIDE_A_BARE_NODE: &[Side] = &[Side::Baseline, Side::Bus];
const ALONE: &[Side] = &[Side::Bus];

/// One run that gives some figures.
pub(super) struct Part {
    pub(super) figures: &'static [&'static str],
    pub(super) what: &'static str,
    /// Only when it is named.
    pub(super) long: bool,
    pub(super) how: How,
}

pub(super) enum How {
    Profile(Cut),
    Stages,
    Registry,
    Metering,
    Reading,
    Decisions,
    Program,
}

/// A part of a profile that ships.
pub(super) struct Cut {
    pub(super) profile: &'static str,
    /// By their labels; all when there are none.
    loads: &'static [&'static str],
    sides: &'static [Side],
    pub(super) targets: fn(&Report) -> Vec<Target>,
}

pub(super) const PARTS: &[Part] = &[
    Part {
        figures: &["P1", "P2", "P4"],
        what: "A governed send beside a bare node",
        long: false,
        how: How::Profile(Cut {
            profile: "saturate",
            loads: &["1 in flight", "64 in flight", "256 in flight"],
            sides: BESIDE_A_BARE_NODE,
            targets: over_nats::saturated,
        }),
    },
    Part {
        figures: &["P1"],
        what: "The same of 24 tenants",
        long: false,
        how: How::Profile(Cut {
            profile: "tenants",
            loads: &["256 in flight"],
            sides: BESIDE_A_BARE_NODE,
            targets: over_nats::beside_baseline,
        }),
    },
    Part {
        figures: &["P1"],
        what: "The same of a thousand senders that pause",
        long: false,
        how: How::Profile(Cut {
            profile: "senders",
            loads: &[],
            sides: BESIDE_A_BARE_NODE,
            targets: over_nats::beside_baseline,
        }),
    },
    Part {
        figures: &["P1"],
        what: "The same of office traffic, scored by the default model",
        long: false,
        how: How::Profile(Cut {
            profile: "office",
            loads: &["64 in flight"],
            sides: BESIDE_A_BARE_NODE,
            targets: over_nats::beside_baseline,
        }),
    },
    Part {
        figures: &["P3"],
        what: "In an open loop",
        long: false,
        how: How::Profile(Cut {
            profile: "open-loop",
            loads: &["6310/s, open"],
            sides: BESIDE_A_BARE_NODE,
            targets: over_nats::open,
        }),
    },
    Part {
        figures: &["P4"],
        what: "Where no decision of the policy is cached",
        long: false,
        how: How::Profile(Cut {
            profile: "uncached",
            loads: &["64 in flight"],
            sides: ALONE,
            targets: over_nats::uncached,
        }),
    },
    Part { figures: &["P5", "P6"], what: "The stages by themselves", long: false, how: How::Stages },
    Part { figures: &["P7", "P8"], what: "A hundred thousand agents", long: false, how: How::Registry },
    Part { figures: &["P9"], what: "What agents have used", long: false, how: How::Metering },
    Part {
        figures: &["P11"],
        what: "Beside a saturated model",
        long: false,
        how: How::Profile(Cut {
            profile: "model-heavy",
            loads: &[],
            sides: ALONE,
            targets: over_nats::beside_model,
        }),
    },
    Part {
        figures: &["P12"],
        what: "More nodes, each with the same share of a core",
        long: false,
        how: How::Profile(Cut { profile: "scaling", loads: &[], sides: ALONE, targets: over_nats::scaled }),
    },
    Part { figures: &["P13"], what: "Decisions that are remembered", long: false, how: How::Decisions },
    Part {
        figures: &["P14"],
        what: "The durable lane beside JetStream alone",
        long: false,
        how: How::Profile(Cut {
            profile: "durable",
            loads: &["64 in flight", "256 in flight"],
            sides: BESIDE_A_BARE_NODE,
            targets: over_nats::durable,
        }),
    },
    Part { figures: &["P15"], what: "The worst texts to read", long: false, how: How::Reading },
    Part { figures: &["P16"], what: "The program", long: false, how: How::Program },
    Part {
        figures: &["G8"],
        what: "Five times the peak",
        long: true,
        how: How::Profile(Cut {
            profile: "overload",
            loads: &[],
            sides: ALONE,
            targets: over_nats::overloaded,
        }),
    },
    Part {
        figures: &["soak"],
        what: "Five minutes at seventy percent of the peak",
        long: true,
        how: How::Profile(Cut { profile: "soak", loads: &[], sides: ALONE, targets: over_nats::soaked }),
    },
];

impl Cut {
    pub(super) fn apply(&self, profile: &mut Profile, rounds: Option<u32>) {
        profile.sides = self.sides.to_vec();
        let kept = |load: &Load| self.loads.is_empty() || self.loads.contains(&load.label().as_str());
        profile.load.retain(kept);
        // A long measurement is one, and would not be a soak if it were short.
        if profile.measure < Duration::from_secs(60) {
            profile.measure = MEASURE;
            profile.rounds = rounds.unwrap_or(profile.rounds);
        }
    }
}

/// Each figure once, in order.
pub(crate) fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for name in PARTS.iter().flat_map(|part| part.figures) {
        if !names.contains(name) {
            names.push(name);
        }
    }
    names
}

/// What is run for each figure.
pub(crate) fn help() -> String {
    let line = |name: &&str| {
        let parts = PARTS.iter().filter(|part| part.figures.contains(name));
        let lines = parts.map(|part| format!("  {name:5} {}", part.what));
        lines.collect::<Vec<_>>().join("\n")
    };
    let lines: Vec<String> = names().iter().map(line).collect();
    format!(
        "Figures:\n{}\n\nExamples:\n  loadtest measure P7\n  loadtest measure --json all.json --html all.html",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{check, shelf};

    #[test]
    fn every_part_finds_its_loads_and_may_be_run() {
        for part in PARTS {
            let How::Profile(cut) = &part.how else { continue };
            let mut profile = shelf::find(cut.profile).unwrap().profile;
            let all = profile.load.len();
            cut.apply(&mut profile, Some(3));
            let wanted = if cut.loads.is_empty() { all } else { cut.loads.len() };
            assert_eq!(profile.load.len(), wanted, "{}", part.what);
            check::check(&profile).unwrap_or_else(|error| panic!("{}: {error}", part.what));
        }
    }

    #[test]
    fn the_help_names_every_figure_with_what_is_run() {
        let help = help();
        for part in PARTS {
            assert!(
                part.figures.iter().all(|name| help.contains(&format!("  {name:5} {}", part.what))),
                "{help}"
            );
        }
    }
}
