//! The outbox's connection: one session after the other.
//!
//! The end of a session drops all that it still held: what was not on the wire when it was lost will never be, and
//! whoever waits for it hears that it is not confirmed. Sent later, another node may have acted.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::{CONFIRM_WITHIN, batch::Leaving, confirmations::Shared};
use crate::{
    config,
    fault_points::{self, Step},
    nats::{
        Link,
        intake::{
            codec::Operation,
            session::{self, Login, Session, SessionError},
        },
        reconnect_delay,
        server_list::Servers,
    },
    tenants::{BusUser, User},
    timely,
};

/// Answers to what was sent.
const ANSWERS_SID: u64 = 1;
/// Where the server says that nobody listens to a question.
const UNHEARD_SID: u64 = 2;
/// How often it is looked whether a fence is late.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The life of the connection; [`Life::run`] is to be kept running.
pub(super) struct Life {
    pub(super) shared: Arc<Shared>,
    pub(super) login: Login,
    pub(super) settings: config::Nats,
    pub(super) unheard: String,
}

/// A life may be dropped in the middle of a session: nobody waits then for what cannot come.
struct Dropped<'a>(&'a Shared);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

impl Shared {
    fn ended(&self) {
        self.connected.store(false, Ordering::Relaxed);
        *self.link.lock() = None;
        self.out.lock().end();
    }
}

impl Life {
    /// One session after the other, until the future is dropped. What the server says against this node, the
    /// intake hears too.
    pub(super) async fn run(&self) {
        let _dropped = Dropped(&self.shared);
        // Parsed before, when the node started.
        let Ok(mut servers) = Servers::parse(&self.settings.url) else { return };
        let mut failed = 0;
        loop {
            let error = self.session(&mut servers, &mut failed).await;
            self.shared.ended();
            match &error {
                SessionError::LameDuck => {
                    tracing::info!("the NATS server of the outbox is about to stop; trying another");
                }
                _ => tracing::warn!(%error, failed, "the outbox does not reach NATS"),
            }
            failed += 1;
            tokio::time::sleep(reconnect_delay(failed)).await;
        }
    }

    async fn session(&self, servers: &mut Servers, failed: &mut usize) -> SessionError {
        let opened = session::open_next(servers, &self.login, self.settings.timeout).await;
        let Session { mut stream, read, info, server: _ } = match opened {
            Ok(session) => session,
            Err(error) => return error,
        };
        let inbox = format!("{}.{}", User::Bus(BusUser::Node).inbox_prefix(), nuid::next());
        let listen = format!("SUB {inbox}.*.* {ANSWERS_SID}\r\nSUB {} {UNHEARD_SID}\r\n", self.unheard);
        if let Err(error) = stream.write_all(listen.as_bytes()).await {
            return error.into();
        }
        *failed = 0;
        self.shared.payload_max.store(info.max_payload, Ordering::Relaxed);
        *self.shared.link.lock() = Some(Link::named(&info));
        self.shared.out.lock().begin(inbox);
        self.shared.connected.store(true, Ordering::Relaxed);
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
    ) -> Result<std::convert::Infallible, SessionError> {
        loop {
            match session::next(reader, &mut read).await? {
                Operation::Message(message) if message.sid == UNHEARD_SID => self.shared.unheard(&message),
                Operation::Message(message) => self.shared.answered(&message),
                Operation::Pong => self.shared.fenced(),
                Operation::Ping => {
                    self.shared.out.lock().pongs += 1;
                    self.shared.wake.notify_one();
                }
                Operation::Info(info) => {
                    let info = session::read_info(&info)?;
                    servers.learn(&info);
                    self.shared.payload_max.store(info.max_payload, Ordering::Relaxed);
                    if info.lame_duck_mode {
                        self.shared.out.lock().open = false;
                    }
                }
                Operation::Error(why) => {
                    // A subject that this user may not use. All other errors end the connection, by the server.
                    tracing::warn!(error = %String::from_utf8_lossy(&why), "NATS, for the outbox");
                }
                Operation::Ok => {}
            }
        }
    }

    async fn write(
        &self,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<std::convert::Infallible, SessionError> {
        loop {
            let next = self.shared.out.lock().next();
            let Some(leaving) = next else {
                self.shared.wake.notified().await;
                continue;
            };
            // Half a batch must not be confirmed by the fence of the next.
            match tokio::time::timeout(CONFIRM_WITHIN, write(writer, &leaving)).await {
                Ok(written) => written?,
                Err(_) => return Err(SessionError::Silent),
            }
        }
    }

    /// A fence that does not come, or that nobody has asked for in a while, is what shows a dead connection.
    async fn look(&self) -> Result<std::convert::Infallible, SessionError> {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        loop {
            tick.tick().await;
            if self.shared.fence_is_late() {
                return Err(SessionError::Silent);
            }
            let mut out = self.shared.out.lock();
            if !out.open && out.is_fenced() {
                return Err(SessionError::LameDuck);
            }
            if out.probe(self.settings.ping_interval) {
                drop(out);
                self.shared.wake.notify_one();
            }
        }
    }
}

/// In time, or the session ends: a node that was stalled in between must not go on with deliveries that another node has
/// made meanwhile.
async fn write(writer: &mut (impl AsyncWrite + Unpin), leaving: &Leaving) -> Result<(), SessionError> {
    let Leaving { bytes, written_by } = leaving;
    let delivers = written_by.is_some();
    let (first, rest) = fault_points::pieces(bytes, delivers);
    timely::write(writer, first, *written_by).await?;
    if !rest.is_empty() {
        fault_points::between_pieces();
        timely::write(writer, rest, *written_by).await?;
    }
    if delivers {
        fault_points::reached(Step::Written);
    }
    Ok(())
}
