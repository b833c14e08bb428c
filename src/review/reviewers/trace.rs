//! The span of a vote: in the trace of the message that it is about, with a link to the voter's own.

use std::time::SystemTime;

use super::{Reviewers, Voted};
use crate::{
    lanes::Request,
    telemetry::{NotExported, Signal},
    trace::{Kind, Span, TraceContext},
    wire::VoteRequest,
};

impl Reviewers {
    /// Tells of a vote that counted, if it was told that its message was parked.
    pub(super) fn trace(&self, request: &Request, vote: &VoteRequest, voted: &Voted) {
        let Some(tracer) = &self.tracer else { return };
        let parked = voted.traceparent.as_deref().and_then(TraceContext::parse);
        let Some(parked) = parked.filter(|parked| parked.is_sampled()) else { return };
        if !tracer.has_room(request.tenant.as_str()) {
            self.metrics.not_exported(Signal::Traces, NotExported::Share, 1);
            return;
        }
        let ended = SystemTime::now();
        let judgement = voted.judgement.map(|judgement| ("agentbus.judgement", judgement.as_str().into()));
        let attributes = [
            ("messaging.operation.name", "process".into()),
            ("messaging.operation.type", "process".into()),
            ("messaging.destination.template", "bus.{agent}.vote".into()),
            ("gen_ai.agent.id", request.sender.as_str().into()),
            ("agentbus.tenant", request.tenant.as_str().into()),
            ("agentbus.deliberation_id", vote.id.as_str().into()),
            ("agentbus.choice", vote.choice.as_str().into()),
        ];
        let started = ended.checked_sub(request.received.elapsed()).unwrap_or(ended);
        let span = Span {
            kind: Kind::Consumer,
            attributes: attributes.into_iter().chain(judgement).collect(),
            link: request.traceparent.as_deref().and_then(TraceContext::parse),
            ..Span::below(parked, "process bus.{agent}.vote", (started, ended))
        };
        if let Err(dropped) = tracer.export(vec![span]) {
            self.metrics.not_exported(Signal::Traces, NotExported::Full, dropped.0);
        }
    }
}
