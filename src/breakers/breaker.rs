//! One breaker, that messages on all threads pass. Closed and calm, it costs a message two reads and one addition.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Answer, Event, Kind, Machine, Phase, Recovery, Settings};

/// A call that is given up after it has waited for so long was given up for that.
const SLOW: Duration = Duration::from_millis(500);
/// For so long a pause may be over before a node tries by itself: all nodes agree on one that does.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is heard of other nodes counts for so long.
const IN_TOUCH_FOR: Duration = Duration::from_secs(3);
/// A pause that has been over for so long, and nobody has asked: nothing is known of it any more.
const UNASKED_FOR: Duration = Duration::from_secs(10);
/// Of why it was opened.
const WHY_MAX: usize = 200;

/// It is open: nothing was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its breaker is open")]
pub struct Open {
    /// Before that it is pointless to ask again.
    pub retry_after: Duration,
}

/// What has happened since somebody was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Told {
    pub good: u64,
    pub bad: u64,
    /// A probe of this node has closed it.
    pub closed: bool,
}

#[derive(Debug)]
pub struct Breaker {
    pub(super) kind: Kind,
    /// Which of its kind; empty where there is one.
    pub(super) target: Box<str>,
    settings: Settings,
    born: Instant,
    /// No more than what the machine says, to be read without its lock.
    closed: AtomicBool,
    calm: AtomicBool,
    generation: AtomicU64,
    /// Good calls that the machine has not been told of.
    good: AtomicU64,
    /// Of all of its kind.
    tally: Arc<Tally>,
    inner: Mutex<Inner>,
}

/// What all of one kind have done since the node began.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) refused: AtomicU64,
    pub(super) opened: AtomicU64,
    /// What was tried after a pause.
    pub(super) tried: AtomicU64,
    pub(super) closed: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    machine: Machine,
    /// The last fault.
    why: String,
    /// It is open since others have found it at fault, and this node has not.
    by_others: bool,
    /// For other nodes.
    untold: Told,
    /// When they were heard of last.
    in_touch: Option<Instant>,
}

/// A call that was let through. Whoever drops it without a word has given it up.
#[derive(Debug)]
#[must_use]
pub struct Call<'a> {
    breaker: &'a Breaker,
    generation: u64,
    /// `None`: to give it up says nothing, however long it took.
    begun: Option<Instant>,
    ended: bool,
}

impl Breaker {
    pub(super) fn new(kind: Kind, target: &str, settings: Settings, tally: Arc<Tally>) -> Self {
        Self {
            kind,
            target: target.into(),
            settings,
            born: Instant::now(),
            closed: AtomicBool::new(true),
            calm: AtomicBool::new(true),
            generation: AtomicU64::new(0),
            good: AtomicU64::new(0),
            tally,
            inner: Mutex::default(),
        }
    }

    /// By itself, for whoever has no others.
    pub fn alone(kind: Kind) -> Self {
        Self::new(kind, "", super::Table::default().of(kind), Arc::default())
    }

    /// Lets a call through, or says when to come again.
    pub fn admit(&self) -> Result<Call<'_>, Open> {
        let call = |generation| Call { breaker: self, generation, begun: None, ended: false };
        if self.closed.load(Relaxed) {
            return Ok(call(self.generation.load(Relaxed)));
        }
        let mut inner = self.inner.lock();
        let others_try =
            self.kind.is_shared() && inner.in_touch.is_some_and(|at| at.elapsed() < IN_TOUCH_FOR);
        let patience = if others_try { PATIENCE } else { Duration::ZERO };
        match self.step(&mut inner, Event::Asked { patience }) {
            Answer::Through { generation } => Ok(call(generation)),
            Answer::Refused { after } => {
                self.tally.refused.fetch_add(1, Relaxed);
                Err(Open { retry_after: after })
            }
            Answer::Noted => Ok(call(inner.machine.generation())),
        }
    }

    /// Whether calls pass. A probe may, where they do not.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// Nothing has failed of late.
    pub(super) fn is_calm(&self) -> bool {
        self.calm.load(Relaxed)
    }

    /// Whether it keeps calls away, as far as anybody has asked of late.
    pub(super) fn is_in_the_way(&self) -> bool {
        let now = self.born.elapsed();
        match self.inner.lock().machine.phase() {
            Phase::Closed => false,
            Phase::Open { until } => until.is_none_or(|until| now < until + UNASKED_FOR),
            Phase::HalfOpen { probe } => probe.is_some_and(|until| now < until),
        }
    }

    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// For how long it is open yet.
    pub fn left(&self) -> Option<Duration> {
        self.trouble()?.1
    }

    /// Why it is not closed, and for how long yet as far as that is known.
    pub fn trouble(&self) -> Option<(String, Option<Duration>)> {
        let inner = self.inner.lock();
        let left = match inner.machine.phase() {
            Phase::Closed => return None,
            Phase::Open { until } => until.map(|until| until.saturating_sub(self.born.elapsed())),
            Phase::HalfOpen { .. } => Some(Duration::ZERO),
        };
        Some((inner.why.clone(), left))
    }

    /// It has failed for a reason that can only be its own.
    pub fn fell(&self, why: &dyn Display) {
        let mut inner = self.inner.lock();
        inner.why = shortened(why);
        inner.untold.bad = inner.untold.bad.saturating_add(1);
        self.step(&mut inner, Event::Fell);
    }

    /// Why it is open, as it was found just now.
    pub fn noted(&self, why: &dyn Display) {
        self.inner.lock().why = shortened(why);
    }

    /// It is known to be well, by other means than a call.
    pub fn restored(&self) {
        if !self.is_calm() {
            let mut inner = self.inner.lock();
            let was = inner.machine.phase();
            self.step(&mut inner, Event::Restored);
            inner.untold.closed |= was != Phase::Closed && inner.machine.phase() == Phase::Closed;
        }
    }

    /// The next call finds out: a person says so, or another node has found it well.
    pub fn released(&self) {
        self.step(&mut self.inner.lock(), Event::Released);
    }

    /// Other nodes have opened it for so long yet.
    pub fn opened_elsewhere(&self, pause: Duration) {
        let mut inner = self.inner.lock();
        if inner.machine.phase() == Phase::Closed {
            inner.why = "other nodes have found it at fault".to_owned();
        }
        self.step(&mut inner, Event::OpenedElsewhere { pause });
    }

    /// What other nodes are to be told since the last time; from now on it waits for them to say who tries.
    pub fn tell(&self) -> Told {
        let mut inner = self.inner.lock();
        self.note_good(&mut inner);
        inner.in_touch = Some(Instant::now());
        std::mem::take(&mut inner.untold)
    }

    /// They could not be told: they will be the next time.
    pub fn untold(&self, told: Told) {
        let mut inner = self.inner.lock();
        let Told { good, bad, closed } = &mut inner.untold;
        *good = good.saturating_add(told.good);
        *bad = bad.saturating_add(told.bad);
        *closed |= told.closed;
    }

    /// Other nodes cannot be heard of: this one goes by what it sees itself.
    pub fn out_of_touch(&self) {
        self.inner.lock().in_touch = None;
    }

    /// Nobody else finds it at fault any more: if only others had, the next call finds out.
    pub fn closed_elsewhere(&self) {
        let mut inner = self.inner.lock();
        // A manual one waits for a person, whoever has opened it.
        if inner.by_others && self.settings.recovery != Recovery::Manual {
            self.step(&mut inner, Event::Released);
        }
    }

    /// Whether a pause is over and nobody tries.
    pub fn is_due(&self) -> bool {
        let phase = self.inner.lock().machine.phase();
        matches!(phase, Phase::Open { until: Some(until) } if until <= self.born.elapsed())
    }

    fn good(&self, generation: u64) {
        if self.is_calm() {
            // What is late by a change of phase is of no weight among all others.
            self.good.fetch_add(1, Relaxed);
            return;
        }
        let mut inner = self.inner.lock();
        inner.untold.good = inner.untold.good.saturating_add(1);
        let was = inner.machine.phase();
        self.step(&mut inner, Event::Good { generation, calls: 1 });
        if was != Phase::Closed && inner.machine.phase() == Phase::Closed {
            inner.untold.closed = true;
        }
    }

    fn bad(&self, generation: u64, why: &dyn Display) {
        let mut inner = self.inner.lock();
        if generation == inner.machine.generation() {
            inner.why = shortened(why);
        }
        inner.untold.bad = inner.untold.bad.saturating_add(1);
        self.note_good(&mut inner);
        self.step(&mut inner, Event::Bad { generation });
    }

    /// The machine learns of the calls that went well while all was calm.
    fn note_good(&self, inner: &mut Inner) {
        let calls = self.good.swap(0, Relaxed);
        if calls > 0 {
            inner.untold.good = inner.untold.good.saturating_add(calls);
            // They are from before it opened, so they say nothing of a try.
            if inner.machine.phase() == Phase::Closed {
                let generation = inner.machine.generation();
                self.step(inner, Event::Good { generation, calls });
            }
        }
    }

    fn step(&self, inner: &mut Inner, event: Event) -> Answer {
        let was = inner.machine.phase();
        let (machine, answer) = inner.machine.step(event, self.born.elapsed(), &self.settings);
        inner.machine = machine;
        let phase = machine.phase();
        self.generation.store(machine.generation(), Relaxed);
        self.closed.store(phase == Phase::Closed, Relaxed);
        self.calm.store(machine.is_calm(), Relaxed);
        let (kind, target, why) = (self.kind.as_str(), &*self.target, &*inner.why);
        match (was, phase) {
            (Phase::Closed | Phase::HalfOpen { .. }, Phase::Open { .. }) => {
                self.tally.opened.fetch_add(1, Relaxed);
                inner.untold.closed = false;
                inner.by_others = matches!(event, Event::OpenedElsewhere { .. });
                tracing::warn!(kind, target, why, "a breaker opens");
            }
            (Phase::Open { .. } | Phase::HalfOpen { .. }, Phase::Closed) => {
                self.tally.closed.fetch_add(1, Relaxed);
                tracing::info!(kind, target, "a breaker closes");
            }
            (Phase::Open { .. }, Phase::HalfOpen { .. }) => {
                self.tally.tried.fetch_add(1, Relaxed);
                inner.by_others = false;
            }
            _ => {}
        }
        answer
    }
}

impl Call<'_> {
    /// To give it up counts as a fault when it took long: only what is asked can be the reason.
    pub fn timed(mut self) -> Self {
        self.begun = Some(Instant::now());
        self
    }

    pub fn good(mut self) {
        self.ended = true;
        self.breaker.good(self.generation);
    }

    /// What is asked was at fault.
    pub fn bad(mut self, why: &dyn Display) {
        self.ended = true;
        self.breaker.bad(self.generation, why);
    }

    /// It says nothing of what is asked.
    pub fn neither(mut self) {
        self.ended = true;
        self.left();
    }

    fn left(&self) {
        if !self.breaker.is_closed() {
            let event = Event::Left { generation: self.generation };
            self.breaker.step(&mut self.breaker.inner.lock(), event);
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        match self.begun {
            Some(begun) if begun.elapsed() >= SLOW => {
                self.breaker.bad(self.generation, &"no answer while somebody waited for it");
            }
            _ => self.left(),
        }
    }
}

fn shortened(why: &dyn Display) -> String {
    why.to_string().chars().take(WHY_MAX).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_long_and_gives_up_is_a_fault_and_who_gives_up_at_once_is_not() {
        let breaker = Breaker::alone(Kind::Jetstream);
        for _ in 0..50 {
            drop(breaker.admit().unwrap().timed());
        }
        assert!(breaker.is_closed() && breaker.is_calm());
        let waiting: Vec<_> = (0..5).map(|_| breaker.admit().unwrap().timed()).collect();
        tokio::time::advance(SLOW).await;
        drop(waiting);
        assert!(!breaker.is_closed());
        assert!(breaker.admit().unwrap_err().retry_after <= Duration::from_secs(1));
        assert!(breaker.trouble().unwrap().0.contains("no answer"));
        tokio::time::advance(Duration::from_secs(1)).await;
        let probe = breaker.admit().unwrap();
        assert!(breaker.admit().is_err(), "one finds out");
        probe.good();
        assert!(breaker.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn in_touch_with_others_a_node_waits_to_be_told_who_tries_and_not_for_ever() {
        let breaker = Breaker::alone(Kind::Records);
        breaker.fell(&"no answer");
        assert_eq!(breaker.tell(), Told { bad: 1, ..Told::default() });
        assert_eq!(breaker.tell(), Told::default(), "told once");
        tokio::time::advance(Duration::from_millis(1_100)).await;
        assert!(breaker.is_due() && breaker.admit().is_err());
        breaker.released();
        breaker.admit().unwrap().good();
        assert!(breaker.tell().closed);
        breaker.fell(&"no answer");
        tokio::time::advance(IN_TOUCH_FOR + Duration::from_secs(1)).await;
        assert!(breaker.admit().is_ok(), "nobody has been heard of for long");
    }

    #[tokio::test(start_paused = true)]
    async fn others_hear_what_is_known_to_be_well_by_other_means_than_a_call() {
        let breaker = Breaker::alone(Kind::Records);
        breaker.restored();
        assert!(!breaker.tell().closed, "it was never open");
        breaker.fell(&"no answer");
        breaker.restored();
        assert!(breaker.is_closed() && breaker.tell().closed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_went_well_before_it_opened_is_no_try_that_went_well() {
        let breaker = Breaker::alone(Kind::Opa);
        breaker.admit().unwrap().good();
        breaker.fell(&"no answer");
        tokio::time::advance(Duration::from_secs(1)).await;
        breaker.admit().unwrap().bad(&"no answer");
        assert!(!breaker.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_have_opened_and_a_person_is_to_close_waits_for_the_person() {
        let settings = Settings { recovery: Recovery::Manual, ..Breaker::alone(Kind::Jetstream).settings };
        let breaker = Breaker { settings, ..Breaker::alone(Kind::Jetstream) };
        breaker.opened_elsewhere(Duration::from_secs(1));
        breaker.closed_elsewhere();
        assert!(breaker.admit().is_err());
        breaker.released();
        assert!(breaker.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_asks_any_more_is_no_trouble_and_what_waits_for_a_person_is() {
        let breaker = Breaker::alone(Kind::Jetstream);
        breaker.fell(&"no answer");
        assert!(breaker.is_in_the_way());
        tokio::time::advance(Duration::from_secs(1) + UNASKED_FOR).await;
        assert!(!breaker.is_in_the_way() && !breaker.is_closed());
        let by_hand = Settings { recovery: Recovery::Manual, ..Breaker::alone(Kind::Jetstream).settings() };
        let breaker = Breaker::new(Kind::Jetstream, "", by_hand, Arc::default());
        breaker.fell(&"no answer");
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert!(breaker.is_in_the_way());
        breaker.released();
        assert!(!breaker.is_in_the_way(), "nobody has tried yet");
    }

    #[tokio::test(start_paused = true)]
    async fn many_good_calls_outweigh_some_bad_ones_though_they_are_counted_aside() {
        let breaker = Breaker::alone(Kind::Jetstream);
        for _ in 0..100 {
            breaker.admit().unwrap().good();
        }
        for _ in 0..20 {
            breaker.admit().unwrap().bad(&"lost");
            breaker.admit().unwrap().good();
        }
        assert!(breaker.is_closed());
        assert_eq!(breaker.tell(), Told { good: 120, bad: 20, ..Told::default() });
    }
}
