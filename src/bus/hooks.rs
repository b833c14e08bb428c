//! Pulls what happens to deliberations and tells the webhook. All nodes that have one share the work.
//!
//! JetStream keeps an event until a call has succeeded, so an event is told at least once; what is told
//! again bears the same id.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{
    Client,
    jetstream::{
        self, AckKind, Context,
        consumer::{Consumer, pull},
        stream::LastRawMessageErrorKind,
    },
};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use rand::Rng as _;
use tokio::sync::Semaphore;

use crate::{
    domain::{DeliberationId, Event, Parked, TenantId, Timestamp, id::shown},
    shutdown::Shutdown,
    telemetry::Metrics,
    tenants::names::{DELIBERATIONS_STREAM, WEBHOOKS_CONSUMER},
    webhook::{Occasion, Webhook},
};

/// Calls at one time.
const CALLS_MAX: usize = 4;
/// A pull that was lost with a connection is made anew after this.
const PULL_WAIT: Duration = Duration::from_secs(10);
/// For one answer of JetStream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two tries to reach the consumer.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(15);
/// Between two calls for the same event.
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(600);
/// Nobody wants to hear what was to be decided longer ago: a webhook that is new gets no history.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// Tells the webhook.
pub struct Hooks {
    context: Context,
    webhook: Webhook,
    /// Calls for one event.
    attempts: u64,
    clock: fn() -> Timestamp,
    metrics: Arc<Metrics>,
    /// Why events cannot be read, if they cannot.
    unread: Mutex<Option<String>>,
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

impl Hooks {
    pub fn new(
        client: Client,
        webhook: Webhook,
        attempts: u32,
        clock: fn() -> Timestamp,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let mut context = jetstream::new(client);
        context.set_timeout(ANSWER_TIMEOUT);
        let (unread, failed) = (Mutex::new(None), Mutex::new(None));
        Arc::new(Self { context, webhook, attempts: attempts.into(), clock, metrics, unread, failed })
    }

    /// Works until the shutdown; calls that are being made then still end.
    pub fn start(self: &Arc<Self>, shutdown: &Shutdown) {
        shutdown.tracker().spawn(Arc::clone(self).pull(shutdown.clone()));
    }

    /// What is wrong, for people.
    pub fn trouble(&self) -> Option<String> {
        let unread = self.unread.lock().as_ref().map(|cause| format!("events cannot be read: {cause}"));
        unread.or_else(|| self.failed.lock().as_ref().map(|cause| format!("the last call: {cause}")))
    }

    async fn pull(self: Arc<Self>, shutdown: Shutdown) {
        let calls = Arc::new(Semaphore::new(CALLS_MAX));
        let mut consumer = None;
        let mut wait = RETRY_MIN;
        while !shutdown.is_requested() {
            let next = async {
                let slot = Arc::clone(&calls).acquire_owned().await.map_err(|error| error.to_string())?;
                Ok::<_, String>(self.next(&mut consumer).await?.map(|message| (message, slot)))
            };
            let next = tokio::select! {
                next = next => next,
                () = shutdown.requested() => return,
            };
            *self.unread.lock() = next.as_ref().err().cloned();
            match next {
                Ok(Some((message, slot))) => {
                    wait = RETRY_MIN;
                    let hooks = Arc::clone(&self);
                    shutdown.tracker().spawn(async move {
                        hooks.tell(&message).await;
                        drop(slot);
                    });
                }
                Ok(None) => wait = RETRY_MIN,
                Err(cause) => {
                    tracing::warn!(cause, retry_in = ?wait, "events for the webhook cannot be read");
                    consumer = None;
                    tokio::select! {
                        () = tokio::time::sleep(jittered(wait)) => {}
                        () = shutdown.requested() => return,
                    }
                    wait = RETRY_MAX.min(wait * 2);
                }
            }
        }
    }

    /// The next event. `None`: there was none for a while.
    async fn next(
        &self,
        consumer: &mut Option<Consumer<pull::Config>>,
    ) -> Result<Option<jetstream::Message>, String> {
        let consumer = match consumer {
            Some(consumer) => consumer,
            None => {
                let found = self.context.get_consumer_from_stream(WEBHOOKS_CONSUMER, DELIBERATIONS_STREAM);
                consumer.insert(found.await.map_err(|error| error.to_string())?)
            }
        };
        let batch = consumer.batch().max_messages(1).expires(PULL_WAIT).messages().await;
        let mut batch = batch.map_err(|error| error.to_string())?;
        match batch.next().await {
            Some(message) => message.map(Some).map_err(|error| error.to_string()),
            None => Ok(None),
        }
    }

    async fn tell(&self, message: &jetstream::Message) {
        let attempt = message.info().ok().and_then(|info| u64::try_from(info.delivered).ok()).unwrap_or(1);
        let subject = message.subject.as_str();
        let reply = match self.occasion(message).await {
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
        };
        if let Err(error) = message.ack_with(reply).await {
            // It comes again, and is told again under the same id.
            tracing::warn!(subject, %error, "JetStream did not learn what became of an event");
        }
    }

    async fn call(&self, occasion: &Occasion, attempt: u64) -> AckKind {
        let started = Instant::now();
        let called = self.webhook.call(occasion, (self.clock)()).await;
        let word = called.as_ref().map_or_else(|error| error.word(), |()| "ok");
        self.metrics.webhook_called(word, started.elapsed());
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
    async fn occasion(&self, message: &jetstream::Message) -> Result<Option<Occasion>, NotTold> {
        let (tenant, id) = place(&message.subject)?;
        let event = read(&message.payload)?;
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

    /// The beginning of a log, which says what it is about.
    async fn parked(&self, tenant: &TenantId, id: &DeliberationId) -> Result<Parked, NotTold> {
        let subject = format!("deliberation.{tenant}.{id}.parked");
        let stream = self.context.get_stream_no_info(DELIBERATIONS_STREAM).await;
        let stream = stream.map_err(|error| NotTold::Unavailable(error.to_string()))?;
        let found = stream.get_last_raw_message_by_subject(&subject).await.map_err(|error| {
            match error.kind() == LastRawMessageErrorKind::NoMessageFound {
                true => NotTold::Unreadable("the beginning of its log is gone".to_owned()),
                false => NotTold::Unavailable(error.to_string()),
            }
        })?;
        match read(&found.payload)? {
            Event::Parked(parked) => Ok(*parked),
            other => Err(NotTold::Unreadable(format!("its log begins with {}", other.kind()))),
        }
    }
}

/// Whose event a subject names: `deliberation.<tenant>.<id>.<event>`.
fn place(subject: &str) -> Result<(TenantId, DeliberationId), NotTold> {
    let unreadable = |error: crate::domain::IdError| NotTold::Unreadable(error.to_string());
    let mut tokens = subject.split('.').skip(1);
    let (tenant, id) = (tokens.next().unwrap_or_default(), tokens.next().unwrap_or_default());
    Ok((tenant.parse().map_err(unreadable)?, id.parse().map_err(unreadable)?))
}

fn read(payload: &[u8]) -> Result<Event, NotTold> {
    serde_json::from_slice(payload).map_err(|error| NotTold::Unreadable(error.to_string()))
}

/// Doubling, and up to half as long again.
fn again(attempt: u64) -> Duration {
    let exponent = u32::try_from(attempt.clamp(1, 11) - 1).unwrap_or(0);
    jittered(AGAIN_MAX.min(AGAIN_MIN * 2_u32.pow(exponent)))
}

fn jittered(wait: Duration) -> Duration {
    wait + wait.mul_f64(rand::rng().random_range(0.0..0.5))
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
