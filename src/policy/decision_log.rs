//! What did the policy see, and what did it say? A share of the decisions, each as an event in OPA's format, so that
//! another policy can be asked the same later.
//!
//! No message waits for it: what was decided goes over a bounded queue to a thread of its own, which writes the event,
//! lets `data.system.log` take out what nobody is to see, and hands it on. What is lost is counted and said in the log.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{Decision, Event, Meter, PolicyEngine, PolicyError, Question, owned::Owned, rego::LogPolicy};
use crate::{
    domain::{AgentId, TenantId, Timestamp},
    trouble::Trouble,
};

mod event;
mod file;
mod mask;
mod recorded;
mod writer;

pub(super) use event::result as as_json;
use file::EventFile;
pub(super) use recorded::decision as from_json;
pub use recorded::{Recorded, Unreadable};
use writer::Writer;

/// Bytes of all decisions that wait to be written, or to be kept by the bus.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What one takes beside its message.
const BESIDE_BYTES: usize = 2 * 1024;
/// Events that are written and wait for the bus.
const WRITTEN_MAX: usize = 256;

/// Which decisions are logged, and how.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Of the messages, 0 to 1. 0: the log is off.
    pub share: f64,
    /// Whether events have the content and metadata of messages.
    pub content: bool,
    /// Where they are written besides, as lines of JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

impl Settings {
    pub fn is_on(&self) -> bool {
        self.share > 0.0
    }

    /// Whether the file could be written. Makes none.
    pub fn check(&self) -> io::Result<()> {
        match &self.file {
            Some(file) if self.is_on() => EventFile::check(file),
            _ => Ok(()),
        }
    }
}

/// Where decisions are told.
pub struct DecisionLog {
    share: f64,
    queue: mpsc::Sender<Decided>,
    /// In bytes. Each decision gives its own back when it is kept, or lost.
    room: Arc<Semaphore>,
    clock: fn() -> Timestamp,
    losses: Losses,
}

/// What a decision was, and how it came.
pub(super) struct Told<'a> {
    pub(super) id: &'a str,
    pub(super) question: &'a Question<'a>,
    pub(super) engine: &'a dyn PolicyEngine,
    pub(super) answer: &'a Result<Arc<Decision>, PolicyError>,
    pub(super) took: Duration,
    /// It was remembered.
    pub(super) cached: bool,
}

/// The same, on its way to the thread.
struct Decided {
    id: String,
    question: Owned,
    revision: Arc<str>,
    log_policy: Option<Arc<LogPolicy>>,
    answer: Result<Arc<Decision>, PolicyError>,
    took: Duration,
    cached: bool,
    at: Timestamp,
    room: OwnedSemaphorePermit,
}

/// One that is written, to be kept.
pub struct Written {
    pub tenant: TenantId,
    pub sender: AgentId,
    pub decision_id: String,
    /// JSON.
    pub event: Bytes,
    _room: OwnedSemaphorePermit,
}

/// What is written, for whoever keeps it.
pub struct WrittenEvents {
    written: tokio::sync::Mutex<mpsc::Receiver<Written>>,
    losses: Losses,
}

impl DecisionLog {
    /// Starts its thread, which ends with the log.
    pub fn start(
        settings: &Settings,
        node: &str,
        meter: Arc<dyn Meter>,
        clock: fn() -> Timestamp,
    ) -> io::Result<(Self, WrittenEvents)> {
        let losses = Losses { meter, trouble: Arc::default() };
        let (queue, decided) = mpsc::channel(WAITING_BYTES_MAX / BESIDE_BYTES);
        let (written, events) = mpsc::channel(WRITTEN_MAX);
        let writer = Writer::new(settings, node, losses.clone())?;
        std::thread::Builder::new()
            .name("decision-log".to_owned())
            .spawn(move || writer.run(decided, &written))?;
        let room = Arc::new(Semaphore::new(WAITING_BYTES_MAX));
        let log = Self { share: settings.share, queue, room, clock, losses: losses.clone() };
        Ok((log, WrittenEvents { written: tokio::sync::Mutex::new(events), losses }))
    }

    /// Whether the decisions about this message are logged: the same on each node, and all of its recipients or none.
    pub(super) fn takes(&self, decision_id: &str) -> bool {
        is_in_share(decision_id, self.share)
    }

    /// Never waits.
    pub(super) fn tell(&self, told: &Told<'_>) {
        let bytes = u32::try_from(told.question.size + BESIDE_BYTES).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(bytes) else {
            return self.losses.lost("decisions come faster than the log is kept");
        };
        let decided = Decided {
            id: told.id.to_owned(),
            question: Owned::of(told.question),
            revision: Arc::clone(told.engine.revision()),
            log_policy: told.engine.log_policy(),
            answer: told.answer.clone(),
            took: told.took,
            cached: told.cached,
            at: (self.clock)(),
            room,
        };
        if self.queue.try_send(decided).is_err() {
            self.losses.lost("decisions come faster than the log is kept");
        }
    }

    /// Why events were lost of late, or what is missing in them, for people.
    pub fn trouble(&self) -> Option<String> {
        self.losses.trouble.problem()
    }

    /// Waits until all that was told is kept. `false`: it was not in time.
    pub async fn flush(&self, within: Duration) -> bool {
        let all = u32::try_from(WAITING_BYTES_MAX).unwrap_or(u32::MAX);
        tokio::time::timeout(within, self.room.acquire_many(all)).await.is_ok()
    }
}

impl WrittenEvents {
    /// `None`: the log has ended.
    pub async fn next(&self) -> Option<Written> {
        self.written.lock().await.recv().await
    }

    pub fn kept(&self) {
        self.losses.meter.see(Event::Logged);
    }

    pub fn lost(&self, why: &str) {
        self.losses.lost(why);
    }
}

/// Counts what is lost, and says so.
#[derive(Clone)]
struct Losses {
    meter: Arc<dyn Meter>,
    trouble: Arc<Trouble>,
}

impl Losses {
    fn lost(&self, why: &str) {
        self.meter.see(Event::LogLost);
        self.told(why, "decisions are missing from the log");
    }

    fn lost_by_file(&self, why: &str) {
        self.meter.see(Event::LogFileLost);
        self.told(why, "decisions are missing from the file of the log");
    }

    /// The node's log says when it begins, and the numbers how many there are.
    fn told(&self, why: &str, what: &'static str) {
        if self.trouble.problem().is_none() {
            tracing::warn!(why, "{what}");
        }
        self.trouble.begins(why.to_owned());
    }
}

/// Whether a message is in a share of all, by its decision id.
fn is_in_share(decision_id: &str, share: f64) -> bool {
    if share <= 0.0 || decision_id.is_empty() {
        return false;
    }
    let mut hasher = DefaultHasher::new();
    decision_id.hash(&mut hasher);
    // The upper half, as a number from 0 to 1.
    f64::from((hasher.finish() >> 32) as u32) < share * f64::from(u32::MAX) || share >= 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_messages_is_taken_and_always_the_same() {
        let ids: Vec<String> = (0..10_000).map(|_| nuid::next().to_string()).collect();
        let taken = |share: f64| ids.iter().filter(|id| is_in_share(id, share)).count();
        assert_eq!((taken(0.0), taken(1.0)), (0, ids.len()));
        assert!((900..1_100).contains(&taken(0.1)), "{}", taken(0.1));
        assert!(
            ids.iter().all(|id| !is_in_share(id, 0.1) || is_in_share(id, 0.2)),
            "a larger share has all of it"
        );
        assert!(!is_in_share("", 1.0), "who has no decision id cannot be found again");
    }
}
