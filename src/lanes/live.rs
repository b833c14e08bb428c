//! What leaves the node, as the lanes see it: a foreign boundary.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    audit,
    domain::{Cause, DecisionId, Encoding},
    policy::Permit,
    state::MessageKey,
};

/// Hands messages to agents and records to the audit trail. `nats::Outbox` is the one over NATS.
#[async_trait]
pub trait LiveTransport: Send + Sync {
    /// Sends the record of the intent ahead, then every delivery, and waits until it is known for each
    /// whether somebody listened. One answer for each delivery, in order.
    async fn deliver(&self, dispatch: Dispatch) -> Result<Vec<Handover>, LiveError>;

    /// Records a decision, in order with other records. Does not wait.
    fn record(&self, record: audit::Written) -> Result<(), LiveError>;

    /// What the last holder of this message's claim has written that was about to deliver it: an intent, or that it
    /// came to nothing.
    async fn last_intent(
        &self,
        key: &MessageKey,
        named: Named<'_>,
    ) -> Result<Option<audit::Record<'static>>, LiveError>;

    /// Bytes that a delivery's payload may have.
    fn payload_max(&self) -> usize;
}

/// Which decision a claim names, whose records stand in a batch; others stand on the message's own subject.
#[derive(Debug, Clone, Copy)]
pub enum Named<'a> {
    Nothing,
    /// That of its first holder.
    Decision(&'a DecisionId),
    /// What it said is lost: the newest batches are looked through.
    Lost,
}

/// One message to one or several inboxes. To none, it is an answer whose asker waits in this process: then
/// only its record is sent ahead.
#[derive(Debug)]
pub struct Dispatch {
    pub key: MessageKey,
    pub decision_id: String,
    /// The record of the intent; it is sent first, so that no delivery is without one.
    pub record: audit::Written,
    pub deliveries: Vec<Delivery>,
    /// W3C trace context for the recipient.
    pub traceparent: String,
    /// What led to it, if it says that anything did.
    pub cause: Option<Box<Cause>>,
    /// Where the recipient's answer goes, if somebody waits for one.
    pub answer_to: Option<AnswerTo>,
    /// Not to be begun after this: its sender has been told that it timed out.
    pub not_after: Instant,
    /// Not to go on after this: another node may take the message over from this one, which is stalled.
    pub written_by: Instant,
}

/// Who waits for an answer: a node, and a question of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerTo {
    pub node: Arc<str>,
    pub token: String,
}

/// What goes into one inbox. The permit says whose.
#[derive(Debug)]
pub struct Delivery {
    pub permit: Permit,
    pub payload: Bytes,
    pub encoding: Encoding,
}

/// What became of one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handover {
    /// NATS has taken it for at least one live subscription.
    Taken,
    /// There is no live subscription on the inbox.
    NobodyListens,
}

/// Why the transport did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LiveError {
    /// Nothing left the node.
    #[error("not connected to NATS")]
    NotConnected,
    /// Nothing left the node.
    #[error("{waiting} deliveries are waiting, the limit")]
    Full { waiting: usize },
    /// Nothing left the node: records do not get through.
    #[error("JetStream has not confirmed records for {unconfirmed_ms} ms")]
    RecordsUnconfirmed { unconfirmed_ms: u64 },
    /// It may have been delivered or not.
    #[error("NATS did not confirm the delivery in time")]
    Unconfirmed,
    #[error("the records could not be read")]
    RecordsUnreadable,
    /// What stands of this one message cannot be told from its records, or not now.
    #[error("the records of the message tell nothing")]
    RecordStrange,
    /// Nothing left the node: records have not got through of late, and it was not tried.
    #[error("the breaker of records is open")]
    BreakerOpen { retry_after: Duration },
}
