//! What does a profile say? A TOML file: who there is, what is sent, under which loads, on which sides.
//!
//! An unknown key is an error. What the values may be is in [`super::check`]. [`mix`]: what a group sends. [`load`]: what
//! it is put under.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use agentbus::tenants::DiskSync;
use serde::{Deserialize, Serialize};

pub(crate) use load::{Load, Ramp};
pub(crate) use mix::{Entry, Expect, Recipient, Way};

mod load;
mod mix;

/// A whole profile. `docs/benchmarks.md` explains every key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    /// In one line: what is it for?
    pub(crate) about: String,
    #[serde(default = "defaults::sides")]
    pub(crate) sides: Vec<Side>,
    /// Turns of each side.
    #[serde(default = "defaults::rounds")]
    pub(crate) rounds: u32,
    /// Counted, of each measurement.
    #[serde(default = "defaults::measure", with = "humantime_serde")]
    pub(crate) measure: Duration,
    /// Not counted, at least.
    #[serde(default = "defaults::warm_up", with = "humantime_serde")]
    pub(crate) warm_up: Duration,
    /// Not counted, at most, while the load is not steady.
    #[serde(default = "defaults::warm_up_max", with = "humantime_serde")]
    pub(crate) warm_up_max: Duration,
    /// Client processes that share the load.
    #[serde(default = "defaults::one")]
    pub(crate) processes: u32,
    /// Connections of each sender in each process.
    #[serde(default = "defaults::one")]
    pub(crate) connections: u32,
    #[serde(default = "defaults::one")]
    pub(crate) nodes: u32,
    /// Of a core, that each node may use. All there is, unless said.
    #[serde(default)]
    pub(crate) node_cores: Option<f64>,
    /// When the server syncs what it has stored.
    #[serde(default, with = "sync")]
    pub(crate) sync: DiskSync,
    /// Nodes keep registry and idempotency in memory, not in Redis.
    #[serde(default)]
    pub(crate) memory: bool,
    /// Lines of the nodes' configuration.
    #[serde(default)]
    pub(crate) node: Vec<String>,
    pub(crate) group: Vec<Group>,
    pub(crate) load: Vec<Load>,
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    /// The agents themselves, on a bare NATS server: no hop between them.
    Direct,
    /// A bare node that passes everything on.
    Baseline,
    Bus,
}

impl Side {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Side::Direct => "direct",
            Side::Baseline => "baseline",
            Side::Bus => "bus",
        }
    }
}

/// Tenants that are alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    pub(crate) name: String,
    #[serde(default = "defaults::one")]
    pub(crate) tenants: u32,
    /// Agents of each tenant that send.
    #[serde(default = "defaults::one")]
    pub(crate) senders: u32,
    /// Agents of each tenant that receive; each has [`CAPABILITY`] and [`ROLE`].
    #[serde(default = "defaults::one")]
    pub(crate) recipients: u32,
    /// Agents of each tenant that approve what waits for reviewers.
    #[serde(default)]
    pub(crate) judges: u32,
    /// Lines of each tenant's entry in the tenants file.
    #[serde(default)]
    pub(crate) tenant: Vec<String>,
    /// What it sends while it is another group's neighbour.
    pub(crate) background: Option<Background>,
    pub(crate) mix: Vec<Entry>,
}

pub(crate) const CAPABILITY: &str = "work";
pub(crate) const ROLE: &str = "implementer";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Background {
    /// Messages a second, open loop.
    pub(crate) rate: u32,
}

impl Profile {
    /// The group that a load measures.
    pub(crate) fn measured<'a>(&'a self, load: &Load) -> Option<&'a Group> {
        match &load.of {
            None => self.group.first(),
            Some(name) => self.group.iter().find(|group| group.name == *name),
        }
    }

    /// Nodes of the bus under a load.
    pub(crate) fn nodes_of(&self, load: &Load) -> u32 {
        load.nodes.unwrap_or(self.nodes)
    }

    /// What stands in the profile, as lines for the head of a report.
    pub(crate) fn settings(&self) -> BTreeMap<String, String> {
        let time = |duration: Duration| humantime::format_duration(duration).to_string();
        let mut settings = BTreeMap::from([
            ("sides".to_owned(), self.sides.iter().map(|side| side.as_str()).collect::<Vec<_>>().join(", ")),
            ("rounds".to_owned(), format!("{}, the sides in turns", self.rounds)),
            (
                "each measurement".to_owned(),
                format!(
                    "{} after {} to {} of warm-up, until it is steady",
                    time(self.measure),
                    time(self.warm_up),
                    time(self.warm_up_max)
                ),
            ),
            ("client processes".to_owned(), self.processes.to_string()),
            ("connections of each sender".to_owned(), self.connections.to_string()),
            ("nodes".to_owned(), self.nodes_told()),
            ("synced to disk".to_owned(), self.sync.to_string()),
            ("node's configuration".to_owned(), format!("the defaults, but {}", self.node.join(", "))),
        ]);
        for group in &self.group {
            let mix = group.mix.iter().map(|entry| format!("{} × {}", entry.share, entry.label()));
            let text = format!(
                "{} tenants of {} senders and {} recipients each; {}",
                group.tenants,
                group.senders,
                group.recipients,
                mix.collect::<Vec<_>>().join(", ")
            );
            settings.insert(format!("group {}", group.name), text);
        }
        settings
    }

    fn nodes_told(&self) -> String {
        let counts: BTreeSet<u32> = self.load.iter().map(|load| self.nodes_of(load)).collect();
        let counts = counts.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
        match self.node_cores {
            Some(cores) => format!("{counts}, each with {cores} of a core"),
            None => counts,
        }
    }
}

/// As it is said on the command line: `2m` or `always`.
mod sync {
    use agentbus::tenants::DiskSync;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(sync: &DiskSync, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(sync)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<DiskSync, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

mod defaults {
    use std::time::Duration;

    use super::Side;

    pub(super) fn sides() -> Vec<Side> {
        vec![Side::Bus]
    }

    pub(super) fn one() -> u32 {
        1
    }

    pub(super) fn rounds() -> u32 {
        5
    }

    pub(super) fn measure() -> Duration {
        Duration::from_secs(3)
    }

    pub(super) fn warm_up() -> Duration {
        Duration::from_millis(500)
    }

    pub(super) fn warm_up_max() -> Duration {
        Duration::from_secs(4)
    }
}
