//! How does what was decided get to a thread of its own? Over a queue with a length, so that no message waits for it.

use std::{
    hash::{DefaultHasher, Hash, Hasher as _},
    sync::Arc,
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{Decision, PolicyEngine, PolicyError, Question, owned::Owned, rego::LogPolicy};
use crate::domain::{TenantId, Timestamp};

/// What one takes beside its message.
const BESIDE_BYTES: usize = 2 * 1024;

/// What a decision was, and how it came.
pub(super) struct Told<'a> {
    pub(super) id: &'a str,
    pub(super) question: &'a Question<'a>,
    pub(super) engine: &'a dyn PolicyEngine,
    pub(super) answer: &'a Result<Arc<Decision>, PolicyError>,
    pub(super) took: Duration,
    /// It was remembered.
    pub(super) cached: bool,
}

/// The same, on its way to the thread.
pub(super) struct Decided {
    pub(super) id: String,
    pub(super) question: Owned,
    pub(super) revision: Arc<str>,
    pub(super) log_policy: Option<Arc<LogPolicy>>,
    pub(super) answer: Result<Arc<Decision>, PolicyError>,
    pub(super) took: Duration,
    pub(super) cached: bool,
    pub(super) at: Timestamp,
    pub(super) room: OwnedSemaphorePermit,
}

/// Where decisions wait.
pub(super) struct Waiting {
    queue: mpsc::Sender<Decided>,
    /// In bytes. Each decision gives its own back when it is dropped. A tenant uses one of them.
    rooms: Vec<Arc<Semaphore>>,
    bytes_max: usize,
    clock: fn() -> Timestamp,
}

impl Waiting {
    /// With so many rooms of so many bytes; `1`: all tenants share it.
    pub(super) fn new(
        rooms: usize,
        bytes_max: usize,
        clock: fn() -> Timestamp,
    ) -> (Self, mpsc::Receiver<Decided>) {
        let (queue, decided) = mpsc::channel((rooms * bytes_max / BESIDE_BYTES).max(1));
        let rooms = (0..rooms).map(|_| Arc::new(Semaphore::new(bytes_max))).collect();
        (Self { queue, rooms, bytes_max, clock }, decided)
    }

    /// Never waits. `false`: there is no room, or nobody takes any more.
    pub(super) fn tell(&self, told: &Told<'_>) -> bool {
        let bytes = u32::try_from(told.question.size + BESIDE_BYTES).unwrap_or(u32::MAX);
        let room = self.room(&told.question.tenant.id).map(Arc::clone);
        let Some(Ok(room)) = room.map(|room| room.try_acquire_many_owned(bytes)) else { return false };
        let decided = Decided {
            id: told.id.to_owned(),
            question: Owned::of(told.question),
            revision: Arc::clone(told.engine.revision()),
            log_policy: told.engine.log_policy(),
            answer: told.answer.clone(),
            took: told.took,
            cached: told.cached,
            at: (self.clock)(),
            room,
        };
        self.queue.try_send(decided).is_ok()
    }

    /// Waits until nothing of what was told is left. `false`: it was not in time.
    pub(super) async fn is_done(&self, within: Duration) -> bool {
        let all = u32::try_from(self.bytes_max).unwrap_or(u32::MAX);
        let done = async {
            for room in &self.rooms {
                // Cannot fail: nobody closes it.
                let _ = room.acquire_many(all).await;
            }
        };
        tokio::time::timeout(within, done).await.is_ok()
    }

    fn room(&self, tenant: &TenantId) -> Option<&Arc<Semaphore>> {
        match self.rooms.as_slice() {
            [one] => Some(one),
            rooms => rooms.get(hash(tenant) as usize % rooms.len().max(1)),
        }
    }
}

/// Whether a message is in a share of all, by its decision id: the same on each node, and all of its recipients or
/// none.
pub(super) fn is_in_share(decision_id: &str, share: f64) -> bool {
    if share <= 0.0 || decision_id.is_empty() {
        return false;
    }
    // The upper half, as a number from 0 to 1.
    f64::from((hash(decision_id) >> 32) as u32) < share * f64::from(u32::MAX) || share >= 1.0
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_messages_is_taken_and_always_the_same() {
        let ids: Vec<String> = (0..10_000).map(|_| nuid::next().to_string()).collect();
        let taken = |share: f64| ids.iter().filter(|id| is_in_share(id, share)).count();
        assert_eq!((taken(0.0), taken(1.0)), (0, ids.len()));
        assert!((900..1_100).contains(&taken(0.1)), "{}", taken(0.1));
        assert!(
            ids.iter().all(|id| !is_in_share(id, 0.1) || is_in_share(id, 0.2)),
            "a larger share has all of it"
        );
        assert!(!is_in_share("", 1.0), "who has no decision id cannot be found again");
    }
}
