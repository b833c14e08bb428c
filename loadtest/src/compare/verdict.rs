//! Is it more than noise?
//!
//! Machines are shared, and a round can be off by a quarter. Two sets of rounds differ when they do not overlap at
//! all: of four and four rounds that are alike that happens in 2 of 70 orders, of five and five in 2 of 252. With
//! fewer rounds nothing is said.

pub(crate) const ROUNDS_MIN: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Better,
    Worse,
    Noise,
    TooFew,
}

impl Verdict {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Verdict::Better => "better",
            Verdict::Worse => "worse",
            Verdict::Noise => "noise",
            Verdict::TooFew => "too few",
        }
    }
}

pub(crate) fn judge(before: &[f64], after: &[f64], more_is_better: bool) -> Verdict {
    if before.len().min(after.len()) < ROUNDS_MIN {
        return Verdict::TooFew;
    }
    let ends = |values: &[f64]| {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        (low, values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    };
    let ((low_before, high_before), (low_after, high_after)) = (ends(before), ends(after));
    match (low_after > high_before, high_after < low_before) {
        (true, _) if more_is_better => Verdict::Better,
        (_, true) if !more_is_better => Verdict::Better,
        (false, false) => Verdict::Noise,
        _ => Verdict::Worse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_overlap_are_noise_and_rounds_that_do_not_are_better_or_worse() {
        let old = [10.0, 11.0, 12.0, 13.0];
        for (new, more, verdict) in [
            ([14.0, 15.0, 16.0, 17.0], true, Verdict::Better),
            ([14.0, 15.0, 16.0, 17.0], false, Verdict::Worse),
            ([6.0, 7.0, 8.0, 9.0], true, Verdict::Worse),
            ([6.0, 7.0, 8.0, 9.0], false, Verdict::Better),
            ([13.0, 15.0, 16.0, 17.0], true, Verdict::Noise),
            ([6.0, 7.0, 8.0, 12.5], false, Verdict::Noise),
            (old, true, Verdict::Noise),
        ] {
            assert_eq!(judge(&old, &new, more), verdict, "{new:?}, more is better: {more}");
        }
    }

    #[test]
    fn three_rounds_say_nothing() {
        assert_eq!(judge(&[1.0, 2.0, 3.0], &[7.0, 8.0, 9.0, 10.0], true), Verdict::TooFew);
    }

    /// Two halves of one series of noise are told apart no more often than promised.
    #[test]
    fn of_runs_that_are_alike_few_are_told_apart() {
        use rand::{Rng as _, SeedableRng as _};
        let mut rng = rand::rngs::StdRng::seed_from_u64(7);
        let mut five = || [0; 5].map(|_| 1000.0 * rng.random_range(0.8..1.25));
        let told = (0..2000).filter(|_| judge(&five(), &five(), true) != Verdict::Noise).count();
        assert!(told < 60, "{told} of 2000");
    }
}
