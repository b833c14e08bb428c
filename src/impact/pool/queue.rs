//! Which job is next, and whom for? The longest waiting, of a bounded number, for a thread that works.

use std::{collections::VecDeque, time::Instant};

use parking_lot::{Condvar, Mutex};

use super::{Job, Unscored};
use crate::impact::{Event, Meter};

/// First in, first out. Pushing never waits.
pub(super) struct Queue {
    state: Mutex<State>,
    /// A job came, or the end.
    changed: Condvar,
    /// The end, for threads that rest: what wakes one for a job must not wake one that takes none.
    ended: Condvar,
    max: usize,
    threads: usize,
}

struct State {
    jobs: VecDeque<Job>,
    closed: bool,
    /// Threads that take no job for now.
    resting: usize,
}

impl Queue {
    /// For so many threads and so many jobs.
    pub(super) fn new(threads: usize, max: usize) -> Self {
        let state = State { jobs: VecDeque::with_capacity(max), closed: false, resting: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new(), ended: Condvar::new(), max, threads }
    }

    /// Refused at once while there is no thread that would take it.
    pub(super) fn push(&self, job: Job, meter: &dyn Meter) -> Result<(), Unscored> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Unscored::Stopping);
        }
        if state.resting >= self.threads {
            return Err(Unscored::Failed);
        }
        if state.jobs.len() >= self.max {
            // Their senders may have given up already; then there is room.
            let now = Instant::now();
            state.jobs.retain(|job| !job.abandoned(now));
        }
        let waiting = state.jobs.len();
        if waiting >= self.max {
            return Err(Unscored::Busy { waiting });
        }
        state.jobs.push_back(job);
        // Told while nobody can take it, so that the length told last is the length.
        meter.see(Event::Queued { waiting: waiting + 1 });
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().jobs.len()
    }

    /// The next that somebody waits for. Waits for one; nothing once the queue is closed and empty.
    pub(super) fn pop(&self, meter: &dyn Meter) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = take(&mut state, meter) {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    /// As [`Queue::pop`], without waiting.
    pub(super) fn pop_waiting(&self, meter: &dyn Meter) -> Option<Job> {
        take(&mut self.state.lock(), meter)
    }

    /// Keeps a thread from taking jobs until `until`; the others go on. Hands over what nobody is left
    /// for if it is the last one. `false`: the queue was closed, and the thread is to end.
    pub(super) fn rest(&self, until: Instant, meter: &dyn Meter, left: impl FnOnce(Vec<Job>)) -> bool {
        let mut state = self.state.lock();
        state.resting += 1;
        if state.resting >= self.threads {
            let jobs = std::iter::from_fn(|| take(&mut state, meter)).collect();
            parking_lot::MutexGuard::unlocked(&mut state, || left(jobs));
        }
        while !state.closed && Instant::now() < until {
            self.ended.wait_until(&mut state, until);
        }
        // One that ends does not come back: what still comes is for the others, or for nobody.
        if !state.closed {
            state.resting -= 1;
        }
        !state.closed
    }

    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
        self.ended.notify_all();
    }
}

fn take(state: &mut State, meter: &dyn Meter) -> Option<Job> {
    let now = Instant::now();
    while let Some(job) = state.jobs.pop_front() {
        let waiting = state.jobs.len();
        meter.see(Event::Taken { waiting, waited: now.duration_since(job.enqueued) });
        if !job.abandoned(now) {
            return Some(job);
        }
        meter.see(Event::Skipped);
    }
    None
}
