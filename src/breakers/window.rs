//! How have the calls of the last ten seconds ended?

use std::time::Duration;

/// Of one second each.
const BUCKETS: usize = 10;

/// Ten buckets of one second. Each is emptied when its turn comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window([Bucket; BUCKETS]);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Bucket {
    /// Which second it is of.
    second: u64,
    good: u64,
    bad: u64,
}

impl Window {
    /// Adds calls that have ended at this time.
    pub fn add(&mut self, at: Duration, good: u64, bad: u64) {
        let second = at.as_secs();
        let index = usize::try_from(second % BUCKETS as u64).unwrap_or_default();
        let Some(bucket) = self.0.get_mut(index) else { return };
        if bucket.second != second {
            *bucket = Bucket { second, ..Bucket::default() };
        }
        bucket.good = bucket.good.saturating_add(good);
        bucket.bad = bucket.bad.saturating_add(bad);
    }

    /// Those that went well, and those that did not.
    pub fn counts(&self, at: Duration) -> (u64, u64) {
        let second = at.as_secs();
        let recent = |bucket: &&Bucket| bucket.second <= second && second - bucket.second < BUCKETS as u64;
        self.0.iter().filter(recent).fold((0, 0), |(good, bad), bucket| {
            (good.saturating_add(bucket.good), bad.saturating_add(bucket.bad))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The same as to remember each call.
        #[test]
        fn it_counts_the_calls_of_the_last_ten_seconds(
            steps in prop::collection::vec((0_u64..4_000, 0_u64..3, 0_u64..3), 1..200)
        ) {
            let (mut window, mut all, mut at) = (Window::default(), Vec::new(), Duration::ZERO);
            for (later, good, bad) in steps {
                at += Duration::from_millis(later);
                window.add(at, good, bad);
                all.push((at.as_secs(), good, bad));
                let recent = all.iter().filter(|(second, ..)| at.as_secs() - second < 10);
                let counts = recent.fold((0, 0), |(g, b), (_, good, bad)| (g + good, b + bad));
                prop_assert_eq!(window.counts(at), counts);
            }
        }
    }
}
