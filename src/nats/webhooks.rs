//! Pulls what happens to deliberations and tells the webhook; of nodes what it is given. All nodes that have one share the work.
//!
//! JetStream keeps an event until a call has succeeded, so an event is told at least once; what is told
//! again bears the same id.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{
    Client, Message,
    jetstream::{self, AckKind, Context, stream::LastRawMessageErrorKind},
};
use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    each_tenant::Served,
    subjects,
    tenant_consumers::{self, Source, TenantConsumers},
};
use crate::{
    breakers::{Breaker, Open},
    cpu::{Cpu, Work},
    domain::{DeliberationId, Event, Parked, TenantId, Timestamp, id::shown},
    http::CallError,
    lanes::backoff::{doubling, jittered},
    shutdown::Shutdown,
    skew::Skew,
    supervisor::Supervisor,
    telemetry::Metrics,
    tenants::{
        Directory,
        names::{WEBHOOKS_CONSUMER, deliberations_stream},
    },
    webhook::{Occasion, Webhook},
};

/// Calls at one time, and of them those for one tenant.
const CALLS_MAX: usize = 4;
const CALLS_PER_TENANT: usize = 2;
/// For one answer of JetStream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two calls for the same event.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(600);
/// For what JetStream does not keep: it is old after half a minute.
const UNKEPT_ATTEMPTS_MAX: u64 = 5;
/// Nobody wants to hear what was to be decided longer ago: a webhook that is new gets no history.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// Tells the webhook.
pub struct WebhookDispatcher {
    consumers: Arc<TenantConsumers>,
    context: Context,
    webhook: Webhook,
    breaker: Arc<Breaker>,
    /// Calls for one event.
    attempts: u64,
    clock: fn() -> Timestamp,
    metrics: Arc<Metrics>,
    cpu: Arc<Cpu>,
    /// Why the last call failed, if it did.
    failed: Mutex<Option<String>>,
}

/// Why an event cannot be told.
#[derive(Debug, thiserror::Error)]
enum NotTold {
    /// It can never be.
    #[error("{0}")]
    Unreadable(String),
    #[error("{0}")]
    Unavailable(String),
}

impl WebhookDispatcher {
    pub fn new(
        client: Client,
        (webhook, breaker): (Webhook, Arc<Breaker>),
        attempts: u32,
        clock: fn() -> Timestamp,
        metrics: Arc<Metrics>,
        cpu: Arc<Cpu>,
    ) -> Arc<Self> {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ANSWER_TIMEOUT);
        let consumers = TenantConsumers::new(
            client,
            Source::deliberations(WEBHOOKS_CONSUMER),
            CALLS_PER_TENANT,
            CALLS_MAX,
        );
        let failed = Mutex::new(None);
        let attempts = attempts.into();
        Arc::new(Self { consumers, context, webhook, breaker, attempts, clock, metrics, cpu, failed })
    }

    /// Works until the shutdown; calls that are being made then still end.
    pub fn start(
        self: &Arc<Self>,
        directory: Arc<Directory>,
        skew: Skew,
        shutdown: &Shutdown,
        supervisor: &Supervisor,
    ) {
        let dispatcher = Arc::clone(self);
        self.consumers.start("webhook", Served { directory, skew }, shutdown, supervisor, move |event| {
            Arc::clone(&dispatcher).dispatch(event)
        });
    }

    /// Tells what is kept nowhere: given up after some attempts, or when this is dropped.
    pub async fn tell(&self, occasion: &Occasion) {
        for attempt in 1..=self.attempts.min(UNKEPT_ATTEMPTS_MAX) {
            let AckKind::Nak(wait) = self.call(occasion, attempt).await else { return };
            tokio::time::sleep(wait.unwrap_or(AGAIN_MIN)).await;
        }
    }

    /// What is wrong, for people.
    pub fn trouble(&self) -> Option<String> {
        let unread = match self.consumers.absent() {
            0 => None,
            absent => Some(format!(
                "the events of {} cannot be read: there is no stream",
                crate::phrase::counted(absent, "tenant")
            )),
        };
        unread.or_else(|| self.failed.lock().as_ref().map(|cause| format!("the last call: {cause}")))
    }

    /// What the consumer is told of it. If that is lost it comes again, and is told again under the same id.
    async fn dispatch(self: Arc<Self>, event: tenant_consumers::Event) -> AckKind {
        let tenant_consumers::Event { message, attempt } = event;
        let subject = message.subject.as_str();
        match self.occasion(&message).await {
            Ok(Some(occasion)) => self.call(&occasion, attempt).await,
            Ok(None) => AckKind::Ack,
            Err(NotTold::Unavailable(cause)) => {
                tracing::warn!(subject, cause, "an event for the webhook cannot be completed now");
                AckKind::Nak(Some(again(attempt)))
            }
            Err(NotTold::Unreadable(cause)) => {
                tracing::error!(subject = %shown(subject), cause, "an event cannot be told to the webhook");
                self.metrics.webhook_dropped("unreadable");
                AckKind::Term
            }
        }
    }

    async fn call(&self, occasion: &Occasion, attempt: u64) -> AckKind {
        let admitted = match self.breaker.admit() {
            Ok(admitted) => admitted,
            // Put off by its usual time at least, so that it is given up no sooner than by calls that fail.
            Err(Open { retry_after }) => return AckKind::Nak(Some(retry_after.max(again(attempt)))),
        };
        let started = Instant::now();
        let called = self.webhook.call(occasion, (self.clock)()).await;
        let word = called.as_ref().map_or_else(|error| error.word(), |()| "ok");
        self.metrics.webhook_called(word, started.elapsed());
        match &called {
            Ok(()) => admitted.good(),
            // An endpoint that refuses one call, or fails at it, may take another; one that is not there takes none.
            Err(CallError::Refused { status, .. }) if !matches!(status, 502..=504) => admitted.neither(),
            Err(fault) => admitted.bad(fault),
        }
        *self.failed.lock() = called.as_ref().err().map(ToString::to_string);
        match called {
            Ok(()) => {
                tracing::debug!(id = occasion.id, attempt, "webhook told");
                AckKind::Ack
            }
            Err(error) if attempt >= self.attempts => {
                tracing::error!(id = occasion.id, attempt, %error, "webhook not told, given up");
                self.metrics.webhook_dropped("attempts");
                AckKind::Term
            }
            Err(error) => {
                let wait = again(attempt);
                tracing::warn!(id = occasion.id, attempt, retry_in = ?wait, %error, "webhook not told");
                AckKind::Nak(Some(wait))
            }
        }
    }

    /// `None`: not worth telling.
    async fn occasion(&self, message: &Message) -> Result<Option<Occasion>, NotTold> {
        let (tenant, id) = subjects::deliberation_of(&message.subject)
            .map_err(|error| NotTold::Unreadable(error.to_string()))?;
        let event = self.read(&tenant, message.payload.clone()).await?;
        let parked = match &event {
            Event::Parked(parked) => parked.as_ref().clone(),
            Event::Vote(_) | Event::Escalated { .. } | Event::Decided { .. } | Event::Concluded { .. } => {
                self.parked(&tenant, &id).await?
            }
        };
        if (&parked.tenant, &parked.id) != (&tenant, &id) {
            return Err(NotTold::Unreadable("it says that it is of another deliberation".to_owned()));
        }
        if parked.deadline.plus(STALE) < (self.clock)() {
            self.metrics.webhook_dropped("stale");
            return Ok(None);
        }
        Ok(Occasion::of(&parked, &event))
    }

    async fn read(&self, tenant: &TenantId, payload: Bytes) -> Result<Event, NotTold> {
        let bytes = payload.len();
        let read = move || serde_json::from_slice(&payload);
        let read = self.cpu.run_sized(bytes, tenant, Work::Deliberation, read).await;
        let read = read.map_err(|why| NotTold::Unavailable(why.to_string()))?;
        read.map_err(|error| NotTold::Unreadable(error.to_string()))
    }

    /// The beginning of a log, which says what it is about.
    async fn parked(&self, tenant: &TenantId, id: &DeliberationId) -> Result<Parked, NotTold> {
        let subject = subjects::parked(tenant, id);
        let stream = self.context.get_stream_no_info(deliberations_stream(tenant)).await;
        let stream = stream.map_err(|error| NotTold::Unavailable(error.to_string()))?;
        let found = stream.get_last_raw_message_by_subject(&subject).await.map_err(|error| {
            match error.kind() == LastRawMessageErrorKind::NoMessageFound {
                true => NotTold::Unreadable("the beginning of its log is gone".to_owned()),
                false => NotTold::Unavailable(error.to_string()),
            }
        })?;
        match self.read(tenant, found.payload).await? {
            Event::Parked(parked) => Ok(*parked),
            other => Err(NotTold::Unreadable(format!("its log begins with {}", other.kind()))),
        }
    }
}

/// Doubling, and up to half as long again.
fn again(attempt: u64) -> Duration {
    jittered(doubling(AGAIN_MIN, AGAIN_MAX, attempt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_for_one_event_come_ever_more_seldom_up_to_a_bound() {
        for (attempt, seconds) in [(0, 1), (1, 1), (2, 2), (5, 16), (10, 512), (11, 600), (u64::MAX, 600)] {
            let wait = again(attempt);
            let least = Duration::from_secs(seconds);
            assert!((least..least * 3 / 2).contains(&wait), "{attempt}: {wait:?}");
        }
    }
}
