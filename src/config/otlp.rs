//! Where traces, metrics and logs go over OTLP.

use std::{path::PathBuf, time::Duration};

use super::{
    ClientTls, ConfigError,
    check::{check_url, within},
};

/// A collector, and what it gets.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    pub endpoint: String,
    #[serde(default)]
    pub protocol: OtlpProtocol,
    /// Holds what the collector is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers_file: Option<PathBuf>,
    #[serde(default = "on")]
    pub traces: bool,
    #[serde(default = "on")]
    pub metrics: bool,
    #[serde(default = "on")]
    pub logs: bool,
    #[serde(default = "sample")]
    pub sample: f64,
    #[serde(default = "slow", with = "humantime_serde")]
    pub slow: Duration,
    #[serde(default = "metrics_every", with = "humantime_serde")]
    pub metrics_every: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
}

/// How a collector is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtlpProtocol {
    /// Protobuf by HTTP/1.1, below `/v1/`.
    #[default]
    Http,
    Grpc,
}

fn on() -> bool {
    true
}

/// One of twenty: enough to see how it goes, and little beside the messages.
fn sample() -> f64 {
    0.05
}

fn slow() -> Duration {
    Duration::from_millis(500)
}

fn metrics_every() -> Duration {
    Duration::from_secs(60)
}

impl Otlp {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let shown = |duration: Duration| humantime::format_duration(duration).to_string();
        let fail = |key: &str, found: &str, expected: &str| {
            let (key, found, expected) = (key.to_owned(), found.to_owned(), expected.to_owned());
            Err(ConfigError::Value { key, found, expected })
        };
        check_url("otlp.endpoint", &self.endpoint)?;
        let path = self.endpoint.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        if self.protocol == OtlpProtocol::Grpc && path.is_some_and(|(_, path)| !path.is_empty()) {
            return fail("otlp.endpoint", "a path", "none: gRPC has its own, http://host:4317 is all");
        }
        if !(self.traces || self.metrics || self.logs) {
            return fail("otlp", "neither traces, metrics nor logs", "one of them, or no [otlp]");
        }
        within("otlp.sample", self.sample, 0.0, 1.0, |share| share.to_string())?;
        within("otlp.slow", self.slow, Duration::from_millis(1), Duration::from_secs(600), shown)?;
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(3_600));
        within("otlp.metrics_every", self.metrics_every, min, max, shown)?;
        self.tls.as_ref().map_or(Ok(()), |tls| tls.check("otlp"))
    }
}
