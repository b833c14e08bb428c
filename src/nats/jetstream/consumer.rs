//! Pulls from one consumer of one tenant: asks for as many messages as there is room for, and hands each out.
//!
//! A pull is lost with its connection. What was pulled and not begun when the loop ends is given back, so that other
//! nodes have it now.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use async_nats::{Client, Message, connection::State};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::pull_requests::{PullRequests, PullStatus, ask_server};
use crate::{
    domain::TenantId,
    nats::each_tenant::{Pause, Presence},
};

/// The last token of the reply subject of another question than a pull; those of pulls are numbers.
const QUESTION: &str = "question";

/// Who works on what is pulled.
pub(in crate::nats) trait Handler: Send {
    /// How the work on one message ended.
    type Outcome: Send + 'static;

    /// How many messages to ask for now.
    fn wanted(&mut self, in_hand: usize, outstanding: usize, now: Instant) -> usize;

    /// Takes one in hand. `slot` counts it until it is dropped.
    fn take(
        &mut self,
        message: Message,
        slot: Slot<Self::Outcome>,
        stop: &CancellationToken,
    ) -> impl Future<Output = ()> + Send;

    /// One that was in hand has ended; `None`: nobody said how.
    fn ended(&mut self, _outcome: Option<Self::Outcome>, _now: Instant) {}

    /// It is for another node.
    fn give_back(&self, message: Message) -> impl Future<Output = ()> + Send;

    /// A subject to ask about the consumer now.
    fn question(&mut self, _now: Instant) -> Option<String> {
        None
    }

    fn answered(&mut self, _answer: &Bytes) {}

    /// The loop ends.
    fn stopped(&mut self) {}
}

/// A place among the messages of a loop that are in hand.
pub(in crate::nats) struct Slot<T> {
    outcome: Option<T>,
    ended: mpsc::Sender<Option<T>>,
}

impl<T> Slot<T> {
    pub(in crate::nats) fn ends_with(mut self, outcome: T) {
        self.outcome = Some(outcome);
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        // There is room for all that can be in hand; a loop that has ended counts no more.
        let _ = self.ended.try_send(self.outcome.take());
    }
}

/// What is pulled from, and how.
#[derive(Clone)]
pub(in crate::nats) struct Consumer {
    pub(in crate::nats) client: Client,
    pub(in crate::nats) stream: String,
    pub(in crate::nats) name: &'static str,
    /// Messages in hand at one time.
    pub(in crate::nats) share: usize,
    /// The server ends a pull after this.
    pub(in crate::nats) expires: Duration,
    /// How often an idle loop looks whether it may pull again.
    pub(in crate::nats) look_every: Duration,
}

/// How a loop that pulls has ended.
enum Ended {
    /// It was told to.
    Stopped,
    /// There is no stream, or no consumer.
    Absent,
    Failed(String),
}

impl Consumer {
    /// Pulls until the stop, and begins again whenever that ends. `what` and `absent` are for people: what is pulled,
    /// and how many tenants are without.
    pub(in crate::nats) async fn serve<H: Handler>(
        &self,
        what: &'static str,
        tenant: &TenantId,
        absent: &AtomicUsize,
        stop: &CancellationToken,
        handler: impl Fn() -> H,
    ) {
        let mut presence = Presence::new(what, tenant, absent);
        let mut pause = Pause::default();
        while !stop.is_cancelled() {
            let mut pulling = Pulling::new(self, handler());
            match pulling.run(stop, &mut presence).await {
                Ended::Stopped => return,
                Ended::Absent => presence.is_absent(),
                Ended::Failed(cause) => {
                    tracing::warn!(%tenant, consumer = self.name, cause, "pulled from anew");
                }
            }
            pause.wait(pulling.pulls.was_served(), stop).await;
        }
    }

    fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }
}

/// One life of a loop.
struct Pulling<'a, H: Handler> {
    consumer: &'a Consumer,
    handler: H,
    pulls: PullRequests,
    /// Connections of the client so far.
    connects: u64,
    in_hand: usize,
    slots: mpsc::Sender<Option<H::Outcome>>,
    ended: mpsc::Receiver<Option<H::Outcome>>,
}

impl<'a, H: Handler> Pulling<'a, H> {
    fn new(consumer: &'a Consumer, handler: H) -> Self {
        // Room for all that can be in hand, and for one that was not asked for.
        let (slots, ended) = mpsc::channel(consumer.share + 1);
        let (pulls, connects) = (PullRequests::new(consumer.expires), consumer.connects());
        Self { consumer, handler, pulls, connects, in_hand: 0, slots, ended }
    }

    async fn run(&mut self, stop: &CancellationToken, presence: &mut Presence<'_>) -> Ended {
        let client = &self.consumer.client;
        let inbox = client.new_inbox();
        let mut messages = match client.subscribe(format!("{inbox}.*")).await {
            Ok(messages) => messages,
            Err(error) => return Ended::Failed(error.to_string()),
        };
        let ended = loop {
            if let Err(error) = self.ask(&inbox).await {
                break Ended::Failed(error);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break Ended::Stopped,
                Some(outcome) = self.ended.recv() => {
                    self.in_hand = self.in_hand.saturating_sub(1);
                    self.handler.ended(outcome, Instant::now());
                }
                message = messages.next() => match message {
                    None => break Ended::Failed("the subscription has ended".to_owned()),
                    Some(message) => match self.heard(message, stop).await {
                        PullStatus::Absent => break Ended::Absent,
                        PullStatus::Served => presence.is_there(),
                        PullStatus::Other => {}
                    },
                },
                () = tokio::time::sleep(self.consumer.look_every) => {}
            }
        };
        self.handler.stopped();
        let handler = &self.handler;
        self.pulls.give_back(messages, |message| handler.give_back(message)).await;
        ended
    }

    /// Pulls, if there is room and a connection, and asks what else there is to ask.
    async fn ask(&mut self, inbox: &str) -> Result<(), String> {
        let (now, Consumer { client, stream, name, .. }) = (Instant::now(), self.consumer);
        self.pulls.expire(now);
        let connects = self.consumer.connects();
        if std::mem::replace(&mut self.connects, connects) != connects {
            self.pulls.forget();
        }
        if client.connection_state() != State::Connected {
            return Ok(());
        }
        if !self.pulls.refused(now) {
            let batch = self.handler.wanted(self.in_hand, self.pulls.outstanding(), now);
            if batch > 0 {
                let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}");
                self.pulls.ask(client, &subject, inbox, batch, now).await?;
            }
        }
        match self.handler.question(now) {
            Some(subject) => ask_server(client, subject, format!("{inbox}.{QUESTION}"), Bytes::new()).await,
            None => Ok(()),
        }
    }

    async fn heard(&mut self, message: Message, stop: &CancellationToken) -> PullStatus {
        if let Some(status) = message.status {
            return self.pulls.status(status, &message);
        }
        if message.subject.rsplit('.').next() == Some(QUESTION) {
            self.handler.answered(&message.payload);
            return PullStatus::Other;
        }
        self.pulls.arrived();
        // More than was asked for: a pull that was taken for lost was not.
        if self.in_hand >= self.consumer.share {
            self.handler.give_back(message).await;
            return PullStatus::Served;
        }
        self.in_hand += 1;
        let slot = Slot { outcome: None, ended: self.slots.clone() };
        self.handler.take(message, slot, stop).await;
        PullStatus::Served
    }
}
