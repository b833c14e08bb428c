//! What did the policy see, and what did it say? A share of the decisions, each as an event in OPA's format, so that
//! another policy can be asked the same later.
//!
//! No message waits for it: what was decided goes over a bounded queue to a thread of its own, which writes the event,
//! lets `data.system.log` take out what nobody is to see, and hands it on. What is lost is counted and said in the log.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{
    Event, Meter,
    decided::{Told, Waiting, is_in_share},
};
use crate::{
    domain::{AgentId, TenantId, Timestamp},
    trouble::Trouble,
};

pub(super) mod event;
mod file;
mod mask;
mod recorded;
pub(super) mod visible;
mod writer;

pub(super) use event::result as as_json;
use file::EventFile;
pub(super) use recorded::decision as from_json;
pub use recorded::{Recorded, Unreadable};
use writer::Writer;

/// Bytes of all decisions that wait to be written, or to be kept by the bus.
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
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
    waiting: Waiting,
    losses: Losses,
}

/// One that is written, to be kept.
pub struct Written {
    pub tenant: TenantId,
    pub sender: AgentId,
    pub decision_id: String,
    /// JSON.
    pub event: Bytes,
    /// Given back when it is kept, or lost.
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
        let (waiting, decided) = Waiting::new(1, WAITING_BYTES_MAX, clock);
        let (written, events) = mpsc::channel(WRITTEN_MAX);
        let writer = Writer::new(settings, node, losses.clone())?;
        std::thread::Builder::new()
            .name("decision-log".to_owned())
            .spawn(move || writer.run(decided, &written))?;
        let log = Self { share: settings.share, waiting, losses: losses.clone() };
        Ok((log, WrittenEvents { written: tokio::sync::Mutex::new(events), losses }))
    }

    /// Whether the decisions about this message are logged: the same on each node, and all of its recipients or none.
    pub(super) fn takes(&self, decision_id: &str) -> bool {
        is_in_share(decision_id, self.share)
    }

    /// Never waits.
    pub(super) fn tell(&self, told: &Told<'_>) {
        if !self.waiting.tell(told) {
            self.losses.lost("decisions come faster than the log is kept");
        }
    }

    /// Why events were lost of late, or what is missing in them, for people.
    pub fn trouble(&self) -> Option<String> {
        self.losses.trouble.problem()
    }

    /// Waits until all that was told is kept. `false`: it was not in time.
    pub async fn flush(&self, within: Duration) -> bool {
        self.waiting.is_done(within).await
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
