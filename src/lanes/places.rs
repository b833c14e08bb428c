//! Who has the places of a tenant's messages in flight? Each sender may take one while it holds fewer than are left.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{domain::AgentId, shares::Room};

/// Senders that are remembered before those without a place are forgotten.
const SENDERS_KEPT: usize = 256;
/// Of what keeps one agent alive, beside its messages.
const BESIDE_MAX: usize = 8;

/// Of one tenant.
pub(super) struct Places {
    all: Arc<Semaphore>,
    messages: Holders,
    beside: Holders,
}

/// Who has places. As many hold a sender's entry as it has places, and this map.
#[derive(Default)]
struct Holders(Mutex<HashMap<AgentId, Arc<()>>>);

/// Given back when dropped.
pub(super) struct Place {
    _of_sender: Option<Arc<()>>,
    _of_all: OwnedSemaphorePermit,
}

/// Why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    AllTaken,
    /// The rest is for others.
    Share {
        held: usize,
        left: usize,
    },
}

impl Places {
    pub(super) fn new(places: usize) -> Self {
        let (messages, beside) = (Holders::default(), Holders::default());
        Self { all: Arc::new(Semaphore::new(places)), messages, beside }
    }

    /// A place, if there is one and the sender leaves enough to others.
    pub(super) fn take(&self, sender: &AgentId) -> Result<Place, NoPlace> {
        self.take_if(&self.messages, sender, |held, left| {
            let room = |places| Room { places, bytes: 0 };
            // Of bytes there is no limit.
            left == 0 || !room(held).is_share(Room { places: left, bytes: 1 })
        })
    }

    /// One for what keeps the sender alive, whatever it has in flight beside.
    pub(super) fn take_beside(&self, sender: &AgentId) -> Result<Place, NoPlace> {
        self.take_if(&self.beside, sender, |held, _| held < BESIDE_MAX)
    }

    /// `may`: with so many that it has, and so many that are left.
    fn take_if(
        &self,
        holders: &Holders,
        sender: &AgentId,
        may: impl FnOnce(usize, usize) -> bool,
    ) -> Result<Place, NoPlace> {
        let of_sender = {
            let mut senders = holders.0.lock();
            if senders.len() >= SENDERS_KEPT && !senders.contains_key(sender) {
                senders.retain(|_, places| Arc::strong_count(places) > 1);
            }
            let places = senders.entry(sender.clone()).or_default();
            let (held, left) = (Arc::strong_count(places) - 1, self.all.available_permits());
            if !may(held, left) {
                return Err(NoPlace::Share { held, left });
            }
            Arc::clone(places)
        };
        Ok(Place { _of_sender: Some(of_sender), ..self.take_any()? })
    }

    /// A place that counts for no sender.
    pub(super) fn take_any(&self) -> Result<Place, NoPlace> {
        let of_all = Arc::clone(&self.all).try_acquire_owned().map_err(|_| NoPlace::AllTaken)?;
        Ok(Place { _of_sender: None, _of_all: of_all })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn sender(number: usize) -> AgentId {
        format!("s{number}").parse().unwrap()
    }

    #[test]
    fn one_sender_gets_half_of_the_places_and_leaves_the_rest_to_its_colleagues() {
        let places = Places::new(16);
        let taken = |number: usize| -> Vec<Place> {
            std::iter::from_fn(|| places.take(&sender(number)).ok()).collect()
        };
        let (one, other) = (taken(1), taken(2));
        assert_eq!((one.len(), other.len()), (8, 4));
        assert_eq!(places.take(&sender(1)).err(), Some(NoPlace::Share { held: 8, left: 4 }));
        let rest: Vec<_> = std::iter::from_fn(|| places.take_any().ok()).collect();
        assert_eq!((rest.len(), places.take(&sender(3)).err()), (4, Some(NoPlace::AllTaken)));
        drop((one, other, rest));
        assert_eq!(taken(1).len(), 8, "places come back");
    }

    #[test]
    fn what_keeps_a_sender_alive_has_a_few_places_of_its_own_beside_its_messages() {
        let places = Places::new(64);
        let _messages: Vec<_> = std::iter::from_fn(|| places.take(&sender(1)).ok()).collect();
        let beside: Vec<_> = std::iter::from_fn(|| places.take_beside(&sender(1)).ok()).collect();
        assert_eq!(beside.len(), BESIDE_MAX);
        assert!(places.take_beside(&sender(2)).is_ok() && places.take(&sender(2)).is_ok());
        drop(beside);
        assert!(places.take_beside(&sender(1)).is_ok());
    }

    #[test]
    fn senders_without_a_place_are_forgotten() {
        let places = Places::new(16);
        let held = places.take(&sender(0)).unwrap();
        for number in 1..4 * SENDERS_KEPT {
            drop(places.take(&sender(number)).unwrap());
            assert!(places.messages.0.lock().len() <= SENDERS_KEPT);
        }
        assert!(places.messages.0.lock().contains_key(&sender(0)));
        drop(held);
    }
}
