//! What do a run and its client processes tell each other? Lines of JSON: the job goes in first, then one
//! word at a time; what was seen comes out.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    corpus::Corpora,
    profile::{Load, Profile, Side},
    tally::Tally,
};

/// One measurement, as one of the client processes has to make it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Job {
    pub(crate) nats: String,
    pub(crate) side: Side,
    /// Where the seeds of the users are.
    pub(crate) keys: PathBuf,
    /// Of `profile.processes`, from 0.
    pub(crate) process: u32,
    pub(crate) profile: Profile,
    pub(crate) corpora: Corpora,
    pub(crate) load: Load,
}

/// To a client process, one on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Word {
    /// Start to send.
    Go,
    /// Send no more, and tell what was sent.
    Stop,
    /// Everybody has stopped: tell what has arrived, and end.
    End,
}

/// From a client process, one on a line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Told {
    /// Everybody is connected and registered.
    Ready,
    Slice(Slice),
    Stopped(Sent),
    Arrived(u64),
    /// It cannot go on.
    Failed(String),
}

/// What a process saw in a slice of time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Slice {
    pub(crate) took: Duration,
    pub(crate) parts: Vec<Part>,
}

/// What one entry of one group's mix saw in a slice.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) group: usize,
    pub(crate) entry: usize,
    pub(crate) tally: Tally,
}

/// From the first to the last, warm-up included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sent {
    /// Deliveries that verdicts have promised.
    pub(crate) promised: u64,
    /// What may have been delivered or not: requests that failed, and what reviewers decide.
    pub(crate) unknown: u64,
}

impl Sent {
    pub(crate) fn add(&mut self, other: Self) {
        self.promised += other.promised;
        self.unknown += other.unknown;
    }

    /// Messages that are lost or doubled, if so many arrived.
    pub(crate) fn miscounted(self, arrived: u64) -> u64 {
        let most = self.promised + self.unknown;
        self.promised.saturating_sub(arrived) + arrived.saturating_sub(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_may_have_arrived_and_everything_else_must_once() {
        let sent = Sent { promised: 100, unknown: 3 };
        for (arrived, miscounted) in [(100, 0), (103, 0), (99, 1), (104, 1), (0, 100)] {
            assert_eq!(sent.miscounted(arrived), miscounted, "{arrived}");
        }
    }
}
