//! A collector: an OTLP server that speaks HTTP and gRPC, and keeps what it is told.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    HeaderMap, Request, Response,
    body::{Bytes, Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
        trace::v1::ExportTraceServiceRequest,
    },
    common::v1::{KeyValue, any_value::Value},
    logs::v1::LogRecord,
    metrics::v1::Metric,
    trace::v1::Span,
};
use prost::Message as _;
use tokio::{
    net::TcpListener,
    sync::mpsc::{Receiver, Sender, channel},
    task::JoinHandle,
};

/// For what is exported every second, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What it was told at one time.
pub(super) struct Told {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) bytes: Bytes,
}

pub(super) struct Collector {
    pub(super) port: u16,
    told: Receiver<Told>,
    pub(super) all: Vec<Told>,
    task: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Collector {
    pub(super) async fn listen(port: u16) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, told) = channel(4_096);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let sender = sender.clone();
                let service = service_fn(move |request| answer(request, sender.clone()));
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { port, told, all: Vec::new(), task }
    }

    /// All spans so far, as soon as they are as expected.
    pub(super) async fn spans(&mut self, expected: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        self.until(|all| all.iter().flat_map(spans).collect(), |spans: &Vec<Span>| expected(spans)).await
    }

    pub(super) async fn metrics(&mut self, expected: impl Fn(&[Metric]) -> bool) -> Vec<Metric> {
        self.until(|all| all.iter().flat_map(metrics).collect(), |found: &Vec<Metric>| expected(found)).await
    }

    pub(super) async fn lines(&mut self, expected: impl Fn(&[LogRecord]) -> bool) -> Vec<LogRecord> {
        self.until(|all| all.iter().flat_map(lines).collect(), |found: &Vec<LogRecord>| expected(found)).await
    }

    async fn until<T>(&mut self, read: impl Fn(&[Told]) -> T, expected: impl Fn(&T) -> bool) -> T {
        // From here on: something comes each second, whatever is waited for.
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let found = read(&self.all);
            if expected(&found) {
                return found;
            }
            let more = tokio::time::timeout_at(end, self.told.recv()).await;
            let paths: Vec<_> = self.all.iter().map(|told| told.path.as_str()).collect();
            self.all.push(more.unwrap_or_else(|_| panic!("not told in {PATIENCE:?}: {paths:?}")).unwrap());
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    told: Sender<Told>,
) -> Result<
    Response<StreamBody<impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>>>>,
    Infallible,
> {
    let (head, body) = request.into_parts();
    let mut bytes = body.collect().await.unwrap().to_bytes();
    let grpc = head.headers["content-type"] == "application/grpc";
    let mut frames = Vec::new();
    if grpc {
        let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap());
        assert_eq!(
            (bytes[0], length as usize, &head.headers["te"]),
            (0, bytes.len() - 5, &"trailers".parse().unwrap())
        );
        bytes = bytes.split_off(5);
        frames.push(Ok(Frame::data(Bytes::from_static(&[0; 5]))));
        frames.push(Ok(Frame::trailers(
            [("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect(),
        )));
    } else {
        assert_eq!(head.headers["content-type"], "application/x-protobuf");
    }
    let path = head.uri.path().to_owned();
    told.send(Told { path, headers: head.headers, bytes }).await.unwrap();
    let kind = if grpc { "application/grpc" } else { "application/x-protobuf" };
    let body = StreamBody::new(futures_util::stream::iter(frames));
    Ok(Response::builder().header("content-type", kind).body(body).unwrap())
}

fn spans(told: &Told) -> Vec<Span> {
    if !told.path.contains("trace") {
        return Vec::new();
    }
    let request = ExportTraceServiceRequest::decode(told.bytes.clone()).unwrap();
    let resources = request.resource_spans.into_iter();
    resources.flat_map(|of| of.scope_spans).flat_map(|of| of.spans).collect()
}

fn metrics(told: &Told) -> Vec<Metric> {
    if !told.path.contains("metrics") {
        return Vec::new();
    }
    let request = ExportMetricsServiceRequest::decode(told.bytes.clone()).unwrap();
    let resources = request.resource_metrics.into_iter();
    resources.flat_map(|of| of.scope_metrics).flat_map(|of| of.metrics).collect()
}

fn lines(told: &Told) -> Vec<LogRecord> {
    if !told.path.contains("logs") {
        return Vec::new();
    }
    let request = ExportLogsServiceRequest::decode(told.bytes.clone()).unwrap();
    let resources = request.resource_logs.into_iter();
    resources.flat_map(|of| of.scope_logs).flat_map(|of| of.log_records).collect()
}

/// An attribute that is text.
pub(super) fn text<'a>(attributes: &'a [KeyValue], key: &str) -> &'a str {
    let found = attributes.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.as_ref());
    match found.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{key}: {other:?} of {attributes:?}"),
    }
}
