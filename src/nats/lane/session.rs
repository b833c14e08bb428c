//! The connection on which the lane writes: one session after the other.
//!
//! Its formats are the lane's own, as those of the outbox are: what waits leaves in one write, and an answer goes to who
//! waits for it without a table of async-nats between.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::Notify,
};

use super::outgoing::{CONFIRM_WITHIN, Out};
use crate::{
    config,
    nats::{
        Link,
        intake::{
            Incoming,
            codec::Operation,
            session::{self, Login, Session, SessionError},
        },
        jetstream::publish::{PublishFailure, read},
        reconnect_delay,
        server_list::Servers,
    },
    timely,
};

const ANSWERS_SID: u64 = 1;
/// How often it is looked who waits in vain.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What those who publish, the writer and the reader share.
pub(super) struct Shared {
    pub(super) inbox: String,
    pub(super) out: Mutex<Out>,
    /// There is something to write.
    pub(super) wake: Notify,
    pub(super) link: Mutex<Option<Link>>,
}

impl Shared {
    pub(super) fn is_open(&self) -> bool {
        self.out.lock().is_open()
    }

    fn ended(&self) {
        *self.link.lock() = None;
        self.out.lock().end();
    }

    fn answered(&self, answer: &Incoming) {
        let token = answer.subject.rsplit(|byte| *byte == b'.').next();
        let number = token.and_then(|token| std::str::from_utf8(token).ok()).and_then(|it| it.parse().ok());
        let Some(number) = number else { return };
        // The server's word that there is no stream.
        let published = match answer.payload.is_empty() && answer.headers.starts_with(b"NATS/1.0 503") {
            true => Err(PublishFailure::NoStream),
            false => read(&answer.payload),
        };
        self.out.lock().told(number, published.map_err(Into::into));
    }
}

/// The life of the connection; [`Life::run`] is to be kept running.
pub(super) struct Life {
    pub(super) shared: Arc<Shared>,
    pub(super) login: Login,
    pub(super) settings: config::Nats,
}

/// A life may be dropped in the middle of a session: nobody waits then for what cannot come.
struct Dropped<'a>(&'a Shared);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

impl Life {
    /// One session after the other, until the future is dropped.
    pub(super) async fn run(&self) {
        let _dropped = Dropped(&self.shared);
        tokio::select! {
            () = self.sessions() => {}
            never = self.give_up() => match never {},
        }
    }

    async fn sessions(&self) {
        // Parsed before, when the node started.
        let Ok(mut servers) = Servers::parse(&self.settings.url) else { return };
        let mut failed = 0;
        loop {
            let error = self.session(&mut servers, &mut failed).await;
            self.shared.ended();
            tracing::warn!(%error, failed, "the lane is not connected to NATS");
            failed += 1;
            tokio::time::sleep(reconnect_delay(failed)).await;
        }
    }

    /// One timer for all who wait.
    async fn give_up(&self) -> Infallible {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        loop {
            tick.tick().await;
            self.shared.out.lock().give_up(Instant::now());
        }
    }

    async fn session(&self, servers: &mut Servers, failed: &mut usize) -> SessionError {
        let opened = session::open_next(servers, &self.login, self.settings.timeout).await;
        let Session { mut stream, read, info, server: _ } = match opened {
            Ok(session) => session,
            Err(error) => return error,
        };
        let listen = format!("SUB {}.* {ANSWERS_SID}\r\n", self.shared.inbox);
        if let Err(error) = stream.write_all(listen.as_bytes()).await {
            return error.into();
        }
        *failed = 0;
        *self.shared.link.lock() = Some(Link::named(&info));
        self.shared.out.lock().begin(info.max_payload);
        let (mut reader, mut writer) = tokio::io::split(stream);
        let ended = tokio::select! {
            ended = self.read(&mut reader, read, servers) => ended,
            ended = self.write(&mut writer) => ended,
            ended = self.look() => ended,
        };
        let Err(error) = ended;
        error
    }

    async fn read(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        mut read: BytesMut,
        servers: &mut Servers,
    ) -> Result<Infallible, SessionError> {
        loop {
            match session::next(reader, &mut read).await? {
                Operation::Message(answer) => self.shared.answered(&answer),
                Operation::Pong => self.shared.out.lock().ponged(),
                Operation::Ping => {
                    self.shared.out.lock().pongs += 1;
                    self.shared.wake.notify_one();
                }
                Operation::Info(info) => {
                    let info = session::read_info(&info)?;
                    servers.learn(&info);
                    let mut out = self.shared.out.lock();
                    out.payload_max = info.max_payload;
                    if info.lame_duck_mode {
                        out.close();
                    }
                }
                Operation::Error(why) => {
                    // A subject that this user may not use. All other errors end the connection, by the server.
                    tracing::warn!(error = %String::from_utf8_lossy(&why), "NATS, the lane");
                }
                Operation::Ok => {}
            }
        }
    }

    async fn write(&self, writer: &mut (impl AsyncWrite + Unpin)) -> Result<Infallible, SessionError> {
        loop {
            let leaving = self.shared.out.lock().leaving(Instant::now());
            let Some(leaving) = leaving else {
                self.shared.wake.notified().await;
                continue;
            };
            let writing = timely::write(writer, &leaving.bytes, leaving.by);
            match tokio::time::timeout(CONFIRM_WITHIN, writing).await {
                Ok(written) => written?,
                Err(_) => return Err(SessionError::Silent),
            }
        }
    }

    /// A ping that is not answered, now and then, is what shows a dead connection.
    async fn look(&self) -> Result<Infallible, SessionError> {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        loop {
            tick.tick().await;
            let now = Instant::now();
            let mut out = self.shared.out.lock();
            if out.is_silent(now) {
                return Err(SessionError::Silent);
            }
            if !out.is_open() && out.is_answered() {
                return Err(SessionError::LameDuck);
            }
            if out.probe(self.settings.ping_interval, now) {
                drop(out);
                self.shared.wake.notify_one();
            }
        }
    }
}
