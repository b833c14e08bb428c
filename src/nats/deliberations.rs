//! The logs of deliberations over JetStream, appended by compare-and-set.
//!
//! Every event is a message of the tenant's stream DELIBERATIONS_<tenant> on a subject of its own kind, so
//! the server finds a deliberation's events, counts the open ones, and refuses an append to a log that has
//! grown. A stream keeps room for the ends of what it holds: new messages are parked up to four fifths of it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_nats::{
    Client, HeaderMap,
    jetstream::{self, Context, stream::RawMessageErrorKind},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use moka::sync::Cache;
use tokio::sync::OnceCell;

use super::{
    jetstream::publish::{Published, expecting, publish},
    subjects,
};
use crate::{
    cpu::{Cpu, CpuError, Work},
    deliberation::{Appended, Case, DeliberationLog, LogError, Summary},
    domain::{DeliberationId, Event, Parked, Priority, TenantId},
    lanes::Tenants,
    recent::recent,
    telemetry::Metrics,
    tenants::names,
};

mod counts;
mod room;
mod summaries;

use room::{COUNT_FOR, Counted, Known, bytes_in_stream};
use summaries::SummaryCache;

/// One question to JetStream.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// What a parked event has besides its message and those who may vote; headers, and room.
const HEADERS_BYTES: usize = 1_024;
/// A log without votes: parked, escalated, decided, concluded.
const EVENTS_WITHOUT_VOTES: usize = 4;
/// Events of a log that are added up in no time.
const EVENTS_HERE_MAX: usize = 32;
/// Logs that are read side by side for one list.
const READS_AT_ONCE: usize = 16;
const TENANTS_COUNTED_MAX: u64 = 65_536;
/// Deliberations whose place in the stream and whose sender are remembered, about 200 bytes each.
const KNOWN_MAX: u64 = 100_000;

/// The logs, over one connection.
pub struct Deliberations {
    client: Client,
    context: Context,
    tenants: Arc<dyn Tenants>,
    metrics: Arc<Metrics>,
    /// What the tenants' streams hold, about.
    counted: Cache<TenantId, Arc<OnceCell<Result<Counted, LogError>>>>,
    /// What never changes of parked events.
    known: Cache<(TenantId, DeliberationId), Known>,
    summaries: Arc<SummaryCache>,
    cpu: Arc<Cpu>,
}

impl Deliberations {
    pub fn new(client: Client, tenants: Arc<dyn Tenants>, metrics: Arc<Metrics>, cpu: Arc<Cpu>) -> Self {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ANSWER_WITHIN);
        Self {
            client,
            context,
            tenants,
            metrics,
            counted: recent(TENANTS_COUNTED_MAX).time_to_live(COUNT_FOR).build(),
            known: recent(KNOWN_MAX).build(),
            summaries: Arc::default(),
            cpu,
        }
    }

    /// An event as it is kept.
    fn payload(&self, event: &Event) -> Result<Bytes, LogError> {
        self.fits(serde_json::to_vec(event))
    }

    fn fits(&self, payload: Result<Vec<u8>, serde_json::Error>) -> Result<Bytes, LogError> {
        let payload = payload.map_err(|error| LogError::Unreadable(error.to_string()))?;
        let limit = self.client.max_payload().saturating_sub(HEADERS_BYTES);
        match payload.len() {
            bytes if bytes > limit => Err(LogError::TooLarge { bytes, limit }),
            _ => Ok(payload.into()),
        }
    }

    /// Adds an event, if the last one of its log is the one with this sequence; 0: there is none. The sequence that it
    /// has; `None`: the log is longer.
    async fn write(
        &self,
        tenant: &TenantId,
        id: &DeliberationId,
        event: &Event,
        payload: Bytes,
        last: u64,
    ) -> Result<Option<u64>, LogError> {
        let mut headers = expecting(HeaderMap::new(), last, &subjects::deliberation(tenant, id));
        headers.insert("Nats-Expected-Stream", names::deliberations_stream(tenant));
        let subject = subjects::deliberation_event(tenant, id, event);
        match publish(&self.client, subject, headers, payload, ANSWER_WITHIN).await? {
            Published::Kept { sequence, .. } => {
                self.metrics.deliberations.appended(event);
                Ok(Some(sequence))
            }
            Published::Late => Ok(None),
        }
    }

    /// The first event at or after a sequence.
    async fn next(&self, tenant: &TenantId, subject: String, from: u64) -> Result<Option<Found>, LogError> {
        let stream = self
            .context
            .get_stream_no_info(names::deliberations_stream(tenant))
            .await
            .map_err(|error| LogError::Refused(error.to_string()))?;
        let found = stream.raw_message_builder().sequence(from).next_by_subject(subject).send().await;
        match found {
            Ok(message) => {
                let (bytes, place) = (message.payload.len(), message.sequence);
                let read = move || serde_json::from_slice(&message.payload);
                let read = self.cpu.run_sized(bytes, tenant, Work::Deliberation, read).await;
                let event = read
                    .map_err(not_computed)?
                    .map_err(|error| LogError::Unreadable(format!("sequence {place}: {error}")))?;
                Ok(Some(Found { place, bytes, event }))
            }
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => {
                tracing::debug!(%error, "deliberations not read");
                Err(LogError::Unconfirmed)
            }
        }
    }

    /// A log, and its place in the stream.
    async fn read(&self, tenant: &TenantId, id: &DeliberationId) -> Result<Option<(Case, u64)>, LogError> {
        let all = subjects::deliberation(tenant, id);
        let Some(found) = self.next(tenant, all.clone(), 1).await? else { return Ok(None) };
        let (first, known, event) = (found.place, found.known(), found.event);
        let Event::Parked(parked) = &event else {
            return Err(LogError::Unreadable(format!("it begins with {}, expected parked", event.kind())));
        };
        if (&parked.tenant, &parked.id) != (tenant, id) {
            return Err(LogError::Unreadable(format!(
                "found deliberation {} of {}, expected {id} of {tenant}",
                parked.id, parked.tenant
            )));
        }
        if let Some(known) = known {
            self.known.insert((tenant.clone(), id.clone()), known);
        }
        let length_max = EVENTS_WITHOUT_VOTES + parked.voters.len() + parked.stand_ins.len();
        let mut events = vec![(first, event)];
        while let Some((sequence, _)) = events.last().filter(|(_, event)| !last_of_all(event)) {
            let Some(next) = self.next(tenant, all.clone(), sequence + 1).await? else { break };
            if events.len() >= length_max {
                return Err(LogError::Unreadable(format!("it has more than {length_max} events")));
            }
            events.push((next.place, next.event));
        }
        // Each vote is held against all before it.
        let replayed = match events.len() <= EVENTS_HERE_MAX {
            true => Case::replay(events),
            false => {
                let replay = self.cpu.run(tenant, Work::Deliberation, move || Case::replay(events));
                replay.await.map_err(not_computed)?
            }
        };
        let case = replayed.map_err(|error| LogError::Unreadable(error.to_string()))?;
        Ok(case.map(|case| (case, first)))
    }

    /// Where its log begins in the stream; the last of all if it was removed by its age a moment ago.
    async fn place(&self, tenant: &TenantId, id: DeliberationId) -> Result<(u64, DeliberationId), LogError> {
        let known = self.known(tenant, &id).await?;
        Ok((known.map_or(u64::MAX, |known| known.place), id))
    }

    /// Those that are not decided.
    async fn open_ids(&self, tenant: &TenantId) -> Result<HashMap<DeliberationId, u64>, LogError> {
        let (mut open, _) = self.ids(tenant, "parked").await?;
        for decided in self.ids(tenant, "decided").await?.0.keys() {
            open.remove(decided);
        }
        Ok(open)
    }

    /// One of those that are not decided. `None`: it is, meanwhile, or it is gone.
    async fn summary(
        &self,
        tenant: &TenantId,
        id: &DeliberationId,
        votes: u64,
        escalated: u64,
    ) -> Result<Option<Arc<Summary>>, LogError> {
        if let Some(summary) = self.summaries.get(tenant, id, votes, escalated) {
            return Ok(Some(summary));
        }
        let read = match self.read(tenant, id).await {
            Ok(Some((case, place))) if case.decision.is_none() => {
                self.keep(case, place).await.and_then(|(_, summary)| summary.map(Some))
            }
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        };
        match read {
            // One that cannot be read does not hide the others.
            Err(LogError::Unreadable(cause)) => {
                tracing::error!(%tenant, deliberation = %id, cause, "a deliberation cannot be read");
                Ok(None)
            }
            read => read,
        }
    }

    /// Keeps the summary of what was read, which is looked for in its message.
    async fn keep(&self, case: Case, place: u64) -> Result<(Case, Result<Arc<Summary>, LogError>), LogError> {
        let (summaries, bytes, tenant) =
            (Arc::clone(&self.summaries), case.parked.message.len(), case.parked.tenant.clone());
        let keep = move || {
            let summary = summaries.keep(&case, place);
            (case, summary)
        };
        self.cpu.run_sized(bytes, &tenant, Work::Deliberation, keep).await.map_err(not_computed)
    }
}

/// An event in the stream.
struct Found {
    /// Its sequence.
    place: u64,
    bytes: usize,
    event: Event,
}

impl Found {
    /// Nothing, if it is no parked message.
    fn known(&self) -> Option<Known> {
        let Event::Parked(parked) = &self.event else { return None };
        Some(Known { place: self.place, sender: parked.sender.clone(), bytes: bytes_in_stream(self.bytes) })
    }
}

fn not_computed(why: CpuError) -> LogError {
    tracing::debug!(%why, "a log of a deliberation was not read");
    LogError::NotComputed
}

#[async_trait]
impl DeliberationLog for Deliberations {
    async fn park(&self, parked: &Parked, priority: Priority) -> Result<Appended, LogError> {
        let (tenant, id) = (&parked.tenant, &parked.id);
        let event = Arc::new(Event::Parked(Box::new(parked.clone())));
        let shared = Arc::clone(&event);
        let write = move || serde_json::to_vec(&*shared);
        let written = self.cpu.run_sized(parked.message.len(), tenant, Work::Deliberation, write).await;
        let payload = self.fits(written.map_err(not_computed)?)?;
        let bytes = payload.len();
        match self.room(parked, priority, bytes).await {
            Ok(()) => {
                let kept = self.write(tenant, id, &event, payload, 0).await?;
                if let Some(place) = kept {
                    let (sender, bytes) = (parked.sender.clone(), bytes_in_stream(bytes));
                    self.known.insert((tenant.clone(), id.clone()), Known { place, sender, bytes });
                }
                Ok(appended(kept))
            }
            // A repeat finds its own also when there is no room for others.
            Err(
                full @ (LogError::Full(_) | LogError::TooManyParked { .. } | LogError::ShareParked { .. }),
            ) => match self.next(tenant, subjects::parked(tenant, id), 1).await? {
                Some(_) => Ok(Appended::Conflict),
                None => Err(full),
            },
            Err(error) => Err(error),
        }
    }

    async fn load(&self, tenant: &TenantId, id: &DeliberationId) -> Result<Option<Case>, LogError> {
        let Some((case, place)) = self.read(tenant, id).await? else { return Ok(None) };
        // Whoever lists it next need not read it. A message that cannot be read is told of there.
        let (case, _) = self.keep(case, place).await?;
        Ok(Some(case))
    }

    async fn append(&self, case: &Case, event: &Event) -> Result<Appended, LogError> {
        let payload = self.payload(event)?;
        let written = self.write(&case.parked.tenant, &case.parked.id, event, payload, case.version).await?;
        let appended = appended(written);
        if let (Appended::Now, Event::Decided { at, .. }) = (appended, event) {
            self.metrics.deliberations.took(case.parked.parked_at, *at);
        }
        Ok(appended)
    }

    async fn open(&self, tenant: &TenantId, limit: usize) -> Result<Vec<Arc<Summary>>, LogError> {
        let (ids, (votes, _), (escalated, _)) =
            tokio::try_join!(self.open_ids(tenant), self.ids(tenant, "vote"), self.ids(tenant, "escalated"))?;
        let mut oldest: Vec<(u64, DeliberationId)> = match ids.len() > limit {
            true => {
                stream::iter(ids.into_keys())
                    .map(|id| self.place(tenant, id))
                    .buffer_unordered(READS_AT_ONCE)
                    .try_collect()
                    .await?
            }
            // Their places come with their events.
            false => ids.into_keys().map(|id| (0, id)).collect(),
        };
        oldest.sort_unstable();
        oldest.truncate(limit);
        let summaries: Vec<Option<Arc<Summary>>> = stream::iter(oldest)
            .map(|(_, id)| {
                let count = |of: &HashMap<DeliberationId, u64>| of.get(&id).copied().unwrap_or_default();
                let (votes, escalated) = (count(&votes), count(&escalated));
                async move { self.summary(tenant, &id, votes, escalated).await }
            })
            .buffer_unordered(READS_AT_ONCE)
            .try_collect()
            .await?;
        let mut summaries: Vec<Arc<Summary>> = summaries.into_iter().flatten().collect();
        summaries.sort_unstable_by_key(|summary| summary.place);
        Ok(summaries)
    }
}

fn appended(place: Option<u64>) -> Appended {
    place.map_or(Appended::Conflict, |_| Appended::Now)
}

/// Nothing follows: the end need not be looked for.
fn last_of_all(event: &Event) -> bool {
    matches!(event, Event::Concluded { .. })
}
