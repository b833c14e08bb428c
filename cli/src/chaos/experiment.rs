//! What is an experiment? A hypothesis, one fault, how far it may reach and for how long, and what should be seen.

use std::{path::Path, time::Duration};

use agentbus::{
    servers::{control::LASTS_MAX, stack::Fault},
    text_file,
};
use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

const FILE_BYTES_MAX: u64 = 16 * 1024;
const HYPOTHESIS_MAX: usize = 300;
const LASTS_MIN: Duration = Duration::from_millis(500);
const HEALTHY_MAX: Duration = Duration::from_secs(60);

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../chaos/", $name, ".toml")))),*]
    };
}

/// In the order in which they are made.
const SHIPPED: &[(&str, &str)] = shipped![
    "node-stalls",
    "node-dies",
    "node-clock-ahead",
    "node-clock-behind",
    "redis-late",
    "redis-stalls",
    "redis-dies",
    "redis-full",
    "redis-parted",
    "redis-errors",
    "redis-breaker",
    "nats-late",
    "nats-stalls",
    "nats-dies",
    "nats-full",
    "nats-parted",
];

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Experiment {
    /// Of its file.
    #[serde(default, skip_deserializing)]
    pub(super) name: String,
    /// What should hold, for people.
    pub(super) hypothesis: String,
    /// The blast radius: processes that the fault may be done to.
    pub(super) radius: Vec<String>,
    /// How long the fault is in force.
    #[serde(with = "humantime_serde")]
    pub(super) lasts: Duration,
    pub(super) fault: Fault,
    pub(super) during: During,
    pub(super) after: After,
}

/// What should be seen while the fault is in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct During {
    /// Of the messages, so many are delivered within two seconds; 0 to 1.
    pub(super) served_min: f64,
    /// A part of `/readyz` that some node says is not well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tells: Option<String>,
    /// What NATS had taken for a recipient may be gone with it: the fast lane promises no more.
    #[serde(default)]
    pub(super) loses_in_flight: bool,
    /// Records that JetStream had taken and could not write may be gone, as those of the fast lane are not waited for.
    #[serde(default)]
    pub(super) loses_records: bool,
}

/// What should be seen when it is mended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct After {
    /// All nodes are ready, no part of them is ill, and messages are delivered.
    #[serde(with = "humantime_serde")]
    pub(super) healthy_within: Duration,
}

/// All that come with the program.
pub(super) fn shipped() -> anyhow::Result<Vec<Experiment>> {
    SHIPPED.iter().map(|(name, text)| Experiment::parse(name, text)).collect()
}

impl Experiment {
    /// One that comes with the program, or a file.
    pub(super) fn find(name: &str) -> anyhow::Result<Self> {
        if let Some((name, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            return Self::parse(name, text);
        }
        let path = Path::new(name);
        if !path.exists() {
            bail!("found {name:?}, expected a file, or a name that `agentbus chaos list` shows");
        }
        let text = text_file::read(path, FILE_BYTES_MAX).with_context(|| path.display().to_string())?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Self::parse(&stem, &text)
    }

    fn parse(name: &str, text: &str) -> anyhow::Result<Self> {
        let read = toml::from_str::<Self>(text).map_err(anyhow::Error::from);
        let read = read.and_then(|read| read.check().map(|()| Self { name: name.to_owned(), ..read }));
        read.with_context(|| format!("experiment {name}"))
    }

    fn check(&self) -> anyhow::Result<()> {
        let Self { hypothesis, radius, lasts, fault, during, after, .. } = self;
        let length = hypothesis.chars().count();
        ensure!(
            (1..=HYPOTHESIS_MAX).contains(&length),
            "hypothesis: found {length} characters, expected 1 to {HYPOTHESIS_MAX}"
        );
        ensure!(
            (LASTS_MIN..=LASTS_MAX).contains(lasts),
            "lasts: found {lasts:?}, expected {LASTS_MIN:?} to {LASTS_MAX:?}"
        );
        ensure!(
            radius.iter().any(|reached| reached == fault.reaches()),
            "radius: found {}, and the fault is done to {}",
            radius.join(", "),
            fault.reaches()
        );
        let served = during.served_min;
        ensure!((0.0..=1.0).contains(&served), "during.served_min: found {served}, expected 0 to 1");
        let within = after.healthy_within;
        ensure!(
            within <= HEALTHY_MAX,
            "after.healthy_within: found {within:?}, expected at most {HEALTHY_MAX:?}"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn all_that_are_shipped_can_be_read_and_every_file_is_shipped() {
        let names: Vec<_> = shipped().unwrap().into_iter().map(|experiment| experiment.name).collect();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../chaos");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        let mut sorted = names.clone();
        sorted.sort();
        assert_eq!(sorted, files);
    }

    #[test]
    fn what_is_wrong_with_one_is_said() {
        let good = SHIPPED[0].1;
        for (from, to, told) in [
            ("lasts = \"6s\"", "lasts = \"5m\"", "lasts: found 300s"),
            (
                "radius = [\"node-1\"]",
                "radius = [\"redis\"]",
                "radius: found redis, and the fault is done to node-1",
            ),
            ("0.4", "1.4", "during.served_min"),
            ("\"stall\"", "\"melt\"", "unknown variant `melt`"),
            ("hypothesis = \"A", "weather = 1\nhypothesis = \"A", "unknown field `weather`"),
            ("target = \"node-1\"", "target = \"node-1\", for = 3", "unknown field `for`"),
        ] {
            assert!(good.contains(from), "{from}");
            let error = Experiment::parse("x", &good.replace(from, to)).unwrap_err();
            let text = agentbus::phrase::causes(error.as_ref());
            assert!(text.contains(told) && text.starts_with("experiment x"), "{text}");
        }
    }
}
