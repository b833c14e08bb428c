//! Does anything grow while the load stays the same? Straight lines by least squares through the counted seconds.

use super::Second;

/// A line through less says little.
const SECONDS_MIN: f64 = 20.0;

/// Mebibytes that the nodes grow by in a million messages.
pub(crate) fn growth(seconds: &[Second]) -> Option<f64> {
    let rate = mean(&counted(seconds)?, |second| second.rate);
    let a_second = slope(&counted(seconds)?, |second| second.memory_mib.node);
    (rate > 0.0).then_some(a_second / rate * 1e6)
}

/// Percent that the median latency rises by in a minute.
pub(crate) fn latency(seconds: &[Second]) -> Option<f64> {
    let counted = counted(seconds)?;
    let usual = mean(&counted, |second| second.p50_us);
    (usual > 0.0).then(|| slope(&counted, |second| second.p50_us) / usual * 60.0 * 100.0)
}

/// The seconds that count, if they are enough.
fn counted(seconds: &[Second]) -> Option<Vec<&Second>> {
    let counted: Vec<&Second> = seconds.iter().filter(|second| second.counted).collect();
    let lasts = counted.last()?.at_s - counted.first()?.at_s;
    (lasts >= SECONDS_MIN).then_some(counted)
}

fn mean(seconds: &[&Second], value: impl Fn(&Second) -> f64) -> f64 {
    seconds.iter().map(|second| value(second)).sum::<f64>() / seconds.len().max(1) as f64
}

/// Of the value, a second.
fn slope(seconds: &[&Second], value: impl Fn(&Second) -> f64) -> f64 {
    let (at, of) = (mean(seconds, |second| second.at_s), mean(seconds, &value));
    let moved = |second: &&&Second| (second.at_s - at) * (value(second) - of);
    let squares: f64 = seconds.iter().map(|second| (second.at_s - at).powi(2)).sum();
    seconds.iter().map(|second| moved(&second)).sum::<f64>() / squares.max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::usage::Each;

    /// So many seconds, the first ten of them not counted and without any order.
    fn seconds(count: u32, p50_us: fn(f64) -> f64, node: fn(f64) -> f64) -> Vec<Second> {
        let second = |at: u32| {
            let (at_s, counted) = (f64::from(at), at >= 10);
            let wild = if counted { 0.0 } else { 1e4 };
            let memory_mib = Each { node: node(at_s) + wild, ..Each::default() };
            let p50_us = p50_us(at_s) + wild;
            Second {
                at_s,
                counted,
                rate: 2000.0,
                failed: 0,
                p50_us,
                p99_us: 0.0,
                cores: Each::default(),
                memory_mib,
            }
        };
        (0..count).map(second).collect()
    }

    #[test]
    fn what_grows_is_told_by_its_slope_and_what_does_not_has_none() {
        // Three mebibytes in a minute of 120,000 messages.
        let growing = seconds(70, |at| 500.0 + at, |at| 80.0 + at / 20.0);
        assert!((growth(&growing).unwrap() - 25.0).abs() < 1e-6, "{:?}", growth(&growing));
        let (from, to) = (510.0, 569.0);
        let a_minute = 60.0 / ((from + to) / 2.0) * 100.0;
        assert!((latency(&growing).unwrap() - a_minute).abs() < 1e-6, "{:?}", latency(&growing));
        let flat = seconds(70, |_| 500.0, |_| 80.0);
        assert!(growth(&flat).unwrap().abs() < 1e-6 && latency(&flat).unwrap().abs() < 1e-6);
    }

    #[test]
    fn a_short_measurement_has_no_slope() {
        assert_eq!(growth(&seconds(25, |_| 500.0, |_| 80.0)), None);
        assert_eq!(latency(&[]), None);
    }
}
