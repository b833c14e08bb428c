//! How does a collector get a request? As protobuf by HTTP, or by gRPC.

use std::{path::PathBuf, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceResponse, metrics::v1::ExportMetricsServiceResponse,
    trace::v1::ExportTraceServiceResponse,
};
use prost::Message as _;

use crate::{
    domain::id::shown,
    http::{
        Call, CallError, Channel, ChannelAnswer, ChannelCall, EndpointError, HeaderName, HeaderValue, Method,
        Pool,
    },
    secret_file::{self, SecretFileError},
    telemetry::Signal,
    tls::Files,
};

/// For one request.
const WITHIN: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the file with headers.
const HEADERS_BYTES_MAX: u64 = 64 * 1024;
/// Of gRPC's frames: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// Of HTTP's answers, those after which OTLP wants another try.
const PASSING: [u16; 4] = [429, 502, 503, 504];
/// The same of gRPC's: cancelled, deadline exceeded, resource exhausted, aborted, out of range, unavailable, data loss.
const PASSING_CODES: [&str; 7] = ["1", "4", "8", "10", "11", "14", "15"];

/// How a collector is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http,
    Grpc,
}

/// Where it is, and what it is shown.
#[derive(Debug)]
pub struct TargetSettings {
    /// `http://host:port` or `https://host:port`; with HTTP maybe a path, to which `/v1/traces` and so on is added.
    pub url: String,
    pub protocol: Protocol,
    pub headers_file: Option<PathBuf>,
    pub files: Files,
}

/// Why there can be none.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("otlp.endpoint: {0}")]
    Endpoint(#[from] EndpointError),
    #[error("otlp.headers_file: {0}")]
    File(#[from] SecretFileError),
    /// Without the value, which is secret.
    #[error("otlp.headers_file: line {line}: expected `name: value`, as of an HTTP header")]
    Header { line: usize },
}

/// Why a collector has not taken something.
#[derive(Debug)]
pub(super) enum SendError {
    /// It may the next time.
    Failed(String),
    Refused(String),
}

/// A collector.
pub struct Target {
    by: By,
    headers: Vec<(String, String)>,
}

enum By {
    /// In the order of [`Signal::ALL`].
    Http(Box<[Pool; 3]>),
    Grpc(Channel),
}

impl Target {
    /// Reads the files, and for https the roots of trust. Blocks.
    pub fn open(settings: &TargetSettings) -> Result<Self, OpenError> {
        let TargetSettings { url, protocol, headers_file, files } = settings;
        let url = url.trim_end_matches('/');
        let open = |signal: Signal| Pool::open_by(&format!("{url}/v1/{}", signal.as_str()), files);
        let by = match protocol {
            Protocol::Grpc => By::Grpc(Channel::open(url, files)?),
            Protocol::Http => {
                By::Http(Box::new([open(Signal::Traces)?, open(Signal::Metrics)?, open(Signal::Logs)?]))
            }
        };
        let headers = headers_file.as_deref().map(|path| secret_file::read(path, HEADERS_BYTES_MAX));
        let headers = headers.transpose()?.map(|text| read_headers(&text)).transpose()?;
        Ok(Self { by, headers: headers.unwrap_or_default() })
    }

    /// Whether it takes connections. Nothing is told.
    pub async fn reach(&self) -> Result<(), CallError> {
        let endpoint = match &self.by {
            By::Http(pools) => {
                let [traces, ..] = &**pools;
                traces.endpoint()
            }
            By::Grpc(channel) => channel.endpoint(),
        };
        endpoint.reach(WITHIN).await
    }

    /// How many of its items the collector has refused.
    pub(super) async fn send(&self, signal: Signal, request: &[u8]) -> Result<i64, SendError> {
        let body = match &self.by {
            By::Http(pools) => self.by_http(pools, signal, request).await?,
            By::Grpc(channel) => self.by_grpc(channel, signal, request).await?,
        };
        // What it says beside is no reason to doubt that it has taken the request.
        Ok(rejected(signal, body).unwrap_or_default())
    }

    async fn by_http(&self, pools: &[Pool; 3], signal: Signal, request: &[u8]) -> Result<Bytes, SendError> {
        let [traces, metrics, logs] = pools;
        let pool = match signal {
            Signal::Traces => traces,
            Signal::Metrics => metrics,
            Signal::Logs => logs,
        };
        let mut headers = vec![("content-type", "application/x-protobuf".to_owned())];
        headers.extend(self.headers.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let call = Call {
            method: Method::POST,
            headers: &headers,
            body: Bytes::copy_from_slice(request),
            answer_bytes: Some(ANSWER_BYTES_MAX),
            within: WITHIN,
            any_status: true,
        };
        let answer = pool.call(call).await.map_err(failed)?;
        match answer.status {
            200..=299 => Ok(answer.body),
            status => {
                let why = format!("status {status}: {}", shown(&String::from_utf8_lossy(&answer.body)));
                Err(told(PASSING.contains(&status), why))
            }
        }
    }

    async fn by_grpc(&self, channel: &Channel, signal: Signal, request: &[u8]) -> Result<Bytes, SendError> {
        let (of, service) = match signal {
            Signal::Traces => ("trace", "TraceService"),
            Signal::Metrics => ("metrics", "MetricsService"),
            Signal::Logs => ("logs", "LogsService"),
        };
        let path = format!("/opentelemetry.proto.collector.{of}.v1.{service}/Export");
        let own = [("content-type", "application/grpc"), ("te", "trailers")];
        let mut headers: Vec<_> = own.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        headers.extend(self.headers.iter().cloned());
        let call = ChannelCall {
            path: &path,
            headers: &headers,
            body: framed(request)?,
            answer_bytes: ANSWER_BYTES_MAX,
            within: WITHIN,
        };
        let ChannelAnswer { status, headers, trailers, mut body } =
            channel.call(call).await.map_err(failed)?;
        let word = |name: &str| trailers.get(name).or_else(|| headers.get(name))?.to_str().ok();
        match word("grpc-status") {
            Some("0") => Ok(body.split_off(PREFIX_BYTES.min(body.len()))),
            Some(code) => {
                let why = format!("code {code}: {}", shown(word("grpc-message").unwrap_or_default()));
                Err(told(PASSING_CODES.contains(&code), why))
            }
            None => Err(told(PASSING.contains(&status), format!("status {status}, no grpc-status"))),
        }
    }
}

/// One message, not compressed.
fn framed(request: &[u8]) -> Result<Bytes, SendError> {
    let length = u32::try_from(request.len()).map_err(|_| SendError::Refused("too large".to_owned()))?;
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + request.len());
    framed.put_u8(0);
    framed.put_u32(length);
    framed.put_slice(request);
    Ok(framed.freeze())
}

fn rejected(signal: Signal, body: Bytes) -> Option<i64> {
    match signal {
        Signal::Traces => {
            Some(ExportTraceServiceResponse::decode(body).ok()?.partial_success?.rejected_spans)
        }
        Signal::Metrics => {
            Some(ExportMetricsServiceResponse::decode(body).ok()?.partial_success?.rejected_data_points)
        }
        Signal::Logs => {
            Some(ExportLogsServiceResponse::decode(body).ok()?.partial_success?.rejected_log_records)
        }
    }
}

fn failed(error: CallError) -> SendError {
    SendError::Failed(error.to_string())
}

fn told(passing: bool, why: String) -> SendError {
    if passing { SendError::Failed(why) } else { SendError::Refused(why) }
}

/// One a line; empty ones and those that begin with `#` count for nothing.
fn read_headers(text: &str) -> Result<Vec<(String, String)>, OpenError> {
    let lines = text.lines().enumerate().filter(|(_, line)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    });
    lines
        .map(|(at, line)| {
            let wrong = || OpenError::Header { line: at + 1 };
            let (name, value) = line.split_once(':').ok_or_else(wrong)?;
            let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
            let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
            let value = value.to_str().map_err(|_| wrong())?;
            Ok((name.as_str().to_owned(), value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn headers_are_read_line_by_line_and_no_error_shows_one() {
        let read = read_headers("# of the collector\nAuthorization: Bearer hunter2\n\n x-tenant:a: b\r\n");
        let expected = [("authorization", "Bearer hunter2"), ("x-tenant", "a: b")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read.unwrap(), expected);
        for bad in ["hunter2", "a b: hunter2", "a: \u{1}hunter2", ": hunter2"] {
            let error = read_headers(&format!("x: y\n{bad}")).unwrap_err().to_string();
            assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
        }
    }
}
