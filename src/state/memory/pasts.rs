//! What has this process seen of each sender, when no other store is there to share it?

use std::{collections::VecDeque, sync::Arc, time::Duration};

use moka::sync::Cache;
use parking_lot::Mutex;

use crate::{
    domain::{AgentId, TenantId},
    recent::recent,
    state::past::{Count, PAST_SCORES, PAST_SECONDS, SCORES_LIFE, Seen, Shared},
};

/// Tellers remembered of one sender; a process has one for each pipeline.
const TELLERS_MAX: usize = 64;

/// Bounded: the sender least recently heard is forgotten first.
#[derive(Debug)]
pub(super) struct AllPasts {
    /// By tenant, sender and scale.
    known: Cache<(TenantId, AgentId, Arc<str>), Arc<Mutex<OnePast>>>,
}

#[derive(Debug, Default)]
struct OnePast {
    /// Second and messages, oldest first, no second twice.
    counts: VecDeque<(u64, u64)>,
    scores: VecDeque<f64>,
    /// Teller and its last sequence, longest silent first.
    tellers: VecDeque<(u64, u64)>,
    /// When something was added last, in ms.
    added: u64,
}

impl AllPasts {
    pub(super) fn new(senders_max: u64) -> Self {
        let known = recent(senders_max).build();
        Self { known }
    }

    pub(super) fn share(&self, tenant: &TenantId, sender: &AgentId, seen: &Seen, now_ms: u64) -> Shared {
        let past =
            self.known.get_with((tenant.clone(), sender.clone(), Arc::clone(&seen.scale)), Arc::default);
        past.lock().share(seen, now_ms)
    }

    pub(super) fn count(&self) -> u64 {
        self.known.run_pending_tasks();
        self.known.entry_count()
    }
}

impl OnePast {
    fn share(&mut self, seen: &Seen, now_ms: u64) -> Shared {
        // The clock begins at 0, and there were seconds before.
        let now = now_ms / 1_000 + PAST_SECONDS;
        if Duration::from_millis(now_ms.saturating_sub(self.added)) >= SCORES_LIFE {
            *self = Self::default();
        }
        while self.counts.front().is_some_and(|(second, _)| now.saturating_sub(*second) >= PAST_SECONDS) {
            self.counts.pop_front();
        }
        let known = self.tellers.iter().find(|(teller, _)| *teller == seen.teller);
        let mut applied = known.map_or(0, |(_, sequence)| *sequence);
        if seen.sequence > applied {
            applied = seen.sequence;
            self.added = now_ms;
            self.tellers.retain(|(teller, _)| *teller != seen.teller);
            self.tellers.push_back((seen.teller, seen.sequence));
            let excess = self.tellers.len().saturating_sub(TELLERS_MAX);
            self.tellers.drain(..excess);
            for count in seen.messages.iter().filter(|count| count.age < PAST_SECONDS) {
                self.count(now.saturating_sub(count.age), count.messages);
            }
            self.scores.extend(&seen.scores);
            let excess = self.scores.len().saturating_sub(PAST_SCORES);
            self.scores.drain(..excess);
        }
        Shared {
            applied,
            messages: self
                .counts
                .iter()
                .map(|&(second, messages)| Count { age: now.saturating_sub(second), messages })
                .collect(),
            scores: self.scores.iter().copied().collect(),
        }
    }

    fn count(&mut self, second: u64, messages: u64) {
        match self.counts.binary_search_by_key(&second, |(known, _)| *known) {
            Ok(at) => {
                if let Some((_, count)) = self.counts.get_mut(at) {
                    *count = count.saturating_add(messages);
                }
            }
            Err(at) => self.counts.insert(at, (second, messages)),
        }
    }
}
