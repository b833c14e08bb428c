//! What the lane asks JetStream: publishes that wait for their answer, side by side, bounded in number and in time.
//!
//! They leave on a connection with formats of its own (`session.rs`). What a consumer hands out, and what is looked up,
//! comes over one of async-nats beside it.
//!
//! What was written and lost with its connection may be kept all the same, or come there late. What may happen once only
//! is published with the sequence that it expects, and finds that another has come first.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{Client, Event, Subject, connection::State, jetstream::AckKind};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, oneshot};

use super::{
    outgoing::{Asking, CONFIRM_WITHIN, Out},
    session::{Life, Shared},
};
use crate::{
    config,
    lanes::LaneError,
    nats::{
        BusError, Link, RoundTrips, files, intake::session::Login, jetstream::publish::Published, open,
        options,
    },
    shutdown::Shutdown,
    supervisor::Supervisor,
    tenants::{BusUser, Seed, User},
};

/// Publishes that wait for their answer.
pub(super) const UNCONFIRMED_MAX: usize = 1_024;
/// Messages that may wait in one subscription of async-nats' connection: more than a tenant is pulled for at one time.
const SUBSCRIPTION_MAX: usize = 8_192;

/// The lane's connections.
pub(crate) struct Requests {
    client: Client,
    round_trips: Arc<RoundTrips>,
    shared: Arc<Shared>,
    slots: Semaphore,
}

/// What is published.
pub(super) struct Message<'a> {
    pub(super) subject: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) payload: &'a [u8],
    /// Not to be written after this: a node that was stopped for a while must not go on with what others have decided
    /// otherwise.
    pub(super) not_after: Option<Instant>,
}

impl Requests {
    pub(super) async fn connect(
        name: &str,
        settings: &config::Nats,
        payload_max: usize,
        background: &Shutdown,
        supervisor: &Supervisor,
    ) -> Result<Self, BusError> {
        let options = options(&format!("{name} lane"), settings)?
            .subscription_capacity(SUBSCRIPTION_MAX)
            // NATS has just answered this node; that it is gone again must not end the start.
            .retry_on_initial_connect()
            .event_callback(move |event| {
                observe(&event);
                std::future::ready(())
            });
        let seed = settings.nkey_file.as_deref().map(Seed::read).transpose()?;
        let client = open(options, settings).await?;
        let inbox = format!("{}.{}", User::Bus(BusUser::Node).inbox_prefix(), nuid::next());
        let out = Mutex::new(Out::new(inbox.clone(), payload_max));
        let shared = Arc::new(Shared { inbox, out, wake: Notify::new(), link: Mutex::default() });
        let login =
            Login { name: format!("agentbus node {name} lane publishes"), seed, files: files(settings) };
        let life = Arc::new(Life { shared: Arc::clone(&shared), login, settings: settings.clone() });
        supervisor.keep("lane session", background.tracker(), background.token().clone(), move || {
            let life = Arc::clone(&life);
            async move { life.run().await }
        });
        let every = settings.ping_interval;
        let round_trips = RoundTrips::watch("lane connection", client.clone(), every, background, supervisor);
        Ok(Self { round_trips, client, shared, slots: Semaphore::new(UNCONFIRMED_MAX) })
    }

    /// Of async-nats.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn connected(&self) -> bool {
        self.writes() && self.client.connection_state() == State::Connected
    }

    /// Whether what is published leaves now.
    pub(super) fn writes(&self) -> bool {
        self.shared.is_open()
    }

    /// What the server calls the connections.
    pub(super) fn links(&self) -> Vec<Link> {
        std::iter::once(Link::of(&self.client)).chain(self.shared.link.lock().clone()).collect()
    }

    /// For how long no message has come back over the connection.
    pub(crate) fn silent_for(&self) -> Duration {
        self.round_trips.silent_for()
    }

    /// Publishes and waits until it is kept.
    pub(super) async fn publish(&self, message: Message<'_>) -> Result<Published, LaneError> {
        self.publish_within(CONFIRM_WITHIN, message).await
    }

    /// The same for what has waited for a while.
    pub(super) async fn publish_within(
        &self,
        within: Duration,
        message: Message<'_>,
    ) -> Result<Published, LaneError> {
        let until = Instant::now() + within;
        let _slot = match self.slots.try_acquire() {
            Ok(slot) => slot,
            Err(_) => {
                let slot = tokio::time::timeout(within, self.slots.acquire()).await;
                // Nothing of it was written.
                slot.ok().and_then(Result::ok).ok_or(LaneError::Away)?
            }
        };
        let Message { subject, headers, payload, not_after } = message;
        let (done, answer) = oneshot::channel();
        let asking = Asking { subject, headers, payload, not_after, until };
        let number = self.shared.out.lock().ask(&asking, done)?;
        let _forget = Forget { shared: &self.shared, number };
        self.shared.wake.notify_one();
        answer.await.unwrap_or(Err(LaneError::Unconfirmed))
    }

    /// Tells who listens, without content: it is lost if nobody does, and nothing waits for it.
    pub(super) fn hint(&self, subject: &str, headers: &[(&str, &str)]) {
        self.shared.out.lock().hint(subject, headers);
        self.shared.wake.notify_one();
    }

    /// Says what becomes of a message that was pulled; nothing waits for it. If it is lost, JetStream hands the message
    /// out again after the consumer's `ack_wait`.
    pub(super) fn acknowledge(&self, reply: &Subject, kind: AckKind) {
        self.shared.out.lock().acknowledge(reply, &Bytes::from(kind));
        self.shared.wake.notify_one();
    }

    /// Returns when the server has read all of this, or there is no connection.
    pub(super) async fn fence(&self) {
        let fenced = self.shared.out.lock().fence();
        self.shared.wake.notify_one();
        let _ = fenced.await;
    }
}

/// Takes out of the table who no longer waits.
struct Forget<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.out.lock().forget(self.number);
    }
}

fn observe(event: &Event) {
    match event {
        // Closed is on purpose, and the last that is heard of it.
        Event::Connected | Event::Closed => {}
        Event::Disconnected => tracing::warn!("the lane hears nothing of NATS"),
        Event::SlowConsumer(_) => {
            tracing::warn!(%event, "the lane's messages were dropped: this node does not keep up");
        }
        Event::LameDuckMode | Event::Draining => tracing::info!(%event, "NATS, the lane"),
        Event::ServerError(_) | Event::ClientError(_) => tracing::warn!(%event, "NATS, the lane"),
    }
}
