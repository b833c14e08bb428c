//! Do this machine and the bus agree on the time, and on the constitution?

use std::time::{Duration, Instant, UNIX_EPOCH};

use agentbus::skew::{TOLERANCE, wall_clock};
use async_nats::Message;
use serde_json::Value;

use super::Sheet;
use crate::context::safe;

/// What time it was where an answer was made, and at the most how long ago.
#[derive(Debug)]
pub(super) struct Told {
    whose: &'static str,
    there: Duration,
    round_trip: Duration,
    here: Duration,
}

impl Told {
    /// Nothing from a node of an earlier version.
    pub(super) fn by_node(answer: &Message, asked: Instant) -> Option<Self> {
        let there = Duration::from_millis(header(answer, "Agentbus-Time")?.parse().ok()?);
        Some(Self::now("the node", there, asked))
    }

    /// JetStream says when it has looked.
    pub(super) fn by_nats(info: &Value, asked: Instant) -> Option<Self> {
        let at = humantime::parse_rfc3339(info.get("ts")?.as_str()?).ok()?;
        Some(Self::now("NATS", at.duration_since(UNIX_EPOCH).ok()?, asked))
    }

    fn now(whose: &'static str, there: Duration, asked: Instant) -> Self {
        Self { whose, there, round_trip: asked.elapsed(), here: Duration::from_millis(wall_clock().0) }
    }

    pub(super) fn check(&self, sheet: &mut Sheet) -> anyhow::Result<()> {
        let (found, off) = self.apart();
        if !off {
            return sheet.well(&found);
        }
        let next = format!(
            "by a clock that is more than {TOLERANCE:?} off, messages are refused for their times: keep this \
             machine's by NTP; if it is right, tell the operator"
        );
        sheet.ill(&found, Some(&next))
    }

    /// By how much, and whether that is too much: the answer may have been made at any time of the round trip.
    fn apart(&self) -> (String, bool) {
        let margin = self.round_trip / 2;
        let there = self.there + margin;
        let (side, by) = match self.here.checked_sub(there) {
            Some(by) => ("ahead of", by),
            None => ("behind", there.saturating_sub(self.here)),
        };
        let found = format!("clock: {:.1} s {side} that of {}", by.as_secs_f64(), self.whose);
        (found, by > TOLERANCE + margin)
    }
}

/// Whether the node that answered takes messages written under `hash`, or which it takes. Nothing from one of an earlier
/// version.
pub(super) fn constitution(answer: &Message, hash: Option<&str>, sheet: &mut Sheet) -> anyhow::Result<()> {
    let Some(in_force) = header(answer, "Agentbus-Constitution") else { return Ok(()) };
    let told = safe(&in_force.replace(',', " or "), 256);
    match (in_force, hash) {
        ("", _) => {
            let next = "the operator says which with `agentbus constitution`";
            sheet.ill("constitution: none is in force, so nothing passes", Some(next))
        }
        (_, None) => sheet.well(&format!("constitution: {told} is in force")),
        (_, Some(hash)) if in_force.split(',').any(|one| one == hash) => {
            sheet.well(&format!("constitution: {hash} is in force"))
        }
        (_, Some(hash)) => {
            let next = "the agent had best ask which one to name, by the verb `about`";
            sheet.ill(&format!("constitution: found {hash}, in force is {told}"), Some(next))
        }
    }
}

fn header<'a>(answer: &'a Message, name: &str) -> Option<&'a str> {
    Some(answer.headers.as_ref()?.get(name)?.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_apart_by_more_than_the_round_trip_can_explain() {
        let seconds = Duration::from_secs;
        for (here, there, round_trip, found, off) in [
            (1_000, 1_000, 0, "clock: 0.0 s ahead of that of NATS", false),
            (1_002, 1_000, 0, "clock: 2.0 s ahead of that of NATS", false),
            (1_003, 1_000, 0, "clock: 3.0 s ahead of that of NATS", true),
            (880, 1_000, 0, "clock: 120.0 s behind that of NATS", true),
            (1_007, 1_000, 8, "clock: 3.0 s ahead of that of NATS", false),
            (1_000, 1_003, 8, "clock: 7.0 s behind that of NATS", true),
        ] {
            let told = Told {
                whose: "NATS",
                there: seconds(there),
                round_trip: seconds(round_trip),
                here: seconds(here),
            };
            assert_eq!(told.apart(), (found.to_owned(), off), "{told:?}");
        }
    }
}
