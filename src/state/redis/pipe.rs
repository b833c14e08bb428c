//! How do many messages share one write to Redis? By a connection of their own, on the thread of the fast lane.
//!
//! What is asked while the thread is busy with other messages goes out in one write behind them, and one read
//! brings the answers of many. With little to do nothing waits. fred costs more for each question, and each message
//! asks twice (`docs/decisions.md`, 60). Where the connection leads to, fred says: it knows of Sentinels
//! and of a server that has moved. While there is none, and with a cluster, fred is asked instead.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{BufMut as _, BytesMut};
use fred::{
    bytes_utils::Str,
    clients::Client,
    error::{Error, ErrorKind},
    interfaces::{ClientLike as _, EventInterface as _},
    prelude::Value,
    types::{Key, config::Server, scripts::Script},
};
use parking_lot::Mutex;
use redis_protocol::resp2::{decode::decode_bytes_mut, types::BytesFrame};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split},
    net::TcpStream,
    sync::{Notify, broadcast::error::RecvError, oneshot},
    task::yield_now,
    time::{interval, sleep, timeout},
};
use tokio_util::either::Either;

use super::{
    connection::Connector,
    refusal::{Code, Refusals, Remedy},
};
use crate::{
    timely,
    tls::{self, TlsConnector, TlsError, TlsStream},
};

/// Questions that wait for an answer.
const WAITING_MAX: usize = 4_096;
/// Bytes of questions that wait to be written.
const COMMANDS_BYTES_MAX: usize = 16 * 1024 * 1024;
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// A connection that is silent for so long while somebody waits is given up.
const SILENT_MAX: Duration = Duration::from_secs(1);
/// What waited for so long to be written is not: by then another node may have taken the message over.
pub(super) const WRITTEN_WITHIN: Duration = Duration::from_millis(500);
/// How often it is looked whether a question is too old.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Between two tries to connect.
const PAUSE: Duration = Duration::from_millis(100);
/// Room for one read of the socket.
const READ_BYTES: usize = 64 * 1024;
/// Of one answer: a verdict, and some.
const ANSWER_MAX: usize = 1024 * 1024;

/// `*3` or `$3`, and the end of the line.
fn count(out: &mut BytesMut, kind: u8, count: usize) {
    out.put_u8(kind);
    out.put_slice(itoa::Buffer::new().format(count).as_bytes());
    out.put_slice(b"\r\n");
}

fn bulk(out: &mut BytesMut, bytes: &[u8]) {
    count(out, b'$', bytes.len());
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
}

fn number(out: &mut BytesMut, number: i64) {
    bulk(out, itoa::Buffer::new().format(number).as_bytes());
}

/// In the clear, or not.
type Stream = Either<TcpStream, TlsStream<TcpStream>>;

type Answer = oneshot::Sender<Result<Value, Error>>;

/// A handle on the connection.
pub(super) struct Pipe(Arc<Shared>);

struct Shared {
    out: Mutex<Out>,
    /// There is something to write.
    wake: Notify,
}

#[derive(Default)]
struct Out {
    /// There is a connection that takes questions.
    open: bool,
    commands: BytesMut,
    /// Since when the first of them waits.
    since: Option<Instant>,
    /// Who waits, in the order of the commands.
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    asked: Instant,
    /// Absent: too late. The answer still comes, and has its place.
    answer: Option<Answer>,
}

impl Pipe {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared { out: Mutex::default(), wake: Notify::new() }))
    }

    /// Its connection, to be kept running on the thread of those who ask most.
    pub(super) fn life(
        &self,
        client: Client,
        connector: &Connector,
        limit: Duration,
        refusals: Arc<Refusals>,
    ) -> Life {
        let (config, tls) = (connector.config(), connector.tls());
        let login = config.password.as_ref().map(|password| {
            let user = config.username.as_ref();
            user.into_iter().chain([password]).map(ToString::to_string).collect()
        });
        Life { shared: Arc::clone(&self.0), client, login, database: config.database, tls, limit, refusals }
    }

    /// Sets the key unless it is there, for so many ms; answers nothing if it was. What was there is not asked
    /// for: it could be of any size. `None` as in [`Pipe::run`].
    pub(super) async fn set_new(&self, key: &Key, entry: &[u8], life: i64) -> Option<Result<Value, Error>> {
        let command = |out: &mut BytesMut| {
            out.put_slice(b"*6\r\n$3\r\nSET\r\n");
            bulk(out, key.as_bytes());
            bulk(out, entry);
            out.put_slice(b"$2\r\nPX\r\n");
            number(out, life);
            out.put_slice(b"$2\r\nNX\r\n");
        };
        self.ask(command).await
    }

    /// Sets the key if it is there, and leaves it its life. `None` as in [`Pipe::run`].
    pub(super) async fn set_there(&self, key: &Key, entry: &[u8]) -> Option<Result<Value, Error>> {
        let command = |out: &mut BytesMut| {
            out.put_slice(b"*5\r\n$3\r\nSET\r\n");
            bulk(out, key.as_bytes());
            bulk(out, entry);
            out.put_slice(b"$2\r\nXX\r\n$7\r\nKEEPTTL\r\n");
        };
        self.ask(command).await
    }

    /// Runs a script by its digest. `None`: there is no connection at the moment, and nothing was asked.
    pub(super) async fn run(
        &self,
        script: &Script,
        key: &Key,
        args: &[Value],
    ) -> Option<Result<Value, Error>> {
        let command = |out: &mut BytesMut| {
            count(out, b'*', args.len() + 4);
            out.put_slice(b"$7\r\nEVALSHA\r\n");
            bulk(out, script.sha1().as_bytes());
            out.put_slice(b"$1\r\n1\r\n");
            bulk(out, key.as_bytes());
            for arg in args {
                match arg {
                    Value::Integer(arg) => number(out, *arg),
                    arg => bulk(out, arg.as_bytes().unwrap_or_default()),
                }
            }
        };
        self.ask(command).await
    }

    async fn ask(&self, command: impl FnOnce(&mut BytesMut)) -> Option<Result<Value, Error>> {
        let (answer, answered) = oneshot::channel();
        {
            let mut out = self.0.out.lock();
            if !out.open {
                return None;
            }
            if out.waiting.len() >= WAITING_MAX || out.commands.len() >= COMMANDS_BYTES_MAX {
                return Some(Err(Error::new(ErrorKind::Backpressure, "too many asks wait for redis")));
            }
            let asked = Instant::now();
            command(&mut out.commands);
            out.since.get_or_insert(asked);
            out.waiting.push_back(Waiting { asked, answer: Some(answer) });
        }
        self.0.wake.notify_one();
        let ended = |_| Err(Error::new(ErrorKind::Canceled, "the connection has ended"));
        Some(answered.await.unwrap_or_else(ended))
    }
}

impl Shared {
    /// Whoever waits hears that the connection has ended, and nothing of it is written on the next.
    fn close(&self) {
        let mut out = self.out.lock();
        *out = Out { commands: std::mem::take(&mut out.commands), ..Out::default() };
        out.commands.clear();
    }

    fn answered(&self, frames: &mut Vec<BytesFrame>, refusals: &Refusals) -> Result<(), Ended> {
        let mut out = self.out.lock();
        let mut moved = None;
        for frame in frames.drain(..) {
            let waiting =
                out.waiting.pop_front().ok_or(Ended::Protocol("an answer that nobody has asked for"))?;
            let value = value(frame);
            if let Err(error) = &value
                && Code::of(error.details()).map(Code::remedy) == Some(Remedy::Reconnect)
            {
                refusals.note(error);
                moved = Some(Ended::WrongServer);
            }
            // One who no longer waits has passed its deadline.
            let _ = waiting.answer.map(|answer| answer.send(value));
        }
        moved.map_or(Ok(()), Err)
    }

    /// Tells those who have waited for too long, and says when the connection is silent.
    fn late(&self, limit: Duration) -> Result<(), Ended> {
        let mut out = self.out.lock();
        let late = |waiting: &&mut Waiting| waiting.asked.elapsed() > limit;
        for waiting in out.waiting.iter_mut().take_while(late) {
            let error = || Err(Error::new(ErrorKind::Timeout, "no answer from redis in time"));
            let _ = waiting.answer.take().map(|answer| answer.send(error()));
        }
        match out.waiting.front() {
            Some(first) if first.asked.elapsed() > SILENT_MAX => Err(Ended::Silent),
            _ => Ok(()),
        }
    }
}

/// The life of the connection.
pub(super) struct Life {
    shared: Arc<Shared>,
    /// Knows where to.
    client: Client,
    /// Password, or user and password.
    login: Option<Vec<String>>,
    database: Option<u8>,
    tls: Option<TlsConnector>,
    limit: Duration,
    refusals: Arc<Refusals>,
}

/// Why a connection could not be had, or has ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("not within {CONNECT_WITHIN:?}")]
    Late,
    #[error("redis has closed it")]
    Closed,
    #[error("redis refuses: {0}")]
    Refused(String),
    #[error("redis does not keep to its protocol: {0}")]
    Protocol(&'static str),
    #[error("no answer for {SILENT_MAX:?}")]
    Silent,
    #[error("it leads to a server that is not the right one, or not any more")]
    WrongServer,
}

/// A life may be dropped in the middle of a session: nobody waits then for what cannot come.
struct Dropped<'a>(&'a Shared);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Life {
    /// One session after the other, until the future is dropped.
    pub(super) async fn run(&self) {
        if self.client.client_config().server.is_clustered() {
            return std::future::pending().await;
        }
        let _dropped = Dropped(&self.shared);
        loop {
            let server = self.client.active_connections().into_iter().next();
            if let Some(server) = server {
                let ended = self.session(&server).await;
                self.shared.close();
                tracing::debug!(%ended, "the fast lane's connection to redis has ended");
            }
            sleep(PAUSE).await;
        }
    }

    async fn session(&self, server: &Server) -> Ended {
        let mut elsewhere = self.client.reconnect_rx();
        let (read, write) = match timeout(CONNECT_WITHIN, self.open(server)).await {
            Ok(Ok(stream)) => split(stream),
            Ok(Err(ended)) => return ended,
            Err(_) => return Ended::Late,
        };
        self.shared.out.lock().open = true;
        let moved = async {
            if let Err(RecvError::Closed) = elsewhere.recv().await {
                std::future::pending::<()>().await;
            }
        };
        let ended = tokio::select! {
            // First what has come: where the loop was busy with other things, Redis is not late.
            biased;
            ended = self.read(read) => ended,
            ended = self.write(write) => ended,
            ended = self.look() => ended,
            // A new connection may lead to another server by the same name.
            () = moved => return Ended::WrongServer,
        };
        let Err(ended) = ended;
        ended
    }

    async fn open(&self, server: &Server) -> Result<Stream, Ended> {
        let stream = TcpStream::connect((&*server.host, server.port)).await?;
        stream.set_nodelay(true)?;
        let mut stream = match &self.tls {
            Some(tls) => Either::Right(tls.connect(tls::server_name(&server.host)?, stream).await?),
            None => Either::Left(stream),
        };
        let (mut commands, mut answers) = (BytesMut::new(), 0);
        if let Some(login) = &self.login {
            count(&mut commands, b'*', login.len() + 1);
            bulk(&mut commands, b"AUTH");
            login.iter().for_each(|word| bulk(&mut commands, word.as_bytes()));
            answers += 1;
        }
        if let Some(database) = self.database {
            commands.put_slice(b"*2\r\n$6\r\nSELECT\r\n");
            bulk(&mut commands, database.to_string().as_bytes());
            answers += 1;
        }
        stream.write_all(&commands).await?;
        stream.flush().await?;
        let mut read = BytesMut::with_capacity(READ_BYTES);
        while answers > 0 {
            while let Some(frame) = next(&mut read)? {
                if let Err(error) = value(frame) {
                    self.refusals.note(&error);
                    return Err(Ended::Refused(error.details().to_owned()));
                }
                answers -= 1;
            }
            if answers > 0 && stream.read_buf(&mut read).await? == 0 {
                return Err(Ended::Closed);
            }
        }
        Ok(stream)
    }

    async fn read(&self, mut stream: ReadHalf<Stream>) -> Result<std::convert::Infallible, Ended> {
        let (mut read, mut frames) = (BytesMut::with_capacity(READ_BYTES), Vec::with_capacity(64));
        loop {
            while let Some(frame) = next(&mut read)? {
                frames.push(frame);
            }
            self.shared.answered(&mut frames, &self.refusals)?;
            read.reserve(READ_BYTES / 4);
            if stream.read_buf(&mut read).await? == 0 {
                return Err(Ended::Closed);
            }
        }
    }

    async fn write(&self, mut stream: WriteHalf<Stream>) -> Result<std::convert::Infallible, Ended> {
        loop {
            let (commands, since) = {
                let mut out = self.shared.out.lock();
                (out.commands.split(), out.since.take())
            };
            if commands.is_empty() {
                self.shared.wake.notified().await;
            } else {
                timely::write(&mut stream, &commands, since.map(|since| since + WRITTEN_WITHIN)).await?;
            }
        }
    }

    async fn look(&self) -> Result<std::convert::Infallible, Ended> {
        let mut tick = interval(LOOK_EVERY);
        loop {
            let before = Instant::now();
            tick.tick().await;
            if before.elapsed() > LOOK_EVERY * 2 {
                // The loop was busy with other things: what has come meanwhile is not read yet.
                yield_now().await;
            }
            self.shared.late(self.limit)?;
        }
    }
}

/// Takes one answer from the front of what was read.
fn next(read: &mut BytesMut) -> Result<Option<BytesFrame>, Ended> {
    if read.is_empty() {
        return Ok(None);
    }
    match decode_bytes_mut(read) {
        Ok(Some((frame, ..))) => Ok(Some(frame)),
        Ok(None) if read.len() > ANSWER_MAX => Err(Ended::Protocol("an answer without an end")),
        Ok(None) => Ok(None),
        Err(_) => Err(Ended::Protocol("an answer that is none")),
    }
}

/// As fred has it.
fn value(frame: BytesFrame) -> Result<Value, Error> {
    Ok(match frame {
        BytesFrame::Error(error) => return Err(Error::new(ErrorKind::Unknown, error.to_string())),
        BytesFrame::SimpleString(bytes) | BytesFrame::BulkString(bytes) => {
            Str::from_inner(bytes).map_or_else(|error| Value::Bytes(error.into_inner()), Value::String)
        }
        BytesFrame::Integer(number) => Value::Integer(number),
        BytesFrame::Null => Value::Null,
        BytesFrame::Array(frames) => Value::Array(frames.into_iter().map(value).collect::<Result<_, _>>()?),
    })
}
