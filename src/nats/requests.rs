//! The way of one request: admitted or shed where it is read, then worked on in a task of its own.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Bus,
    intake::{Headers, Incoming},
    subjects,
};
use crate::{
    domain::{Reason, Status, Verb},
    lanes::Request,
    shutdown::Shutdown,
};

/// A W3C trace context has 55 characters; later versions may have more.
const TRACEPARENT_MAX: usize = 128;

impl Bus {
    /// Admits or sheds; never waits, neither for the work nor for an answer.
    pub(super) fn take(self: &Arc<Self>, verb: Verb, message: &Incoming, shutdown: &Shutdown) {
        let received = Instant::now();
        let Some(reply) = message.reply.clone() else {
            // Without a reply subject nobody could learn the verdict.
            tracing::debug!(verb = verb.as_str(), "request without reply subject dropped");
            return;
        };
        let Some(traceparent) = self.trace(verb.as_str(), message) else { return };
        let (tenant, sender) = match subjects::asker(&message.subject()) {
            Ok(asker) => asker,
            Err(error) => {
                // The server has let a subject through that no agent of ours can have.
                self.lanes.metrics.nats.malformed();
                tracing::debug!(%error, "request on a malformed subject dropped");
                return;
            }
        };
        let request = Request { tenant, sender, payload: message.payload.clone(), traceparent, received };
        let slot = Arc::clone(&self.places).try_acquire_owned().ok();
        let bus = Arc::clone(self);
        match slot {
            Some(slot) => {
                let stop = shutdown.clone();
                let handling = async move {
                    let task = Box::pin(bus.handle(verb, request, reply, slot, stop));
                    bus.lanes.metrics.polls.watch(verb.as_str(), task).await;
                };
                match verb {
                    // Here, beside the connections that it needs.
                    Verb::Send => shutdown.tracker().spawn(handling),
                    _ => shutdown.tracker().spawn_on(handling, &self.others),
                };
            }
            None => {
                let Ok(slot) = Arc::clone(&self.shedding).try_acquire_owned() else {
                    // The sender hears nothing, and asks again.
                    self.lanes.metrics.nats.unanswered();
                    return;
                };
                let answer = self.lanes.shed(verb, &request, Reason::Overloaded, "the node is at its limit");
                bus.answer(&reply, &answer);
                drop(slot);
            }
        }
    }

    /// Tells which verbs there are. Costs no more than a request that is shed, and has the same places.
    pub(super) fn refuse_verb(&self, message: &Incoming) {
        let Ok(_place) = self.shedding.try_acquire() else {
            self.lanes.metrics.nats.unanswered();
            return;
        };
        let (Some(reply), Some(traceparent)) = (&message.reply, self.trace("unknown", message)) else {
            return;
        };
        let Ok((tenant, sender)) = subjects::asker(&message.subject()) else {
            self.lanes.metrics.nats.malformed();
            return;
        };
        let payload = message.payload.clone();
        let request = Request { tenant, sender, payload, traceparent, received: Instant::now() };
        self.answer(reply, &self.lanes.unknown_verb(&request));
    }

    /// The trace context that a request continues. `None`: it is a verdict of the bus, which a requester has
    /// directed here, and answering it could go round for ever.
    pub(super) fn trace(&self, verb: &str, message: &Incoming) -> Option<Option<String>> {
        let Ok(headers) = Headers::read(&message.headers) else {
            self.lanes.metrics.nats.headers_unreadable();
            return Some(None);
        };
        if headers.get("Agentbus-Verdict").is_some() {
            tracing::debug!(verb, "a verdict came as a request and was dropped");
            self.lanes.metrics.nats.malformed();
            return None;
        }
        let traceparent = headers.get("traceparent").filter(|value| value.len() <= TRACEPARENT_MAX);
        Some(traceparent.map(str::to_owned))
    }

    async fn handle(
        &self,
        verb: Verb,
        request: Request,
        reply: Bytes,
        slot: OwnedSemaphorePermit,
        shutdown: Shutdown,
    ) {
        let received = request.received;
        match verb {
            // In boxes: a `send`, which is what most requests are, would take the room of the largest of them.
            Verb::Ask => Box::pin(self.ask(request, reply, slot, &shutdown)).await,
            Verb::Send | Verb::Submit | Verb::Answer => {
                let answer = match verb {
                    Verb::Submit => Box::pin(self.lanes.submit(request)).await,
                    // An answer to a question has two tokens more, and a subscription of its own.
                    Verb::Answer => self.lanes.not_asked(&request),
                    _ => self.lanes.send(request).await,
                };
                let refused = matches!(answer.verdict.status, Status::Rejected | Status::Shed);
                self.micro.count(verb, refused, received.elapsed());
                self.answer(&reply, &answer);
            }
            Verb::Deliberations | Verb::Vote => {
                let (payload, reason) = Box::pin(self.reviewers.handle(verb, &request)).await;
                self.micro.count(verb, reason.code() >= 300, received.elapsed());
                self.reply(&reply, &payload, reason, Vec::new());
            }
            Verb::Register | Verb::Heartbeat | Verb::Unregister | Verb::Find | Verb::About => {
                let (payload, reason) = Box::pin(self.agents.handle(verb, &request)).await;
                self.micro.count(verb, reason.code() >= 300, received.elapsed());
                // What a sender must agree with, for whoever looks around.
                let told = (verb == Verb::Find).then(|| self.lanes.in_force());
                let told = told.iter().flat_map(|(hashes, now)| {
                    [("Agentbus-Constitution", hashes.as_str()), ("Agentbus-Time", now.as_str())]
                });
                self.reply(&reply, &payload, reason, told.collect());
            }
        }
    }
}
