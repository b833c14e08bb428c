//! How long does a forward pass take, by the length of what it reads?

use std::{
    num::NonZeroUsize,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use agentbus::impact::model::{Model, Session};
use anyhow::anyhow;
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
pub struct Row {
    pub tokens: usize,
    pub median_us: f64,
    pub p10_us: f64,
    pub p90_us: f64,
}

/// One forward pass.
pub type Run<'a> = dyn FnMut(&[u32]) -> anyhow::Result<()> + 'a;

pub fn row(window: &[u32], rounds: u16, run: &mut Run<'_>) -> anyhow::Result<Row> {
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
pub fn window_of(ends: &[u32], vocabulary: usize, tokens: u16) -> Vec<u32> {
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

/// How many texts a second.
#[derive(Debug, Serialize)]
pub struct Throughput {
    pub texts: usize,
    pub tokens: usize,
    /// One text at a time.
    pub batch1: f64,
    pub batch8: f64,
    pub threads: usize,
    /// As many instances, eight texts at a time, together.
    pub batch8_threads: f64,
    /// Of that to one instance.
    pub threads_ratio: f64,
}

/// Of these windows, one instance beside `threads` of them.
pub fn measure(
    model: &Arc<Model>,
    windows: &[Vec<u32>],
    threads: NonZeroUsize,
) -> anyhow::Result<Throughput> {
    let mut session = model.session();
    run_all(&mut session, windows.get(..windows.len().min(64)).unwrap_or(windows), 8)?;
    let texts = windows.len() as f64;
    // One thread before and after the many: a machine that changes its pace shows.
    let batch1 = texts / run_all(&mut session, windows, 1)?;
    let before = run_all(&mut session, windows, 8)?;
    let together = run_together(model, windows, threads)?;
    let after = run_all(&mut session, windows, 8)?;
    let batch8 = texts / f64::midpoint(before, after);
    let batch8_threads = texts * threads.get() as f64 / together;
    Ok(Throughput {
        texts: windows.len(),
        tokens: windows.iter().map(Vec::len).sum(),
        batch1,
        batch8,
        threads: threads.get(),
        batch8_threads,
        threads_ratio: batch8_threads / batch8,
    })
}

/// Seconds that one instance takes for all of them.
fn run_all(session: &mut Session, windows: &[Vec<u32>], batch: usize) -> anyhow::Result<f64> {
    let started = Instant::now();
    for some in windows.chunks(batch.max(1)) {
        let some: Vec<&[u32]> = some.iter().map(Vec::as_slice).collect();
        std::hint::black_box(session.pooled(&some)?);
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Seconds from when the first begins until the last of as many instances has done all of them.
fn run_together(model: &Arc<Model>, windows: &[Vec<u32>], threads: NonZeroUsize) -> anyhow::Result<f64> {
    let ready = Barrier::new(threads.get() + 1);
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads.get())
            .map(|_| {
                scope.spawn(|| {
                    let mut session = model.session();
                    let warm =
                        run_all(&mut session, windows.get(..windows.len().min(64)).unwrap_or(windows), 8);
                    ready.wait();
                    warm.and_then(|_| run_all(&mut session, windows, 8))
                })
            })
            .collect();
        ready.wait();
        let started = Instant::now();
        for thread in running {
            thread.join().map_err(|_| anyhow!("an instance stopped without an answer"))??;
        }
        Ok(started.elapsed().as_secs_f64())
    })
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
