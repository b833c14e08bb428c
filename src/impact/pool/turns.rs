//! Whose long text is next? Tenants take turns, within a tenant its senders, and none can fill the place of all.

use std::{collections::VecDeque, time::Instant};

use super::{Job, Owner, Patience};

/// Who waits for a long text; the more hurried first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Hurried,
    Asked,
    Slow,
}

pub(super) const KINDS: usize = 3;

impl Kind {
    pub(super) const ALL: [Kind; KINDS] = [Kind::Hurried, Kind::Asked, Kind::Slow];

    pub(super) fn of(patience: Patience) -> Self {
        match patience {
            Patience::RoundTrip => Kind::Hurried,
            Patience::Within(_) => Kind::Asked,
            Patience::Lane => Kind::Slow,
        }
    }
}

/// Long texts that wait: of all, of one tenant, of one sender.
const WAITING_MAX: usize = 64;
const OF_TENANT_MAX: usize = 8;
const OF_SENDER_MAX: usize = 4;

/// Long texts that wait, first in, first out but for the turns.
#[derive(Default)]
pub(super) struct Turns {
    jobs: VecDeque<Job>,
    /// Whose was taken last.
    last: Option<Owner>,
}

impl Turns {
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Whether there is no room for one more of this owner.
    pub(super) fn is_full_for(&self, owner: Owner) -> bool {
        let count = |same: fn(Owner, Owner) -> bool| {
            self.jobs.iter().filter(|job| job.owner.is_some_and(|it| same(it, owner))).count()
        };
        self.jobs.len() >= WAITING_MAX
            || count(|a, b| a.tenant == b.tenant) >= OF_TENANT_MAX
            || count(|a, b| a == b) >= OF_SENDER_MAX
    }

    pub(super) fn push(&mut self, job: Job) {
        self.jobs.push_back(job);
    }

    /// Of another tenant than the last, else of another sender, else the first.
    pub(super) fn next(&mut self) -> Option<Job> {
        let unlike = |same: fn(Owner, Owner) -> bool| {
            let last = self.last?;
            self.jobs.iter().position(|job| job.owner.is_some_and(|it| !same(it, last)))
        };
        let turn = unlike(|a, b| a.tenant == b.tenant).or_else(|| unlike(|a, b| a == b)).unwrap_or(0);
        let job = self.jobs.remove(turn)?;
        self.last = job.owner;
        Some(job)
    }

    pub(super) fn forget_abandoned(&mut self, now: Instant) {
        self.jobs.retain(|job| !job.abandoned(now));
    }
}
