//! How long before it is tried again? Doubling up to a bound, and never all at once.

use std::time::Duration;

use rand::Rng as _;

/// `min` before the second attempt, then doubling up to `max`. Attempts count from 1.
pub fn doubling(min: Duration, max: Duration, attempt: u64) -> Duration {
    const DOUBLED_MAX: u64 = 30;
    min.saturating_mul(1 << attempt.saturating_sub(1).min(DOUBLED_MAX)).min(max)
}

/// Up to half as long again, so that those who wait together do not come back together.
pub fn jittered(wait: Duration) -> Duration {
    wait + wait.mul_f64(rand::rng().random_range(0.0..0.5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound() {
        let (min, max) = (Duration::from_millis(50), Duration::from_secs(2));
        let waits = [0, 1, 2, 6, 7, 8, u64::MAX].map(|attempt| doubling(min, max, attempt).as_millis());
        assert_eq!(waits, [50, 50, 100, 1_600, 2_000, 2_000, 2_000]);
        let wait = jittered(max);
        assert!((max..max.mul_f64(1.5)).contains(&wait), "{wait:?}");
    }
}
