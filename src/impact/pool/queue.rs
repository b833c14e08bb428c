//! Which job is next, and whom for? That of who was given least, of a bounded number, for a thread that works.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::{
    Job, Unscored,
    turns::{KINDS, Kind, Turns},
};
use crate::{
    fair_queue::FairQueue,
    impact::{Event, Meter},
};

/// Tenants share by the tokens of their texts, and within a tenant its senders; the long ones apart. Pushing never waits.
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
    short: FairQueue<Job>,
    /// Long ones, by who waits for them.
    long: [Turns; KINDS],
    closed: bool,
    /// Threads that take no job for now.
    resting: usize,
}

impl Queue {
    /// For so many threads and so many jobs.
    pub(super) fn new(threads: usize, max: usize) -> Self {
        let state =
            State { short: FairQueue::default(), long: Default::default(), closed: false, resting: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new(), ended: Condvar::new(), max, threads }
    }

    /// Refused at once while there is no thread that would take it. Where the short ones are too many, the newest of
    /// who has most of them gives way to who has fewer.
    pub(super) fn push(&self, job: Job, meter: &dyn Meter) -> Result<(), Unscored> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(Unscored::Stopping);
        }
        if state.resting >= self.threads {
            return Err(Unscored::Failed);
        }
        if state.is_full_for(&job, self.max) {
            // Their senders may have given up already; then there is room.
            let now = Instant::now();
            drop(state.short.take_out(|job| job.abandoned(now)));
            state.long.iter_mut().for_each(|turns| turns.forget_abandoned(now));
        }
        let busy = Unscored::Busy { waiting: state.waiting() };
        let pushed_out = match state.is_full_for(&job, self.max) {
            false => None,
            true if job.long.is_some() => return Err(busy),
            true => Some(state.short.push_out(job.owner).ok_or(busy.clone())?),
        };
        match job.long.and_then(|kind| state.turns(kind)) {
            Some(turns) => turns.push(job),
            None => state.short.push(job.owner, job),
        }
        // Told while nobody can take it, so that the length told last is the length.
        meter.see(Event::Queued { waiting: state.waiting() });
        drop(state);
        self.changed.notify_one();
        if let Some(job) = pushed_out {
            job.answer(Err(busy));
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().waiting()
    }

    /// The next, long ones first. Waits for one; nothing once the queue is closed and empty.
    pub(super) fn pop(&self, meter: &dyn Meter) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = take(&mut state, State::next, meter) {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    /// As [`Queue::pop`], without waiting, and no long one.
    pub(super) fn pop_waiting(&self, meter: &dyn Meter) -> Option<Job> {
        take(&mut self.state.lock(), |state| state.short.pop(), meter)
    }

    /// As [`Queue::pop`], without waiting, and only a long one.
    pub(super) fn pop_long(&self, kind: Kind, meter: &dyn Meter) -> Option<Job> {
        take(&mut self.state.lock(), |state| state.turns(kind)?.next(), meter)
    }

    /// What a job that was taken costs is known when it is split.
    pub(super) fn charge(&self, job: &Job, tokens: usize) {
        let (mut state, tokens) = (self.state.lock(), u64::try_from(tokens).unwrap_or(u64::MAX));
        match job.long.and_then(|kind| state.turns(kind)) {
            Some(turns) => turns.charge(job.owner, tokens),
            None => state.short.charge(job.owner, tokens),
        }
    }

    /// Keeps a thread from taking jobs until `until`; the others go on. Hands over what nobody is left
    /// for if it is the last one. `false`: the queue was closed, and the thread is to end.
    pub(super) fn rest(&self, until: Instant, meter: &dyn Meter, left: impl FnOnce(Vec<Job>)) -> bool {
        let mut state = self.state.lock();
        state.resting += 1;
        if state.resting >= self.threads {
            let jobs = std::iter::from_fn(|| take(&mut state, State::next, meter)).collect();
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

impl State {
    fn waiting(&self) -> usize {
        self.short.len() + self.long.iter().map(Turns::len).sum::<usize>()
    }

    fn is_full_for(&self, job: &Job, max: usize) -> bool {
        let turns = job.long.and_then(|kind| self.long.get(kind as usize));
        turns.map_or(self.short.len() >= max, |turns| turns.len() >= max || turns.is_full_for(job.owner))
    }

    fn turns(&mut self, kind: Kind) -> Option<&mut Turns> {
        self.long.get_mut(kind as usize)
    }

    /// A long one first, since short ones are run between its passes.
    fn next(&mut self) -> Option<Job> {
        self.long.iter_mut().find_map(Turns::next).or_else(|| self.short.pop())
    }
}

fn take(state: &mut State, next: impl Fn(&mut State) -> Option<Job>, meter: &dyn Meter) -> Option<Job> {
    let now = Instant::now();
    while let Some(job) = next(state) {
        let waiting = state.waiting();
        meter.see(Event::Taken { waiting, waited: now.duration_since(job.enqueued) });
        if !job.abandoned(now) {
            return Some(job);
        }
        meter.see(Event::Skipped);
    }
    None
}
