//! Which messages were claimed and settled, within the window and under one bound?

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::{
    domain::DecisionId,
    state::{Claim, ClaimToken, Digest, Lifetimes, MessageKey, StoreError, clock::millis},
};

#[derive(Debug)]
pub(super) struct Messages {
    entries: HashMap<Arc<MessageKey>, Entry>,
    /// When each entry is forgotten. The number makes moments unique.
    expiries: BTreeMap<(u64, u64), Arc<MessageKey>>,
    next: u64,
    entries_max: usize,
}

#[derive(Debug)]
struct Entry {
    digest: Digest,
    state: State,
    expiry: (u64, u64),
}

#[derive(Debug)]
enum State {
    Pending {
        token: ClaimToken,
        lease_end: u64,
        /// An earlier holder may have acted.
        doubtful: bool,
        /// Of the first holder.
        decision: Option<DecisionId>,
    },
    Settled(Box<[u8]>),
}

impl Messages {
    pub(super) fn new(entries_max: usize) -> Self {
        Self { entries: HashMap::new(), expiries: BTreeMap::new(), next: 0, entries_max }
    }

    pub(super) fn claim(
        &mut self,
        key: &MessageKey,
        (digest, decision): (&Digest, Option<&DecisionId>),
        now: u64,
        lifetimes: &Lifetimes,
    ) -> Result<Claim, StoreError> {
        self.trim(now);
        let token = ClaimToken::random();
        let lease_end = now.saturating_add(millis(lifetimes.lease));
        let expiry = (now.saturating_add(millis(lifetimes.window)), self.next);
        let Some(entry) = self.entries.get_mut(key) else {
            if self.entries.len() >= self.entries_max {
                return Err(StoreError::Full);
            }
            self.next += 1;
            let key = Arc::new(key.clone());
            let state = State::Pending { token, lease_end, doubtful: false, decision: decision.cloned() };
            self.expiries.insert(expiry, Arc::clone(&key));
            self.entries.insert(key, Entry { digest: *digest, state, expiry });
            return Ok(Claim::Mine { token });
        };
        if entry.digest != *digest {
            return Ok(Claim::Conflict);
        }
        match &mut entry.state {
            State::Settled(verdict) => Ok(Claim::Settled { verdict: verdict.to_vec() }),
            State::Pending { lease_end, .. } if *lease_end > now => {
                Ok(Claim::Pending { lease_left: Duration::from_millis(*lease_end - now) })
            }
            State::Pending { decision, .. } => {
                let first = decision.take();
                entry.state = State::Pending { token, lease_end, doubtful: true, decision: first.clone() };
                if let Some(key) = self.expiries.remove(&entry.expiry) {
                    self.expiries.insert(expiry, key);
                    entry.expiry = expiry;
                    self.next += 1;
                }
                Ok(Claim::TakenOver { token, first })
            }
        }
    }

    /// `kept_until`: when it is forgotten, if not when its window ends.
    pub(super) fn settle(
        &mut self,
        key: &MessageKey,
        token: ClaimToken,
        verdict: &[u8],
        now: u64,
        kept_until: Option<u64>,
    ) {
        self.trim(now);
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.is_held_by(token)) else { return };
        entry.state = State::Settled(verdict.into());
        if let Some(until) = kept_until
            && let Some(key) = self.expiries.remove(&entry.expiry)
        {
            entry.expiry = (until, self.next);
            self.expiries.insert(entry.expiry, key);
            self.next += 1;
        }
    }

    pub(super) fn release(&mut self, key: &MessageKey, token: ClaimToken, now: u64) {
        self.trim(now);
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.is_held_by(token)) else { return };
        match &mut entry.state {
            State::Pending { lease_end, doubtful: true, .. } => *lease_end = 0,
            State::Pending { .. } | State::Settled(_) => {
                self.expiries.remove(&entry.expiry);
                self.entries.remove(key);
            }
        }
    }

    /// Whether it is claimed or settled.
    pub(super) fn knows(&mut self, key: &MessageKey, now: u64) -> bool {
        self.trim(now);
        self.entries.contains_key(key)
    }

    /// Each entry is removed once, so the cost per call is constant on average.
    fn trim(&mut self, now: u64) {
        while let Some(first) = self.expiries.first_entry() {
            if first.key().0 > now {
                break;
            }
            self.entries.remove(&first.remove());
        }
    }
}

impl Entry {
    fn is_held_by(&self, holder: ClaimToken) -> bool {
        matches!(self.state, State::Pending { token, .. } if token == holder)
    }
}
