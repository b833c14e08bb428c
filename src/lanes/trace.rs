//! Which span of an attempt goes on with its message, and what is kept for the others until its end?

use std::time::Instant;

use super::request::Request;
use crate::{
    domain::{MessageId, Verb},
    trace::{Probe, TraceContext, TraceId, Tracer},
};

/// What is kept for the spans while the message is on its way.
pub(super) struct Traced {
    /// Of who sent it, or of the node that has kept it.
    pub parent: Option<TraceContext>,
    /// In the place of a parent that is long gone.
    pub link: Option<TraceContext>,
    pub own: TraceContext,
    pub handed: Option<Handed>,
    pub conversation: Option<MessageId>,
    /// What other threads do for it.
    pub probe: Probe,
}

/// The span that goes on with the message.
#[derive(Clone, Copy)]
pub(super) struct Handed {
    pub context: TraceContext,
    pub to: Destination,
    pub at: Instant,
}

/// Where a message goes from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    Inbox,
    DurableInbox,
    /// To be governed later.
    Queue,
    Deliberation,
}

impl Destination {
    /// As OpenTelemetry has it: of all tenants and agents one name.
    pub(super) fn template(self) -> &'static str {
        match self {
            Destination::Inbox => "agent.{agent}.inbox",
            Destination::DurableInbox => "OUT_{tenant}",
            Destination::Queue => "IN_{tenant}",
            Destination::Deliberation => "DELIBERATIONS_{tenant}",
        }
    }
}

/// Where a message came from to this attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Request(Verb),
    Queue,
    Deliberation,
}

impl Source {
    pub(super) fn template(self) -> String {
        match self {
            Source::Request(verb) => format!("bus.{{agent}}.{verb}"),
            Source::Queue => Destination::Queue.template().to_owned(),
            Source::Deliberation => Destination::Deliberation.template().to_owned(),
        }
    }
}

impl Traced {
    /// `None`: nothing is exported.
    pub(super) fn begun(tracer: Option<&Tracer>, request: &Request) -> Option<Box<Self>> {
        let tracer = tracer?;
        let parent = request.traceparent.as_deref().and_then(TraceContext::parse);
        let own = tracer.begin(parent);
        let probe = Probe::default();
        Some(Box::new(Self { parent, link: None, own, handed: None, conversation: None, probe }))
    }

    pub(super) fn trace_id(&self) -> TraceId {
        self.own.trace_id
    }

    /// A trace of its own, which names the old one.
    pub(super) fn begin_anew(&mut self, tracer: &Tracer) {
        self.link = self.parent.take();
        self.own = tracer.begin(None);
    }

    pub(super) fn converses(&mut self, conversation: Option<&MessageId>) {
        self.conversation = conversation.cloned();
    }

    pub(super) fn hand(&mut self, to: Destination) -> TraceContext {
        // What waits for reviewers is told of to its end: their votes, and what comes of them.
        let own = self.own.with_sampled(self.own.is_sampled() || to == Destination::Deliberation);
        let now = Handed { context: own.child(), to, at: Instant::now() };
        // Of those it was tried to hand it to, it is the last that may have it.
        let first = self.handed.filter(|handed| handed.to == to);
        self.handed.insert(Handed { at: first.map_or(now.at, |first| first.at), ..now }).context
    }
}
