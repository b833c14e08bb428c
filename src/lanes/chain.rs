//! What does a message follow from? Looked up while it is judged, and told to those who get it.
//!
//! An agent hands back a delivery by `in_reply_to` (its message id or its decision) or by its `traceparent` as it was; what
//! follows from that, nodes have kept, and no number that an agent writes is believed. Who hands nothing back pays nothing.

use std::{future::Future, sync::Arc};

use super::{
    attempt::Attempt,
    request::{Answer, Request},
    trace::Destination,
};
use crate::{
    domain::{AgentId, Cause, Conversation, MessageId, Recipient, Status, Why},
    governance::{Addressees, Chain, Decoded, Effect, Plan},
    state::{Counted, Followed, HandedBack, Known, Name},
    trace::TraceContext,
};

/// A delivery has a span of its own, while a trace may hold many chains.
fn span(traceparent: &str) -> Option<String> {
    let TraceContext { trace_id, span_id, .. } = TraceContext::parse(traceparent)?;
    Some(format!("{trace_id}-{span_id:016x}"))
}

impl Attempt<'_> {
    /// Looks up what it follows from. `None`: it says of nothing that it does.
    pub(super) fn lookup_cause(&mut self, decoded: &Decoded) -> Option<impl Future<Output = Chain> + use<>> {
        let message = decoded.message();
        let answered = self.follows.question.as_ref().or(message.in_reply_to.as_ref());
        let span = self.request.traceparent.as_deref().and_then(span);
        let heard = self.heard(decoded);
        let hands_back = answered.is_some() || span.is_some();
        if !hands_back && message.conversation_id.is_none() && heard.is_none() {
            return None;
        }
        let own = || Conversation {
            begun_by: message.sender.clone(),
            name: message.conversation_id.as_ref().or(answered).unwrap_or(&message.id).clone(),
        };
        let hops = u32::from(answered.is_some());
        // Only for those that say of nothing what it follows from.
        let heard = heard.flatten().filter(|_| !hands_back);
        let handed = HandedBack {
            by: message.sender.clone(),
            answered: answered.cloned(),
            span,
            to: match &message.to {
                Recipient::Agent(agent) => Some(agent.clone()),
                Recipient::Capability(_) | Recipient::Broadcast(_) => None,
            },
            conversation: heard.unwrap_or_else(own),
        };
        self.follows.handed = Some(Box::new(handed.clone()));
        let (causes, tenant) = (Arc::clone(&self.lanes.causes), message.tenant.clone());
        Some(async move {
            let known = causes.cause(&tenant, &handed).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "what led to a message is not known; it counts as the first that follows");
                Known::default()
            });
            // What began a chain is not kept, so what is not known is an answer to that.
            let first = || Cause { conversation: handed.conversation, hops, chain: Vec::new() };
            let Known { cause, followers, messages } = known;
            Chain { cause: cause.unwrap_or_else(first), followers, messages }
        })
    }

    /// The conversation that its sender heard of last, where its tenant wants what follows to count for that. `None`: it
    /// does not.
    fn heard(&self, decoded: &Decoded) -> Option<Option<Conversation>> {
        let within = decoded.tenant().limits.chain.inherit_within;
        let Request { tenant, sender, received, .. } = self.request;
        (!within.is_zero()).then(|| self.lanes.heard.of(tenant, sender, within, *received))
    }

    /// What people have approved since it was too much counts from 0. Where that cannot be had now, the next message of
    /// the conversation asks them again.
    pub(super) async fn go_on(&self, why: &Why) {
        let Why::Chain { conversation, .. } = why else { return };
        let Ok(conversation) = conversation.parse() else { return };
        if let Err(error) = self.lanes.causes.renew(&self.request.tenant, &conversation).await {
            tracing::warn!(%error, "a conversation that people let go on is not counted anew");
        }
    }

    /// Lets its recipients hand it back. `None`: it is on its way to nobody, or nothing led to it that is known.
    pub(super) fn followed(
        &mut self,
        decoded: &Decoded,
        plan: &Plan<'_>,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let (to, destination) = match &plan.effect {
            Effect::Deliver(to) => (to, Destination::Inbox),
            Effect::Store(to) => (to, Destination::DurableInbox),
            Effect::Queue | Effect::Park(_) => return None,
        };
        let cause = self.findings.cause.as_deref()?.clone();
        let message = decoded.message();
        let recipients = recipients(to);
        if self.heard(decoded).is_some() {
            let of = (&message.tenant, &*recipients);
            self.lanes.heard.note(of, &cause.conversation, self.at.received);
        }
        let decision: MessageId = self.findings.decision_id.parse().ok()?;
        let mut names = Vec::with_capacity(3);
        if cause.hops > 0 {
            names.extend([Name::Message(message.id.clone()), Name::Decision(decision.clone())]);
        }
        if self.request.traceparent.is_some() {
            let traceparent = self.hand_on(destination);
            names.extend(span(&traceparent).map(Name::Span));
            self.follows.traceparent = Some(traceparent);
        }
        if names.is_empty() {
            return None;
        }
        let followed = Followed { recipients, names, cause: cause.followed_by(&message.sender, &decision) };
        let (causes, tenant) = (Arc::clone(&self.lanes.causes), message.tenant.clone());
        Some(async move {
            if let Err(error) = causes.follow(&tenant, &followed).await {
                tracing::warn!(%error, "what follows from a message will count as the first that does");
            }
        })
    }

    /// Counts it where it was let through, without keeping its sender waiting. A repeat was counted.
    pub(super) fn count_in_conversation(&mut self, answer: &Answer) {
        let Some(handed) = self.follows.handed.take() else { return };
        let Some(Cause { conversation, .. }) = self.findings.cause.as_deref() else { return };
        if answer.repeat || answer.verdict.status != Status::Delivered {
            return;
        }
        let HandedBack { by, answered, .. } = *handed;
        let counted =
            Counted { conversation: conversation.clone(), answered: answered.map(|answered| (by, answered)) };
        let (causes, tenant) = (Arc::clone(&self.lanes.causes), self.request.tenant.clone());
        self.lanes.tasks.spawn(async move {
            if let Err(error) = causes.count(&tenant, &counted).await {
                tracing::warn!(%error, "a message is not counted in its conversation");
            }
        });
    }
}

fn recipients(to: &Addressees) -> Vec<AgentId> {
    to.permits.iter().map(|permit| permit.recipient().clone()).collect()
}
