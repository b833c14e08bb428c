//! In which order is a message judged, and what does each step need? Told here alone.

use std::time::Duration;

use super::{Addressed, Checked, Permitted, RetryMode, Routed, Unaddressed};
use crate::domain::{Approval, Constitution, Timestamp};

/// What holds for every message at this instant.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    pub constitutions: &'a [Constitution],
    pub clock_skew: Duration,
    /// Whether the clock that `now` is by cannot be gone by.
    pub clock_is_off: bool,
    pub now: Timestamp,
}

/// For what a message is judged.
#[derive(Debug, Clone, Copy)]
pub struct Purpose<'a> {
    pub mode: RetryMode,
    /// Its reviewers have approved it: it is asked about again, and needs no score.
    pub approval: Option<&'a Approval>,
}

/// How far judging is: routed, or what it needs to go on.
#[derive(Debug)]
pub enum Judging<'a> {
    /// Who is registered of those that it could reach.
    NeedsRegistry(Unaddressed<'a>),
    /// What the policy says of each of them.
    NeedsPolicy(Addressed<'a>),
    /// What harm it could do, by its words and its sender's past.
    NeedsModel(Permitted<'a>),
    Routed(Routed<'a>),
}

impl<'a> Checked<'a> {
    /// Begins: whom it would reach comes first, for the policy judges a message *to somebody*.
    pub fn judge(self, purpose: Purpose<'a>) -> Judging<'a> {
        Judging::NeedsRegistry(Unaddressed::new(self, purpose))
    }
}
