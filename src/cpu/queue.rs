//! Whose job is next? That of the tenant whose last one is longest ago, unless it has its share of threads.

use std::{
    collections::{HashMap, VecDeque},
    time::Instant,
};

use parking_lot::{Condvar, Mutex};

use super::{CpuError, Event, Job, Meter, Work};
use crate::domain::TenantId;

/// Jobs of each tenant in order, tenants in turn. Pushing never waits.
pub(super) struct Queue {
    state: Mutex<State>,
    /// A job came, or the end.
    changed: Condvar,
    /// Jobs that wait, of all tenants and of one.
    max: usize,
    share: usize,
    /// Jobs of one tenant that run at one time.
    running_max: usize,
}

#[derive(Default)]
struct State {
    /// Those with a job that waits or runs, so no more than there are jobs.
    tenants: HashMap<TenantId, Line>,
    /// Those with a job that waits, each once.
    turns: VecDeque<TenantId>,
    waiting: usize,
    closed: bool,
}

#[derive(Default)]
struct Line {
    jobs: VecDeque<Waiting>,
    running: usize,
}

struct Waiting {
    work: Work,
    job: Box<dyn Job>,
    enqueued: Instant,
}

/// A job to be run. [`Queue::done`] is told when it has been.
pub(super) struct Taken {
    pub(super) tenant: TenantId,
    pub(super) work: Work,
    pub(super) job: Box<dyn Job>,
}

impl Queue {
    /// For so many threads and so many jobs. A tenant has half of the room, and all threads but one.
    pub(super) fn new(threads: usize, max: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            max,
            share: max.div_ceil(2),
            running_max: threads.saturating_sub(1).max(1),
        }
    }

    pub(super) fn push(
        &self,
        tenant: &TenantId,
        work: Work,
        job: Box<dyn Job>,
        meter: &dyn Meter,
    ) -> Result<(), CpuError> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.closed {
            return Err(CpuError::Stopping);
        }
        let full = state.waiting >= self.max;
        let waiting = state.tenants.get(tenant).map_or(0, |line| line.jobs.len());
        // What was given up is passed over by the threads: while they work, it takes no room for long.
        if full || waiting >= self.share {
            drop(guard);
            meter.see(Event::Refused);
            return Err(CpuError::Busy { waiting });
        }
        if waiting == 0 {
            state.turns.push_back(tenant.clone());
        }
        let line = state.tenants.entry(tenant.clone()).or_default();
        line.jobs.push_back(Waiting { work, job, enqueued: Instant::now() });
        state.waiting += 1;
        // Told while nobody can take it, so that the length told last is the length.
        meter.see(Event::Queued { waiting: state.waiting });
        drop(guard);
        self.changed.notify_one();
        Ok(())
    }

    /// The next that somebody waits for. Waits for one; nothing once the queue is closed and empty.
    pub(super) fn pop(&self, meter: &dyn Meter) -> Option<Taken> {
        let mut state = self.state.lock();
        loop {
            match self.take(&mut state, meter) {
                Some((tenant, waiting)) if waiting.job.abandoned() => {
                    meter.see(Event::Skipped);
                    // What it holds may be large, and others want the lock.
                    parking_lot::MutexGuard::unlocked(&mut state, || drop(waiting));
                    finish(&mut state, &tenant);
                }
                Some((tenant, Waiting { work, job, .. })) => return Some(Taken { tenant, work, job }),
                None if state.closed && state.waiting == 0 => return None,
                None => self.changed.wait(&mut state),
            }
        }
    }

    fn take(&self, state: &mut State, meter: &dyn Meter) -> Option<(TenantId, Waiting)> {
        // No more are passed over than there are threads: that many tenants can have their share at most.
        for _ in 0..state.turns.len() {
            let tenant = state.turns.pop_front()?;
            let Some(line) = state.tenants.get_mut(&tenant) else { continue };
            if line.running >= self.running_max {
                state.turns.push_back(tenant);
                continue;
            }
            let Some(job) = line.jobs.pop_front() else { continue };
            line.running += 1;
            if !line.jobs.is_empty() {
                state.turns.push_back(tenant.clone());
            }
            state.waiting -= 1;
            meter.see(Event::Taken { waiting: state.waiting, waited: job.enqueued.elapsed() });
            return Some((tenant, job));
        }
        None
    }

    /// A job of the tenant has been run. Who ran it looks for the next itself, so nobody is woken, but at
    /// the end: then others may wait for this tenant's share.
    pub(super) fn done(&self, tenant: &TenantId) {
        let mut state = self.state.lock();
        finish(&mut state, tenant);
        if state.closed {
            self.changed.notify_all();
        }
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().waiting
    }

    #[cfg(test)]
    pub(super) fn tenants(&self) -> usize {
        self.state.lock().tenants.len()
    }

    #[cfg(test)]
    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}

fn finish(state: &mut State, tenant: &TenantId) {
    if let Some(line) = state.tenants.get_mut(tenant) {
        line.running = line.running.saturating_sub(1);
        if line.running == 0 && line.jobs.is_empty() {
            state.tenants.remove(tenant);
        }
    }
}
