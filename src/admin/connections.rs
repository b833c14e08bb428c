//! Which connection gives way when there are too many? The one whose last request is the longest ago.
//!
//! So one that has sent no whole request, slowly or never, gives way before one that asks and is
//! answered, and whoever comes now is always heard.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The open connections, those with the oldest request first. Their number is bounded by who makes them.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// The next number; greater is later.
    next: u64,
    by_turn: BTreeMap<u64, Arc<Ends>>,
}

/// How a connection is told to end, and tells that it has ended.
#[derive(Debug, Default)]
struct Ends {
    told: Notify,
    gone: Notify,
}

/// A connection that was told to end.
#[derive(Debug)]
pub(super) struct Leaving(Arc<Ends>);

impl Leaving {
    /// Resolves when it has ended.
    pub(super) async fn gone(&self) {
        self.0.gone.notified().await;
    }
}

/// One connection's place among the others. It is given up by dropping it.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    turn: AtomicU64,
    ends: Arc<Ends>,
}

impl Connections {
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let ends = Arc::new(Ends::default());
        let turn = self.open.lock().insert(Arc::clone(&ends));
        Place { connections: Arc::clone(self), turn: AtomicU64::new(turn), ends }
    }

    /// The oldest is told to end, if there is one.
    pub(super) fn make_room(&self) -> Option<Leaving> {
        let (_, oldest) = self.open.lock().by_turn.pop_first()?;
        // Kept until it is looked at, should nobody be waiting yet.
        oldest.told.notify_one();
        Some(Leaving(oldest))
    }
}

impl Open {
    fn insert(&mut self, connection: Arc<Ends>) -> u64 {
        let turn = self.next;
        self.next += 1;
        self.by_turn.insert(turn, connection);
        turn
    }
}

impl Place {
    /// It has asked and was answered: last in the row again, unless it was told to end already.
    pub(super) fn answered(&self) {
        let mut open = self.connections.open.lock();
        if let Some(connection) = open.by_turn.remove(&self.turn.load(Ordering::Relaxed)) {
            self.turn.store(open.insert(connection), Ordering::Relaxed);
        }
    }

    /// Resolves when it is to end.
    pub(super) async fn gave_way(&self) {
        self.ends.told.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.lock().by_turn.remove(&self.turn.load(Ordering::Relaxed));
        self.ends.gone.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn told(place: &Place) -> bool {
        place.gave_way().now_or_never().is_some()
    }

    #[test]
    fn who_was_answered_last_gives_way_last() {
        let connections = Arc::new(Connections::default());
        let [silent, asking, late] = [(); 3].map(|()| connections.enter());
        asking.answered();
        for expected in [&silent, &late, &asking] {
            assert!(connections.make_room().is_some());
            for place in [&silent, &asking, &late] {
                assert_eq!(told(place), std::ptr::eq(place, expected));
            }
        }
        assert!(connections.make_room().is_none());
        // Too late to come back.
        silent.answered();
        assert!(connections.make_room().is_none());
    }

    #[test]
    fn a_place_ends_with_its_connection() {
        let connections = Arc::new(Connections::default());
        let place = connections.enter();
        place.answered();
        drop(place);
        assert!(connections.open.lock().by_turn.is_empty());
        assert!(connections.make_room().is_none());

        let place = connections.enter();
        let leaving = connections.make_room();
        let gone = || leaving.as_ref().is_some_and(|leaving| leaving.gone().now_or_never().is_some());
        assert!(!gone());
        drop(place);
        assert!(gone());
    }
}
