//! How fast may a tenant's loop take messages? As fast as it has room, unless the bus itself is in trouble:
//! then one at a time and ever more rarely, so that a long outage does not use up the messages' attempts.

use std::time::{Duration, Instant};

use crate::lanes::{FaultOwner, backoff::doubling};

/// The bus is well enough again to give a message up when it was not in trouble for so long, or half of the
/// time that giving up takes, if that is shorter. Longer than an agent takes to register anew with a
/// registry that has lost it.
const EXCUSED_FOR: Duration = Duration::from_secs(60);
const WAIT_MIN: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(15);

/// One loop's pace.
#[derive(Debug)]
pub(super) struct Pace {
    /// One after the other without a message that went through.
    failures: u32,
    not_before: Option<Instant>,
    /// When the bus was last in trouble, as far as this tenant's messages met it, or when the loop began: a
    /// node that has just started does not know what was before.
    trouble: Instant,
    excused_for: Duration,
}

impl Pace {
    pub(super) fn new(give_up_after: Duration, now: Instant) -> Self {
        Self { failures: 0, not_before: None, trouble: now, excused_for: EXCUSED_FOR.min(give_up_after / 2) }
    }

    /// What came of one message; `None`: it was settled.
    pub(super) fn heard(&mut self, again: Option<FaultOwner>, now: Instant) {
        match again {
            Some(FaultOwner::Bus) => {
                self.trouble = now;
                // Those that were in hand together fail together, and count once.
                if self.not_before.is_none_or(|not_before| not_before <= now) {
                    self.failures = self.failures.saturating_add(1);
                    self.not_before = Some(now + doubling(WAIT_MIN, WAIT_MAX, self.failures.into()));
                }
            }
            // Attempts were spent on that, and the tenant's other messages go on.
            Some(FaultOwner::Operator) => self.trouble = now,
            Some(FaultOwner::Message) | None => {
                self.failures = 0;
                self.not_before = None;
            }
        }
    }

    /// Whether attempts were lately spent on the bus's own trouble.
    pub(super) fn excused(&self, now: Instant) -> bool {
        now.duration_since(self.trouble) < self.excused_for
    }

    /// Messages that may be in hand now, of `most`.
    pub(super) fn allowed(&self, most: usize, now: Instant) -> usize {
        match (self.failures, self.not_before) {
            (_, Some(not_before)) if now < not_before => 0,
            (0, _) => most,
            (_, _) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_the_bus_is_in_trouble_one_message_tries_at_a_time_and_ever_more_rarely() {
        let mut now = Instant::now();
        let mut pace = Pace::new(Duration::from_secs(120), now);
        assert_eq!(pace.allowed(64, now), 64);
        let mut waits = Vec::new();
        for _ in 0..8 {
            // Several that were in hand fail at the same instant.
            pace.heard(Some(FaultOwner::Bus), now);
            pace.heard(Some(FaultOwner::Bus), now);
            assert_eq!(pace.allowed(64, now), 0);
            let mut wait = Duration::ZERO;
            while pace.allowed(64, now + wait) == 0 {
                wait += Duration::from_millis(250);
            }
            waits.push(wait);
            now += wait;
            assert_eq!(pace.allowed(64, now), 1);
        }
        assert!(waits.is_sorted() && waits.first() == Some(&WAIT_MIN), "{waits:?}");
        assert_eq!(waits.last(), Some(&WAIT_MAX));
        pace.heard(None, now);
        assert_eq!(pace.allowed(64, now), 64);
    }

    #[test]
    fn trouble_excuses_failures_for_a_while() {
        let start = Instant::now();
        let mut pace = Pace::new(Duration::from_secs(120), start);
        assert!(pace.excused(start), "it does not know what was before its start");
        let now = start + EXCUSED_FOR;
        pace.heard(Some(FaultOwner::Message), now);
        assert!(!pace.excused(now));
        pace.heard(Some(FaultOwner::Bus), now);
        pace.heard(None, now);
        assert!(pace.excused(now + EXCUSED_FOR / 2));
        assert!(!pace.excused(now + EXCUSED_FOR));
        let hasty = Pace::new(Duration::from_secs(9), start);
        assert!(!hasty.excused(start + Duration::from_secs(5)), "messages are given up sooner");
    }
}
