//! How is a text run that takes several passes? One pass at a time, so that short ones go between them.

use std::time::Instant;

use super::{
    Engine, Job, Pace,
    pass::{Ready, pass, pass_length},
};
use crate::impact::Meter;

/// Of all its texts together: about two passes. A shorter one is run with the others.
const LONG_BYTES: usize = 4 << 10;

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
    pub(super) fn new(job: Job) -> Self {
        Self { ready: Ready::new(job), windows: None }
    }

    /// Runs one pass; whether it was the last.
    pub(super) fn step(&mut self, engine: &mut dyn Engine, meter: &dyn Meter, pace: &Pace) -> bool {
        if self.ready.job.abandoned(Instant::now()) {
            self.ready.give_up();
            return true;
        }
        let windows = match self.windows.take() {
            Some(windows) => windows,
            None => {
                self.ready.split(engine, pace);
                self.ready.sorted()
            }
        };
        let (now, later) = windows.split_at(pass_length(&windows).min(windows.len()));
        if !now.is_empty() {
            pass(engine, now, std::slice::from_mut(&mut self.ready), meter, pace);
        }
        self.windows = Some(later.to_vec());
        self.ready.scored.is_err() || later.is_empty()
    }
}
