//! How is a text run that takes several passes? One pass at a time, so that short ones go between them.

use std::time::Instant;

use super::{
    Engine, Job, Pace,
    pass::{Ready, pass, pass_length},
    queue::Queue,
    turns::{KINDS, Kind},
};
use crate::impact::Meter;

/// Of all its texts together: about two passes. A shorter one is run with the others.
const LONG_BYTES: usize = 4 << 10;

/// Whose pass is next, over and over; who has nothing to run is passed over.
const TURNS: [Kind; 7] =
    [Kind::Hurried, Kind::Asked, Kind::Hurried, Kind::Asked, Kind::Hurried, Kind::Hurried, Kind::Slow];

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
    pub(super) fn step(
        &mut self,
        engine: &mut dyn Engine,
        queue: &Queue,
        meter: &dyn Meter,
        pace: &Pace,
    ) -> bool {
        if self.ready.job.abandoned(Instant::now()) {
            self.ready.give_up();
            return true;
        }
        let mut windows = match self.windows.take() {
            Some(windows) => windows,
            None => {
                self.ready.split(engine, queue, pace);
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

/// The long texts that a thread runs: at most one of each kind.
#[derive(Default)]
pub(super) struct Running {
    texts: [Option<Long>; KINDS],
    /// Passes so far.
    passes: usize,
}

impl Running {
    pub(super) fn is_idle(&self) -> bool {
        self.texts.iter().all(Option::is_none)
    }

    pub(super) fn begin(&mut self, job: Job) {
        self.give_back(Long::new(job));
    }

    /// Takes what waits for the places that are free.
    pub(super) fn fill(&mut self, queue: &Queue, meter: &dyn Meter) {
        for (place, kind) in self.texts.iter_mut().zip(Kind::ALL) {
            if place.is_none() {
                *place = queue.pop_long(kind, meter).map(Long::new);
            }
        }
    }

    /// The one whose pass is next, until it is given back.
    pub(super) fn turn(&mut self) -> Option<Long> {
        TURNS.iter().find_map(|_| {
            let kind = TURNS.get(self.passes % TURNS.len())?;
            self.passes += 1;
            self.texts.get_mut(*kind as usize)?.take()
        })
    }

    pub(super) fn give_back(&mut self, text: Long) {
        if let Some(place) = text.ready.job.long.and_then(|kind| self.texts.get_mut(kind as usize)) {
            *place = Some(text);
        }
    }
}
