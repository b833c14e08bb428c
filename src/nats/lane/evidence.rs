//! When may the content of a message in a durable inbox go? When it is acknowledged, and something else says for as long
//! that it was delivered.
//!
//! The server deletes what all consumers of the stream have settled. One is the recipient's inbox, another all nodes
//! share: there each message waits, without its content, until other evidence of it is kept. So no node has the right to
//! delete anything, and while none runs nothing goes. A node that dies in between leaves it to the next, who finds what is kept.
//!
//! Evidence is the outcome that says `delivered` and names the one recipient. Where there is none (a broadcast, a `send`
//! that the policy has stored, what reviewers approved, what was redriven) a receipt is written: the recipient in its
//! subject, the decision in a header. It is in no inbox. Nodes of the last version do not know receipts, and where a
//! message is redriven they look at no outcome: so nothing is settled while one is heard.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{HeaderMap, Message, jetstream::AckKind};
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use rand::Rng as _;

use super::{JetStreamLane, found, once::told_of, requests};
use crate::{
    domain::AgentId,
    fault_points::{self, Step},
    lanes::LaneError,
    nats::{
        Peers,
        each_tenant::Served,
        headers,
        jetstream::{
            delivery_info::DeliveryInfo,
            publish::{Published, expected},
        },
        subjects,
        tenant_consumers::{Event, Source, TenantConsumers},
    },
    shutdown::Shutdown,
    skew::Skew,
    state::MessageKey,
    supervisor::Supervisor,
    telemetry::Metrics,
    tenants::{Directory, names},
    wire,
};

/// Messages of one tenant in hand at one time.
const SHARE: usize = 256;
/// Of all tenants.
const AT_ONCE: usize = 512;
/// Questions to JetStream for evidence, of all tenants together.
const LOOKS_PER_SECOND: u32 = 500;
/// A message comes here at once, and its outcome a moment later.
const OUTCOME_AFTER: Duration = Duration::from_millis(100);
/// What has no outcome by then is not waited for longer.
const RECEIPT_AFTER: Duration = Duration::from_secs(20);
/// What failed, or must wait for other nodes to be replaced, is looked at again.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Sees to it that there is other evidence of each delivery than its content, beside the other nodes.
#[derive(Clone)]
pub struct InboxEvidence {
    consumers: Arc<TenantConsumers>,
    lane: Arc<JetStreamLane>,
    peers: Arc<Peers>,
    turns: Arc<Turns>,
    skew: Skew,
    metrics: Arc<Metrics>,
}

impl InboxEvidence {
    pub fn new(lane: Arc<JetStreamLane>, peers: Arc<Peers>, skew: Skew, metrics: Arc<Metrics>) -> Self {
        let from =
            Source { what: "inboxes", stream: names::outbound_stream, consumer: names::EVIDENCE_CONSUMER };
        let consumers = TenantConsumers::new(lane.client().clone(), from, SHARE, AT_ONCE);
        let turns = Arc::new(Turns::new(Instant::now()));
        Self { consumers, lane, peers, turns, skew, metrics }
    }

    /// Tenants whose inboxes are full of what was acknowledged.
    pub fn absent(&self) -> usize {
        self.consumers.absent()
    }

    /// Works until the shutdown. What was not begun is given back.
    pub fn start(&self, directory: Arc<Directory>, shutdown: &Shutdown, supervisor: &Supervisor) {
        let (evidence, skew) = (self.clone(), self.skew.clone());
        self.consumers.start("evidence", Served { directory, skew }, shutdown, supervisor, move |event| {
            let evidence = evidence.clone();
            async move { evidence.metrics.polls.watch("evidence", evidence.handle(event)).await }
        });
    }

    async fn handle(&self, Event { message, .. }: Event) -> AckKind {
        let looked = AssertUnwindSafe(self.look(&message)).catch_unwind().await;
        match looked {
            Ok(Ok(kind)) => kind,
            Ok(Err(error)) => {
                tracing::debug!(%error, subject = %message.subject, "no other evidence of a delivery yet");
                again(AGAIN_AFTER)
            }
            Err(_) => {
                tracing::error!(subject = %message.subject, "evidence made the node panic; tried again");
                again(AGAIN_AFTER)
            }
        }
    }

    /// What to tell the consumer of a message: that it may go once its recipient has acknowledged it, or to give it
    /// again later.
    async fn look(&self, message: &Message) -> Result<AckKind, LaneError> {
        let Some(info) = message.reply.as_deref().and_then(DeliveryInfo::read) else {
            return Ok(again(AGAIN_AFTER));
        };
        let (key, to) = match subjects::in_inbox(&message.subject) {
            Ok(named) => named,
            Err(error) => {
                tracing::error!(%error, "what is on a malformed subject is nobody's evidence");
                return Ok(AckKind::Ack);
            }
        };
        // Nodes of the last version look for contents alone.
        if !self.peers.all_read_receipts() {
            return Ok(again(AGAIN_AFTER));
        }
        tokio::time::sleep(OUTCOME_AFTER.saturating_sub(info.age())).await;
        if !self.is_told(&key, &to, info.sequence).await? {
            let age = info.age();
            if age < RECEIPT_AFTER {
                return Ok(again(RECEIPT_AFTER - age));
            }
            if !self.receipt(&key, &to, &message.headers.clone().unwrap_or_default()).await? {
                return Ok(again(AGAIN_AFTER));
            }
            fault_points::reached(Step::Receipted);
        }
        self.metrics.lane.released(size(message.headers.as_ref()));
        Ok(AckKind::Ack)
    }

    /// Whether its sender's outcome says that it was delivered to this one, and was stored after it: so it is there
    /// longer, and whoever expects less to be stored of this message comes too late.
    async fn is_told(&self, key: &MessageKey, to: &AgentId, sequence: u64) -> Result<bool, LaneError> {
        if self.lane.told.get(key).is_some_and(|(agent, told)| agent == *to && told > sequence) {
            return Ok(true);
        }
        self.turns.wait().await;
        let stored = self.lane.outbound(key).await?;
        let verdict = found(stored.get_last_raw_message_by_subject(&subjects::verdict(key)).await)?;
        let Some(verdict) = verdict.filter(|verdict| verdict.sequence > sequence) else { return Ok(false) };
        // What cannot be read is nobody's evidence.
        Ok(wire::decode_verdict(&verdict.payload).is_ok_and(|verdict| told_of(&verdict) == Some(to)))
    }

    /// Once for each delivery, whoever comes first. Whether it is there.
    async fn receipt(
        &self,
        key: &MessageKey,
        to: &AgentId,
        delivered: &HeaderMap,
    ) -> Result<bool, LaneError> {
        let subject = subjects::receipt(key, to);
        let mut headers = headers::receipt(delivered);
        headers.extend(expected("0", &subject));
        let receipt =
            requests::Message { subject: &subject, headers: &headers, payload: &[], not_after: None };
        match self.lane.requests.publish(receipt).await {
            Ok(Published::Kept { .. }) => {
                self.metrics.lane.receipt();
                Ok(true)
            }
            // Of another publish that is under way the server says the same, and it may come to nothing.
            Ok(Published::Late) => {
                self.turns.wait().await;
                let stored = self.lane.outbound(key).await?;
                Ok(found(stored.get_last_raw_message_by_subject(&subject).await)?.is_some())
            }
            Err(error) => {
                if let LaneError::Full(why) = &error {
                    self.metrics.lane.receipt_refused();
                    let tenant = &key.tenant;
                    tracing::warn!(%tenant, why, "no room for a receipt: what is acknowledged keeps its place");
                }
                Err(error)
            }
        }
    }
}

/// Of the content that was not sent along.
fn size(headers: Option<&HeaderMap>) -> u64 {
    headers.and_then(|headers| headers.get("Nats-Msg-Size")?.as_str().parse().ok()).unwrap_or(0)
}

/// Not all at one instant.
fn again(after: Duration) -> AckKind {
    AckKind::Nak(Some(after.mul_f64(rand::rng().random_range(1.0..1.2))))
}

/// When who wants to ask next may do so.
struct Turns(Mutex<Instant>);

impl Turns {
    fn new(now: Instant) -> Self {
        Self(Mutex::new(now))
    }

    /// At most as long as those take who are in hand.
    async fn wait(&self) {
        let turn = self.next(Instant::now());
        tokio::time::sleep_until(turn.into()).await;
    }

    fn next(&self, now: Instant) -> Instant {
        let mut next = self.0.lock();
        let turn = (*next).max(now);
        *next = turn + Duration::from_secs(1) / LOOKS_PER_SECOND;
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_look_in_a_second_and_who_was_idle_has_saved_nothing() {
        let now = Instant::now();
        let turns = Turns::new(now);
        let later = now + Duration::from_secs(60);
        let last = (0..=LOOKS_PER_SECOND).map(|_| turns.next(later)).last();
        assert_eq!(last, Some(later + Duration::from_secs(1)));
    }

    #[test]
    fn what_is_given_back_comes_again_a_little_later_than_it_must() {
        for _ in 0..100 {
            let AckKind::Nak(Some(after)) = again(AGAIN_AFTER) else { panic!("it is not given back") };
            assert!(after >= AGAIN_AFTER && after <= AGAIN_AFTER.mul_f64(1.2), "{after:?}");
        }
    }
}
