//! What would a candidate decide of the messages that come now? It is asked what the policy in force was asked, on a
//! thread of its own, and nothing follows from its answers.
//!
//! No message waits for it: what was decided goes over a bounded queue, of which no tenant has more than a part. A
//! candidate that is slow, fails or panics costs comparisons, which are counted, and nothing else.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::{
    Event, Label, Meter, PolicyEngine as _, RegoEngine,
    comparison::{Comparison, Summary},
    decided::{Told, Waiting, is_in_share},
};
use crate::domain::Timestamp;

mod example;
mod judge;
mod standing;

pub use standing::{ShadowPlan, ShadowStanding, ShadowState};

/// Rooms for decisions that wait, and the bytes of each: a tenant has one of them, with others.
const ROOMS: usize = 8;
const ROOM_BYTES: usize = 1024 * 1024;

/// The place beside the policy in force.
pub struct Shadow {
    waiting: Waiting,
    place: Arc<Place>,
}

/// What the thread sees of it.
struct Place {
    judging: ArcSwapOption<Judging>,
    /// What an operator wanted last.
    last: Mutex<Option<Last>>,
    meter: Arc<dyn Meter>,
    clock: fn() -> Timestamp,
}

struct Last {
    plan: ShadowPlan,
    since: Timestamp,
    /// Or why it could not be loaded.
    candidate: Result<Arc<Judging>, String>,
    stopped: bool,
}

/// A candidate, and what it has said so far.
struct Judging {
    plan: ShadowPlan,
    label: Label,
    engine: RegoEngine,
    counted: Mutex<Counted>,
    lost: AtomicU64,
    undecided: AtomicU64,
}

struct Counted {
    /// The policy in force that it is compared with.
    against: Arc<str>,
    comparison: Comparison,
}

impl Shadow {
    /// Examples of each change that are kept.
    pub const EXAMPLES_MAX: usize = 10;
    /// Longer than that none judges.
    pub const TIME_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    /// Starts its thread, which ends with it.
    pub fn start(meter: Arc<dyn Meter>, clock: fn() -> Timestamp) -> io::Result<Self> {
        let (waiting, decided) = Waiting::new(ROOMS, ROOM_BYTES, clock);
        let place = Arc::new(Place { judging: ArcSwapOption::empty(), last: Mutex::default(), meter, clock });
        let seen = Arc::clone(&place);
        std::thread::Builder::new()
            .name("policy-shadow".to_owned())
            .spawn(move || judge::run(&seen, decided))?;
        Ok(Self { waiting, place })
    }

    /// Has a candidate judge, in the place of the one before.
    pub fn judge(&self, plan: ShadowPlan, label: Label, engine: RegoEngine, in_force: Arc<str>) {
        let counted = Counted { against: in_force, comparison: Comparison::new(Self::EXAMPLES_MAX) };
        let (counted, lost, undecided) = (Mutex::new(counted), AtomicU64::new(0), AtomicU64::new(0));
        let judging = Arc::new(Judging { plan, label, engine, counted, lost, undecided });
        let mut last = self.place.last.lock();
        *last = Some(Last {
            plan,
            since: (self.place.clock)(),
            candidate: Ok(Arc::clone(&judging)),
            stopped: false,
        });
        self.place.judging.store(Some(judging));
    }

    /// A candidate could not be loaded; the one before judges no more either.
    pub fn refuse(&self, plan: ShadowPlan, why: String) {
        let mut last = self.place.last.lock();
        self.place.judging.store(None);
        *last = Some(Last { plan, since: (self.place.clock)(), candidate: Err(why), stopped: false });
    }

    /// None judges any more. What the last one has said can still be asked for.
    pub fn stop(&self, sequence: u64) {
        let mut last = self.place.last.lock();
        self.place.judging.store(None);
        if let Some(last) = &mut *last {
            last.plan.sequence = sequence;
            last.stopped = true;
        }
    }

    /// Whether the decision about this message, by the policy in force, is to be told.
    pub(super) fn takes(&self, decision_id: &str, in_force: &str) -> bool {
        let judging = self.place.judging.load();
        let Some(judging) = &*judging else { return false };
        judging.is_at_it((self.place.clock)(), in_force) && is_in_share(decision_id, judging.plan.share)
    }

    /// Never waits.
    pub(super) fn tell(&self, told: &Told<'_>) {
        if !self.waiting.tell(told) {
            self.place.meter.see(Event::ShadowLost);
            if let Some(judging) = &*self.place.judging.load() {
                judging.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Another policy comes into force: what was compared with the one before says nothing of it.
    pub(super) fn comes_into_force(&self, revision: &Arc<str>) {
        let judging = self.place.judging.load();
        let Some(judging) = judging.as_ref().filter(|judging| judging.engine.revision() != revision) else {
            return;
        };
        let mut counted = judging.counted.lock();
        if counted.against != *revision {
            let comparison = Comparison::new(Self::EXAMPLES_MAX);
            *counted = Counted { against: Arc::clone(revision), comparison };
        }
    }

    /// What an operator wanted last, and what became of it.
    pub fn standing(&self, in_force: &str) -> Option<ShadowStanding> {
        let last = self.place.last.lock();
        last.as_ref().map(|last| ShadowStanding::of(last, (self.place.clock)(), in_force))
    }

    /// What its candidate has said so far, in at most so many bytes of JSON.
    pub fn summary(&self, bytes_max: usize) -> Option<Summary> {
        let judging = Arc::clone(self.place.last.lock().as_ref()?.candidate.as_ref().ok()?);
        // The thread must not wait while it is written.
        let comparison = judging.counted.lock().comparison.clone();
        Some(Summary::of(&comparison, bytes_max))
    }

    /// Waits until the candidate has judged all that was told. `false`: it was not in time.
    pub async fn flush(&self, within: Duration) -> bool {
        self.waiting.is_done(within).await
    }
}

impl Judging {
    /// Not when its time is over, nor while it is in force itself.
    fn is_at_it(&self, now: Timestamp, in_force: &str) -> bool {
        now < self.plan.until && **self.engine.revision() != *in_force
    }
}
