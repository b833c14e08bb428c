//! How is a text run that takes several passes? One pass at a time, so that short ones go between them.

use std::time::Instant;

use super::{
    Engine, Job, Pace, Patience,
    pass::{Ready, pass, pass_length},
    queue::Queue,
};
use crate::impact::Meter;

/// Of all its texts together: about two passes. A shorter one is run with the others.
const LONG_BYTES: usize = 4 << 10;

/// Of a text that somebody waits for, so many passes for each of one that nobody waits for.
const AHEAD: usize = 4;

pub(super) fn is_long(texts: &[String]) -> bool {
    texts.iter().map(String::len).sum::<usize>() > LONG_BYTES
}

/// A long text, as far as it has been run.
pub(super) struct Long {
    pub(super) ready: Ready,
    /// Not yet run; nothing before its first step.
    windows: Option<Vec<(usize, Vec<u32>)>>,
}

impl Long {
    fn new(job: Job) -> Self {
        Self { ready: Ready::new(job), windows: None }
    }

    /// Runs one pass; whether it was the last.
    pub(super) fn step(&mut self, engine: &mut dyn Engine, meter: &dyn Meter, pace: &Pace) -> bool {
        if self.ready.job.abandoned(Instant::now()) {
            self.ready.give_up();
            return true;
        }
        let mut windows = match self.windows.take() {
            Some(windows) => windows,
            None => {
                self.ready.split(engine, pace);
                self.ready.sorted()
            }
        };
        let later = windows.split_off(pass_length(&windows).min(windows.len()));
        if !windows.is_empty() {
            pass(engine, &windows, std::slice::from_mut(&mut self.ready), meter, pace);
        }
        let last = self.ready.scored.is_err() || later.is_empty();
        self.windows = Some(later);
        last
    }
}

/// The long texts that a thread runs: at most one that somebody waits for, and one that nobody waits for.
#[derive(Default)]
pub(super) struct Running {
    waited_for: Option<Long>,
    slow: Option<Long>,
    /// Passes of the one since the last of the other.
    ahead: usize,
}

impl Running {
    pub(super) fn is_idle(&self) -> bool {
        self.waited_for.is_none() && self.slow.is_none()
    }

    pub(super) fn begin(&mut self, job: Job) {
        let place = self.place(job.patience);
        *place = Some(Long::new(job));
    }

    /// Takes what waits for the places that are free.
    pub(super) fn fill(&mut self, queue: &Queue, meter: &dyn Meter) {
        for patience in [Patience::RoundTrip, Patience::Lane] {
            if self.place(patience).is_none()
                && let Some(job) = queue.pop_long(patience, meter)
            {
                self.begin(job);
            }
        }
    }

    /// The one whose pass is next, until it is given back.
    pub(super) fn turn(&mut self) -> Option<Long> {
        let slow = self.waited_for.is_none() || (self.slow.is_some() && self.ahead >= AHEAD);
        self.ahead = if slow { 0 } else { self.ahead + 1 };
        if slow { self.slow.take() } else { self.waited_for.take() }
    }

    pub(super) fn give_back(&mut self, text: Long) {
        let place = self.place(text.ready.job.patience);
        *place = Some(text);
    }

    fn place(&mut self, patience: Patience) -> &mut Option<Long> {
        match patience {
            Patience::RoundTrip => &mut self.waited_for,
            Patience::Lane => &mut self.slow,
        }
    }
}
