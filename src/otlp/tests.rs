//! Does a collector get what it is to get, and nobody wait for one that is away?
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{convert::Infallible, time::SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::net::TcpListener;

use super::*;
use crate::{
    tls::{Files, tests::LocalFiles},
    trace::{Kind, Sampling, Span, TraceContext, Tracer},
};

fn span() -> Span {
    let (above, then) = (TraceContext::start(), SystemTime::UNIX_EPOCH);
    Span { parent: Some(7), kind: Kind::Consumer, ..Span::below(above, "process", (then, then)) }
}

/// How a collector answers.
#[derive(Clone)]
struct Answer {
    status: u16,
    /// Of gRPC, where there is no body.
    code: Option<&'static str>,
    body: Bytes,
}

const WELL: Answer = Answer { status: 200, code: None, body: Bytes::new() };

/// A collector over TLS that answers each request alike, and what it got.
async fn collector(local: &LocalFiles, protocol: Protocol, answer: Answer) -> (u16, mpsc::Receiver<Bytes>) {
    let acceptor = local.speaking(if protocol == Protocol::Grpc { b"h2" } else { b"http/1.1" });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (told, got) = mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
            let (told, answer) = (told.clone(), answer.clone());
            let service = service_fn(move |request: Request<Incoming>| {
                let (told, Answer { status, code, body }) = (told.clone(), answer.clone());
                async move {
                    told.send(request.collect().await.unwrap().to_bytes()).await.unwrap();
                    let mut response = Response::builder().status(status);
                    if let Some(code) = code {
                        response = response.header("grpc-status", code).header("grpc-message", "no");
                    }
                    Ok::<_, Infallible>(response.body(Full::new(body)).unwrap())
                }
            });
            tokio::spawn(async move {
                match protocol {
                    Protocol::Http => {
                        let _ = http1::Builder::new().serve_connection(stream, service).await;
                    }
                    Protocol::Grpc => {
                        let exec = TokioExecutor::new();
                        let _ = http2::Builder::new(exec).serve_connection(stream, service).await;
                    }
                }
            });
        }
    });
    (port, got)
}

/// Exports three spans of two messages, and stops; what the numbers say then: exported, refused, failed.
async fn exported(protocol: Protocol, port: u16, local: &LocalFiles) -> [u64; 3] {
    let files = Files { ca: Some(local.ca.clone()), identity: None };
    let url = format!("https://localhost:{port}/");
    let target = Target::open(&TargetSettings { url, protocol, headers_file: None, files }).unwrap();
    let (tracer, spans) = Tracer::new(Sampling { ratio: 1.0, slow: Duration::from_secs(1) });
    let metrics = Arc::new(Metrics::new("node-1"));
    let exported = Exported { spans: Some(spans), lines: None, numbers: None };
    let exporter = Exporter::new(target, "node-1", Arc::clone(&metrics), exported);
    tracer.export(vec![span(), span()]).unwrap();
    tracer.export(vec![span()]).unwrap();
    drop(tracer);
    exporter.run(&CancellationToken::new()).await;
    let text = metrics.encode();
    let number = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap().parse().unwrap()
    };
    [
        number("agentbus_otlp_exported_total{signal=\"traces\"}"),
        number("agentbus_otlp_dropped_total{signal=\"traces\",why=\"refused\"}"),
        number("agentbus_otlp_dropped_total{signal=\"traces\",why=\"failed\"}"),
    ]
}

#[tokio::test]
async fn a_collector_is_told_by_either_protocol_over_tls_and_says_what_it_refuses() {
    let local = LocalFiles::new();
    let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message: "one".to_owned() };
    let partial = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let framed = [&[0, 0, 0, 0, u8::try_from(partial.len()).unwrap()], &partial[..]].concat();
    let cases = [
        (Protocol::Http, WELL, [3, 0, 0]),
        (Protocol::Http, Answer { body: partial.into(), ..WELL }, [2, 1, 0]),
        (Protocol::Http, Answer { status: 400, ..WELL }, [0, 3, 0]),
        (Protocol::Grpc, Answer { code: Some("0"), ..WELL }, [3, 0, 0]),
        (Protocol::Grpc, Answer { code: Some("0"), body: framed.into(), ..WELL }, [2, 1, 0]),
        (Protocol::Grpc, Answer { code: Some("16"), ..WELL }, [0, 3, 0]),
    ];
    let told = cases.map(async |(protocol, answer, expected)| {
        let what = format!("{protocol:?} {} {:?}", answer.status, answer.code);
        let (port, mut got) = collector(&local, protocol, answer).await;
        assert_eq!(exported(protocol, port, &local).await, expected, "{what}");
        let bytes = got.recv().await.unwrap();
        let bytes = if protocol == Protocol::Grpc { bytes.slice(5..) } else { bytes };
        let request = ExportTraceServiceRequest::decode(bytes).unwrap();
        let spans = &request.resource_spans[0].scope_spans[0].spans;
        assert_eq!((spans.len(), &spans[0].parent_span_id[..]), (3, &7_u64.to_be_bytes()[..]), "{what}");
        assert!(got.try_recv().is_err(), "{what}: told twice");
    });
    // Side by side, since each waits for more.
    futures_util::future::join_all(told).await;
}

#[tokio::test(start_paused = true)]
async fn what_no_collector_takes_at_four_tries_is_dropped_and_counted() {
    let local = LocalFiles::new();
    for protocol in [Protocol::Http, Protocol::Grpc] {
        let began = tokio::time::Instant::now();
        // Nobody listens there.
        assert_eq!(exported(protocol, 1, &local).await, [0, 0, 3]);
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(1 + 1 + 2 + 4), "{protocol:?}: {took:?}");
    }
}

#[test]
fn lines_bear_the_trace_of_their_message_and_the_exporters_own_are_left_out() {
    use tracing_subscriber::layer::SubscriberExt as _;
    let (layer, mut lines) = LogLayer::new();
    let subscriber = tracing_subscriber::registry().with(layer);
    // While there is only one, whether anybody reads a line may be another test's to say.
    let _other = tracing::Dispatch::new(tracing_subscriber::registry());
    tracing::subscriber::with_default(subscriber, || {
        let trace_id = tracing::field::display("0af7651916cd43dd8448eb211c80319c");
        let span = tracing::info_span!("message", decision_id = "d-1", trace_id);
        span.in_scope(|| tracing::warn!(target: "agentbus::lanes", places = 3, "full"));
        tracing::error!(target: "hyper::client", "not this");
        tracing::error!("nor this");
        tracing::info!(target: "agentbus::app", "plain");
    });
    let mut all = Vec::new();
    while let Ok(line) = lines.waiting.try_recv() {
        all.push(line);
    }
    let request = logs::request(&Source::new("node-1"), all.into_iter());
    let [full, plain] = &request.resource_logs[0].scope_logs[0].log_records[..] else {
        panic!("{request:?}")
    };
    assert_eq!(full.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
    assert!(plain.trace_id.is_empty());
    assert_eq!((full.severity_text.as_str(), plain.severity_text.as_str()), ("WARN", "INFO"));
    let said = format!("{full:?}");
    for part in ["full", "places", "IntValue(3)", "d-1"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
