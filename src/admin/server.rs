//! How is HTTP served to strangers without their holding up who watches over the node?
//!
//! Connections are bounded in number and in time. At the bound the one whose last request is the longest
//! ago is closed, so that a new one is always heard: health is never behind a stranger's silence.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::connections::{Connections, Place};
use crate::{
    shutdown::Shutdown,
    telemetry::{Closed, Metrics},
    tls::Acceptor,
};

/// From one request to the whole head of the next one, and from the connection to that of the first.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Of a connection. Who reads an answer slowly does not hold it for longer.
const LIFE_MAX: Duration = Duration::from_secs(60);
/// For what is being answered, once a connection is to end.
const END_WITHIN: Duration = Duration::from_millis(250);
/// Bytes of a request's head. hyper takes no less than 8 KiB.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// The part of this process's file descriptors that HTTP may take: one of so many.
const FILES_SHARE: u64 = 4;
/// Connections at one time that the least of limits leaves.
const CONNECTIONS_MIN: usize = 4;
/// After the system gave no connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Between two lines in the log about that.
const TOLD_AGAIN: Duration = Duration::from_secs(30);

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    connections: usize,
    head: Duration,
    life: Duration,
}

impl Bounds {
    /// With so many connections, and less where the process may open few files: the rest of the node
    /// needs them too.
    pub(super) fn new(wanted: usize) -> Self {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let connections = within(wanted, files);
        if let Some(files) = files.filter(|_| connections < wanted) {
            tracing::warn!(
                files,
                connections,
                wanted,
                "this process may open few files (ulimit -n), so HTTP gets fewer connections than \
                 http.connections; expected at least four times as many files"
            );
        }
        Self { connections, head: HEAD_WITHIN, life: LIFE_MAX }
    }
}

/// Connections, of those that are wanted, that so many file descriptors allow.
fn within(wanted: usize, files: Option<u64>) -> usize {
    let share = files.map_or(usize::MAX, |files| usize::try_from(files / FILES_SHARE).unwrap_or(usize::MAX));
    wanted.min(share.max(CONNECTIONS_MIN))
}

/// Serves until it is stopped, and then for what was asked before.
pub(super) async fn serve(
    socket: Arc<(TcpListener, Option<Acceptor>)>,
    app: Router,
    bounds: Bounds,
    metrics: Arc<Metrics>,
    stopped: Shutdown,
) {
    let connections = Arc::new(Connections::default());
    let places = Arc::new(Semaphore::new(bounds.connections));
    let mut told: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = socket.0.accept() => accepted,
            () = stopped.requested() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            // The stranger's own fault: gone before it was looked at.
            Err(error) if gone(&error) => continue,
            Err(error) => {
                metrics.http_not_accepted();
                if told.is_none_or(|told| told.elapsed() >= TOLD_AGAIN) {
                    told = Some(Instant::now());
                    tracing::error!(%error, "no HTTP connection can be taken; trying again without end");
                }
                // Most often no file descriptor is left: here is one to be had. Where there is none, a
                // rest, since the next try would fail as well.
                tokio::select! {
                    made = make_room(&connections, &metrics) => if !made { sleep(ACCEPT_AGAIN).await },
                    () = stopped.requested() => return,
                }
                continue;
            }
        };
        if places.available_permits() == 0 {
            make_room(&connections, &metrics).await;
        }
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = stopped.requested() => return,
        };
        let connection = Connection {
            app: app.clone(),
            place: connections.enter(),
            bounds,
            metrics: Arc::clone(&metrics),
            stopped: stopped.clone(),
        };
        let socket = Arc::clone(&socket);
        stopped.tracker().spawn(async move {
            connection.metrics.http_opened();
            connection.metrics.polls.watch("http", connection.taken(stream, socket.1.as_ref())).await;
            connection.metrics.http_ended();
            // After the socket, whose room it is.
            drop(place);
        });
    }
}

/// Closes the oldest connection and waits until it is closed. `false`: there is none.
async fn make_room(connections: &Connections, metrics: &Metrics) -> bool {
    let Some(leaving) = connections.make_room() else { return false };
    metrics.http_closed(Closed::GaveWay);
    leaving.gone().await;
    true
}

/// Whether not this process but the other side failed.
fn gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// One connection's way.
struct Connection {
    app: Router,
    place: Place,
    bounds: Bounds,
    metrics: Arc<Metrics>,
    stopped: Shutdown,
}

impl Connection {
    /// With TLS where that is asked for; who does not come to it in time is closed.
    async fn taken(&self, stream: TcpStream, acceptor: Option<&Acceptor>) {
        let Some(acceptor) = acceptor else { return self.serve(stream).await };
        let shaken = timeout(self.bounds.head, acceptor.now().accept(stream));
        let shaken = tokio::select! {
            () = self.place.gave_way() => return,
            () = self.stopped.requested() => return,
            shaken = shaken => shaken,
        };
        match shaken {
            Ok(Ok(stream)) => self.serve(stream).await,
            Ok(Err(_)) => self.metrics.http_closed(Closed::Malformed),
            Err(_) => self.metrics.http_closed(Closed::Late),
        }
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let app = TowerToHyperService::new(self.app.clone());
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let answer = app.call(request);
            async {
                let answer = answer.await;
                self.place.answered();
                answer
            }
        });
        let exchange = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.bounds.head)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let mut exchange = std::pin::pin!(exchange);
        let stopping = tokio::select! {
            () = self.place.gave_way() => return,
            ended = exchange.as_mut() => return self.ended(ended),
            () = sleep(self.bounds.life) => false,
            () = self.stopped.requested() => true,
        };
        exchange.as_mut().graceful_shutdown();
        let ended = tokio::select! {
            () = self.place.gave_way() => return,
            ended = timeout(END_WITHIN, exchange) => ended,
        };
        match ended {
            Ok(ended) => self.ended(ended),
            Err(_) if stopping => {}
            Err(_) => self.metrics.http_closed(Closed::Late),
        }
    }

    fn ended(&self, ended: hyper::Result<()>) {
        match ended {
            Err(error) if error.is_timeout() => self.metrics.http_closed(Closed::Late),
            Err(error) if error.is_parse() => self.metrics.http_closed(Closed::Malformed),
            // It went, in order or not.
            Ok(()) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
