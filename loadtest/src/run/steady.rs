//! When has the warm-up done its work?
//!
//! Time is cut into slices of a quarter of a second. The load is steady when the last second's rate and its
//! median latency differ by at most a tenth from those of the second before it.

use std::time::Duration;

/// Of time; also how often a client process tells what it saw.
pub(crate) const SLICE: Duration = Duration::from_millis(250);
/// Slices in a second: two of such windows are compared.
const WINDOW: usize = 4;
const MAY_DIFFER: f64 = 0.1;

/// One slice of all client processes together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub(crate) answered: u64,
    pub(crate) p50_us: f64,
}

pub(crate) fn is_steady(points: &[Point]) -> bool {
    let Some(start) = points.len().checked_sub(2 * WINDOW) else { return false };
    let (earlier, later) = points.get(start..).unwrap_or_default().split_at(WINDOW);
    let rate = |points: &[Point]| points.iter().map(|point| point.answered as f64).sum::<f64>();
    let latency = |points: &[Point]| points.iter().map(|point| point.p50_us).sum::<f64>();
    rate(earlier) > 0.0 && close(rate(earlier), rate(later)) && close(latency(earlier), latency(later))
}

fn close(earlier: f64, later: f64) -> bool {
    (later - earlier).abs() <= MAY_DIFFER * earlier
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(rates: impl IntoIterator<Item = u64>, p50_us: f64) -> Vec<Point> {
        rates.into_iter().map(|answered| Point { answered, p50_us }).collect()
    }

    #[test]
    fn a_load_that_still_rises_is_not_steady_and_is_when_it_has_stopped_rising() {
        let rising: Vec<u64> = (1..=12).map(|n| n * 100).collect();
        assert!(!is_steady(&points(rising.clone(), 500.0)));
        assert!(is_steady(&points(rising.into_iter().chain([1200; 8]), 500.0)));
    }

    #[test]
    fn noise_within_a_second_does_not_hide_that_it_is_steady() {
        assert!(is_steady(&points([700, 1300, 900, 1100, 1250, 750, 1050, 960], 500.0)));
    }

    #[test]
    fn a_steady_rate_with_a_growing_latency_is_a_queue_that_grows() {
        let growing = (0..8).map(|n| Point { answered: 1000, p50_us: 1000.0 * f64::from(n + 1) });
        assert!(!is_steady(&growing.collect::<Vec<_>>()));
    }

    #[test]
    fn too_few_slices_or_no_answers_are_not_steady() {
        assert!(!is_steady(&[]));
        assert!(!is_steady(&points([1000; 7], 500.0)));
        assert!(!is_steady(&points([0; 20], 0.0)));
    }
}
