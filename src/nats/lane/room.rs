//! May more be stored of a tenant's: in its durable inboxes, or among its dead letters? While its sender has less there
//! than is left, and so has whom it is for.
//!
//! All of it says the server, so it holds for all nodes together and after a restart: how full the stream is, with what
//! still waits to be governed, once a second; and, where half is taken, how many messages are of one sender or for one
//! recipient. Their size is estimated from some of them. What was acknowledged has gone (`evidence.rs`); what is left of
//! it, an outcome or a receipt, counts for its sender.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::jetstream::{Context, context::GetStreamError, response::Response, stream::Stream};
use futures_util::future::join_all;
use moka::sync::Cache;
use rand::Rng as _;
use tokio::sync::OnceCell;

use super::found;
use crate::{
    domain::{AgentId, TenantId},
    lanes::LaneError,
    nats::subjects,
    recent::recent,
    shares::Room,
    tenants::names,
};

/// How long a stream is taken to be as full as it was, and what was let in since.
const FILLED_FOR: Duration = Duration::from_secs(1);
/// The same of what one has there.
const HELD_FOR: Duration = Duration::from_secs(3);
const TENANTS_MAX: u64 = 65_536;
/// Senders and recipients of all tenants.
const HOLDERS_MAX: u64 = 65_536;
/// What a message takes in the stream besides its payload, about: its headers, its subject, and the outcome that its
/// sender is told.
const BESIDES: u64 = 2_048;
/// What is left of a message that was acknowledged, about: the outcome that its sender was told, or a receipt.
const OUTCOME: u64 = 1_024;
const RECEIPT: u64 = 256;
/// No message has a larger payload: half of what the server takes in one.
const PAYLOAD_MAX: u64 = 128 * 1024;
/// Messages that are looked at to know how large one's are.
const SAMPLES: usize = 8;
/// Recipients of a broadcast that are asked about at one time.
const ASKED_AT_ONCE: usize = 16;
/// Beyond all subjects of a stream: of what is behind it the server says how many there are before.
const BEHIND_ALL: u64 = 1 << 40;

/// What all of a tenant's agents share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    /// The durable inboxes, and what waits to be governed before it comes there.
    Inboxes,
    DeadLetters,
}

/// Who has a part of it: by what it has sent, or in its own inbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Holder {
    Sender(AgentId),
    Recipient(AgentId),
}

/// What is stored, of whom and for whom.
pub(super) struct StoreRoom {
    context: Context,
    store: Store,
    filled: Cache<TenantId, Arc<OnceCell<Filled>>>,
    held: Cache<(TenantId, Holder), Arc<OnceCell<AtomicU64>>>,
}

/// A tenant's store.
#[derive(Debug)]
struct Filled {
    bytes: AtomicU64,
    bytes_max: u64,
    /// What senders may fill.
    ordinary: Room,
    /// Where its messages begin and end.
    first: u64,
    last: u64,
}

impl StoreRoom {
    pub(super) fn new(context: Context, store: Store) -> Self {
        let filled = recent(TENANTS_MAX).time_to_live(FILLED_FOR).build();
        let held = recent(HOLDERS_MAX).time_to_live(HELD_FOR).build();
        Self { context, store, filled, held }
    }

    /// Counts what a message of so many bytes will take, if there is room for it. Those who ask at one time share one
    /// look at the stream. Where JetStream does not say, the store itself will.
    pub(super) async fn take(
        &self,
        tenant: &TenantId,
        sender: &AgentId,
        to: &[AgentId],
        bytes: usize,
    ) -> Result<(), LaneError> {
        let Some(cell) = self.filled(tenant).await else { return Ok(()) };
        let Some(filled) = cell.get() else { return Ok(()) };
        let more = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(BESIDES);
        let left = filled.left(more)?;
        if filled.somebody_could_hold(left) {
            let recipients = to.iter().cloned().map(Holder::Recipient);
            let mut holding = Vec::new();
            for holder in std::iter::once(Holder::Sender(sender.clone())).chain(recipients) {
                holding.push(self.may(tenant, holder, filled, left).await?);
            }
            // It counts for nobody unless it is let in.
            for held in holding.iter().flatten().filter_map(|cell| cell.get()) {
                held.fetch_add(more, Ordering::Relaxed);
            }
        }
        filled.bytes.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    /// Those of these recipients who have so much that they leave the rest to others, each with why.
    pub(super) async fn crowded(&self, tenant: &TenantId, to: &[AgentId]) -> Vec<(AgentId, LaneError)> {
        let Some(cell) = self.filled(tenant).await else { return Vec::new() };
        let Some(filled) = cell.get() else { return Vec::new() };
        let left = filled.ordinary_left();
        if !filled.somebody_could_hold(left) {
            return Vec::new();
        }
        let mut crowded = Vec::new();
        for some in to.chunks(ASKED_AT_ONCE) {
            let asked = some.iter().map(|agent| self.crowds(tenant, agent, filled, left));
            crowded.extend(join_all(asked).await.into_iter().flatten());
        }
        crowded
    }

    async fn crowds(
        &self,
        tenant: &TenantId,
        agent: &AgentId,
        filled: &Filled,
        left: Room,
    ) -> Option<(AgentId, LaneError)> {
        let asked = self.may(tenant, Holder::Recipient(agent.clone()), filled, left).await;
        asked.err().map(|why| (agent.clone(), why))
    }

    async fn filled(&self, tenant: &TenantId) -> Option<Arc<OnceCell<Filled>>> {
        let cell = self.filled.get_with(tenant.clone(), Arc::default);
        if cell.get_or_try_init(|| self.look(tenant)).await.is_err() {
            self.filled.invalidate(tenant);
            return None;
        }
        Some(cell)
    }

    async fn look(&self, tenant: &TenantId) -> Result<Filled, ()> {
        let unknown = |error: &dyn std::fmt::Display| {
            tracing::debug!(%error, %tenant, store = ?self.store, "how full it is is not known");
        };
        let (stored, waiting) = self.store.streams(tenant);
        let waiting = async {
            match waiting {
                Some(waiting) => Ok(self.context.get_stream(waiting).await?.cached_info().state.bytes),
                None => Ok(0),
            }
        };
        let (stored, waiting) = tokio::join!(self.context.get_stream(stored), waiting);
        let stored = stored.map_err(|error| unknown(&error))?;
        let waiting = waiting.map_err(|error: GetStreamError| unknown(&error))?;
        let info = stored.cached_info();
        // Without a bound, and as nobody provisions it, less than 0.
        let bytes_max = u64::try_from(info.config.max_bytes).unwrap_or(u64::MAX);
        let (first, last) = (info.state.first_sequence, info.state.last_sequence);
        let bytes = info.state.bytes.saturating_add(waiting);
        Ok(Filled { bytes: bytes.into(), bytes_max, ordinary: self.store.ordinary(bytes_max), first, last })
    }

    /// What one has, unless it is as much as is left; `None`: JetStream does not say.
    async fn may(
        &self,
        tenant: &TenantId,
        holder: Holder,
        filled: &Filled,
        left: Room,
    ) -> Result<Option<Arc<OnceCell<AtomicU64>>>, LaneError> {
        let of = (tenant.clone(), holder);
        let cell = self.held.get_with(of.clone(), Arc::default);
        let holder = &of.1;
        let looked = cell.get_or_try_init(|| async {
            self.bytes_of(tenant, holder, (filled, left)).await.map(AtomicU64::new).map_err(|error| {
                tracing::debug!(%error, %tenant, ?holder, store = ?self.store, "what it has there is not known");
            })
        });
        let Ok(held) = looked.await else {
            self.held.invalidate(&of);
            return Ok(None);
        };
        let has = held.load(Ordering::Relaxed);
        if (Room { places: 0, bytes: has }).is_share(left) {
            let recipient = match of.1 {
                Holder::Sender(_) => None,
                Holder::Recipient(agent) => Some(agent),
            };
            return Err(LaneError::ShareStored { recipient, held: has, left: left.bytes });
        }
        Ok(Some(cell))
    }

    /// What one has there, about.
    async fn bytes_of(
        &self,
        tenant: &TenantId,
        holder: &Holder,
        (filled, left): (&Filled, Room),
    ) -> Result<u64, LaneError> {
        let (stored_in, waiting_in) = self.store.streams(tenant);
        let stored = match (self.store, holder) {
            (Store::Inboxes, Holder::Sender(agent)) => subjects::stored_by(tenant, agent),
            (Store::Inboxes, Holder::Recipient(agent)) => subjects::stored_for(tenant, agent),
            (Store::DeadLetters, Holder::Sender(agent) | Holder::Recipient(agent)) => {
                subjects::dead_of(tenant, agent)
            }
        };
        let mut messages = self.count(&stored_in, &stored).await?;
        let mut left_over = 0;
        if let (Holder::Sender(agent), Some(waiting_in)) = (holder, waiting_in) {
            left_over = self.left_over(tenant, agent, messages).await?;
            let waiting = self.count(&waiting_in, &subjects::submitted_by(tenant, agent)).await?;
            messages = messages.saturating_add(waiting);
        }
        // Also of the largest it would be far less than what is left.
        let most = messages.saturating_mul(PAYLOAD_MAX + BESIDES).saturating_add(left_over);
        if most < left.bytes / 2 {
            return Ok(most);
        }
        let mean = self.mean(&stored_in, &stored, filled).await?;
        Ok(messages.saturating_mul(mean).saturating_add(left_over))
    }

    /// What is left of a sender's messages that have gone, beside those that are `stored` still.
    async fn left_over(&self, tenant: &TenantId, agent: &AgentId, stored: u64) -> Result<u64, LaneError> {
        let inboxes = names::outbound_stream(tenant);
        let outcomes = self.count(&inboxes, &subjects::told_to_sender(tenant, agent)).await?;
        let receipts = self.count(&inboxes, &subjects::receipts_of(tenant, agent)).await?;
        // Those of messages that are there are counted with them.
        let outcomes = outcomes.saturating_sub(stored).saturating_mul(OUTCOME);
        Ok(outcomes.saturating_add(receipts.saturating_mul(RECEIPT)))
    }

    /// How many messages there are on these subjects, of which each has one: told without their names.
    async fn count(&self, stream: &str, subjects: &str) -> Result<u64, LaneError> {
        #[derive(serde::Deserialize)]
        struct Counted {
            #[serde(default)]
            total: u64,
        }
        let asked = serde_json::json!({ "subjects_filter": subjects, "offset": BEHIND_ALL });
        let answer = self.context.request(format!("STREAM.INFO.{stream}"), &asked).await;
        match answer.map_err(|error| LaneError::Unreadable(error.to_string()))? {
            Response::Ok(Counted { total }) => Ok(total),
            Response::Err { error } => Err(LaneError::Unreadable(error.to_string())),
        }
    }

    /// How large messages on these subjects are, by some from anywhere in the stream.
    async fn mean(&self, stream: &str, subjects: &str, filled: &Filled) -> Result<u64, LaneError> {
        let stream = self.context.get_stream_no_info(stream).await;
        let stream = &stream.map_err(|error| LaneError::Unreadable(error.to_string()))?;
        let places: Vec<u64> = (0..SAMPLES)
            .map(|_| rand::rng().random_range(filled.first..=filled.last.max(filled.first)))
            .collect();
        let sizes = join_all(places.into_iter().map(|place| size_from(stream, subjects, place))).await;
        let sizes = sizes.into_iter().collect::<Result<Vec<_>, _>>()?;
        let known: Vec<u64> = sizes.into_iter().flatten().collect();
        let sum = known.iter().fold(0_u64, |sum, size| sum.saturating_add(*size));
        let count = u64::try_from(known.len()).unwrap_or(1);
        Ok(sum.checked_div(count).unwrap_or(PAYLOAD_MAX) + BESIDES)
    }
}

/// Of the next message from there on, or else of the first; `None`: there is none.
async fn size_from(stream: &Stream<()>, subjects: &str, place: u64) -> Result<Option<u64>, LaneError> {
    let from = async |place| found(stream.get_first_raw_message_by_subject(subjects, place).await);
    let message = match from(place.max(1)).await? {
        None => from(1).await?,
        there => there,
    };
    Ok(message.map(|message| u64::try_from(message.payload.len()).unwrap_or(u64::MAX)))
}

impl Store {
    /// Where it is stored, and where it waits before that.
    fn streams(self, tenant: &TenantId) -> (String, Option<String>) {
        match self {
            Store::Inboxes => (names::outbound_stream(tenant), Some(names::inbound_stream(tenant))),
            Store::DeadLetters => (names::dead_letters_stream(tenant), None),
        }
    }

    fn ordinary(self, bytes_max: u64) -> Room {
        let all = Room { places: usize::MAX, bytes: bytes_max };
        match self {
            // The rest is for what reviewers approve, and for outcomes.
            Store::Inboxes => all.ordinary(),
            // No dead letter matters more than another.
            Store::DeadLetters => all,
        }
    }
}

impl Filled {
    fn taken(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn ordinary_left(&self) -> Room {
        self.ordinary.left(Room { places: 0, bytes: self.taken() })
    }

    fn left(&self, more: u64) -> Result<Room, LaneError> {
        let left = self.ordinary_left();
        if left.bytes < more {
            let (taken, most, ordinary) = (self.taken(), self.bytes_max, self.ordinary.bytes);
            let detail =
                format!("{taken} of {most} bytes, and {} are kept for what matters more", most - ordinary);
            return Err(LaneError::Full(detail));
        }
        Ok(left)
    }

    /// Nobody has more than all have together. So while less than half is taken, nobody is asked about.
    fn somebody_could_hold(&self, left: Room) -> bool {
        (Room { places: 0, bytes: self.taken() }).is_share(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(bytes: u64) -> Filled {
        let ordinary = Store::Inboxes.ordinary(1_000);
        Filled { bytes: bytes.into(), bytes_max: 1_000, ordinary, first: 1, last: 10 }
    }

    #[test]
    fn nobody_is_asked_about_while_more_is_left_than_is_taken() {
        for (taken, asked) in [(0, false), (449, false), (450, true), (899, true)] {
            let filled = filled(taken);
            assert_eq!(filled.somebody_could_hold(filled.ordinary_left()), asked, "{taken}");
        }
    }

    #[test]
    fn where_only_what_is_kept_is_left_nobody_is_told_that_it_has_too_much() {
        let told = filled(900).left(1);
        assert!(
            matches!(&told, Err(LaneError::Full(why)) if why.starts_with("900 of 1000 bytes")),
            "{told:?}"
        );
        assert_eq!(filled(899).left(1).map(|left| left.bytes), Ok(1));
    }
}
