//! What of a node does a collector get to know, and how is it kept at it?

use std::sync::Arc;

use super::{basis::Basis, health::NodeHealth};
use crate::{
    admin::Health as _,
    config::{self, OtlpProtocol},
    otlp::{Exported, Exporter, LogLines, Protocol, Target, TargetSettings},
    telemetry::Format,
    trace::{Sampling, Tracer},
};

pub(super) fn target(otlp: &config::Otlp) -> TargetSettings {
    TargetSettings {
        url: otlp.endpoint.clone(),
        protocol: match otlp.protocol {
            OtlpProtocol::Http => Protocol::Http,
            OtlpProtocol::Grpc => Protocol::Grpc,
        },
        headers_file: otlp.headers_file.clone(),
        files: otlp.tls.as_ref().map(config::ClientTls::files).unwrap_or_default(),
    }
}

/// Exports until the node's end, and what is left then. Who makes spans gets where to put them.
pub(super) fn export(
    basis: &Basis,
    target: Target,
    lines: Option<LogLines>,
    health: &Arc<NodeHealth>,
) -> Option<Arc<Tracer>> {
    let Basis { config, metrics, background, supervisor, .. } = basis;
    let otlp = config.otlp.as_ref()?;
    let traced = otlp.traces.then(|| Tracer::new(Sampling { ratio: otlp.sample, slow: otlp.slow }));
    let (tracer, spans) = traced.unzip();
    let health = Arc::clone(health);
    let read = Arc::new(move || health.metrics(Format::OpenMetrics));
    let numbers = otlp.metrics.then_some((read as _, otlp.metrics_every));
    let exported = Exported { spans, lines, numbers };
    let exporter = Arc::new(Exporter::new(target, &config.node.name, Arc::clone(metrics), exported));
    let stop = background.token().clone();
    supervisor.keep_draining("otlp", background.tracker(), stop.clone(), move || {
        let (exporter, stop) = (Arc::clone(&exporter), stop.clone());
        async move { exporter.run(&stop).await }
    });
    tracer
}
