//! One message of the durable lane in a node's hands: governed, and acknowledged or given back.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use async_nats::{Message as NatsMessage, Subject, jetstream::AckKind};
use futures_util::FutureExt as _;

use super::Inbound;
use crate::{
    domain::{AgentId, IdError, MessageId, Reason, TenantId},
    lanes::{DeadLetter, DurableLane as _, FaultOwner, LaneError, Queued, Request, Settled},
    nats::{headers, jetstream::delivery_info::DeliveryInfo, subjects},
    overload::Place,
};

/// What cannot even be put aside is tried again after this.
const UNREADABLE_AGAIN: Duration = Duration::from_secs(5);
/// What is in hand says so this often: well below the consumer's `ack_wait`.
const STILL_HERE: Duration = Duration::from_secs(10);

/// Governs it and tells JetStream. `Some`: it comes again, and because of what.
pub(super) async fn govern(
    inbound: &Inbound,
    message: &NatsMessage,
    delivery: DeliveryInfo,
    excused: bool,
) -> Option<FaultOwner> {
    let reply = message.reply.clone()?;
    inbound.metrics.lane.in_hand.inc();
    let settled = match read(message, delivery, excused) {
        Ok(kept) => in_hand(inbound, &reply, settle(inbound, &kept)).await,
        Err(error) => put_aside(inbound, message, delivery, &error).await,
    };
    inbound.metrics.lane.in_hand.dec();
    match settled {
        Settled::Done { given_up } => {
            if !given_up {
                inbound.metrics.lane.governed(delivery.age());
            }
            // If that is lost it comes again, and is seen to be done.
            inbound.lane.acknowledge(&reply, AckKind::Ack);
            None
        }
        Settled::Again { after, fault } => {
            give_back(inbound, &reply, after);
            Some(fault)
        }
    }
}

/// Keeps the server from giving the message to another while it is governed: a long text takes its time.
async fn in_hand(inbound: &Inbound, reply: &Subject, governing: impl Future<Output = Settled>) -> Settled {
    tokio::pin!(governing);
    loop {
        tokio::select! {
            biased;
            settled = &mut governing => return settled,
            () = tokio::time::sleep(STILL_HERE) => {
                inbound.lane.acknowledge(reply, AckKind::Progress);
            }
        }
    }
}

/// A panic ends the attempt, not the node.
async fn settle(inbound: &Inbound, kept: &Queued) -> Settled {
    let governing = AssertUnwindSafe(inbound.lanes.drain(kept)).catch_unwind().await;
    if let Ok(settled) = governing {
        return settled;
    }
    inbound.metrics.lane.panicked();
    tracing::error!(
        tenant = %kept.key.tenant,
        sender = %kept.key.sender,
        message = %kept.key.message,
        attempt = kept.attempt,
        "governing a message failed within the node"
    );
    let failing = AssertUnwindSafe(inbound.lanes.failed_to_drain(kept)).catch_unwind().await;
    failing.unwrap_or(Settled::Again { after: UNREADABLE_AGAIN, fault: FaultOwner::Message })
}

fn read(message: &NatsMessage, delivery: DeliveryInfo, excused: bool) -> Result<Queued, IdError> {
    let key = subjects::kept(&message.subject)?;
    let header = |name: &str| message.headers.as_ref().and_then(|headers| headers.get(name));
    let redriven = header(headers::REDRIVEN).and_then(|times| times.as_str().parse().ok());
    let request = Request {
        tenant: key.tenant.clone(),
        sender: key.sender.clone(),
        payload: message.payload.clone(),
        traceparent: header(headers::TRACEPARENT).map(|value| value.as_str().to_owned()),
        received: Instant::now(),
        place: Place::default(),
    };
    let submitted_as = message.headers.as_ref().and_then(headers::queued_by);
    let (attempt, redriven) = (delivery.attempt, redriven.unwrap_or(0));
    Ok(Queued { key, request, submitted_as, attempt, redriven, excused })
}

/// What lies on a subject that no node has written: it has no sender to tell.
async fn put_aside(
    inbound: &Inbound,
    message: &NatsMessage,
    delivery: DeliveryInfo,
    error: &IdError,
) -> Settled {
    let mut tokens = message.subject.split('.').skip(1);
    let (tenant, sender, id) = (tokens.next(), tokens.nth(1), tokens.next());
    let checked = |token: Option<&str>, valid: bool| match token {
        Some(token) if valid => token.to_owned(),
        _ => subjects::UNREADABLE.to_owned(),
    };
    let letter = DeadLetter {
        tenant: checked(tenant, tenant.is_some_and(|t| t.parse::<TenantId>().is_ok())),
        sender: checked(sender, sender.is_some_and(|s| s.parse::<AgentId>().is_ok())),
        message: checked(id, id.is_some_and(|id| id.parse::<MessageId>().is_ok())),
        payload: message.payload.clone(),
        traceparent: None,
        reason: Reason::BadIdentifier.as_str().to_owned(),
        detail: error.to_string(),
        attempts: delivery.attempt,
        redriven: 0,
    };
    match inbound.lane.dead_letter(letter).await {
        Ok(()) => Settled::Done { given_up: true },
        Err(LaneError::Full(error)) => {
            tracing::error!(error, subject = %message.subject, "what cannot be read is lost: no room for it");
            inbound.metrics.lane.unburied();
            Settled::Done { given_up: true }
        }
        Err(error) => {
            tracing::error!(%error, "a message that cannot be read cannot be put aside either");
            Settled::Again { after: UNREADABLE_AGAIN, fault: FaultOwner::Bus }
        }
    }
}

/// Another node may have it after this.
pub(super) fn give_back(inbound: &Inbound, reply: &Subject, after: Duration) {
    inbound.metrics.lane.given_back();
    inbound.lane.acknowledge(reply, AckKind::Nak(Some(after)));
}
