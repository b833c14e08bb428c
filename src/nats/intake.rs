//! Requests in and answers out: the one connection of a node to whose subjects strangers can write.
//!
//! Its reader is our own, because the client library reads the headers and subjects of a message as it
//! comes and ends the connection, or its task for good, on bytes that nats-server hands on as they are
//! (nats.rs pull request 1612). Here any bytes make a message: what cannot be read of it counts as absent.
//! All other connections of a node hear only what the bus and the server write (ARCHITECTURE.md lists them).
//!
//! A message is handed on where it is read, by a function that only admits or sheds. So nothing queues
//! here, and what the server has sent before it confirms an unsubscribe has been taken by then.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::ServerInfo;
use bytes::{BufMut as _, BytesMut};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::{Notify, oneshot},
};

use super::{BusError, Link, reconnect_delay, server_list::Servers};
use crate::{
    config,
    telemetry::Metrics,
    tenants::{BusUser, Seed, User},
};

mod codec;
mod headers;
mod session;

pub(super) use codec::Incoming;
use codec::Operation;
pub(super) use headers::Headers;
use session::{Login, Session, SessionError};

/// Messages that are taken before other tasks have their turn: some 3 µs each.
const TAKEN_AT_ONCE: usize = 32;
/// Bytes of answers that wait to be written; NATS takes nothing when there are more.
const ANSWERS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Round trips that are waited for at one time.
const ROUND_TRIPS_MAX: usize = 1_024;
/// The server has so many ping intervals to bring a message back.
const SILENT_INTERVALS: u32 = 2;

/// One subject to listen to.
pub(super) struct Subscription<S> {
    pub(super) subject: String,
    pub(super) queue: Option<&'static str>,
    /// What is told to the handler.
    pub(super) source: S,
}

/// An answer that was not sent. The sender asks again with the same message id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotSent {
    #[error("NATS takes nothing: {ANSWERS_BYTES_MAX} bytes of answers wait")]
    Full,
    #[error("it has {bytes} bytes, the server takes {max}")]
    TooLarge { bytes: usize, max: usize },
    #[error("its reply subject cannot be published on")]
    Subject,
}

/// A handle on the connection.
#[derive(Clone)]
pub(super) struct Intake(Arc<Shared>);

struct Shared {
    out: Mutex<Out>,
    /// There is something to write.
    wake: Notify,
    connected: AtomicBool,
    link: Mutex<Option<Link>>,
    payload_max: AtomicUsize,
    /// When a message to ourselves last came back.
    round_trip: Mutex<Option<Instant>>,
    /// All subscriptions, in their order.
    listens: Vec<Listens>,
    metrics: Arc<Metrics>,
}

/// A subscription as the server knows it.
struct Listens {
    subscribe: String,
    unsubscribe: String,
    /// It is given up.
    left: AtomicBool,
}

impl Listens {
    fn new<S>(index: usize, Subscription { subject, queue, .. }: &Subscription<S>) -> Self {
        let sid = FIRST_SID + index as u64;
        let queue = queue.map(|queue| format!("{queue} ")).unwrap_or_default();
        let (subscribe, unsubscribe) =
            (format!("SUB {subject} {queue}{sid}\r\n"), format!("UNSUB {sid}\r\n"));
        Self { subscribe, unsubscribe, left: AtomicBool::new(false) }
    }
}

/// What waits to be written.
#[derive(Default)]
struct Out {
    /// Kept over a reconnect: who asked is still there.
    answers: BytesMut,
    /// Of this session alone; written behind the answers.
    control: BytesMut,
    /// Who waits for a round trip, in order.
    pongs: VecDeque<oneshot::Sender<()>>,
}

/// What is done with a message where it is read.
type Handler<S> = Box<dyn Fn(&S, Incoming) + Send + Sync>;

/// The life of the connection; [`Life::run`] is to be kept running.
pub(super) struct Life<S> {
    shared: Arc<Shared>,
    subscriptions: Vec<Subscription<S>>,
    handler: Handler<S>,
    login: Login,
    settings: config::Nats,
    probe: String,
}

/// The subscription of the messages to ourselves; the others follow in their order.
const PROBE_SID: u64 = 1;
const FIRST_SID: u64 = 2;

impl Intake {
    /// Makes the handle and the life of a connection as `node`; nothing is dialled yet.
    ///
    /// `handler` is called where the connection is read, so it must not wait.
    pub(super) fn new<S>(
        name: &str,
        settings: &config::Nats,
        subscriptions: Vec<Subscription<S>>,
        handler: impl Fn(&S, Incoming) + Send + Sync + 'static,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Life<S>), BusError> {
        let seed = settings.nkey_file.as_deref().map(Seed::read).transpose()?;
        let inbox = User::Bus(BusUser::Node).inbox_prefix();
        let shared = Arc::new(Shared {
            out: Mutex::default(),
            wake: Notify::new(),
            connected: AtomicBool::new(false),
            link: Mutex::default(),
            payload_max: AtomicUsize::new(0),
            round_trip: Mutex::new(None),
            listens: subscriptions.iter().enumerate().map(|(index, s)| Listens::new(index, s)).collect(),
            metrics,
        });
        let life = Life {
            shared: Arc::clone(&shared),
            subscriptions,
            handler: Box::new(handler),
            login: Login { name: format!("agentbus node {name} intake"), seed },
            settings: settings.clone(),
            probe: format!("{inbox}.{}", nuid::next()),
        };
        Ok((Self(shared), life))
    }

    /// Queues an answer; never waits.
    pub(super) fn publish(&self, to: &[u8], headers: &[(&str, &str)], payload: &[u8]) -> Result<(), NotSent> {
        let (bytes, max) =
            (codec::header_bytes(headers) + payload.len(), self.0.payload_max.load(Ordering::Relaxed));
        // The server ends a connection that sends more.
        if max > 0 && bytes > max {
            return Err(NotSent::TooLarge { bytes, max });
        }
        let mut out = self.0.out.lock();
        if out.answers.len() + bytes > ANSWERS_BYTES_MAX {
            return Err(NotSent::Full);
        }
        codec::publish(&mut out.answers, to, headers, payload).map_err(|_| NotSent::Subject)?;
        drop(out);
        self.0.wake.notify_one();
        Ok(())
    }

    pub(super) fn connected(&self) -> bool {
        self.0.connected.load(Ordering::Relaxed)
    }

    /// What the server calls the connection.
    pub(super) fn link(&self) -> Option<Link> {
        self.0.link.lock().clone()
    }

    /// For how long no message to ourselves has come back. `None`: none ever has.
    pub(super) fn silent_for(&self) -> Option<Duration> {
        self.0.round_trip.lock().map(|at| at.elapsed())
    }

    /// The server has read all that was published before. `false`: the connection is not there, or broke.
    pub(super) async fn fence(&self) -> bool {
        self.0.round_trip(|_| {}).await
    }

    /// Gives up subscriptions, also of later connections. When it returns within the limit, everything
    /// that the server had sent for them has been taken.
    pub(super) async fn leave(&self, which: impl Fn(usize) -> bool, limit: Duration) {
        let unsubscribe = |out: &mut Out| {
            for (_, listens) in self.0.listens.iter().enumerate().filter(|(index, _)| which(*index)) {
                listens.left.store(true, Ordering::Relaxed);
                out.control.put_slice(listens.unsubscribe.as_bytes());
            }
        };
        let _ = tokio::time::timeout(limit, self.0.round_trip(unsubscribe)).await;
    }

    /// Takes up again what was given up.
    pub(super) fn enter(&self, which: impl Fn(usize) -> bool) {
        let mut out = self.0.out.lock();
        // A session that begins later subscribes to it by itself.
        let connected = self.connected();
        for (_, listens) in self.0.listens.iter().enumerate().filter(|(index, _)| which(*index)) {
            if listens.left.swap(false, Ordering::Relaxed) && connected {
                out.control.put_slice(listens.subscribe.as_bytes());
            }
        }
        drop(out);
        self.0.wake.notify_one();
    }
}

impl Shared {
    /// Writes what `write` writes and a ping, and waits for the pong.
    async fn round_trip(&self, write: impl FnOnce(&mut Out)) -> bool {
        let pong = {
            let mut out = self.out.lock();
            write(&mut out);
            if !self.connected.load(Ordering::Relaxed) || out.pongs.len() >= ROUND_TRIPS_MAX {
                return false;
            }
            let (sender, pong) = oneshot::channel();
            out.pongs.push_back(sender);
            out.control.put_slice(b"PING\r\n");
            pong
        };
        self.wake.notify_one();
        pong.await.is_ok()
    }

    /// Whoever waits for the session that has ended hears so, and nothing of it is written on the next.
    fn ended(&self) {
        let mut out = self.out.lock();
        self.connected.store(false, Ordering::Relaxed);
        *self.link.lock() = None;
        out.control.clear();
        out.pongs.clear();
        self.metrics.nats_connected.set(0);
    }
}

/// A life may be dropped in the middle of a session: nobody waits then for what cannot come.
struct Dropped<'a>(&'a Shared);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

impl<S> Life<S> {
    /// One session after the other, until the future is dropped. Returns only if the server says that this
    /// node is not welcome.
    pub(super) async fn run(&self) -> SessionError {
        let _dropped = Dropped(&self.shared);
        let mut servers = match Servers::parse(&self.settings.url) {
            Ok(servers) => servers,
            Err(error) => return error.into(),
        };
        let (mut failed, mut refused) = (0, 0);
        loop {
            let error = self.session(&mut servers, &mut failed).await;
            self.shared.ended();
            match &error {
                SessionError::LameDuck => tracing::info!("the NATS server is about to stop; trying another"),
                _ => tracing::warn!(%error, failed, "not connected to NATS; trying again"),
            }
            // A server that reloads its users refuses for a moment; one that goes on is right.
            refused = if matches!(error, SessionError::Refused(_)) { refused + 1 } else { 0 };
            if refused > REFUSALS_MAX {
                return error;
            }
            failed += 1;
            tokio::time::sleep(reconnect_delay(failed)).await;
        }
    }

    async fn session(&self, servers: &mut Servers, failed: &mut usize) -> SessionError {
        let Some(server) = servers.next() else { return SessionError::NotNats("no server is named") };
        let opening = tokio::time::timeout(self.settings.timeout, session::open(&server, &self.login));
        let Session { stream, read, info } = match opening.await {
            Ok(Ok(session)) => session,
            Ok(Err(error)) => return error,
            Err(_) => return SessionError::Silent,
        };
        servers.learn(&info);
        self.begin(&info);
        let (mut reader, mut writer) = tokio::io::split(stream);
        let established = async {
            if self.shared.round_trip(|_| {}).await {
                *failed = 0;
                tracing::info!(server = server.host(), "connected to NATS");
            }
            self.stay().await
        };
        tokio::select! {
            error = self.read(&mut reader, read, servers) => error,
            error = self.write(&mut writer) => error,
            error = established => error,
        }
    }

    /// Subscribes to what is not given up.
    fn begin(&self, info: &ServerInfo) {
        let mut out = self.shared.out.lock();
        self.shared.payload_max.store(info.max_payload, Ordering::Relaxed);
        *self.shared.link.lock() = Some(Link::named(info));
        out.control.put_slice(format!("SUB {} {PROBE_SID}\r\n", self.probe).as_bytes());
        for listens in self.shared.listens.iter().filter(|listens| !listens.left.load(Ordering::Relaxed)) {
            out.control.put_slice(listens.subscribe.as_bytes());
        }
        self.shared.connected.store(true, Ordering::Relaxed);
        if self.shared.metrics.nats_connected.set(1) == 0 {
            self.shared.metrics.nats_reconnects.inc();
        }
    }

    async fn read(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        mut read: BytesMut,
        servers: &mut Servers,
    ) -> SessionError {
        let mut taken = 0_usize;
        loop {
            match session::next(reader, &mut read).await {
                Ok(Operation::Message(message)) => {
                    self.take(message);
                    taken += 1;
                    // One read of the socket may hold a thousand small ones.
                    if taken.is_multiple_of(TAKEN_AT_ONCE) {
                        tokio::task::yield_now().await;
                    }
                }
                Ok(Operation::Pong) => {
                    let pong = self.shared.out.lock().pongs.pop_front();
                    let _ = pong.map(|pong| pong.send(()));
                }
                Ok(Operation::Ping) => {
                    self.shared.out.lock().control.put_slice(b"PONG\r\n");
                    self.shared.wake.notify_one();
                }
                Ok(Operation::Info(info)) => match session::read_info(&info) {
                    Ok(info) => {
                        servers.learn(&info);
                        self.shared.payload_max.store(info.max_payload, Ordering::Relaxed);
                        if info.lame_duck_mode {
                            let pongs = self.unsubscribe_all();
                            return self.rest(reader, read, pongs).await;
                        }
                    }
                    Err(error) => return error,
                },
                Ok(Operation::Error(why)) => {
                    let why = String::from_utf8_lossy(&why);
                    // A subject that this user may not use. All other errors end the connection, by the server.
                    tracing::warn!(error = %why, "NATS");
                }
                Ok(Operation::Ok) => {}
                Err(error) => return error,
            }
        }
    }

    /// How many pongs are to come, of which the last says that no more messages do.
    fn unsubscribe_all(&self) -> usize {
        let mut out = self.shared.out.lock();
        for listens in &self.shared.listens {
            out.control.put_slice(listens.unsubscribe.as_bytes());
        }
        out.control.put_slice(b"PING\r\n");
        let pongs = out.pongs.len() + 1;
        // Whoever waits asks again; nobody begins to wait on a session that ends.
        out.pongs.clear();
        self.shared.connected.store(false, Ordering::Relaxed);
        drop(out);
        self.shared.wake.notify_one();
        pongs
    }

    /// Takes what the server still has for this node, and leaves a server that is about to stop.
    async fn rest(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        mut read: BytesMut,
        mut pongs: usize,
    ) -> SessionError {
        let resting = async {
            while pongs > 0 {
                match session::next(reader, &mut read).await {
                    Ok(Operation::Message(message)) => self.take(message),
                    Ok(Operation::Pong) => pongs -= 1,
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        };
        let _ = tokio::time::timeout(self.settings.timeout, resting).await;
        SessionError::LameDuck
    }

    async fn write(&self, writer: &mut (impl AsyncWrite + Unpin)) -> SessionError {
        loop {
            let (answers, control) = {
                let mut out = self.shared.out.lock();
                (out.answers.split(), out.control.split())
            };
            if answers.is_empty() && control.is_empty() {
                self.shared.wake.notified().await;
                continue;
            }
            let written = async {
                writer.write_all(&answers).await?;
                writer.write_all(&control).await?;
                writer.flush().await
            };
            if let Err(error) = written.await {
                return error.into();
            }
        }
    }

    /// Sends a message to ourselves in every interval; a server that does not bring it back is gone.
    async fn stay(&self) -> SessionError {
        let probe = format!("PUB {} 0\r\n\r\n", self.probe);
        loop {
            let round_trip = self.shared.round_trip(|out| out.control.put_slice(probe.as_bytes()));
            let within = self.settings.ping_interval * SILENT_INTERVALS;
            match tokio::time::timeout(within, round_trip).await {
                Ok(true) => tokio::time::sleep(self.settings.ping_interval).await,
                // The reader says why.
                Ok(false) => std::future::pending().await,
                Err(_) => return SessionError::Silent,
            }
        }
    }

    /// A panic on the way of one message is that message's alone.
    fn take(&self, message: Incoming) {
        if message.sid == PROBE_SID {
            *self.shared.round_trip.lock() = Some(Instant::now());
            return;
        }
        let index = message.sid.checked_sub(FIRST_SID).and_then(|index| usize::try_from(index).ok());
        let Some(subscription) = index.and_then(|index| self.subscriptions.get(index)) else { return };
        let taken = catch_unwind(AssertUnwindSafe(|| (self.handler)(&subscription.source, message)));
        if taken.is_err() {
            self.shared.metrics.request_panics.inc();
        }
    }
}

/// Refusals in a row after which a server is believed.
const REFUSALS_MAX: usize = 10;

#[cfg(test)]
mod tests;
