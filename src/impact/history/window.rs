//! How many messages were there within the last minute? Counted by second, in a fixed space.

use crate::state::PAST_SECONDS;

/// One bucket more than the window has seconds: the window never forgets a message before 60 s have
/// passed, and never remembers one for longer than 61 s.
const BUCKETS: usize = PAST_SECONDS as usize;

#[derive(Debug, Clone)]
pub(super) struct Window {
    /// Messages by second, at the second modulo `BUCKETS`. A full bucket counts no more.
    buckets: [u16; BUCKETS],
    /// The sum of `buckets`.
    messages: u32,
    /// The second of the youngest bucket.
    newest: u64,
}

impl Default for Window {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], messages: 0, newest: 0 }
    }
}

impl Window {
    /// Messages of the window that ends with the newest second.
    pub(super) fn messages(&self) -> u32 {
        self.messages
    }

    /// Moves the window's end to this second.
    pub(super) fn advance(&mut self, second: u64) {
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
            *self = Self { newest: second, ..Self::default() };
        }
        // A little back, as between threads: what comes counts for the newest second.
    }

    /// Counts messages of the newest second.
    pub(super) fn count(&mut self, messages: u64) {
        self.count_at(self.newest, messages);
    }

    /// Counts messages of a second that is not newer than the newest; one that has left the window
    /// counts nothing.
    pub(super) fn count_at(&mut self, second: u64, messages: u64) {
        if second > self.newest || self.newest - second >= BUCKETS as u64 {
            return;
        }
        if let Some(bucket) = self.buckets.get_mut(place(second)) {
            let more = u16::try_from(messages).unwrap_or(u16::MAX).min(u16::MAX - *bucket);
            *bucket += more;
            self.messages += u32::from(more);
        }
    }

    /// Counts what another window counted, as far as it is still within this one.
    pub(super) fn count_all(&mut self, other: &Window) {
        for (second, messages) in other.seconds() {
            self.count_at(second, messages);
        }
    }

    /// Seconds with messages, newest first.
    pub(super) fn seconds(&self) -> impl Iterator<Item = (u64, u64)> {
        let until = if self.messages == 0 { 0 } else { BUCKETS as u64 };
        (0..until).filter_map(|age| {
            let second = self.newest.checked_sub(age)?;
            let messages = u64::from(*self.buckets.get(place(second))?);
            (messages > 0).then_some((second, messages))
        })
    }
}

fn place(second: u64) -> usize {
    // The remainder is below `BUCKETS`, so it fits.
    usize::try_from(second % BUCKETS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(window: &mut Window, second: u64) -> u32 {
        window.advance(second);
        window.count(1);
        window.messages()
    }

    #[test]
    fn a_message_counts_for_sixty_seconds_and_then_no_more() {
        let mut window = Window::default();
        assert_eq!(record(&mut window, 1_000), 1);
        assert_eq!(record(&mut window, 1_030), 2);
        assert_eq!(record(&mut window, 1_060), 3);
        assert_eq!(record(&mut window, 1_061), 3, "the first is out");
        assert_eq!(record(&mut window, 2_000), 1, "all are out");
    }

    #[test]
    fn the_count_is_that_of_a_list_of_all_times() {
        let mut window = Window::default();
        let mut times: Vec<u64> = Vec::new();
        let mut second = 1_000_000;
        for step in 0..5_000_u64 {
            second += (step * 7_919 % 13) / 11 * (step % 40);
            times.push(second);
            let expected = times.iter().filter(|&&time| second - time < PAST_SECONDS).count();
            assert_eq!(record(&mut window, second) as usize, expected);
            let mut copy = Window::default();
            copy.advance(second);
            copy.count_all(&window);
            assert_eq!(copy.messages() as usize, expected, "seconds() leaves nothing out");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_freeze_the_count() {
        let mut window = Window::default();
        for _ in 0..200 {
            record(&mut window, 10_000);
        }
        assert_eq!(record(&mut window, 9_999), 201, "a little back is the same second");
        assert_eq!(record(&mut window, 0), 1);
        assert_eq!(record(&mut window, 62), 1);
    }

    #[test]
    fn a_flood_fills_a_bucket_and_no_more() {
        let mut window = Window::default();
        for _ in 0..100_000 {
            record(&mut window, 0);
        }
        assert_eq!(record(&mut window, 0), u32::from(u16::MAX));
        window.count(u64::MAX);
        assert_eq!(window.messages(), u32::from(u16::MAX));
        assert_eq!(record(&mut window, 100), 1);
    }
}
