//! The way of one request: read, and once it begins worked on in a task of its own.

use std::{sync::Arc, time::Instant};

use super::{
    Bus,
    arrival::Arrival,
    headers::VERDICT,
    intake::{Headers, Incoming, Took},
    replies::may_be_verdict,
    subjects,
};
use crate::{
    domain::{Status, Verb},
    event_loop::Moment,
    lanes::Request,
    overload::Place,
    shutdown::Shutdown,
};

/// A W3C trace context has 55 characters; later versions may have more.
const TRACEPARENT_MAX: usize = 128;

impl Bus {
    /// Takes it in; never waits, neither for the work nor for an answer.
    pub(super) fn take(self: &Arc<Self>, verb: Verb, message: &Incoming, shutdown: &Shutdown) -> Took {
        let received = Instant::now();
        let Some(reply) = message.reply.clone() else {
            // Without a reply subject nobody could learn the verdict.
            tracing::debug!(verb = verb.as_str(), "request without reply subject dropped");
            return Took::Little;
        };
        let Some(traceparent) = self.trace(verb.as_str(), message) else { return Took::Little };
        let (tenant, sender) = match subjects::asker(&message.subject()) {
            Ok(asker) => asker,
            Err(error) => {
                // The server has let a subject through that no agent of ours can have.
                self.lanes.metrics.nats.malformed();
                tracing::debug!(%error, "request on a malformed subject dropped");
                return Took::Little;
            }
        };
        let (payload, place) = (message.payload.clone(), Place::default());
        let request = Request { tenant, sender, payload, traceparent, received, place };
        match self.arrive(Arrival { verb, request, reply }, shutdown) {
            // Others like it would all come here.
            Took::Refused(_) if may_be_verdict(&message.headers) => Took::Refused(None),
            took => took,
        }
    }

    /// Works on it in a task of its own.
    pub(super) fn begin(self: &Arc<Self>, arrival: Arrival, shutdown: &Shutdown) {
        let (bus, stop, verb) = (Arc::clone(self), shutdown.clone(), arrival.verb);
        let began = Moment::now();
        let handling = async move {
            if verb == Verb::Send {
                let now = Moment::now();
                arrival.request.place.waited(now.ran_since(&began), now.at);
            }
            let task = Box::pin(bus.handle(arrival, stop));
            bus.lanes.metrics.polls.watch(verb.as_str(), task).await;
        };
        match verb {
            // Here, beside the connections that it needs.
            Verb::Send => shutdown.tracker().spawn(handling),
            Verb::Submit => shutdown.tracker().spawn_on(handling, &self.durable),
            _ => shutdown.tracker().spawn_on(handling, &self.others),
        };
    }

    /// Tells which verbs there are. Costs no more than a request that is shed.
    pub(super) fn refuse_verb(&self, message: &Incoming) {
        let (Some(reply), Some(traceparent)) = (&message.reply, self.trace("unknown", message)) else {
            return;
        };
        let Ok((tenant, sender)) = subjects::asker(&message.subject()) else {
            self.lanes.metrics.nats.malformed();
            return;
        };
        let (payload, received, place) = (message.payload.clone(), Instant::now(), Place::default());
        let request = Request { tenant, sender, payload, traceparent, received, place };
        self.answer(reply, &self.lanes.unknown_verb(&request));
    }

    /// The trace context that a request continues. `None`: it is a verdict of the bus, which a requester has
    /// directed here, and answering it could go round for ever.
    pub(super) fn trace(&self, verb: &str, message: &Incoming) -> Option<Option<String>> {
        let Ok(headers) = Headers::read(&message.headers) else {
            self.lanes.metrics.nats.headers_unreadable();
            return Some(None);
        };
        if headers.get(VERDICT).is_some() {
            tracing::debug!(verb, "a verdict came as a request and was dropped");
            self.lanes.metrics.nats.malformed();
            return None;
        }
        let traceparent = headers.get("traceparent").filter(|value| value.len() <= TRACEPARENT_MAX);
        Some(traceparent.map(str::to_owned))
    }

    async fn handle(&self, Arrival { verb, request, reply }: Arrival, shutdown: Shutdown) {
        let received = request.received;
        match verb {
            // In boxes: a `send`, which is what most requests are, would take the room of the largest of them.
            Verb::Ask => Box::pin(self.ask(request, reply, &shutdown)).await,
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
            Verb::Register | Verb::Heartbeat | Verb::Unregister | Verb::Find | Verb::About | Verb::Freeze => {
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
