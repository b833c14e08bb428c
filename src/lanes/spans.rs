//! What is told of an attempt once it has come to its end, where traces are exported.

use std::time::{Instant, SystemTime};

use super::{
    attempt::Attempt,
    findings::Outcome,
    measured::Passed,
    trace::{Destination, Handed, Source, Traced},
};
use crate::{
    domain::{Reason, Status},
    rejection::Rejection,
    telemetry::{NotExported, Signal, Stage},
    trace::{Attribute, Ended, Kind, Span, Timing, TraceId, Value, continued},
};

impl Attempt<'_> {
    /// The trace context for whom the message goes to.
    pub(super) fn hand_on(&mut self, to: Destination) -> String {
        match (&self.follows.traceparent, &mut self.traced) {
            (Some(known), _) => known.clone(),
            (None, Some(traced)) => traced.hand(to).to_string(),
            (None, None) => continued(self.request.traceparent.as_deref()),
        }
    }

    /// The same where a node will go on with it. Without traces it stays the sender's.
    pub(super) fn keep_on(&mut self, to: Destination) -> Option<String> {
        match &mut self.traced {
            Some(traced) => Some(traced.hand(to).to_string()),
            None => self.request.traceparent.clone(),
        }
    }

    /// A person has begun the message anew, long after.
    pub(super) fn trace_anew(&mut self) {
        if let (Some(traced), Some(tracer)) = (&mut self.traced, &self.lanes.tracer) {
            traced.begin_anew(tracer);
        }
    }

    /// Tells of an attempt after which there is no verdict yet.
    pub(super) fn ended_by(&mut self, source: Source, governed: &Result<Outcome, Rejection>) {
        if let Err(rejection) = governed {
            self.end_trace(source, (rejection.status(), rejection.reason));
        }
    }

    /// Tells of the attempt, if it is worth it; the trace that then tells of it.
    pub(super) fn end_trace(
        &mut self,
        source: Source,
        (status, reason): (Status, Reason),
    ) -> Option<TraceId> {
        let (traced, tracer) = (self.traced.take()?, self.lanes.tracer.as_ref()?);
        let ended = Ended {
            failed: status == Status::Rejected,
            parked: status == Status::Deliberating,
            took: self.measured.elapsed(),
        };
        if !tracer.keeps(traced.own, ended) {
            return None;
        }
        if !tracer.has_room(self.request.tenant.as_str()) {
            self.lanes.metrics.not_exported(Signal::Traces, NotExported::Share, 1);
            return None;
        }
        let trace_id = traced.own.trace_id;
        let spans = self.spans(*traced, source, (status, reason));
        if let Err(dropped) = tracer.export(spans) {
            self.lanes.metrics.not_exported(Signal::Traces, NotExported::Full, dropped.0);
            return None;
        }
        Some(trace_id)
    }

    fn spans(&self, traced: Traced, source: Source, ended: (Status, Reason)) -> Vec<Span> {
        let (wall, now) = (Wall::now(), Instant::now());
        let Traced { own, handed, probe, .. } = &traced;
        let mut spans = vec![self.root(&traced, source, ended, wall)];
        let mut delivered = now;
        for Passed { stage, from, took } in self.measured.stages() {
            let to = *from + *took;
            let below = || Span::below(*own, stage.as_str(), (wall.at(*from), wall.at(to)));
            match stage {
                // The span that went on with the message tells of it.
                Stage::Deliver if handed.is_some() => delivered = to,
                Stage::Impact => spans.extend(self.scored(below(), probe.take(), wall)),
                _ => spans.push(below()),
            }
        }
        spans.extend(handed.map(|Handed { context, to, at }| Span {
            context,
            kind: Kind::Producer,
            attributes: vec![
                ("messaging.operation.name", "publish".into()),
                ("messaging.operation.type", "send".into()),
                ("messaging.destination.template", to.template().into()),
            ],
            ..Span::below(*own, format!("publish {}", to.template()), (wall.at(at), wall.at(delivered)))
        }));
        spans
    }

    /// That of the whole attempt.
    fn root(&self, traced: &Traced, source: Source, (status, reason): (Status, Reason), wall: Wall) -> Span {
        let mut attributes = self.attributes(source);
        attributes.push(("agentbus.status", status.as_str().into()));
        attributes.push(("agentbus.reason", reason.as_str().into()));
        if let Some(conversation) = &traced.conversation {
            attributes.push(("messaging.message.conversation_id", conversation.as_str().into()));
            attributes.push(("gen_ai.conversation.id", conversation.as_str().into()));
        }
        Span {
            context: traced.own,
            parent: traced.parent.map(|parent| parent.span_id),
            name: format!("process {}", source.template()).into(),
            kind: Kind::Consumer,
            started: wall.at(self.at.received),
            ended: wall.time,
            attributes,
            link: traced.link,
            error: (status == Status::Rejected).then_some(reason.as_str()),
        }
    }

    /// The stage, and below it what the model's threads did.
    fn scored(&self, stage: Span, timings: Vec<Timing>, wall: Wall) -> Vec<Span> {
        let own = stage.context;
        let model = self.findings.impact.as_ref().map(|impact| impact.model.as_str());
        let mut all = vec![Span {
            attributes: model.into_iter().map(|model| ("agentbus.impact.model", model.into())).collect(),
            ..stage
        }];
        all.extend(timings.into_iter().map(|Timing { name, started, ended, mut attributes }| {
            attributes.push(("gen_ai.operation.name", name.into()));
            attributes.extend(model.map(|model| ("gen_ai.request.model", model.into())));
            Span { attributes, ..Span::below(own, name, (wall.at(started), wall.at(ended))) }
        }));
        all
    }

    /// Who, what and how large; of the content nothing.
    fn attributes(&self, source: Source) -> Vec<Attribute> {
        let (request, findings) = (self.request, &self.findings);
        let mut all: Vec<Attribute> = vec![
            ("messaging.operation.name", "process".into()),
            ("messaging.operation.type", "process".into()),
            ("messaging.destination.template", source.template().as_str().into()),
            ("messaging.message.body.size", request.payload.len().into()),
            ("gen_ai.agent.id", request.sender.as_str().into()),
            ("agentbus.tenant", request.tenant.as_str().into()),
            ("agentbus.decision_id", findings.decision_id.as_str().into()),
        ];
        let mut put = |name, value: Option<Value>| all.extend(value.map(|value| (name, value)));
        put("messaging.message.id", findings.message_id.as_ref().map(|id| id.as_str().into()));
        put("agentbus.message_type", findings.message_type.map(|it| it.as_str().into()));
        put("agentbus.policy.revision", findings.policy_revision.as_deref().map(Value::from));
        put("agentbus.impact.score", findings.impact.as_ref().map(|impact| impact.score.into()));
        all
    }
}

/// Instants as times of day.
#[derive(Clone, Copy)]
struct Wall {
    instant: Instant,
    time: SystemTime,
}

impl Wall {
    fn now() -> Self {
        Self { instant: Instant::now(), time: SystemTime::now() }
    }

    fn at(self, instant: Instant) -> SystemTime {
        let ago = self.instant.saturating_duration_since(instant);
        self.time.checked_sub(ago).unwrap_or(self.time)
    }
}
