//! One tenant's loop: asks JetStream for as many messages as there is room for, and hands each to a task.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::Message as NatsMessage;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Inbound,
    delivery::{self, Delivery},
    pace::Pace,
    task,
};
use crate::{
    bus::{
        each_tenant::Presence,
        pulls::{Ended, Pulls, Said, publish},
    },
    domain::TenantId,
    lanes::FaultOwner,
    tenants::names,
};

/// The server ends a pull after this.
const EXPIRES: Duration = Duration::from_secs(10);
/// What an idle tenant is pulled for: all of it may have to wait for room.
const IDLE_BATCH: usize = 16;
/// An idle loop looks whether it may pull again.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often a loop asks how many messages wait, and one with nothing to do.
const COUNT_EVERY: Duration = Duration::from_secs(2);
const COUNT_IDLE_EVERY: Duration = Duration::from_secs(60);
/// The last token of the reply subject of that question; those of pulls are numbers.
const COUNT: &str = "count";
/// A pulled message waits so long for room, then it is given back: well below the consumer's `ack_wait`.
const ROOM_WITHIN: Duration = Duration::from_secs(5);
/// A message that found no room, or came as the node stops, is for another node.
const ELSEWHERE_AFTER: Duration = Duration::from_millis(200);

pub(super) struct Pulling {
    inbound: Arc<Inbound>,
    pull_subject: String,
    count_subject: String,
    tasks: TaskTracker,
    pulls: Pulls,
    pace: Pace,
    in_hand: usize,
    /// Messages that are not settled, as last heard.
    waiting: i64,
    /// When it was asked how many there are, and whether messages have come since.
    counted: Option<Instant>,
    busy: bool,
}

impl Pulling {
    pub(super) fn new(inbound: Arc<Inbound>, tenant: &TenantId, tasks: TaskTracker) -> Self {
        let (stream, consumer) = (names::inbound_stream(tenant), names::NODES_CONSUMER);
        let pace = Pace::new(inbound.lanes.limits.give_up_after, Instant::now());
        Self {
            inbound,
            pull_subject: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"),
            count_subject: format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}"),
            tasks,
            pulls: Pulls::new(EXPIRES),
            pace,
            in_hand: 0,
            waiting: 0,
            counted: None,
            busy: false,
        }
    }

    /// Whether JetStream has answered as it does when there is a consumer.
    pub(super) fn was_served(&self) -> bool {
        self.pulls.was_served()
    }

    pub(super) async fn run(&mut self, stop: &CancellationToken, presence: &mut Presence<'_>) -> Ended {
        let requests = self.inbound.lane.requests();
        let (client, mut connections) = (requests.client().clone(), requests.connections());
        let inbox = client.new_inbox();
        let mut messages = match client.subscribe(format!("{inbox}.*")).await {
            Ok(messages) => messages,
            Err(error) => return Ended::Failed(error.to_string()),
        };
        // Room for all that can be in hand: no task waits to tell.
        let (settled, mut results) = mpsc::channel(self.inbound.share + 1);
        let ended = loop {
            let asked = match self.ask(&client, &inbox).await {
                Ok(()) => self.ask_for_count(&client, &inbox).await,
                failed => failed,
            };
            if let Err(error) = asked {
                break Ended::Failed(error);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break Ended::Stopped,
                Some(again) = results.recv() => {
                    self.in_hand = self.in_hand.saturating_sub(1);
                    self.pace.heard(again, Instant::now());
                }
                message = messages.next() => match message {
                    None => break Ended::Failed("the subscription has ended".to_owned()),
                    Some(message) => match self.take(message, &settled, stop).await {
                        Said::Absent => break Ended::Absent,
                        Said::Served => presence.is_there(),
                        Said::Nothing => {}
                    },
                },
                Ok(()) = connections.changed() => self.pulls.forget(),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        };
        self.heard_waiting(0);
        let inbound = &self.inbound;
        self.pulls.give_back(messages, |_, reply| task::give_back(inbound, reply, ELSEWHERE_AFTER)).await;
        ended
    }

    /// Pulls if there is room for a good part of what this tenant may have.
    async fn ask(&mut self, client: &async_nats::Client, inbox: &str) -> Result<(), String> {
        let now = Instant::now();
        self.pulls.expire(now);
        if self.pulls.refused(now) || !self.inbound.lane.connected() {
            return Ok(());
        }
        let most = match self.in_hand {
            0 => self.inbound.share.min(IDLE_BATCH),
            _ => self.inbound.share,
        };
        let allowed = self.pace.allowed(most, now);
        let taken = self.in_hand + self.pulls.outstanding();
        if 2 * taken > allowed || taken >= allowed {
            return Ok(());
        }
        let batch = allowed - taken;
        self.pulls.ask(client, &self.pull_subject, inbox, batch, now).await
    }

    /// Asks how many messages wait, more often while there are some. What is given back is in no pull.
    async fn ask_for_count(&mut self, client: &async_nats::Client, inbox: &str) -> Result<(), String> {
        let now = Instant::now();
        let every = if self.busy || self.waiting > 0 { COUNT_EVERY } else { COUNT_IDLE_EVERY };
        if self.counted.is_some_and(|counted| now.duration_since(counted) < every)
            || !self.inbound.lane.connected()
        {
            return Ok(());
        }
        self.counted = Some(now);
        self.busy = false;
        publish(client, self.count_subject.clone(), format!("{inbox}.{COUNT}"), Bytes::new()).await
    }

    async fn take(
        &mut self,
        message: NatsMessage,
        settled: &mpsc::Sender<Option<FaultOwner>>,
        stop: &CancellationToken,
    ) -> Said {
        if let Some(status) = message.status {
            return self.pulls.told(status, &message);
        }
        if message.subject.rsplit('.').next() == Some(COUNT) {
            if let Some(unsettled) = delivery::unsettled(&message.payload) {
                self.heard_waiting(unsettled);
            }
            return Said::Nothing;
        }
        self.pulls.arrived();
        let delivery = message.reply.as_deref().and_then(Delivery::read);
        let (Some(delivery), Some(reply)) = (delivery, message.reply.clone()) else {
            tracing::warn!("a message on the lane that is not JetStream's is dropped");
            return Said::Nothing;
        };
        self.busy = true;
        self.inbound.metrics.lane.pulled(delivery.attempt);
        match self.room(stop).await {
            Some(room) => {
                self.in_hand += 1;
                let excused = self.pace.excused(Instant::now());
                let (inbound, settled) = (Arc::clone(&self.inbound), settled.clone());
                self.tasks.spawn(async move {
                    let task = task::govern(&inbound, &message, delivery, excused);
                    let again = inbound.metrics.polls.watch("lane", task).await;
                    drop(room);
                    // A loop that has ended counts no more.
                    let _ = settled.try_send(again);
                });
            }
            None => task::give_back(&self.inbound, reply, ELSEWHERE_AFTER).await,
        }
        Said::Served
    }

    async fn room(&self, stop: &CancellationToken) -> Option<OwnedSemaphorePermit> {
        let room = Arc::clone(&self.inbound.room);
        tokio::select! {
            biased;
            room = tokio::time::timeout(ROOM_WITHIN, room.acquire_owned()) => room.ok()?.ok(),
            () = stop.cancelled() => None,
        }
    }

    fn heard_waiting(&mut self, waiting: u64) {
        let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
        self.inbound.metrics.lane.waiting.inc_by(waiting - self.waiting);
        self.waiting = waiting;
    }
}
