//! What is remembered of one sender: its messages of the last minute and its last semantic scores.
//!
//! Fixed in size, whatever the sender does.

use crate::domain::Timestamp;

/// One bucket more than the window has seconds: the window never forgets a message before 60 s have
/// passed, and never remembers one for longer than 61 s.
const BUCKETS: usize = 61;
const SCORES: usize = 20;

#[derive(Debug)]
pub(super) struct History {
    /// Messages by second, at the second modulo `BUCKETS`. A full bucket counts no more.
    buckets: [u16; BUCKETS],
    /// The sum of `buckets`.
    messages: u32,
    /// The second of the youngest bucket.
    newest: u64,
    scores: [f64; SCORES],
    /// Scores written so far; the next goes to this modulo `SCORES`.
    written: usize,
}

impl Default for History {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], messages: 0, newest: 0, scores: [0.0; SCORES], written: 0 }
    }
}

impl History {
    /// Counts a message; how many there were within the window, this one included.
    pub(super) fn record_message(&mut self, now: Timestamp) -> u32 {
        self.advance(now.0 / 1_000);
        if let Some(bucket) = self.buckets.get_mut(place(self.newest))
            && let Some(more) = bucket.checked_add(1)
        {
            *bucket = more;
            self.messages += 1;
        }
        self.messages
    }

    fn advance(&mut self, second: u64) {
        let window = BUCKETS as u64;
        if second > self.newest {
            for passed in self.newest + 1..=second.min(self.newest.saturating_add(window)) {
                if let Some(bucket) = self.buckets.get_mut(place(passed)) {
                    self.messages -= u32::from(*bucket);
                    *bucket = 0;
                }
            }
            self.newest = second;
        } else if self.newest - second >= window {
            // The clock was set back. What was counted would otherwise stay until it catches up.
            self.buckets = [0; BUCKETS];
            self.messages = 0;
            self.newest = second;
        }
        // A little back, as between threads: it counts for the newest second.
    }

    /// Remembers a semantic score; the mean of those before it, if there were any.
    pub(super) fn record_semantic(&mut self, score: f64) -> Option<f64> {
        let known = self.written.min(SCORES);
        let sum: f64 = self.scores.iter().take(known).sum();
        let mean = (known > 0).then(|| sum / known as f64);
        if let Some(slot) = self.scores.get_mut(self.written % SCORES) {
            *slot = score;
        }
        self.written += 1;
        mean
    }
}

fn place(second: u64) -> usize {
    // The remainder is below `BUCKETS`, so it fits.
    usize::try_from(second % BUCKETS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(1_767_225_600_000 + seconds * 1_000)
    }

    #[test]
    fn a_message_counts_for_sixty_seconds_and_then_no_more() {
        let mut history = History::default();
        assert_eq!(history.record_message(at(0)), 1);
        assert_eq!(history.record_message(at(30)), 2);
        assert_eq!(history.record_message(at(60)), 3);
        assert_eq!(history.record_message(at(61)), 3, "the first is out");
        assert_eq!(history.record_message(at(1_000)), 1, "all are out");
    }

    #[test]
    fn the_count_is_that_of_a_list_of_all_times() {
        let mut history = History::default();
        let mut times: Vec<u64> = Vec::new();
        let mut second = 0;
        for step in 0..5_000_u64 {
            second += (step * 7_919 % 13) / 11 * (step % 40);
            times.push(second);
            let expected = times.iter().filter(|&&time| second - time < BUCKETS as u64).count();
            assert_eq!(history.record_message(at(second)) as usize, expected);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_freeze_the_count() {
        let mut history = History::default();
        for _ in 0..200 {
            history.record_message(at(10_000));
        }
        assert_eq!(history.record_message(at(9_999)), 201, "a little back is the same second");
        assert_eq!(history.record_message(at(0)), 1);
        assert_eq!(history.record_message(at(62)), 1);
    }

    #[test]
    fn a_flood_fills_a_bucket_and_no_more() {
        let mut history = History::default();
        for _ in 0..100_000 {
            history.record_message(at(0));
        }
        assert_eq!(history.record_message(at(0)), u32::from(u16::MAX));
        assert_eq!(history.record_message(at(100)), 1);
    }

    #[test]
    fn the_mean_is_of_the_last_twenty_before_this_one() {
        let mut history = History::default();
        assert_eq!(history.record_semantic(0.8), None);
        assert_eq!(history.record_semantic(0.0), Some(0.8));
        for _ in 0..18 {
            history.record_semantic(0.0);
        }
        assert!(history.record_semantic(0.5).is_some_and(|mean| (mean - 0.04).abs() < 1e-12));
        assert!(history.record_semantic(0.5).is_some_and(|mean| (mean - 0.025).abs() < 1e-12));
    }
}
