//! What does a thread of the pool do? It takes what waits, runs it, answers, and outlives a panic.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use super::{
    Engine, Job, MakeEngine, Pace, Unscored, WORKING,
    long::Running,
    pass::{PASS_TOKENS, Ready, passes},
    queue::Queue,
};
use crate::impact::{Event, Meter};

/// Restarts within [`RESTARTS_WITHIN`]; beyond them the thread takes nothing until they are past.
const RESTARTS_MAX: usize = 10;
const RESTARTS_WITHIN: Duration = Duration::from_secs(60);

pub(super) fn run(queue: &Queue, make: &MakeEngine, meter: &dyn Meter, pace: &Pace) {
    WORKING.set(true);
    let mut engine: Option<Box<dyn Engine>> = None;
    let mut restarts = Restarts::default();
    let mut running = Running::default();
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
        match if running.is_idle() { queue.pop(meter) } else { queue.pop_waiting(meter) } {
            Some(job) if job.long.is_some() => running.begin(job),
            Some(job) => jobs.push(Ready::new(job)),
            None if running.is_idle() => return,
            None => {}
        }
        running.fill(queue, meter);
        let (mut long, mut last) = (running.turn(), false);
        let run = || {
            if !jobs.is_empty() {
                batch(&mut engine, make, queue, meter, pace, &mut jobs);
            }
            // One pass of it, and then the short ones that have come.
            last = long.as_mut().is_some_and(|text| match made(&mut engine, make) {
                Ok(engine) => text.step(engine, queue, meter, pace),
                Err(why) => {
                    text.ready.scored = Err(why);
                    true
                }
            });
        };
        let panicked = catch_unwind(AssertUnwindSafe(run)).is_err();
        match long {
            Some(text) if panicked || last => jobs.push(text.ready),
            Some(text) => running.give_back(text),
            None => {}
        }
        if panicked {
            // What it left in its memory cannot be trusted.
            drop(catch_unwind(AssertUnwindSafe(|| engine = None)));
            restarts.add(Instant::now());
            meter.see(Event::Restarted);
            tracing::error!(texts = jobs.len(), "the model panicked; its thread begins anew");
            jobs.iter_mut().for_each(|ready: &mut Ready| ready.scored = Err(Unscored::Failed));
        }
        for ready in jobs {
            ready.timed();
            let (scored, job) = (ready.found(), ready.job);
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
        tokens += ready.split(engine, queue, pace);
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
