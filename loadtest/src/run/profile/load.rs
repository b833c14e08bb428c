//! What is a group put under?

use serde::{Deserialize, Serialize};

/// What one measurement puts a group under: one of `in_flight`, `rate`, `ramp` and `of_peak`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Load {
    /// The group that is measured; the first unless said.
    pub(crate) of: Option<String>,
    /// Groups that send beside it, each as its `background` says.
    #[serde(default)]
    pub(crate) beside: Vec<String>,
    /// Closed loop: so many wait for their answer at one time.
    pub(crate) in_flight: Option<u32>,
    /// Open loop: messages a second.
    pub(crate) rate: Option<u32>,
    /// Open loop, faster from second to second.
    pub(crate) ramp: Option<Ramp>,
    /// Open loop at so many percent of what a closed loop reaches just before.
    pub(crate) of_peak: Option<u32>,
    /// Nodes of the bus that run meanwhile, instead of the profile's.
    pub(crate) nodes: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ramp {
    pub(crate) from: u32,
    pub(crate) to: u32,
}

impl Load {
    /// As it is called in tables. Two loads of a profile never have the same.
    pub(crate) fn label(&self) -> String {
        let mut label = match (self.of_peak, self.in_flight, self.rate, self.ramp) {
            (Some(percent), ..) => format!("{percent} % of the peak"),
            (_, Some(n), ..) => format!("{n} in flight"),
            (.., Some(rate), _) => format!("{rate}/s, open"),
            (.., Some(Ramp { from, to })) => format!("{from} to {to}/s, ramp"),
            (None, None, None, None) => "none".to_owned(),
        };
        if let Some(nodes) = self.nodes {
            let noun = if nodes == 1 { "node" } else { "nodes" };
            label = format!("{nodes} {noun}, {label}");
        }
        if let Some(of) = &self.of {
            label = format!("{of}: {label}");
        }
        if !self.beside.is_empty() {
            label = format!("{label}, beside {}", self.beside.join(" and "));
        }
        label
    }
}
