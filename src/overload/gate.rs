//! May a request be worked on now, does it wait for a moment, or is there no room?

use std::{
    collections::{HashMap, hash_map::Entry},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::poll;
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
/// So many begin where they are read, within a moment, and the first of each tenant. The next wait, until those that are
/// worked on have had a turn: reading goes on meanwhile, and who is refused hears it soon.
const BEGIN_AT_ONCE: usize = 32;
const MOMENT: Duration = Duration::from_millis(1);
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
    /// How many have begun at once, since when.
    at_once: (usize, Instant),
}

impl<T> State<T> {
    fn begins_at_once(&mut self, now: Instant) -> bool {
        let (begun, since) = &mut self.at_once;
        if now.saturating_duration_since(*since) >= MOMENT {
            (*begun, *since) = (0, now);
        }
        *begun < BEGIN_AT_ONCE
    }
}

/// What is worked on: each place holds this, beside the gate.
#[derive(Debug)]
struct Work {
    places: Mutex<Places>,
    /// As many wait as were counted last.
    waiting: AtomicUsize,
    /// A place has come free, or something waits.
    changed: Notify,
}

/// Who has how many places, and how many there are.
#[derive(Debug)]
struct Places {
    limit: Limit,
    most: usize,
    taken: usize,
    tenants: HashMap<u64, usize>,
}

impl Places {
    fn free(&self, now: Instant) -> usize {
        self.limit.places(now).saturating_sub(self.taken)
    }

    /// Whoever has no place gets one, however few there are: others' work, and how long it takes, is not its fault.
    fn has_first(&self, tenant: u64) -> bool {
        self.taken < self.most && !self.tenants.contains_key(&tenant)
    }

    fn take(&mut self, tenant: u64) {
        self.taken += 1;
        *self.tenants.entry(tenant).or_default() += 1;
    }

    fn give_back(&mut self, tenant: u64) {
        self.taken = self.taken.saturating_sub(1);
        if let Entry::Occupied(mut places) = self.tenants.entry(tenant) {
            *places.get_mut() -= 1;
            if *places.get() == 0 {
                places.remove();
            }
        }
    }
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
pub struct Place(Mutex<Option<Held>>);

#[derive(Debug)]
struct Held {
    work: Arc<Work>,
    tenant: u64,
}

impl<T> Gate<T> {
    /// At most so many are worked on, and as many wait beside free places.
    pub fn new(most: usize, now: Instant) -> Self {
        let least = most.div_ceil(LEAST);
        let limit = Limit::new(least, most, now);
        let places = Places { limit, most: most.max(1), taken: 0, tenants: HashMap::new() };
        let work = Work { places: Mutex::new(places), waiting: AtomicUsize::new(0), changed: Notify::new() };
        let state =
            State { backlog: Backlog::new(least, most, now), refused: None, looked: now, at_once: (0, now) };
        Self { work: Arc::new(work), state: Mutex::new(state) }
    }

    /// `whose`: its owner and what it costs.
    pub fn enter(&self, item: T, whose: impl FnOnce(&T) -> (Owner, u64), now: Instant) -> Entered<T> {
        let whose = whose(&item);
        let mut state = self.state.lock();
        let (place, free) = self.place_of(whose.0, &mut state, now);
        if let Some(place) = place {
            state.at_once.0 += 1;
            state.backlog.begins(now);
            return Entered::Begins(item, place);
        }
        let entered = match state.backlog.push(whose, item, free, now) {
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
        let next = {
            let mut places = self.work.places.lock();
            let free = places.free(now) > 0;
            let next = state.backlog.pop(|tenant| free || places.has_first(tenant), now)?;
            if let Ok((_, tenant)) = &next {
                places.take(*tenant);
            }
            next
        };
        self.counted(&state);
        Some(match next {
            Ok((item, tenant)) => Next::Begins(item, Place::of(&self.work, tenant)),
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
        let changed = self.work.changed.notified();
        match self.waiting() {
            0 => changed.await,
            _ => drop(timeout(LOOK_EVERY, changed).await),
        }
    }

    pub fn waiting(&self) -> usize {
        self.work.waiting.load(Ordering::Relaxed)
    }

    /// How many may be worked on.
    pub fn places(&self, now: Instant) -> usize {
        self.work.places.lock().limit.places(now)
    }

    /// Whether somebody was refused of late.
    pub fn refuses(&self, now: Instant) -> bool {
        let refused = self.state.lock().refused;
        refused.is_some_and(|at| now.saturating_duration_since(at) < REFUSED_OF_LATE)
    }

    /// For one that has just come: what waits goes first. And how many places are free.
    fn place_of(&self, owner: Owner, state: &mut State<T>, now: Instant) -> (Option<Place>, usize) {
        let mut places = self.work.places.lock();
        let free = places.free(now);
        let begins = (places.has_first(owner.tenant) && state.backlog.of(owner) == 0)
            || (free > 0 && state.backlog.len() == 0 && state.begins_at_once(now));
        let place = begins.then(|| {
            places.take(owner.tenant);
            Place::of(&self.work, owner.tenant)
        });
        (place, free)
    }

    fn counted(&self, state: &State<T>) {
        let waiting = state.backlog.len();
        if self.work.waiting.swap(waiting, Ordering::Relaxed) == 0 && waiting > 0 {
            self.work.changed.notify_one();
        }
    }
}

impl Place {
    fn of(work: &Arc<Work>, tenant: u64) -> Self {
        Self(Mutex::new(Some(Held { work: Arc::clone(work), tenant })))
    }

    /// It was worked on for so long, unless it has waited for something slow.
    pub fn took(&self, took: Duration, now: Instant) {
        self.tell(|limit, taken| limit.took(took, taken, now));
    }

    /// It has begun, and the loop ran for so long before its first turn came.
    pub fn waited(&self, waited: Duration, now: Instant) {
        self.tell(|limit, taken| limit.waited(waited, taken, now));
    }

    fn tell(&self, tell: impl FnOnce(&mut Limit, usize)) {
        if let Some(Held { work, .. }) = &*self.0.lock() {
            let Places { limit, taken, .. } = &mut *work.places.lock();
            tell(limit, *taken);
        }
    }

    /// Waits for something slow, and others are worked on meanwhile, unless it is there at once. Pinned by who asks: a
    /// future within this one would be kept twice, and each message moves all of it.
    pub async fn wait<T>(&self, mut slow: Pin<&mut impl Future<Output = T>>) -> T {
        match poll!(slow.as_mut()) {
            Poll::Ready(done) => done,
            Poll::Pending => {
                self.give_back();
                slow.await
            }
        }
    }

    /// It is done, or waits for something slow.
    fn give_back(&self) {
        let Some(Held { work, tenant }) = self.0.lock().take() else { return };
        work.places.lock().give_back(tenant);
        if work.waiting.load(Ordering::Relaxed) > 0 {
            work.changed.notify_one();
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

    use std::pin::pin;

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
        for _ in 0..2 {
            assert!(begun(&gate, 1, now).is_none(), "two places are free, and others wait for them");
            assert!(!gate.refuses(now), "two may wait beside those");
        }
        assert!(begun(&gate, 1, now).is_none());
        assert!(gate.refuses(now), "nobody has more waiting than it");
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
    fn who_has_no_place_begins_however_few_there_are_and_whoever_waits() {
        let (gate, now) = (Gate::new(1_024, Instant::now()), Instant::now());
        let then = |moment| now + MOMENT * moment;
        let busy: Vec<_> = (0..100).map(|moment| begun(&gate, 1, then(moment)).unwrap()).collect();
        let now = then(100);
        busy.iter().for_each(|place| place.waited(Duration::from_secs(1), now));
        assert_eq!(gate.places(now), 8);
        assert!(begun(&gate, 1, now).is_none(), "it has many");
        let other = begun(&gate, 2, now).unwrap();
        assert!(begun(&gate, 2, now).is_none() && begun(&gate, 2, now).is_none(), "it has one");
        drop(other);
        let Some(Next::Begins(2, other)) = gate.next(now) else { panic!("the other does not begin") };
        assert!(gate.next(now).is_none());
        other.give_back();
        assert!(begun(&gate, 2, now).is_none(), "what waits goes first");
        assert!(matches!(gate.next(now), Some(Next::Begins(2, _))));
    }

    #[tokio::test]
    async fn of_many_that_come_at_once_some_begin_and_the_next_are_refused_only_where_there_are_no_places() {
        let (gate, now) = (Gate::new(100, Instant::now()), Instant::now());
        let mut begun = Vec::new();
        let (mut waiting, mut refused) = (0, 0);
        for _ in 0..200 {
            match gate.enter(1, of(1), now) {
                Entered::Begins(_, place) => begun.push(place),
                Entered::Waits => waiting += 1,
                _ => refused += 1,
            }
        }
        // As many wait as there are places left, and a quarter of all besides.
        assert_eq!((begun.len(), waiting, refused), (BEGIN_AT_ONCE, 100 - BEGIN_AT_ONCE + 25, 75));
        gate.changed().await;
        while let Some(Next::Begins(_, place)) = gate.next(now) {
            begun.push(place);
        }
        assert_eq!((begun.len(), gate.waiting()), (100, 25));
        drop(begun);
        while let Some(next) = gate.next(now) {
            assert!(matches!(next, Next::Begins(..)));
        }
        let next = now + MOMENT;
        assert!(matches!(gate.enter(1, of(1), next), Entered::Begins(..)));
        let gate = Gate::new(100, now);
        let busy: Vec<_> = (0..40).filter_map(|_| self::begun(&gate, 1, now)).collect();
        assert_eq!(busy.len(), BEGIN_AT_ONCE);
        assert!(self::begun(&gate, 2, now).is_some(), "the first of a tenant waits for nobody's");
    }

    #[tokio::test]
    async fn what_is_there_at_once_keeps_its_place() {
        let (gate, now) = (Gate::new(1, Instant::now()), Instant::now());
        let place = begun(&gate, 1, now).unwrap();
        assert_eq!(place.wait(pin!(std::future::ready(7))).await, 7);
        assert!(begun(&gate, 1, now).is_none());
        place.wait(pin!(tokio::task::yield_now())).await;
        assert!(matches!(gate.next(now), Some(Next::Begins(1, _))));
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
