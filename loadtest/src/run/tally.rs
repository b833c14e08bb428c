//! What was seen: counts, and latencies as HDR histograms, which add up over processes, slices and rounds.

use std::collections::BTreeMap;

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer as _, V2DeflateSerializer},
};
use serde::{Deserialize, Serialize, de::Error as _, ser::Error as _};

/// Latencies are recorded from 1 µs to one minute, to three digits.
const LATENCY_MAX_US: u64 = 60_000_000;
/// Different failures told apart.
const FAILURES_MAX: usize = 32;
const OTHER: &str = "other";
/// Of a histogram in base64; a full one has some fifty thousand.
const HISTOGRAM_BYTES_MAX: usize = 1024 * 1024;

/// Microseconds. Written as other HDR tools do: V2, compressed, base64.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Latency(Histogram<u64>);

impl Default for Latency {
    #[expect(clippy::expect_used, reason = "the bounds are constants, and valid")]
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("valid bounds"))
    }
}

impl Latency {
    pub(crate) fn record(&mut self, took: std::time::Duration) {
        self.0.saturating_record(u64::try_from(took.as_micros()).unwrap_or(LATENCY_MAX_US));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        // Of the same bounds, so that nothing can be outside; if it were, the count would show it.
        let _ = self.0.add(&other.0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Microseconds at a share of all, 0.5 for the median. 0 when there are none.
    pub(crate) fn at(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64
    }

    pub(crate) fn max(&self) -> f64 {
        self.0.max() as f64
    }

    fn text(&self) -> anyhow::Result<String> {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&self.0, &mut bytes)?;
        Ok(STANDARD.encode(bytes))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let bytes = text.len();
        anyhow::ensure!(bytes <= HISTOGRAM_BYTES_MAX, "found {bytes} bytes, expected a histogram");
        let bytes = STANDARD.decode(text).context("expected a histogram in base64")?;
        let read: Histogram<u64> =
            Deserializer::new().deserialize(&mut bytes.as_slice()).context("expected an HDR histogram")?;
        let mut own = Self::default();
        own.0.add(&read).context("expected latencies up to a minute")?;
        Ok(own)
    }
}

impl Serialize for Latency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.is_empty() {
            true => serializer.serialize_str(""),
            false => serializer.serialize_str(&self.text().map_err(S::Error::custom)?),
        }
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.is_empty() {
            true => Ok(Self::default()),
            false => Self::parse(&text).map_err(|error| D::Error::custom(format!("{error:#}"))),
        }
    }
}

/// What became of the requests of a time and a kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tally {
    /// As they should be.
    pub(crate) answered: u64,
    pub(crate) latency: Latency,
    /// To the recipient's durable inbox, of what is submitted.
    pub(crate) inbox: Latency,
    /// What verdicts say that the node itself took, of a sample.
    pub(crate) node_time: Latency,
    /// Of answers that there is no room, or not yet.
    #[serde(default)]
    pub(crate) refused: Latency,
    /// Answers that were none or another, by reason.
    pub(crate) failures: BTreeMap<String, u64>,
    /// So often the open loop had to wait because too many answers were outstanding.
    pub(crate) held_back: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.latency.add(&other.latency);
        self.inbox.add(&other.inbox);
        self.node_time.add(&other.node_time);
        self.refused.add(&other.refused);
        self.held_back += other.held_back;
        for (what, count) in &other.failures {
            self.failed(what, *count);
        }
    }

    pub(crate) fn failed(&mut self, what: &str, count: u64) {
        let room = self.failures.len() < FAILURES_MAX || self.failures.contains_key(what);
        let what = if room { what } else { OTHER };
        *self.failures.entry(what.to_owned()).or_default() += count;
    }

    pub(crate) fn failed_total(&self) -> u64 {
        self.failures.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn tally(micros: std::ops::Range<u64>, failure: &str) -> Tally {
        let mut tally = Tally::default();
        for micros in micros {
            tally.answered += 1;
            tally.latency.record(Duration::from_micros(micros));
        }
        tally.failed(failure, 2);
        tally
    }

    #[test]
    fn tallies_of_two_processes_add_up_to_that_of_one() {
        let mut both = tally(1..500, "overloaded");
        both.add(&tally(500..1000, "overloaded"));
        let mut one = tally(1..1000, "overloaded");
        one.failed("overloaded", 2);
        assert_eq!(both, one);
        assert_eq!((both.latency.at(0.5), both.latency.max(), both.latency.count()), (500.0, 999.0, 999));
    }

    #[test]
    fn a_histogram_is_the_same_after_it_was_written_and_read() {
        let written = serde_json::to_string(&tally(1..30_000, "timed_out")).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&written).unwrap(), tally(1..30_000, "timed_out"));
        assert!(written.contains("HISTFAAA"), "{written}");
        let empty = serde_json::to_string(&Tally::default()).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&empty).unwrap(), Tally::default());
    }

    #[test]
    fn what_is_no_histogram_is_told_and_read_as_none() {
        for text in ["\"?\"", "\"AAAA\"", "7"] {
            let error = serde_json::from_str::<Latency>(text).unwrap_err().to_string();
            assert!(error.contains("expected"), "{text}: {error}");
        }
    }

    #[test]
    fn failures_that_are_told_apart_have_a_bound() {
        let mut tally = Tally::default();
        (0..100).for_each(|n| tally.failed(&format!("reason {n}"), 1));
        assert_eq!((tally.failures.len(), tally.failed_total()), (FAILURES_MAX + 1, 100));
    }
}
