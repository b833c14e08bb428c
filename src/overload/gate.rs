//! May a request be worked on now, does it wait for a moment, or is there no room?

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::timeout};

use super::{
    backlog::{Backlog, Pushed},
    limit::Limit,
};
use crate::fair_queue::Owner;

/// How often it is looked who has waited for too long.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The least that may be worked on, and that may wait, is one part in so many of the most.
const LEAST: usize = 4;
/// Whoever was refused within this shows that there is too much to do.
const REFUSED_OF_LATE: Duration = Duration::from_secs(1);

/// One for each loop. `T`: what waits.
pub struct Gate<T> {
    work: Arc<Work>,
    state: Mutex<State<T>>,
}

struct State<T> {
    backlog: Backlog<T>,
    refused: Option<Instant>,
    /// When it was last looked who is late.
    looked: Instant,
}

/// What is worked on: each place holds this, beside the gate.
#[derive(Debug)]
struct Work(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: Mutex<Limit>,
    /// As many wait as were counted last.
    waiting: AtomicUsize,
    /// A place has come free, or something waits.
    changed: Notify,
}

/// What may come of a request.
pub enum Entered<T> {
    Begins(T, Place),
    Waits,
    /// It waits, and another that waited is refused.
    InsteadOf(T),
    Refused(T),
}

/// What is to be done with one that has waited.
pub enum Next<T> {
    Begins(T, Place),
    /// It has waited for too long.
    Refused(T),
}

/// A request that is worked on, until it is dropped or waits for something slow. The default is no place.
#[derive(Debug, Default)]
pub struct Place(Mutex<Option<Arc<Work>>>);

impl<T> Gate<T> {
    /// At most so many are worked on, and as many wait.
    pub fn new(most: usize, now: Instant) -> Self {
        let least = most.div_ceil(LEAST);
        let shared = Shared {
            limit: Mutex::new(Limit::new(least, most, now)),
            waiting: AtomicUsize::new(0),
            changed: Notify::new(),
        };
        let state = State { backlog: Backlog::new(least, most, now), refused: None, looked: now };
        Self { work: Arc::new(Work(Arc::new(shared))), state: Mutex::new(state) }
    }

    /// `whose`: its owner and what it costs.
    pub fn enter(&self, item: T, whose: impl FnOnce(&T) -> (Owner, u64), now: Instant) -> Entered<T> {
        let mut state = self.state.lock();
        if state.backlog.len() == 0
            && let Some(place) = self.place(now)
        {
            state.backlog.begins(now);
            return Entered::Begins(item, place);
        }
        let whose = whose(&item);
        let entered = match state.backlog.push(whose, item, now) {
            Pushed::Waits => Entered::Waits,
            Pushed::InsteadOf(other) => Entered::InsteadOf(other),
            Pushed::Full(item) => Entered::Refused(item),
        };
        if !matches!(entered, Entered::Waits) {
            state.refused = Some(now);
        }
        self.counted(&state);
        entered
    }

    /// The next of those that wait, as long as there is one that begins or has waited for too long.
    pub fn next(&self, now: Instant) -> Option<Next<T>> {
        let mut state = self.state.lock();
        let place = self.place(now)?;
        let next = state.backlog.pop(now)?;
        self.counted(&state);
        Some(match next {
            Ok(item) => Next::Begins(item, place),
            Err(item) => {
                state.refused = Some(now);
                Next::Refused(item)
            }
        })
    }

    /// Those that have waited for too long, although no place came free.
    pub fn late(&self, now: Instant) -> Vec<T> {
        let mut state = self.state.lock();
        if now.saturating_duration_since(state.looked) < LOOK_EVERY {
            return Vec::new();
        }
        state.looked = now;
        let late = state.backlog.late(now);
        if !late.is_empty() {
            state.refused = Some(now);
        }
        self.counted(&state);
        late
    }

    /// Returns when it is to be looked who is next and who is late.
    pub async fn changed(&self) {
        let changed = self.work.0.changed.notified();
        match self.waiting() {
            0 => changed.await,
            _ => drop(timeout(LOOK_EVERY, changed).await),
        }
    }

    pub fn waiting(&self) -> usize {
        self.work.0.waiting.load(Ordering::Relaxed)
    }

    /// How many may be worked on.
    pub fn places(&self, now: Instant) -> usize {
        self.work.0.limit.lock().places(now)
    }

    /// Whether somebody was refused of late.
    pub fn refuses(&self, now: Instant) -> bool {
        let refused = self.state.lock().refused;
        refused.is_some_and(|at| now.saturating_duration_since(at) < REFUSED_OF_LATE)
    }

    fn place(&self, now: Instant) -> Option<Place> {
        (self.work.in_work() < self.places(now)).then(|| Place(Mutex::new(Some(Arc::clone(&self.work)))))
    }

    fn counted(&self, state: &State<T>) {
        let waiting = state.backlog.len();
        if self.work.0.waiting.swap(waiting, Ordering::Relaxed) == 0 && waiting > 0 {
            self.work.0.changed.notify_one();
        }
    }
}

impl Work {
    /// All that hold it but the gate.
    fn in_work(self: &Arc<Self>) -> usize {
        Arc::strong_count(self).saturating_sub(1)
    }
}

impl Place {
    /// It was worked on for so long, unless it has waited for something slow.
    pub fn took(&self, took: Duration, now: Instant) {
        if let Some(work) = &*self.0.lock() {
            work.0.limit.lock().took(took, work.in_work(), now);
        }
    }

    /// It waits for something slow, and others are worked on meanwhile.
    pub fn give_back(&self) {
        let Some(work) = self.0.lock().take() else { return };
        if work.0.waiting.load(Ordering::Relaxed) > 0 {
            let shared = Arc::clone(&work.0);
            drop(work);
            shared.changed.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;

    fn of(tenant: u64) -> impl FnOnce(&u64) -> (Owner, u64) {
        move |_| (Owner { tenant, sender: tenant }, 1)
    }

    fn begun(gate: &Gate<u64>, tenant: u64, now: Instant) -> Option<Place> {
        match gate.enter(tenant, of(tenant), now) {
            Entered::Begins(_, place) => Some(place),
            _ => None,
        }
    }

    #[tokio::test]
    async fn who_comes_while_others_wait_waits_behind_them_and_all_begin_as_places_come_free() {
        let (gate, now) = (Gate::new(8, Instant::now()), Instant::now());
        let mut places: Vec<_> = (0..8).map(|_| begun(&gate, 1, now).unwrap()).collect();
        assert!(begun(&gate, 1, now).is_none() && begun(&gate, 2, now).is_none());
        assert_eq!(gate.waiting(), 2);
        assert!(gate.next(now).is_none(), "there is no place");
        gate.changed().await;
        places.truncate(6);
        gate.changed().await;
        assert!(!gate.refuses(now));
        assert!(begun(&gate, 3, now).is_none(), "two places are free, and others wait for them");
        assert!(gate.refuses(now), "two may wait, and nobody has more waiting than it");
        for tenant in [1, 2] {
            let Some(Next::Begins(item, place)) = gate.next(now) else { panic!("{tenant} does not begin") };
            assert_eq!(item, tenant);
            places.push(place);
        }
        assert!(gate.next(now).is_none());
        assert!(!gate.refuses(now + REFUSED_OF_LATE));
    }

    #[tokio::test]
    async fn who_waits_while_nothing_comes_free_is_told_within_a_moment() {
        let gate = Gate::new(1, Instant::now());
        let _place = begun(&gate, 1, Instant::now()).unwrap();
        let began = Instant::now();
        assert!(begun(&gate, 2, began).is_none());
        let late = loop {
            gate.changed().await;
            let late = gate.late(Instant::now());
            if !late.is_empty() {
                break late;
            }
        };
        assert_eq!((late, gate.waiting()), (vec![2], 0));
        assert!(gate.refuses(Instant::now()));
    }

    #[test]
    fn what_waits_for_something_slow_has_no_place_and_tells_nothing_of_how_long_it_took() {
        let (gate, now) = (Gate::new(1, Instant::now()), Instant::now());
        let slow = begun(&gate, 1, now).unwrap();
        slow.give_back();
        slow.took(Duration::from_secs(60), now);
        assert!(begun(&gate, 1, now).is_some());
        Place::default().took(Duration::ZERO, now);
    }
}
