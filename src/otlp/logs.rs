//! What is logged, in OTLP's form: a layer of `tracing` that takes it, and the requests that tell it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
};
use tokio::sync::mpsc;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::values::{Source, any, nanos, pair};
use crate::trace::{TraceId, Value};

/// Lines that wait for the exporter.
const WAITING_MAX: usize = 2_048;
/// Fields of a line; the rest is left out.
const FIELDS_MAX: usize = 16;
/// What speaks while something is exported: what it says would be exported, and so on without end.
const OWN: [&str; 4] = ["agentbus::otlp", "agentbus::http", "hyper", "h2"];

/// The span of a message (`lanes`), whose fields stand on each line of it.
const MESSAGE: &str = "message";
/// The field that names its trace.
const TRACE_ID: &str = "trace_id";

/// A line that was logged.
pub(super) struct Line {
    at: SystemTime,
    level: Level,
    target: &'static str,
    text: String,
    fields: Vec<(&'static str, Value)>,
    trace: Option<TraceId>,
}

/// Takes what is logged. Never waits.
pub struct LogLayer {
    waiting: mpsc::Sender<Line>,
    dropped: Arc<AtomicUsize>,
}

/// The other end, for the exporter.
pub struct LogLines {
    pub(super) waiting: mpsc::Receiver<Line>,
    dropped: Arc<AtomicUsize>,
}

impl LogLayer {
    pub fn new() -> (Self, LogLines) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let dropped = Arc::default();
        (Self { waiting: sender, dropped: Arc::clone(&dropped) }, LogLines { waiting: receiver, dropped })
    }
}

impl LogLines {
    /// Lines that have found no room since this was asked last.
    pub(super) fn take_dropped(&self) -> usize {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().name() == MESSAGE
            && let Some(span) = context.span(id)
        {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        if OWN.iter().any(|own| metadata.target().starts_with(own)) {
            return;
        }
        let mut said = Fields::default();
        event.record(&mut said);
        let of = context.event_scope(event).into_iter().flatten().find(|span| span.name() == MESSAGE);
        let mut trace = None;
        if let Some(of) = of
            && let Some(message) = of.extensions().get::<Fields>()
        {
            said.all.extend(message.all.iter().cloned());
            trace = message.trace;
        }
        let Fields { text, all: fields, .. } = said;
        let (level, target) = (*metadata.level(), metadata.target());
        let line = Line { at: SystemTime::now(), level, target, text, fields, trace };
        if self.waiting.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What an event or a span says.
#[derive(Default)]
struct Fields {
    text: String,
    all: Vec<(&'static str, Value)>,
    trace: Option<TraceId>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), &value) {
            ("message", Value::Text(text)) => self.text.clone_from(text),
            (TRACE_ID, Value::Text(text)) => self.trace = TraceId::parse(text),
            (name, _) if self.all.len() < FIELDS_MAX => self.all.push((name, value)),
            _ => {}
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").as_str().into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Integer(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::Integer(i64::try_from(value).unwrap_or(i64::MAX)));
    }
}

pub(super) fn request(source: &Source, lines: impl Iterator<Item = Line>) -> ExportLogsServiceRequest {
    let log_records = lines.map(told).collect();
    let scope_logs = vec![ScopeLogs { scope: source.scope(), log_records, schema_url: String::new() }];
    let resource_logs =
        vec![ResourceLogs { resource: source.resource(), scope_logs, schema_url: String::new() }];
    ExportLogsServiceRequest { resource_logs }
}

fn told(line: Line) -> LogRecord {
    let Line { at, level, target, text, fields, trace } = line;
    let severity = match level {
        Level::ERROR => SeverityNumber::Error,
        Level::WARN => SeverityNumber::Warn,
        Level::INFO => SeverityNumber::Info,
        Level::DEBUG => SeverityNumber::Debug,
        Level::TRACE => SeverityNumber::Trace,
    };
    let mut attributes = vec![pair("code.namespace", target.into())];
    attributes.extend(fields.into_iter().map(|(key, value)| pair(key, value)));
    LogRecord {
        time_unix_nano: nanos(at),
        observed_time_unix_nano: nanos(at),
        severity_number: severity.into(),
        severity_text: level.to_string(),
        body: Some(any(Value::Text(text))),
        attributes,
        trace_id: trace.map_or_else(Vec::new, |trace| trace.0.to_be_bytes().to_vec()),
        ..LogRecord::default()
    }
}
