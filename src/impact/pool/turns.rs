//! Whose long text is next? Tenants share by what their texts take, within a tenant its senders, and none can fill the
//! place of all.

use std::time::Instant;

use super::{Job, Patience};
use crate::fair_queue::{FairQueue, Owner};

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

/// Long texts that wait.
#[derive(Default)]
pub(super) struct Turns(FairQueue<Job>);

impl Turns {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no room for one more of this owner.
    pub(super) fn is_full_for(&self, owner: Owner) -> bool {
        let (of_tenant, of_sender) = self.0.waiting(owner);
        self.len() >= WAITING_MAX || of_tenant >= OF_TENANT_MAX || of_sender >= OF_SENDER_MAX
    }

    pub(super) fn push(&mut self, job: Job) {
        self.0.push(job.owner, job);
    }

    pub(super) fn next(&mut self) -> Option<Job> {
        self.0.pop()
    }

    pub(super) fn charge(&mut self, owner: Owner, tokens: u64) {
        self.0.charge(owner, tokens);
    }

    pub(super) fn forget_abandoned(&mut self, now: Instant) {
        drop(self.0.take_out(|job| job.abandoned(now)));
    }
}
