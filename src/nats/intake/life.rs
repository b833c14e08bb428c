//! The life of the intake's connection: one session after the other, what is read and what is written.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Instant,
};

use async_nats::ServerInfo;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::poll;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    task::{unconstrained, yield_now},
};

use super::{
    FIRST_SID, Incoming, PROBE_SID, Shared, Subscription, Took,
    codec::Operation,
    session::{self, Login, Session, SessionError},
    turn::Turn,
};
use crate::{
    config,
    event_loop::Moment,
    nats::{BusError, Link, files, reconnect_delay, server_list::Servers},
    tenants::{BusUser, Seed, User},
};

/// The server has so many ping intervals to bring a message back.
const SILENT_INTERVALS: u32 = 2;
/// Refusals in a row after which a server is believed.
const REFUSALS_MAX: usize = 10;
/// Of what is written at one time; more is given back.
const ROOM_KEPT: usize = 2 * 1024 * 1024;

/// What is done with a message where it is read.
pub(super) type Handler<S> = Box<dyn Fn(&S, Incoming) -> Took + Send + Sync>;

/// The life of the connection; [`Life::run`] is to be kept running.
pub(in crate::nats) struct Life<S> {
    shared: Arc<Shared>,
    subscriptions: Vec<Subscription<S>>,
    handler: Handler<S>,
    login: Login,
    settings: config::Nats,
    probe: String,
}

/// A life may be dropped in the middle of a session: nobody waits then for what cannot come.
struct Dropped<'a>(&'a Shared);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

impl<S> Life<S> {
    pub(super) fn new(
        name: &str,
        settings: &config::Nats,
        shared: Arc<Shared>,
        subscriptions: Vec<Subscription<S>>,
        handler: Handler<S>,
    ) -> Result<Self, BusError> {
        let seed = settings.nkey_file.as_deref().map(Seed::read).transpose()?;
        let inbox = User::Bus(BusUser::Node).inbox_prefix();
        Ok(Self {
            shared,
            subscriptions,
            handler,
            login: Login { name: format!("agentbus node {name} intake"), seed, files: files(settings) },
            settings: settings.clone(),
            probe: format!("{inbox}.{}", nuid::next()),
        })
    }

    /// One session after the other, until the future is dropped. Returns only if the server says that this
    /// node is not welcome.
    pub(in crate::nats) async fn run(&self) -> SessionError {
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
        let Session { stream, read, info, server } =
            match session::open_next(servers, &self.login, self.settings.timeout).await {
                Ok(session) => session,
                Err(error) => return error,
            };
        self.begin(&info);
        let (mut reader, mut writer) = tokio::io::split(stream);
        let established = async {
            if self.shared.round_trip(|_| {}).await {
                *failed = 0;
                tracing::info!(server, "connected to NATS");
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
        self.shared.connected();
    }

    async fn read(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        mut read: BytesMut,
        servers: &mut Servers,
    ) -> SessionError {
        let (mut turn, mut began) = (Turn::default(), Moment::now());
        loop {
            let operation = {
                // By a turn's own measure alone: it is to be seen when there is no more.
                let mut next = pin!(unconstrained(session::next(reader, &mut read)));
                match poll!(next.as_mut()) {
                    Poll::Ready(operation) => operation,
                    Poll::Pending => {
                        turn.drained();
                        let operation = next.await;
                        began = Moment::now();
                        operation
                    }
                }
            };
            match operation {
                Ok(Operation::Message(message)) => {
                    let now = Moment::now();
                    self.take_in(message, &mut turn, now.at);
                    // One read of the socket may hold a thousand small ones.
                    if turn.is_over(now.ran_since(&began)) {
                        yield_now().await;
                        turn.next();
                        began = Moment::now();
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
        self.shared.disconnected();
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
                    Ok(Operation::Message(message)) => {
                        self.take(message);
                    }
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
        let mut answers = BytesMut::new();
        loop {
            let control = {
                // The room of the last write is there for the next but one.
                let room = if answers.capacity() > ROOM_KEPT { BytesMut::new() } else { answers };
                let mut out = self.shared.out.lock();
                answers = std::mem::replace(&mut out.answers, room);
                out.control.split()
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
            answers.clear();
        }
    }

    /// Sends a message to ourselves in every interval. A server that does not bring it back is gone, unless others still
    /// come: then it waits behind them.
    async fn stay(&self) -> SessionError {
        let probe = format!("PUB {} 0\r\n\r\n", self.probe);
        loop {
            let round_trip = self.shared.round_trip(|out| out.control.put_slice(probe.as_bytes()));
            let within = self.settings.ping_interval * SILENT_INTERVALS;
            match tokio::time::timeout(within, round_trip).await {
                Ok(true) => tokio::time::sleep(self.settings.ping_interval).await,
                // The reader says why.
                Ok(false) => std::future::pending().await,
                Err(_) if self.shared.heard.lock().is_some_and(|at| at.elapsed() < within) => {}
                Err(_) => return SessionError::Silent,
            }
        }
    }

    /// Takes it, unless it is one too many of a sender that has heard so: it hears it again, or is let go.
    fn take_in(&self, message: Incoming, turn: &mut Turn, now: Instant) {
        *self.shared.heard.lock() = Some(now);
        // What an answer takes is of the message's own length, too: its reply subject.
        let Incoming { subject, reply, headers, payload, .. } = &message;
        turn.read(subject.len() + reply.as_ref().map_or(0, Bytes::len) + headers.len() + payload.len());
        if turn.lets_go(&message.subject, now) {
            self.shared.metrics.nats.dropped();
            return;
        }
        let again = catch_unwind(AssertUnwindSafe(|| turn.refuses_again(&message)));
        if again.is_err() {
            self.shared.metrics.nats.panicked();
        }
        if again.unwrap_or(true) {
            return;
        }
        let subject = message.subject.clone();
        turn.took(&subject, self.take(message));
    }

    /// A panic on the way of one message is that message's alone.
    fn take(&self, message: Incoming) -> Took {
        if message.sid == PROBE_SID {
            *self.shared.round_trip.lock() = Some(Instant::now());
            return Took::Little;
        }
        let index = message.sid.checked_sub(FIRST_SID).and_then(|index| usize::try_from(index).ok());
        let Some(subscription) = index.and_then(|index| self.subscriptions.get(index)) else {
            return Took::Little;
        };
        let taken = catch_unwind(AssertUnwindSafe(|| (self.handler)(&subscription.source, message)));
        taken.unwrap_or_else(|_| {
            self.shared.metrics.nats.panicked();
            Took::Work
        })
    }
}

#[cfg(test)]
mod tests;
