//! Which job is next? The longest waiting, of a bounded number.

use std::{collections::VecDeque, time::Instant};

use parking_lot::{Condvar, Mutex};

use super::{Job, Unscored};
use crate::impact::{Event, Meter};

/// First in, first out. Pushing never waits.
pub(super) struct Queue {
    state: Mutex<State>,
    /// A job came, or the end.
    changed: Condvar,
    max: usize,
}

struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    pub(super) fn new(max: usize) -> Self {
        let state = Mutex::new(State { jobs: VecDeque::with_capacity(max), closed: false });
        Self { state, changed: Condvar::new(), max }
    }

    pub(super) fn push(&self, job: Job, meter: &dyn Meter) -> Result<(), Unscored> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Unscored::Stopping);
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

    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
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
