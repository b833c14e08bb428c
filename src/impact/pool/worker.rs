//! What does a thread of the pool do? It takes what waits, runs it, answers, and outlives a panic.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{Engine, Job, MakeEngine, Pace, Semantic, Unscored, WORKING, queue::Queue};
use crate::impact::{Event, Meter, highest};

/// Tokens of one forward pass, about: enough to keep the arithmetic busy, few enough that a short
/// text does not wait long behind others.
const PASS_TOKENS: usize = 512;
/// Restarts within [`RESTARTS_WITHIN`]; beyond them the thread takes nothing until they are past.
const RESTARTS_MAX: usize = 10;
const RESTARTS_WITHIN: Duration = Duration::from_secs(60);

/// A job whose text is split into windows.
struct Ready {
    job: Job,
    windows: Vec<Vec<u32>>,
    scored: Result<Semantic, Unscored>,
}

pub(super) fn run(queue: &Queue, make: &MakeEngine, meter: &dyn Meter, pace: &Pace) {
    WORKING.set(true);
    let mut engine: Option<Box<dyn Engine>> = None;
    let mut restarts = Restarts::default();
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
        let Some(first) = queue.pop(meter) else { return };
        let mut jobs = vec![Ready::new(first)];
        let run = || batch(&mut engine, make, queue, meter, pace, &mut jobs);
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
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

/// One forward pass, or several for long texts, over what waits, the first of which is in `jobs`
/// already. All are there from before anything can go wrong with them.
fn batch(
    engine: &mut Option<Box<dyn Engine>>,
    make: &MakeEngine,
    queue: &Queue,
    meter: &dyn Meter,
    pace: &Pace,
    jobs: &mut Vec<Ready>,
) {
    let engine = match engine {
        Some(engine) => engine,
        None => match make() {
            Ok(made) => engine.insert(made),
            Err(why) => return jobs.iter_mut().for_each(|ready| ready.scored = Err(why.clone())),
        },
    };
    let mut tokens = 0;
    loop {
        let Some(ready) = jobs.last_mut() else { return };
        let _span = ready.job.span.clone().entered();
        match engine.windows(&ready.job.texts) {
            Ok(windows) => {
                let own = windows.iter().map(Vec::len).sum::<usize>();
                if ready.fits(pace.least(own)) {
                    tokens += own;
                    ready.windows = windows;
                }
            }
            Err(why) => ready.scored = Err(why),
        }
        if tokens >= PASS_TOKENS {
            break;
        }
        // Only what waits already: nobody waits for company.
        match queue.pop_waiting(meter) {
            Some(job) => jobs.push(Ready::new(job)),
            None => break,
        }
    }
    passes(&mut **engine, jobs, meter, pace);
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
        let (pass, later) = rest.split_at(pass_length(rest));
        rest = later;
        let ids: Vec<&[u32]> = pass.iter().map(|(_, window)| window.as_slice()).collect();
        let started = Instant::now();
        let scored = engine.scores(&ids).and_then(|scores| {
            // One too few would leave a window unread, and its job with too low a score.
            if scores.len() == ids.len() { Ok(scores) } else { Err(Unscored::Failed) }
        });
        let tokens = ids.iter().map(|window| window.len()).sum();
        let took = started.elapsed();
        pace.saw(tokens, took);
        meter.see(Event::Ran { texts: jobs.len(), tokens, took });
        for (at, (place, _)) in pass.iter().enumerate() {
            let Some(ready) = jobs.get_mut(*place) else { continue };
            let found = match &scored {
                Ok(scores) => scores.get(at).copied().ok_or(Unscored::Failed),
                Err(why) => Err(why.clone()),
            };
            ready.take(found);
        }
        // A long text is dropped between two passes once nobody waits for any of them.
        let now = Instant::now();
        if jobs.iter().all(|ready| ready.job.abandoned(now)) {
            return jobs.iter_mut().for_each(Ready::give_up);
        }
    }
}

/// How many windows make one pass: at least one.
fn pass_length(windows: &[(usize, Vec<u32>)]) -> usize {
    let mut tokens = 0;
    let fits = windows.iter().take_while(|(_, window)| {
        tokens += window.len();
        tokens <= PASS_TOKENS
    });
    fits.count().max(1)
}

impl Ready {
    fn new(job: Job) -> Self {
        // No window, no words, no harm in them.
        Self { job, windows: Vec::new(), scored: Ok(Semantic::from(0.0)) }
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
    fn give_up(&mut self) {
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
