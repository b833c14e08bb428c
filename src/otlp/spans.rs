//! Spans in OTLP's form.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span, status::StatusCode},
};

use super::values::{Source, nanos, pair};
use crate::trace::{self, Kind, TraceContext};

pub(super) fn request(source: &Source, spans: Vec<trace::Span>) -> ExportTraceServiceRequest {
    let spans = spans.into_iter().map(told).collect();
    let scope_spans = vec![ScopeSpans { scope: source.scope(), spans, schema_url: String::new() }];
    let resource_spans =
        vec![ResourceSpans { resource: source.resource(), scope_spans, schema_url: String::new() }];
    ExportTraceServiceRequest { resource_spans }
}

fn told(ended: trace::Span) -> Span {
    let trace::Span { context, parent, name, kind, started, ended, attributes, link, error } = ended;
    let messaging = (kind != Kind::Internal).then(|| ("messaging.system", "nats".into()));
    let failed = error.map(|why| ("error.type", why.into()));
    let attributes = attributes.into_iter().chain(messaging).chain(failed);
    let status = error.map(|why| Status { message: why.to_owned(), code: StatusCode::Error.into() });
    let kind = match kind {
        Kind::Internal => span::SpanKind::Internal,
        Kind::Producer => span::SpanKind::Producer,
        Kind::Consumer => span::SpanKind::Consumer,
    };
    Span {
        trace_id: trace_id(context),
        span_id: context.span_id.to_be_bytes().to_vec(),
        parent_span_id: parent.map_or_else(Vec::new, |id| id.to_be_bytes().to_vec()),
        flags: context.flags().into(),
        name: name.into_owned(),
        kind: kind.into(),
        start_time_unix_nano: nanos(started),
        end_time_unix_nano: nanos(ended),
        attributes: attributes.map(|(key, value)| pair(key, value)).collect(),
        links: link.into_iter().map(linked).collect(),
        status,
        ..Span::default()
    }
}

fn linked(to: TraceContext) -> span::Link {
    let (trace_id, span_id) = (trace_id(to), to.span_id.to_be_bytes().to_vec());
    span::Link { trace_id, span_id, flags: to.flags().into(), ..span::Link::default() }
}

fn trace_id(context: TraceContext) -> Vec<u8> {
    context.trace_id.0.to_be_bytes().to_vec()
}
