//! What waits for one tenant, as the loop that pulls it asks: for how many is there room, and who governs one?

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::Message;
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Inbound, pace::Pace, task};
use crate::{
    domain::TenantId,
    lanes::FaultOwner,
    nats::jetstream::{
        consumer::{Handler, Slot},
        delivery_info::{self, DeliveryInfo},
    },
    tenants::names,
};

/// The server ends a pull after this.
pub(super) const EXPIRES: Duration = Duration::from_secs(10);
/// What an idle tenant is pulled for: all of it may have to wait for room.
const IDLE_BATCH: usize = 16;
/// An idle loop looks whether it may pull again.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often a loop asks how many messages wait, and one with nothing to do.
const COUNT_EVERY: Duration = Duration::from_secs(2);
const COUNT_IDLE_EVERY: Duration = Duration::from_secs(60);
/// A pulled message waits so long for room, then it is given back: well below the consumer's `ack_wait`.
const ROOM_WITHIN: Duration = Duration::from_secs(5);
/// A message that found no room, or came as the node stops, is for another node.
const ELSEWHERE_AFTER: Duration = Duration::from_millis(200);

pub(super) struct Waiting {
    inbound: Arc<Inbound>,
    tenant: TenantId,
    count_subject: String,
    tasks: TaskTracker,
    pace: Pace,
    /// Messages that are not settled, as last heard.
    waiting: i64,
    /// When it was asked how many there are, and whether messages have come since.
    counted: Option<Instant>,
    busy: bool,
}

impl Waiting {
    pub(super) fn new(inbound: Arc<Inbound>, tenant: &TenantId, tasks: TaskTracker) -> Self {
        let (stream, consumer) = (names::inbound_stream(tenant), names::NODES_CONSUMER);
        let pace = Pace::new(inbound.lanes.limits.give_up_after, Instant::now());
        let count_subject = format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}");
        Self {
            inbound,
            tenant: tenant.clone(),
            count_subject,
            tasks,
            pace,
            waiting: 0,
            counted: None,
            busy: false,
        }
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

impl Handler for Waiting {
    /// It comes again, and because of what. `None`: it is settled.
    type Outcome = Option<FaultOwner>;

    /// Some, if there is room for a good part of what this tenant may have, nobody has stopped all of it, and the node
    /// takes anything new and could store what comes of it.
    fn wanted(&mut self, in_hand: usize, outstanding: usize, now: Instant) -> usize {
        let (lanes, lane) = (&self.inbound.lanes, &self.inbound.lane);
        if lanes.freezes.has_all_of(&self.tenant) || lanes.admission.is_shedding() || !lane.writes() {
            return 0;
        }
        let most = match in_hand {
            // One, so that nobody who floods the fast lane stops this one.
            _ if self.inbound.bus.refuses() => 1,
            0 => self.inbound.share.min(IDLE_BATCH),
            _ => self.inbound.share,
        };
        let (allowed, taken) = (self.pace.allowed(most, now), in_hand + outstanding);
        if 2 * taken > allowed { 0 } else { allowed.saturating_sub(taken) }
    }

    async fn take(&mut self, message: Message, slot: Slot<Self::Outcome>, stop: &CancellationToken) {
        let Some(delivery) = message.reply.as_deref().and_then(DeliveryInfo::read) else {
            tracing::warn!("a message on the lane that is not JetStream's is dropped");
            return;
        };
        self.busy = true;
        self.inbound.metrics.lane.pulled(delivery.attempt);
        let Some(room) = self.room(stop).await else {
            slot.ends_with(None);
            return self.give_back(message).await;
        };
        let excused = self.pace.excused(Instant::now());
        let inbound = Arc::clone(&self.inbound);
        self.tasks.spawn(async move {
            let task = task::govern(&inbound, &message, delivery, excused);
            let again = inbound.metrics.polls.watch("lane", task).await;
            drop(room);
            slot.ends_with(again);
        });
    }

    fn ended(&mut self, outcome: Option<Self::Outcome>, now: Instant) {
        self.pace.heard(outcome.flatten(), now);
    }

    async fn give_back(&self, message: Message) {
        if let Some(reply) = message.reply {
            task::give_back(&self.inbound, &reply, ELSEWHERE_AFTER);
        }
    }

    /// How many messages wait, more often while there are some. What is given back is in no pull.
    fn question(&mut self, now: Instant) -> Option<String> {
        let every = if self.busy || self.waiting > 0 { COUNT_EVERY } else { COUNT_IDLE_EVERY };
        if self.counted.is_some_and(|counted| now.duration_since(counted) < every) {
            return None;
        }
        self.counted = Some(now);
        self.busy = false;
        Some(self.count_subject.clone())
    }

    fn answered(&mut self, answer: &Bytes) {
        if let Some(unsettled) = delivery_info::unsettled(answer) {
            self.heard_waiting(unsettled);
        }
    }

    fn stopped(&mut self) {
        self.heard_waiting(0);
    }
}
