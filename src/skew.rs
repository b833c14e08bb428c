//! Is this node's clock right? It is compared with the clocks of what all nodes share, whenever those tell
//! what time it is there.
//!
//! A node that is off would refuse what its neighbours deliver, and deliver what has expired. So it takes no
//! requests and decides nothing by its clock until it is right again. One that agrees with any of the others
//! is right: a single server with a wrong clock does not stop the nodes.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::domain::Timestamp;

/// What was heard longer ago says nothing of now.
const FRESH_FOR: Duration = Duration::from_secs(20);
/// Further off, a clock is told of though it is gone by.
const NOTICED: Duration = Duration::from_secs(1);
/// Unless configured.
pub const TOLERANCE: Duration = Duration::from_secs(2);

/// The time of this machine.
pub fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// How far a node's clock is off. Clones share it.
#[derive(Debug, Clone)]
pub struct Skew(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: fn() -> Timestamp,
    tolerance: i64,
    /// By whose clock.
    heard: Mutex<BTreeMap<&'static str, Heard>>,
    /// As it was when somebody was heard last.
    off: watch::Sender<bool>,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    /// The time there, in milliseconds since 1970.
    there: i64,
    /// Up to so many more or less: the answer may have been made at any time of the round trip.
    margin: i64,
    at: Instant,
}

impl Default for Skew {
    fn default() -> Self {
        Self::new(wall_clock, TOLERANCE)
    }
}

impl Skew {
    pub fn new(clock: fn() -> Timestamp, tolerance: Duration) -> Self {
        let tolerance = millis(tolerance);
        Self(Arc::new(Inner { clock, tolerance, heard: Mutex::default(), off: watch::Sender::new(false) }))
    }

    /// It was so late at `source`, since 1970, during the round trip that has just ended.
    pub fn heard(&self, source: &'static str, there: Duration, round_trip: Duration) {
        let margin = millis(round_trip) / 2 + 1;
        let heard = Heard { there: millis(there).saturating_add(margin), margin, at: Instant::now() };
        self.0.heard.lock().insert(source, heard);
        let off = self.is_off();
        if self.0.off.send_if_modified(|known| std::mem::replace(known, off) != off) {
            match self.problem() {
                Some(why) => tracing::error!("{why}"),
                None => tracing::info!("the clock of this machine is right again"),
            }
        }
    }

    /// Nothing may be decided by this node's clock. Known at once when it is set, for other clocks go on.
    pub fn is_off(&self) -> bool {
        self.differs_by(self.0.tolerance)
    }

    /// By more than this, from each that was heard of late.
    fn differs_by(&self, most: i64) -> bool {
        let now = self.now();
        let heard = self.0.heard.lock();
        let mut fresh = heard.values().filter(|heard| heard.is_fresh()).peekable();
        fresh.peek().is_some()
            && fresh.all(|heard| heard.ahead(now).saturating_abs().saturating_sub(heard.margin) > most)
    }

    /// Waits until somebody has told the time.
    pub async fn is_known(&self) {
        while self.0.heard.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether it is off, from now on.
    pub fn changes(&self) -> watch::Receiver<bool> {
        self.0.off.subscribe()
    }

    /// By how much the clock is ahead of each that was heard of late, in seconds.
    pub fn ahead(&self) -> Vec<(&'static str, f64)> {
        let now = self.now();
        let heard = self.0.heard.lock();
        let fresh = heard.iter().filter(|(_, heard)| heard.is_fresh());
        fresh.map(|(source, heard)| (*source, heard.ahead(now) as f64 / 1_000.0)).collect()
    }

    /// What is wrong, for people.
    pub fn problem(&self) -> Option<String> {
        let told = || format!("{}: no requests are taken until it is right", self.told());
        self.is_off().then(told)
    }

    /// What is not wrong enough to take no requests, for people.
    pub fn drift(&self) -> Option<String> {
        let told = || format!("{}: beyond node.clock_tolerance no requests are taken", self.told());
        self.differs_by(millis(NOTICED)).then(told)
    }

    fn told(&self) -> String {
        let each = self.ahead().into_iter().map(|(source, ahead)| {
            let side = if ahead < 0.0 { "behind" } else { "ahead of" };
            format!("{:.1} s {side} that of {source}", ahead.abs())
        });
        format!("the clock of this machine is {}", each.collect::<Vec<_>>().join(", "))
    }

    fn now(&self) -> i64 {
        i64::try_from((self.0.clock)().0).unwrap_or(i64::MAX)
    }
}

impl Heard {
    /// By so many milliseconds a clock that says `now` is ahead of this one.
    fn ahead(&self, now: i64) -> i64 {
        now.saturating_sub(self.there.saturating_add(millis(self.at.elapsed())))
    }

    fn is_fresh(&self) -> bool {
        self.at.elapsed() <= FRESH_FOR
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon() -> Timestamp {
        Timestamp(1_000_000)
    }

    #[test]
    fn a_clock_that_is_set_is_off_at_once() {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NOW: AtomicU64 = AtomicU64::new(1_000_000);
        let skew = Skew::new(|| Timestamp(NOW.load(Ordering::Relaxed)), TOLERANCE);
        skew.heard("a", Duration::from_secs(1_000), Duration::ZERO);
        skew.heard("b", Duration::from_secs(1_000), Duration::ZERO);
        assert!(!skew.is_off());
        NOW.store(1_120_000, Ordering::Relaxed);
        assert!(skew.is_off());
        skew.heard("a", Duration::from_secs(1_120), Duration::ZERO);
        assert!(!skew.is_off());
    }

    #[test]
    fn a_clock_is_off_when_it_agrees_with_nobody() {
        let at = |seconds: u64| Duration::from_secs(seconds);
        let quick = Duration::from_millis(2);
        for (heard, off) in [
            (vec![], false),
            (vec![("a", at(1_000), quick)], false),
            (vec![("a", at(1_001), quick)], false),
            (vec![("a", at(1_120), quick)], true),
            (vec![("a", at(880), quick)], true),
            (vec![("a", at(880), quick), ("b", at(1_000), quick)], false),
            (vec![("a", at(1_000), quick), ("b", at(880), quick)], false),
            (vec![("a", at(880), quick), ("b", at(881), quick)], true),
            // It may have been that late at the other end of a slow round trip.
            (vec![("a", at(995), at(10))], false),
            (vec![("a", at(880), quick), ("a", at(1_000), quick)], false),
            (vec![("a", Duration::MAX, Duration::MAX)], true),
        ] {
            let skew = Skew::new(noon, TOLERANCE);
            for &(source, there, round_trip) in &heard {
                skew.heard(source, there, round_trip);
            }
            assert_eq!((skew.is_off(), skew.problem().is_some()), (off, off), "{heard:?}");
        }
    }

    #[test]
    fn a_clock_that_is_more_than_a_second_off_is_told_of_and_gone_by() {
        let skew = Skew::new(noon, TOLERANCE);
        for (ahead, told) in [(0, false), (900, false), (1_500, true), (-1_500, true)] {
            let there = Duration::from_millis(1_000_000_u64.saturating_add_signed(-ahead));
            skew.heard("a", there, Duration::ZERO);
            assert_eq!((skew.is_off(), skew.drift().is_some()), (false, told), "{ahead} ms");
        }
        let drift = skew.drift().unwrap_or_default();
        assert!(drift.contains("1.5 s behind that of a"), "{drift}");
    }
}
