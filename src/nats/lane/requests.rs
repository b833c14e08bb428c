//! What the lane asks JetStream: publishes that wait for their acknowledgement, side by side, bounded in
//! number and in time.
//!
//! Not by async-nats' own requests: an answer that never comes would stay in its table for good.
//!
//! async-nats sends what it could not write before a reconnect when it is connected again, perhaps long
//! after its caller has given up. What may happen once only is published with the sequence that it expects,
//! and finds that another has come first.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::{Client, Event, HeaderMap, Message as NatsMessage, Subscriber, connection::State};
use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use crate::{
    config,
    lanes::LaneError,
    nats::{
        BusError, RoundTrips,
        jetstream::publish::{Published, published},
        open, options,
    },
    shutdown::Shutdown,
    supervisor::Supervisor,
};

/// Publishes that wait for their acknowledgement.
const UNCONFIRMED_MAX: usize = 1_024;
/// Then nobody knows whether it is kept.
pub(super) const CONFIRM_WITHIN: Duration = Duration::from_secs(2);
/// Messages that may wait in one subscription of the lane's connection: more than acknowledgements can
/// be under way, and more than a tenant is pulled for at one time.
const SUBSCRIPTION_MAX: usize = 8_192;

/// The lane's connection.
pub(crate) struct Requests {
    client: Client,
    round_trips: Arc<RoundTrips>,
    inbox: String,
    shared: Arc<Shared>,
    slots: Semaphore,
    next: AtomicU64,
}

struct Shared {
    /// Who waits for which answer. At most [`UNCONFIRMED_MAX`].
    waiting: Mutex<HashMap<u64, oneshot::Sender<NatsMessage>>>,
}

impl Requests {
    pub(super) async fn connect(
        name: &str,
        settings: &config::Nats,
        background: &Shutdown,
        supervisor: &Supervisor,
    ) -> Result<Self, BusError> {
        let shared = Arc::new(Shared { waiting: Mutex::default() });
        let seen = Arc::clone(&shared);
        let options = options(&format!("{name} lane"), settings)?
            .subscription_capacity(SUBSCRIPTION_MAX)
            // NATS has just answered this node; that it is gone again must not end the start.
            .retry_on_initial_connect()
            .event_callback(move |event| {
                seen.observe(&event);
                std::future::ready(())
            });
        let client = open(options, settings).await?;
        let inbox = client.new_inbox();
        let (reader, listener, answers) = (Arc::clone(&shared), client.clone(), format!("{inbox}.*"));
        supervisor.keep("lane answers", background.tracker(), background.token().clone(), move || {
            let (reader, listener, answers) = (Arc::clone(&reader), listener.clone(), answers.clone());
            async move {
                if let Ok(answers) = listener.subscribe(answers).await {
                    reader.read(answers).await;
                }
            }
        });
        let round_trips = RoundTrips::watch(
            "lane connection",
            client.clone(),
            settings.ping_interval,
            background,
            supervisor,
        );
        Ok(Self {
            round_trips,
            client,
            inbox,
            shared,
            slots: Semaphore::new(UNCONFIRMED_MAX),
            next: AtomicU64::new(0),
        })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// For how long no message has come back over the connection.
    pub(crate) fn silent_for(&self) -> Duration {
        self.round_trips.silent_for()
    }

    /// Publishes and waits until it is kept.
    pub(super) async fn publish(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Published, LaneError> {
        self.publish_before(subject, headers, payload, None).await
    }

    /// The same, unless it is later than that by then: a node that was stopped for a while must not go on
    /// with what others have decided otherwise.
    pub(super) async fn publish_before(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
        not_after: Option<Instant>,
    ) -> Result<Published, LaneError> {
        let asking = self.ask(subject, headers, payload, not_after);
        let answer = tokio::time::timeout(CONFIRM_WITHIN, asking).await;
        let answer = answer.map_err(|_| LaneError::Unconfirmed)??;
        Ok(published(&answer)?)
    }

    /// The same for what has waited for a while.
    pub(super) async fn publish_within(
        &self,
        within: Duration,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Published, LaneError> {
        let asking = self.ask(subject, headers, payload, None);
        let answer = tokio::time::timeout(within, asking).await;
        let answer = answer.map_err(|_| LaneError::Unconfirmed)??;
        Ok(published(&answer)?)
    }

    async fn ask(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
        not_after: Option<Instant>,
    ) -> Result<NatsMessage, LaneError> {
        let _slot = self.slots.acquire().await.map_err(|_| LaneError::Unconfirmed)?;
        if !self.connected() {
            return Err(LaneError::Unconfirmed);
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (done, answer) = oneshot::channel();
        self.shared.waiting.lock().insert(number, done);
        let _forget = Forget { shared: &self.shared, number };
        if not_after.is_some_and(|not_after| Instant::now() > not_after) {
            return Err(LaneError::TooLate);
        }
        self.client
            .publish_with_reply_and_headers(subject, format!("{}.{number}", self.inbox), headers, payload)
            .await
            .map_err(|error| LaneError::Refused(error.to_string()))?;
        answer.await.map_err(|_| LaneError::Unconfirmed)
    }
}

/// Takes out of the table who no longer waits.
struct Forget<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.waiting.lock().remove(&self.number);
    }
}

impl Shared {
    async fn read(self: Arc<Self>, mut answers: Subscriber) {
        while let Some(answer) = answers.next().await {
            let number = answer.subject.rsplit('.').next().and_then(|number| number.parse().ok());
            let waiting = number.and_then(|number: u64| self.waiting.lock().remove(&number));
            if let Some(waiting) = waiting {
                // One who no longer waits has passed its deadline.
                let _ = waiting.send(answer);
            }
        }
    }

    fn observe(&self, event: &Event) {
        match event {
            Event::Connected => {}
            Event::Disconnected | Event::Closed => {
                // Closed is on purpose, and the last that is heard of it.
                if *event == Event::Disconnected {
                    tracing::warn!("the lane is not connected to NATS");
                }
                // Their answers went to the lost connection.
                self.waiting.lock().clear();
            }
            Event::SlowConsumer(_) => {
                tracing::warn!(%event, "the lane's messages were dropped: this node does not keep up");
            }
            Event::LameDuckMode | Event::Draining => tracing::info!(%event, "NATS, the lane"),
            Event::ServerError(_) | Event::ClientError(_) => tracing::warn!(%event, "NATS, the lane"),
        }
    }
}
