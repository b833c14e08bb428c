//! Requests in and answers out: the one connection of a node to whose subjects strangers can write.
//!
//! Its reader is our own, because the client library reads the headers and subjects of a message as it
//! comes and ends the connection, or its task for good, on bytes that nats-server hands on as they are
//! (nats.rs pull request 1612). Here any bytes make a message: what cannot be read of it counts as absent.
//! All other connections of a node hear only what the bus and the server write (ARCHITECTURE.md lists them).
//!
//! A message is handed on where it is read, by a function that never waits. So nothing queues
//! here, and what the server has sent before it confirms an unsubscribe has been taken by then.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{BufMut as _, BytesMut};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::{BusError, Link};
use crate::{config, telemetry::Metrics};

pub(super) mod codec;
mod headers;
mod life;
pub(super) mod session;
mod turn;

use codec::BadSubject;
pub(super) use codec::{Incoming, Publish, Words};
pub(super) use headers::Headers;
pub(super) use life::Life;

/// Bytes of answers that wait to be written; NATS takes nothing when there are more.
const ANSWERS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Round trips that are waited for at one time.
const ROUND_TRIPS_MAX: usize = 1_024;
/// One subject to listen to.
#[derive(Clone)]
pub(super) struct Subscription<S> {
    pub(super) subject: String,
    pub(super) queue: Option<&'static str>,
    /// What is told to the handler.
    pub(super) source: S,
}

/// How much of its loop's turn a message takes where it is read.
pub(super) enum Took {
    /// It was answered, waits, begins as one of a few, or is dropped.
    Little,
    /// There is no room for more of its sender.
    Refused(Option<Again>),
    /// Work on it begins, however much else does.
    Work,
}

/// Refuses what follows on the same subject in the same turn, as long as nothing can come free. `false`: it is another
/// case, and nothing was done.
pub(super) type Again = Box<dyn Fn(&Incoming) -> bool + Send>;

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
    /// It was, at some time.
    was_connected: AtomicBool,
    link: Mutex<Option<Link>>,
    payload_max: AtomicUsize,
    /// When a message to ourselves last came back.
    round_trip: Mutex<Option<Instant>>,
    /// When any message last came.
    heard: Mutex<Option<Instant>>,
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
        handler: impl Fn(&S, Incoming) -> Took + Send + Sync + 'static,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Life<S>), BusError> {
        let shared = Arc::new(Shared {
            out: Mutex::default(),
            wake: Notify::new(),
            connected: AtomicBool::new(false),
            was_connected: AtomicBool::new(false),
            link: Mutex::default(),
            payload_max: AtomicUsize::new(0),
            round_trip: Mutex::new(None),
            heard: Mutex::new(None),
            listens: subscriptions.iter().enumerate().map(|(index, s)| Listens::new(index, s)).collect(),
            metrics,
        });
        let life = Life::new(name, settings, Arc::clone(&shared), subscriptions, Box::new(handler))?;
        Ok((Self(shared), life))
    }

    /// Queues an answer; never waits.
    pub(super) fn publish(&self, to: &[u8], headers: &[(&str, &str)], payload: &[u8]) -> Result<(), NotSent> {
        let message = Publish { subject: to, reply: None, headers, payload };
        let bytes = codec::header_bytes(headers) + payload.len();
        self.queue(bytes, ANSWERS_BYTES_MAX, |out| codec::publish(out, &message))
    }

    /// Who is refused is told by words that others hear as well. These leave room for answers that matter more.
    pub(super) fn refuse(&self, to: &[u8], words: &Words) -> Result<(), NotSent> {
        self.queue(words.len(), ANSWERS_BYTES_MAX / 2, |out| words.publish(to, out))
    }

    /// `bytes`: of its headers and its payload. `most`: that may wait with it.
    fn queue(
        &self,
        bytes: usize,
        most: usize,
        write: impl FnOnce(&mut BytesMut) -> Result<(), BadSubject>,
    ) -> Result<(), NotSent> {
        let max = self.0.payload_max.load(Ordering::Relaxed);
        // The server ends a connection that sends more.
        if max > 0 && bytes > max {
            return Err(NotSent::TooLarge { bytes, max });
        }
        let mut out = self.0.out.lock();
        if out.answers.len() + bytes > most {
            return Err(NotSent::Full);
        }
        write(&mut out.answers).map_err(|_| NotSent::Subject)?;
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
        self.disconnected();
        *self.link.lock() = None;
        out.control.clear();
        out.pongs.clear();
    }

    fn connected(&self) {
        let again = self.was_connected.swap(true, Ordering::Relaxed);
        self.connected.store(true, Ordering::Relaxed);
        self.metrics.nats.connected(again);
    }

    fn disconnected(&self) {
        if self.connected.swap(false, Ordering::Relaxed) {
            self.metrics.nats.disconnected();
        }
    }
}
