//! Where the parts of a node are collected, in the order in which operators see them.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use parking_lot::Mutex;

use crate::health::{Health, Part, State};

/// The parts of a node: those that it will have, and what they say once they are there.
pub struct Board {
    slots: Vec<Slot>,
    cause_of: CauseOf,
}

/// Of a part's name and of all that are not up: for which of these it is not.
type CauseOf = fn(&str, &[&'static str]) -> Option<&'static str>;

struct Slot {
    name: &'static str,
    /// What is said of a part that is not there yet; `None`: it is not shown.
    before: Option<Health>,
    part: OnceLock<Arc<dyn Part>>,
    last: Mutex<Option<(State, Instant)>>,
}

/// One part at one moment.
#[derive(Debug, Clone)]
pub struct PartHealth {
    pub name: &'static str,
    pub health: Health,
    /// When it was first seen in this state, without another in between.
    pub since: Instant,
    /// The part that it is not up for, if it is for another.
    pub cause: Option<&'static str>,
}

impl Board {
    pub fn new(parts: impl IntoIterator<Item = (&'static str, Option<Health>)>, cause_of: CauseOf) -> Self {
        let slot = |(name, before)| Slot { name, before, part: OnceLock::new(), last: Mutex::new(None) };
        Self { slots: parts.into_iter().map(slot).collect(), cause_of }
    }

    /// The part is there. The first one of a name stays.
    pub fn add(&self, name: &'static str, part: Arc<dyn Part>) {
        match self.slots.iter().find(|slot| slot.name == name) {
            Some(slot) => {
                let _ = slot.part.set(part);
            }
            None => tracing::error!(name, "a part that the node does not list"),
        }
    }

    pub fn read(&self) -> Vec<PartHealth> {
        let mut parts: Vec<PartHealth> = self.slots.iter().filter_map(Slot::read).collect();
        let is_up = |part: &PartHealth| part.health.state == State::Up;
        let ill: Vec<&'static str> = parts.iter().filter(|part| !is_up(part)).map(|part| part.name).collect();
        for part in parts.iter_mut().filter(|part| !is_up(part)) {
            part.cause = (self.cause_of)(part.name, &ill);
        }
        parts
    }
}

impl Slot {
    fn read(&self) -> Option<PartHealth> {
        let health = match self.part.get() {
            Some(part) => part.health(),
            None => self.before.clone(),
        };
        let mut last = self.last.lock();
        let Some(health) = health else {
            *last = None;
            return None;
        };
        let (name, now) = (self.name, Instant::now());
        let since = match *last {
            Some((state, since)) if state == health.state => since,
            Some((state, since)) => {
                let (was, now_is) = (state.as_str(), health.state.as_str());
                let after_s = now.duration_since(since).as_secs();
                tracing::info!(part = name, was, now_is, after_s, note = health.note, "health changed");
                now
            }
            None => now,
        };
        *last = Some((health.state, since));
        Some(PartHealth { name, health, since, cause: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Told(Mutex<Option<Health>>);

    impl Part for Told {
        fn health(&self) -> Option<Health> {
            self.0.lock().clone()
        }
    }

    #[test]
    fn a_part_is_told_of_before_it_is_there_and_since_when_it_is_as_it_is() {
        let board =
            Board::new([("store", Some(Health::down("not opened yet"))), ("webhook", None)], |_, _| None);
        let only = || board.read().remove(0);
        let before = only();
        assert_eq!((before.name, before.health), ("store", Health::down("not opened yet")));
        assert_eq!(board.read().len(), 1, "a part that need not be there is not shown before it is");
        let told = Arc::new(Told(Mutex::new(Some(Health::up("redis")))));
        board.add("store", Arc::clone(&told) as Arc<dyn Part>);
        let up = only();
        assert!(up.since > before.since, "another state began");
        *told.0.lock() = Some(Health::up("in memory"));
        assert_eq!((only().since, only().health.note), (up.since, "in memory".to_owned()));
        *told.0.lock() = None;
        assert!(board.read().is_empty(), "it has nothing to say");
    }
}
