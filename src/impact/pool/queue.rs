//! Which job is next, and whom for? The longest waiting, of a bounded number, for a thread that works.

use std::{collections::VecDeque, time::Instant};

use parking_lot::{Condvar, Mutex};

use super::{
    Job, Unscored,
    turns::{KINDS, Kind, Turns},
};
use crate::impact::{Event, Meter};

/// First in, first out, the long ones apart. Pushing never waits.
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
    /// Long ones, by who waits for them.
    long: [Turns; KINDS],
    closed: bool,
    /// Threads that take no job for now.
    resting: usize,
}

impl Queue {
    /// For so many threads and so many jobs.
    pub(super) fn new(threads: usize, max: usize) -> Self {
        let jobs = VecDeque::with_capacity(max);
        let state = State { jobs, long: Default::default(), closed: false, resting: 0 };
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
        if state.is_full_for(&job, self.max) {
            // Their senders may have given up already; then there is room.
            let now = Instant::now();
            state.jobs.retain(|job| !job.abandoned(now));
            state.long.iter_mut().for_each(|turns| turns.forget_abandoned(now));
        }
        let waiting = state.waiting();
        if state.is_full_for(&job, self.max) {
            return Err(Unscored::Busy { waiting });
        }
        match job.owner.and_then(|_| state.turns(Kind::of(job.patience))) {
            Some(turns) => turns.push(job),
            None => state.jobs.push_back(job),
        }
        // Told while nobody can take it, so that the length told last is the length.
        meter.see(Event::Queued { waiting: waiting + 1 });
        drop(state);
        self.changed.notify_one();
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
        take(&mut self.state.lock(), |state| state.jobs.pop_front(), meter)
    }

    /// As [`Queue::pop`], without waiting, and only a long one.
    pub(super) fn pop_long(&self, kind: Kind, meter: &dyn Meter) -> Option<Job> {
        take(&mut self.state.lock(), |state| state.turns(kind)?.next(), meter)
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
        self.jobs.len() + self.long.iter().map(Turns::len).sum::<usize>()
    }

    fn is_full_for(&self, job: &Job, max: usize) -> bool {
        let own = job.owner.and_then(|owner| Some((owner, self.long.get(Kind::of(job.patience) as usize)?)));
        own.map_or(self.jobs.len() >= max, |(owner, turns)| turns.len() >= max || turns.is_full_for(owner))
    }

    fn turns(&mut self, kind: Kind) -> Option<&mut Turns> {
        self.long.get_mut(kind as usize)
    }

    /// A long one first, since short ones are run between its passes.
    fn next(&mut self) -> Option<Job> {
        self.long.iter_mut().find_map(Turns::next).or_else(|| self.jobs.pop_front())
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
