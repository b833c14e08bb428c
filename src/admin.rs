//! HTTP for operators: is it alive, is it ready, its numbers, and which thresholds were learned.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    config, health,
    shutdown::Shutdown,
    supervisor::Supervisor,
    telemetry::{Format, Metrics},
    tls::{Acceptor, TlsError},
};

mod ask;
mod board;
mod connections;
mod server;

pub use ask::{Answer, ask};
pub use board::{Board, PartHealth};

/// What the node's health is read from.
pub trait Health: Send + Sync + 'static {
    fn report(&self) -> Report;
    /// Which thresholds of deliberation are in force for tenants that learn, and why; JSON.
    fn thresholds(&self) -> Value;
    /// All numbers, in one of Prometheus' text formats.
    fn metrics(&self, format: Format) -> String;
}

/// A node's health at one moment.
#[derive(Debug, Clone)]
pub struct Report {
    pub node: String,
    /// `false`: restart it.
    pub live: bool,
    /// Every part must be up for the node to serve.
    pub parts: Vec<PartHealth>,
}

impl Report {
    pub fn ready(&self) -> bool {
        self.parts.iter().all(|part| part.health.state != health::State::Down)
    }

    /// In one word, or two.
    pub fn status(&self) -> &'static str {
        let degraded = self.parts.iter().any(|part| part.health.state == health::State::Degraded);
        match (self.ready(), degraded) {
            (false, _) => "not ready",
            (true, true) => "degraded",
            (true, false) => "ready",
        }
    }

    fn json(&self) -> Value {
        let parts: serde_json::Map<String, Value> = self
            .parts
            .iter()
            .map(|PartHealth { name, health, cause, .. }| {
                let mut part = serde_json::Map::new();
                part.insert("state".to_owned(), health.state.as_str().into());
                part.insert("note".to_owned(), health.note.as_str().into());
                part.extend(cause.map(|cause| ("because_of".to_owned(), cause.into())));
                ((*name).to_owned(), part.into())
            })
            .collect();
        json!({ "status": self.status(), "node": self.node, "version": env!("CARGO_PKG_VERSION"), "parts": parts })
    }
}

/// Opens the socket, so that a taken port is an error at start.
pub async fn listen(settings: &config::Http) -> std::io::Result<TcpListener> {
    TcpListener::bind(settings.listen).await
}

/// What the socket speaks TLS by, if it does. Reads the files; blocks.
pub fn acceptor(settings: &config::Http) -> Result<Option<Acceptor>, TlsError> {
    let acceptor = |tls: &config::ServerTls| Acceptor::new(tls.identity(), tls.client_ca_file.clone());
    settings.tls.as_ref().map(acceptor).transpose()
}

/// Serves in the background until every other task has ended: a draining node still says that it is not
/// ready.
pub fn start(
    (listener, acceptor): (TcpListener, Option<Acceptor>),
    settings: &config::Http,
    health: Arc<dyn Health>,
    metrics: Arc<Metrics>,
    stopped: Shutdown,
    supervisor: &Supervisor,
) -> std::io::Result<SocketAddr> {
    let address = listener.local_addr()?;
    let socket = Arc::new((listener, acceptor));
    let app = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .route("/thresholds", get(thresholds))
        .with_state(health);
    let bounds = server::Bounds::new(settings.connections);
    let (tracker, stop) = (stopped.tracker().clone(), stopped.token().clone());
    supervisor.keep_draining("http", &tracker, stop, move || {
        let (socket, app) = (Arc::clone(&socket), app.clone());
        server::serve(socket, app, bounds, Arc::clone(&metrics), stopped.clone())
    });
    Ok(address)
}

async fn livez(State(health): State<Arc<dyn Health>>) -> impl IntoResponse {
    if health.report().live {
        (StatusCode::OK, "live\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not live\n")
    }
}

async fn readyz(State(health): State<Arc<dyn Health>>) -> impl IntoResponse {
    let report = health.report();
    let status = if report.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report.json()))
}

async fn thresholds(State(health): State<Arc<dyn Health>>) -> Response {
    page(move || Json(health.thresholds()).into_response()).await
}

async fn metrics_text(State(health): State<Arc<dyn Health>>, headers: HeaderMap) -> Response {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::accepted(&accept.collect::<Vec<_>>().join(","));
    page(move || ([(CONTENT_TYPE, format.content_type())], health.metrics(format)).into_response()).await
}

/// Writes what takes longer than messages should wait for a thread of the runtime. As many at one time as there
/// are connections at most.
async fn page(write: impl FnOnce() -> Response + Send + 'static) -> Response {
    let written = tokio::task::spawn_blocking(write).await;
    written.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}
