//! What was asked of late? Some real questions, so that another policy can be tried before it is put in force.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{Question, owned::Owned};

/// Questions kept.
const KEPT_MAX: usize = 64;
/// Bytes of the message of each: all together are a megabyte at most.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Between two that are kept, once there are enough: they are of the last minute or longer.
const EVERY: Duration = Duration::from_secs(1);

/// Of the questions that were put to the policy, not to the cache: those differ from each other.
#[derive(Default)]
pub(super) struct Recent(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    questions: VecDeque<Arc<Owned>>,
    last: Option<Instant>,
}

impl Recent {
    /// Keeps it, or passes it over. Never waits.
    pub(super) fn see(&self, question: &Question<'_>) {
        if question.size > MESSAGE_BYTES_MAX {
            return;
        }
        let Some(mut kept) = self.0.try_lock() else { return };
        let full = kept.questions.len() >= KEPT_MAX;
        if full && kept.last.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        if full {
            kept.questions.pop_front();
        }
        kept.questions.push_back(Arc::new(Owned::of(question)));
        kept.last = Some(Instant::now());
    }

    /// All that are kept, oldest first.
    pub(super) fn questions(&self) -> Vec<Arc<Owned>> {
        self.0.lock().questions.iter().cloned().collect()
    }
}
