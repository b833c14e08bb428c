//! What does a thread of the pool do? It takes what waits, runs it, answers, and outlives a panic.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{Engine, Job, MakeEngine, Pace, Semantic, Unscored, WORKING, long::Long, queue::Queue};
use crate::impact::{Event, Meter, highest};

/// Tokens of one forward pass, about: enough to keep the arithmetic busy, few enough that a short
/// text does not wait long behind others.
const PASS_TOKENS: usize = 512;
/// Restarts within [`RESTARTS_WITHIN`]; beyond them the thread takes nothing until they are past.
const RESTARTS_MAX: usize = 10;
const RESTARTS_WITHIN: Duration = Duration::from_secs(60);

/// A job whose text is split into windows.
pub(super) struct Ready {
    pub(super) job: Job,
    windows: Vec<Vec<u32>>,
    pub(super) scored: Result<Semantic, Unscored>,
}

pub(super) fn run(queue: &Queue, make: &MakeEngine, meter: &dyn Meter, pace: &Pace) {
    WORKING.set(true);
    let mut engine: Option<Box<dyn Engine>> = None;
    let mut restarts = Restarts::default();
    let mut long: Option<Long> = None;
    loop {
        // Before it takes a job: another thread may have more luck with it.
        if let Some(until) = restarts.rest_until(Instant::now()) {
            let rest = until.saturating_duration_since(Instant::now());
            tracing::error!(
                ?rest,
                restarts = RESTARTS_MAX,
                "a thread of the model panics too often and rests"
            );
            let left = |jobs: Vec<Job>| jobs.into_iter().for_each(|job| job.answer(Err(Unscored::Failed)));
            if !queue.rest(until, meter, left) {
                return;
            }
        }
        let mut jobs = Vec::new();
        match if long.is_none() { queue.pop(meter) } else { queue.pop_waiting(meter) } {
            Some(job) if job.owner.is_some() => long = Some(Long::new(job)),
            Some(job) => jobs.push(Ready::new(job)),
            None if long.is_none() => return,
            None => {}
        }
        let mut last = false;
        let run = || {
            if !jobs.is_empty() {
                batch(&mut engine, make, queue, meter, pace, &mut jobs);
            }
            // One pass of it, and then the short ones that have come.
            last = long.as_mut().is_some_and(|text| match made(&mut engine, make) {
                Ok(engine) => text.step(engine, meter, pace),
                Err(why) => {
                    text.ready.scored = Err(why);
                    true
                }
            });
        };
        let panicked = catch_unwind(AssertUnwindSafe(run)).is_err();
        if panicked || last {
            jobs.extend(long.take().map(|text| text.ready));
        }
        if panicked {
            // What it left in its memory cannot be trusted.
            drop(catch_unwind(AssertUnwindSafe(|| engine = None)));
            restarts.add(Instant::now());
            meter.see(Event::Restarted);
            tracing::error!(texts = jobs.len(), "the model panicked; its thread begins anew");
            jobs.iter_mut().for_each(|ready: &mut Ready| ready.scored = Err(Unscored::Failed));
        }
        for Ready { job, scored, .. } in jobs {
            if scored == Err(Unscored::Failed) {
                // One pass is of many messages, and each is looked for by its own name.
                job.span.in_scope(|| tracing::error!("the model failed on this message or on one beside it"));
            }
            // Nothing of an answer may end this thread, not even what is done with it.
            drop(catch_unwind(AssertUnwindSafe(|| job.answer(scored))));
        }
    }
}

/// The engine, made now if there is none.
fn made<'a>(
    engine: &'a mut Option<Box<dyn Engine>>,
    make: &MakeEngine,
) -> Result<&'a mut dyn Engine, Unscored> {
    match engine {
        Some(engine) => Ok(&mut **engine),
        None => Ok(&mut **engine.insert(make()?)),
    }
}

/// One forward pass, or a few, over what waits, the first of which is in `jobs`
/// already. All are there from before anything can go wrong with them.
fn batch(
    engine: &mut Option<Box<dyn Engine>>,
    make: &MakeEngine,
    queue: &Queue,
    meter: &dyn Meter,
    pace: &Pace,
    jobs: &mut Vec<Ready>,
) {
    let engine = match made(engine, make) {
        Ok(engine) => engine,
        Err(why) => return jobs.iter_mut().for_each(|ready| ready.scored = Err(why.clone())),
    };
    let mut tokens = 0;
    loop {
        let Some(ready) = jobs.last_mut() else { return };
        tokens += ready.split(engine, pace);
        if tokens >= PASS_TOKENS {
            break;
        }
        // Only what waits already: nobody waits for company.
        match queue.pop_waiting(meter) {
            Some(job) => jobs.push(Ready::new(job)),
            None => break,
        }
    }
    passes(engine, jobs, meter, pace);
}

/// Runs all windows, those of like length together, and gives each job the highest of its own.
fn passes(engine: &mut dyn Engine, jobs: &mut [Ready], meter: &dyn Meter, pace: &Pace) {
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
        Self { job, windows: Vec::new(), scored: Ok(Semantic::from(0.0)) }
    }

    /// Makes windows of its text; of how many tokens.
    pub(super) fn split(&mut self, engine: &mut dyn Engine, pace: &Pace) -> usize {
        let _span = self.job.span.clone().entered();
        match engine.windows(&self.job.texts) {
            Ok(windows) => {
                let tokens = windows.iter().map(Vec::len).sum::<usize>();
                if self.fits(pace.least(tokens)) {
                    self.windows = windows;
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

/// When the thread began anew, of late.
#[derive(Default)]
struct Restarts(VecDeque<Instant>);

impl Restarts {
    fn add(&mut self, now: Instant) {
        if self.0.len() >= RESTARTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(now);
    }

    /// When the oldest is past, if there are too many and it is not.
    fn rest_until(&self, now: Instant) -> Option<Instant> {
        let past = self.0.front().filter(|_| self.0.len() >= RESTARTS_MAX).map(|at| *at + RESTARTS_WITHIN);
        past.filter(|past| now < *past)
    }
}
