//! The logs of deliberations over JetStream, appended by compare-and-set.
//!
//! Every event is a message of the tenant's stream DELIBERATIONS_<tenant> on a subject of its own kind, so
//! the server finds a deliberation's events, counts the open ones, and refuses an append to a log that has
//! grown. A stream keeps room for the ends of what it holds: new messages are parked up to four fifths of it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client, HeaderMap, Request,
    jetstream::{self, Context, stream::RawMessageErrorKind},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use moka::sync::Cache;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::OnceCell;

use super::{
    heads::Heads,
    jetstream::publish::{Published, expecting, publish},
    subjects,
};
use crate::{
    cpu::{Cpu, CpuError, Work},
    deliberation::{Appended, Case, DeliberationLog, Head, LogError},
    domain::{DeliberationId, Event, Parked, TenantId},
    lanes::Tenants,
    telemetry::Metrics,
    tenants::names,
};

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
/// How long what a tenant's stream holds is taken as it was: one count a second, and what this node has parked
/// since. What other nodes have, it does not know of before.
const COUNT_FOR: Duration = Duration::from_secs(1);
const TENANTS_COUNTED_MAX: u64 = 65_536;
/// Of a stream's bytes, those up to which messages are parked. The rest is for votes, escalations, decisions
/// and conclusions of those that are.
const PARKED_PERCENT_MAX: u64 = 80;
/// Deliberations whose place in the stream is remembered, to list the oldest first.
const PLACES_MAX: u64 = 100_000;
/// Subjects that the server counts in one answer.
const PAGE: usize = 100_000;
/// Answers that are read for one count.
const PAGES_MAX: usize = 10;

/// The logs, over one connection.
pub struct Deliberations {
    client: Client,
    context: Context,
    tenants: Arc<dyn Tenants>,
    metrics: Arc<Metrics>,
    /// What the tenants' streams hold, about.
    counted: Cache<TenantId, Arc<OnceCell<Result<Counted, LogError>>>>,
    /// Sequences of parked events, which never change.
    places: Cache<(TenantId, DeliberationId), u64>,
    heads: Arc<Heads>,
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
            counted: Cache::builder().max_capacity(TENANTS_COUNTED_MAX).time_to_live(COUNT_FOR).build(),
            places: Cache::builder().max_capacity(PLACES_MAX).build(),
            heads: Arc::default(),
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

    /// Adds an event, if the last one of its log is the one with this sequence; 0: there is none.
    async fn write(
        &self,
        tenant: &TenantId,
        id: &DeliberationId,
        event: &Event,
        payload: Bytes,
        last: u64,
    ) -> Result<Appended, LogError> {
        let mut headers = expecting(HeaderMap::new(), last, &subjects::deliberation(tenant, id));
        headers.insert("Nats-Expected-Stream", names::deliberations_stream(tenant));
        let subject = subjects::deliberation_event(tenant, id, event);
        match publish(&self.client, subject, headers, payload, ANSWER_WITHIN).await? {
            Published::Kept { .. } => {
                self.metrics.deliberations.appended(event);
                Ok(Appended::Now)
            }
            Published::Late => Ok(Appended::Conflict),
        }
    }

    /// The first event at or after a sequence.
    async fn next(
        &self,
        tenant: &TenantId,
        subject: String,
        from: u64,
    ) -> Result<Option<(u64, Event)>, LogError> {
        let stream = self
            .context
            .get_stream_no_info(names::deliberations_stream(tenant))
            .await
            .map_err(|error| LogError::Refused(error.to_string()))?;
        let found = stream.raw_message_builder().sequence(from).next_by_subject(subject).send().await;
        match found {
            Ok(message) => {
                let (bytes, sequence) = (message.payload.len(), message.sequence);
                let read = move || serde_json::from_slice(&message.payload);
                let read = self.cpu.run_sized(bytes, tenant, Work::Deliberation, read).await;
                let event = read
                    .map_err(not_computed)?
                    .map_err(|error| LogError::Unreadable(format!("sequence {sequence}: {error}")))?;
                Ok(Some((sequence, event)))
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
        let Some((first, event)) = self.next(tenant, all.clone(), 1).await? else { return Ok(None) };
        let Event::Parked(parked) = &event else {
            return Err(LogError::Unreadable(format!("it begins with {}, expected parked", event.kind())));
        };
        if (&parked.tenant, &parked.id) != (tenant, id) {
            return Err(LogError::Unreadable(format!(
                "found deliberation {} of {}, expected {id} of {tenant}",
                parked.id, parked.tenant
            )));
        }
        self.places.insert((tenant.clone(), id.clone()), first);
        let length_max = EVENTS_WITHOUT_VOTES + parked.voters.len() + parked.stand_ins.len();
        let mut events = vec![(first, event)];
        while let Some((sequence, _)) = events.last().filter(|(_, event)| !last_of_all(event)) {
            let Some(next) = self.next(tenant, all.clone(), sequence + 1).await? else { break };
            if events.len() >= length_max {
                return Err(LogError::Unreadable(format!("it has more than {length_max} events")));
            }
            events.push(next);
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

    /// Where its log begins in the stream.
    async fn place(&self, tenant: &TenantId, id: DeliberationId) -> Result<(u64, DeliberationId), LogError> {
        let key = (tenant.clone(), id.clone());
        if let Some(sequence) = self.places.get(&key) {
            return Ok((sequence, id));
        }
        match self.next(tenant, subjects::parked(tenant, &id), 1).await? {
            Some((sequence, _)) => {
                self.places.insert(key, sequence);
                Ok((sequence, id))
            }
            // It was removed by its age a moment ago.
            None => Ok((u64::MAX, id)),
        }
    }

    /// Those that are not decided, and how full the stream is.
    async fn open_ids(&self, tenant: &TenantId) -> Result<(HashMap<DeliberationId, u64>, Filled), LogError> {
        let (mut open, fill) = self.ids(tenant, "parked").await?;
        for decided in self.ids(tenant, "decided").await?.0.keys() {
            open.remove(decided);
        }
        Ok((open, fill))
    }

    /// One of those that are not decided. `None`: it is, meanwhile, or it is gone.
    async fn head(
        &self,
        tenant: &TenantId,
        id: &DeliberationId,
        votes: u64,
        escalated: u64,
    ) -> Result<Option<Arc<Head>>, LogError> {
        if let Some(head) = self.heads.get(tenant, id, votes, escalated) {
            return Ok(Some(head));
        }
        let read = match self.read(tenant, id).await {
            Ok(Some((case, place))) if case.decision.is_none() => {
                self.keep(case, place).await.and_then(|(_, head)| head.map(Some))
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

    /// Keeps the head of what was read, which is looked for in its message.
    async fn keep(&self, case: Case, place: u64) -> Result<(Case, Result<Arc<Head>, LogError>), LogError> {
        let (heads, bytes, tenant) =
            (Arc::clone(&self.heads), case.parked.message.len(), case.parked.tenant.clone());
        let keep = move || {
            let head = heads.keep(&case, place);
            (case, head)
        };
        self.cpu.run_sized(bytes, &tenant, Work::Deliberation, keep).await.map_err(not_computed)
    }

    /// The deliberations that have events of this kind, and how many; and how full the stream is.
    async fn ids(
        &self,
        tenant: &TenantId,
        kind: &str,
    ) -> Result<(HashMap<DeliberationId, u64>, Filled), LogError> {
        let filter = subjects::deliberations_with(tenant, kind);
        let subject = format!("$JS.API.STREAM.INFO.{}", names::deliberations_stream(tenant));
        let (mut found, mut fill) = (HashMap::new(), Filled::default());
        for page in 0..PAGES_MAX {
            let question = json!({ "subjects_filter": filter, "offset": page * PAGE });
            let request = Request::new().payload(question.to_string().into()).timeout(Some(ANSWER_WITHIN));
            let answer = self.client.send_request(subject.clone(), request).await.map_err(|error| {
                tracing::debug!(%error, "deliberations not counted");
                LogError::Unconfirmed
            })?;
            // A page of many subjects is megabytes.
            let (bytes, mut so_far) = (answer.payload.len(), found);
            let count = move || count(&answer.payload, &mut so_far).map(|counted| (counted, so_far));
            let counted = self.cpu.run_sized(bytes, tenant, Work::Deliberation, count).await;
            let (subjects, filled);
            ((subjects, filled), found) = counted.map_err(not_computed)??;
            fill = filled;
            if subjects < PAGE {
                break;
            }
        }
        Ok((found, fill))
    }

    /// Whether the tenant has room for one more of so many bytes; counts it, if so. Those who ask at one time
    /// share one count, or its failure.
    async fn room(&self, tenant: &TenantId, bytes: usize) -> Result<(), LogError> {
        let open_max = self.tenants.tenant(tenant).map_or(0, |tenant| tenant.deliberation.open_max);
        let cell = self.counted.get_with(tenant.clone(), Arc::default);
        let counted = cell.get_or_init(async || {
            let (open, Filled { bytes, bytes_max }) = self.open_ids(tenant).await?;
            let parked_max = bytes_max / 100 * PARKED_PERCENT_MAX;
            Ok(Counted { open: open.len().into(), bytes: bytes.into(), bytes_max, parked_max })
        });
        match counted.await {
            Ok(counted) => counted.take(open_max, u64::try_from(bytes + HEADERS_BYTES).unwrap_or(u64::MAX)),
            Err(error) => {
                self.counted.invalidate(tenant);
                Err(error.clone())
            }
        }
    }
}

/// Adds the deliberations of one answer about a stream's subjects; how many subjects it has, and how full the
/// stream is.
fn count(answer: &[u8], found: &mut HashMap<DeliberationId, u64>) -> Result<(usize, Filled), LogError> {
    let info: Info = serde_json::from_slice(answer).map_err(|error| {
        tracing::debug!(%error, "deliberations not counted");
        LogError::Unconfirmed
    })?;
    if let Some(error) = info.error {
        return Err(LogError::Refused(error.description));
    }
    let InfoState { bytes, subjects } = info.state.unwrap_or_default();
    // Without a bound, and as nobody provisions it, less than 0.
    let bytes_max = info.config.and_then(|config| u64::try_from(config.max_bytes).ok());
    let subjects = subjects.unwrap_or_default();
    let listed = subjects.len();
    found.extend(
        subjects
            .into_iter()
            .filter_map(|(subject, events)| Some((subject.split('.').nth(2)?.parse().ok()?, events))),
    );
    Ok((listed, Filled { bytes, bytes_max: bytes_max.unwrap_or(u64::MAX) }))
}

fn not_computed(why: CpuError) -> LogError {
    tracing::debug!(%why, "a log of a deliberation was not read");
    LogError::Unconfirmed
}

#[async_trait]
impl DeliberationLog for Deliberations {
    async fn park(&self, parked: &Parked) -> Result<Appended, LogError> {
        let (tenant, id) = (&parked.tenant, &parked.id);
        let event = Arc::new(Event::Parked(Box::new(parked.clone())));
        let shared = Arc::clone(&event);
        let write = move || serde_json::to_vec(&*shared);
        let written = self.cpu.run_sized(parked.message.len(), tenant, Work::Deliberation, write).await;
        let payload = self.fits(written.map_err(not_computed)?)?;
        match self.room(tenant, payload.len()).await {
            Ok(()) => self.write(tenant, id, &event, payload, 0).await,
            // A repeat finds its own also when there is no room for others.
            Err(full @ (LogError::Full(_) | LogError::TooManyParked { .. })) => {
                match self.next(tenant, subjects::parked(tenant, id), 1).await? {
                    Some(_) => Ok(Appended::Conflict),
                    None => Err(full),
                }
            }
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
        let appended = self.write(&case.parked.tenant, &case.parked.id, event, payload, case.version).await?;
        if let (Appended::Now, Event::Decided { at, .. }) = (appended, event) {
            self.metrics.deliberations.took(case.parked.parked_at, *at);
        }
        Ok(appended)
    }

    async fn open(&self, tenant: &TenantId, limit: usize) -> Result<Vec<Arc<Head>>, LogError> {
        let ((ids, _), (votes, _), (escalated, _)) =
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
        let heads: Vec<Option<Arc<Head>>> = stream::iter(oldest)
            .map(|(_, id)| {
                let count = |of: &HashMap<DeliberationId, u64>| of.get(&id).copied().unwrap_or_default();
                let (votes, escalated) = (count(&votes), count(&escalated));
                async move { self.head(tenant, &id, votes, escalated).await }
            })
            .buffer_unordered(READS_AT_ONCE)
            .try_collect()
            .await?;
        let mut heads: Vec<Arc<Head>> = heads.into_iter().flatten().collect();
        heads.sort_unstable_by_key(|head| head.place);
        Ok(heads)
    }
}

/// Nothing follows: the end need not be looked for.
fn last_of_all(event: &Event) -> bool {
    matches!(event, Event::Concluded { .. })
}

/// How full a stream is.
#[derive(Debug, Clone, Copy, Default)]
struct Filled {
    bytes: u64,
    bytes_max: u64,
}

/// What a tenant's stream holds, as it was counted, and what this node has parked since.
#[derive(Debug)]
struct Counted {
    open: AtomicUsize,
    bytes: AtomicU64,
    bytes_max: u64,
    /// Bytes up to which messages are parked.
    parked_max: u64,
}

impl Counted {
    /// Counts one more of so many bytes, if there is room.
    fn take(&self, open_max: usize, bytes: u64) -> Result<(), LogError> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= open_max {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(LogError::TooManyParked { open_max });
        }
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.parked_max {
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(LogError::Full(format!(
                "the tenant's deliberations take {before} of {} bytes, and what is above {} is for votes and \
                 decisions: it needs more deliberations_bytes",
                self.bytes_max, self.parked_max
            )));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    error: Option<ApiError>,
    #[serde(default)]
    state: Option<InfoState>,
    #[serde(default)]
    config: Option<InfoConfig>,
}

#[derive(Deserialize)]
struct InfoConfig {
    max_bytes: i64,
}

#[derive(Default, Deserialize)]
struct InfoState {
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    subjects: Option<HashMap<String, u64>>,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    description: String,
}
