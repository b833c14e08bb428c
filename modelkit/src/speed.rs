//! How long does a forward pass take, by the length of what it reads?

use std::time::{Duration, Instant};

use serde::Serialize;

/// A row is measured at least so often, and at least so long.
const RUNS_MIN: usize = 50;
const TIME_MIN: Duration = Duration::from_secs(1);
/// And no longer than this, however slow it is.
const TIME_MAX: Duration = Duration::from_secs(60);
const WARM_UP: usize = 5;
/// Any word will do: what a token says does not change what it costs.
const WORDS: Range = Range { from: 1_996, count: 20_000 };

struct Range {
    from: u32,
    count: u32,
}

#[derive(Debug, Serialize)]
pub(super) struct Row {
    tokens: usize,
    median_us: f64,
    p10_us: f64,
    p90_us: f64,
}

pub(super) fn say_rows(rows: &[Row]) -> anyhow::Result<()> {
    sayln!("\n  {:>6} {:>12} {:>12} {:>12}", "tokens", "median", "p10", "p90")?;
    for Row { tokens, median_us, p10_us, p90_us } in rows {
        sayln!("  {tokens:>6} {median_us:>9.0} us {p10_us:>9.0} us {p90_us:>9.0} us")?;
    }
    Ok(())
}

/// One forward pass.
type Run<'a> = dyn FnMut(&[u32]) -> anyhow::Result<()> + 'a;

pub(super) fn row(window: &[u32], rounds: u16, run: &mut Run<'_>) -> anyhow::Result<Row> {
    for _ in 0..WARM_UP {
        run(window)?;
    }
    let mut measured = Vec::new();
    for _ in 0..rounds {
        measured.push(times(window, run)?);
    }
    let at = |share: f64| {
        let each: Vec<f64> = measured.iter().map(|times| quantile(times, share)).collect();
        quantile(&sorted(each), 0.5)
    };
    Ok(Row { tokens: window.len(), median_us: at(0.5), p10_us: at(0.1), p90_us: at(0.9) })
}

/// As long as was asked for, begun and ended as every window is.
pub(super) fn window_of(ends: &[u32], vocabulary: usize, tokens: u16) -> Vec<u32> {
    // A model with fewer words than ours gets those it has.
    let vocabulary = u32::try_from(vocabulary).unwrap_or(u32::MAX);
    let from = if vocabulary > WORDS.from { WORDS.from } else { 0 };
    let count = vocabulary.saturating_sub(from).clamp(1, WORDS.count);
    let inner = (0..u32::from(tokens).saturating_sub(2)).map(|at| from + at.wrapping_mul(7_919) % count);
    let first = ends.first().copied().into_iter();
    let last = ends.last().copied().into_iter();
    first.chain(inner).chain(last).take(tokens.into()).collect()
}

/// Microseconds of each run, sorted.
fn times(window: &[u32], run: &mut Run<'_>) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    let started = Instant::now();
    while (times.len() < RUNS_MIN || started.elapsed() < TIME_MIN) && started.elapsed() < TIME_MAX {
        let before = Instant::now();
        run(window)?;
        times.push(before.elapsed().as_secs_f64() * 1e6);
    }
    Ok(sorted(times))
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let at = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_measured() {
        let times = sorted(vec![5.0, 1.0, 4.0, 2.0, 3.0]);
        for (share, expected) in [(0.0, 1.0), (0.5, 3.0), (1.0, 5.0)] {
            assert!((quantile(&times, share) - expected).abs() < 1e-12);
        }
        assert!(quantile(&[], 0.5).is_nan());
    }
}
