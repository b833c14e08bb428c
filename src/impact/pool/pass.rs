//! How are the windows of some texts run? In passes of like lengths, and each text gets the highest score of its own.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{Engine, Job, Pace, Semantic, Unscored, queue::Queue};
use crate::{
    impact::{Event, Meter, highest},
    trace::Timing,
};

/// Tokens of one forward pass, about: enough to keep the arithmetic busy, few enough that a short
/// text does not wait long behind others.
pub(super) const PASS_TOKENS: usize = 512;

/// A job whose text is split into windows.
pub(super) struct Ready {
    pub(super) job: Job,
    windows: Vec<Vec<u32>>,
    /// When this thread began with it, and with how many tokens.
    begun: Option<(Instant, usize)>,
    pub(super) scored: Result<Semantic, Unscored>,
}

/// Runs all windows, those of like length together, and gives each job the highest of its own.
pub(super) fn passes(engine: &mut dyn Engine, jobs: &mut [Ready], meter: &dyn Meter, pace: &Pace) {
    let mut windows: Vec<(usize, Vec<u32>)> = Vec::new();
    for (place, ready) in jobs.iter_mut().enumerate() {
        windows.extend(ready.windows.drain(..).map(|window| (place, window)));
    }
    windows.sort_by_key(|(_, window)| window.len());
    let mut rest = windows.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(pass_length(rest));
        rest = later;
        pass(engine, now, jobs, meter, pace);
        // Dropped between two passes once nobody waits for any of them.
        let now = Instant::now();
        if jobs.iter().all(|ready| ready.job.abandoned(now)) {
            return jobs.iter_mut().for_each(Ready::give_up);
        }
    }
}

/// One forward pass over windows, each with the place of its job.
pub(super) fn pass(
    engine: &mut dyn Engine,
    windows: &[(usize, Vec<u32>)],
    jobs: &mut [Ready],
    meter: &dyn Meter,
    pace: &Pace,
) {
    let ids: Vec<&[u32]> = windows.iter().map(|(_, window)| window.as_slice()).collect();
    let started = Instant::now();
    let scored = engine.scores(&ids).and_then(|scores| {
        // One too few would leave a window unread, and its job with too low a score.
        if scores.len() == ids.len() { Ok(scores) } else { Err(Unscored::Failed) }
    });
    let tokens = ids.iter().map(|window| window.len()).sum();
    let took = started.elapsed();
    pace.saw(tokens, took);
    meter.see(Event::Ran { texts: jobs.len(), tokens, took });
    for (at, (place, _)) in windows.iter().enumerate() {
        let Some(ready) = jobs.get_mut(*place) else { continue };
        let found = match &scored {
            Ok(scores) => scores.get(at).copied().ok_or(Unscored::Failed),
            Err(why) => Err(why.clone()),
        };
        ready.take(found);
    }
}

/// How many windows make one pass: at least one.
pub(super) fn pass_length(windows: &[(usize, Vec<u32>)]) -> usize {
    let mut tokens = 0;
    let fits = windows.iter().take_while(|(_, window)| {
        tokens += window.len();
        tokens <= PASS_TOKENS
    });
    fits.count().max(1)
}

impl Ready {
    pub(super) fn new(job: Job) -> Self {
        // No window, no words, no harm in them.
        Self { job, windows: Vec::new(), begun: None, scored: Ok(Semantic::from(0.0)) }
    }

    /// Makes windows of its text, which is charged to who asks; of how many tokens.
    pub(super) fn split(&mut self, engine: &mut dyn Engine, queue: &Queue, pace: &Pace) -> usize {
        let _span = self.job.span.clone().entered();
        let started = Instant::now();
        self.begun = Some((started, 0));
        match engine.windows(&self.job.texts, self.job.windows_max) {
            Ok(windows) => {
                let tokens = windows.iter().map(Vec::len).sum::<usize>();
                self.begun = Some((started, tokens));
                if self.fits(pace.least(tokens)) {
                    self.windows = windows;
                    queue.charge(&self.job, tokens);
                    return tokens;
                }
            }
            Err(why) => self.scored = Err(why),
        }
        0
    }

    /// Its windows as of the first of some jobs, those of like length together.
    pub(super) fn sorted(&mut self) -> Vec<(usize, Vec<u32>)> {
        let mut windows: Vec<_> = self.windows.drain(..).map(|window| (0, window)).collect();
        windows.sort_by_key(|(_, window)| window.len());
        windows
    }

    /// Whether what takes at least so long is worth a try.
    fn fits(&mut self, least: Duration) -> bool {
        let limit = self.job.deadline.saturating_duration_since(self.job.enqueued);
        self.job.heavy.store(least > limit / 2, Ordering::Relaxed);
        if least > limit {
            self.scored = Err(Unscored::TooSlow { limit });
        }
        least <= limit
    }

    /// Says how long it was on this thread, to whoever asks.
    pub(super) fn timed(&self) {
        if let (Some(probe), Some((started, tokens))) = (&self.job.probe, self.begun) {
            let thread = std::thread::current();
            let attributes = vec![
                ("thread.name", thread.name().unwrap_or_default().into()),
                ("gen_ai.usage.input_tokens", tokens.into()),
            ];
            probe.add(Timing { name: "classify", started, ended: Instant::now(), attributes });
        }
    }

    /// What was found, with the tokens that were read for it.
    pub(super) fn found(&self) -> Result<Semantic, Unscored> {
        let tokens = self.begun.map_or(0, |(_, tokens)| tokens);
        self.scored.clone().map(|found| Semantic { tokens: tokens as u64, ..found })
    }

    /// Nobody waits for it any more.
    pub(super) fn give_up(&mut self) {
        let limit = self.job.deadline.saturating_duration_since(self.job.enqueued);
        self.scored = Err(Unscored::TimedOut { limit });
    }

    /// The highest counts; a window without a score leaves the whole text without one.
    fn take(&mut self, found: Result<Semantic, Unscored>) {
        self.scored = match (std::mem::replace(&mut self.scored, Ok(Semantic::from(0.0))), found) {
            (Ok(so_far), Ok(score)) => highest([so_far, score]),
            (Err(why), _) | (Ok(_), Err(why)) => Err(why),
        };
    }
}
