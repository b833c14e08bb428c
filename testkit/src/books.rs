//! What did everybody see? One line for each thing that was seen, in files that outlive the run.
//!
//! Lines are only ever added. What they come to is [`crate::checker`]'s to say, now or later.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Lines of one run: some thirty for each message of a run a hundred times the full one.
const LINES_MAX: usize = 30_000_000;

/// What tells one message from all others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    pub tenant: String,
    pub sender: String,
    pub message: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.tenant, self.sender, self.message)
    }
}

/// For whom a message was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// One agent, or one holder of a capability.
    One,
    /// All that match.
    Many,
}

/// What should come of a message, by the policy and by what its reviewers are going to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    Delivered,
    /// By the policy.
    Denied,
    /// Parked, and its reviewers say yes.
    Approved,
    /// Parked, and its reviewers say no.
    Refused,
}

/// Where something still lies when all is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// On the durable lane, not governed yet.
    Inbound,
    DeadLetters,
}

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "saw", rename_all = "snake_case")]
pub enum Seen {
    /// By a sender that waits for its verdict, before its first attempt.
    Sending { key: Key, to: To, fate: Fate },
    /// By that sender: a verdict, each time that it asked. `delivered`: to how many, as it says.
    Answered { key: Key, status: String, reason: String, decision: String, delivered: Option<u32> },
    /// By a recipient that listens, an agent of this tenant.
    Received { key: Key, tenant: String, recipient: String, decision: String },
    /// By a sender of the durable lane, before its first attempt.
    Submitting { key: Key, to: To, fate: Fate },
    /// By a sender, after all its attempts. No status: nobody answered.
    Submitted { key: Key, status: Option<String>, reason: String },
    /// By a recipient, in its durable inbox.
    Read { key: Key, recipient: String, sequence: u64, decision: String, acked: bool },
    /// By whoever is told, in its durable inbox. `delivered`: to how many, as it says.
    Outcome {
        tenant: String,
        reader: String,
        message: String,
        sequence: u64,
        status: String,
        reason: String,
        decision: String,
        delivered: Option<u32>,
    },
    /// By a reviewer, before the vote goes out.
    Voting { key: Key, voter: String, approve: bool },
    /// By a reviewer: the judgement, or why the vote did not count.
    Voted { key: Key, voter: String, answer: String },
    /// In the stream of records.
    Recorded { key: Key, status: String, reason: String, decision: String },
    /// At the end.
    Left { key: Key, place: Place },
    /// A process that was ended, and how.
    Ended { process: String, how: String, millis: u64 },
}

impl Seen {
    /// Whose book it is in.
    fn book(&self) -> &'static str {
        match self {
            Seen::Sending { .. } | Seen::Answered { .. } => "senders",
            Seen::Submitting { .. } | Seen::Submitted { .. } => "senders",
            Seen::Received { .. } | Seen::Read { .. } | Seen::Outcome { .. } => "inboxes",
            Seen::Voting { .. } | Seen::Voted { .. } => "reviewers",
            Seen::Recorded { .. } | Seen::Left { .. } => "audit",
            Seen::Ended { .. } => "ended",
        }
    }
}

const BOOKS: [&str; 5] = ["senders", "inboxes", "reviewers", "audit", "ended"];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Line {
    /// Milliseconds since the epoch.
    at: u64,
    #[serde(flatten)]
    seen: Seen,
}

/// The books of a run while it lasts.
pub struct Books {
    inner: Mutex<Inner>,
}

struct Inner {
    files: BTreeMap<&'static str, BufWriter<File>>,
    seen: Vec<Seen>,
    failed: Option<std::io::Error>,
}

impl Books {
    /// Begins empty books in `folder`.
    pub fn begin(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let mut files = BTreeMap::new();
        for book in BOOKS {
            let path = path(folder, book);
            let file = File::create(&path).with_context(|| path.display().to_string())?;
            files.insert(book, BufWriter::new(file));
        }
        let inner = Inner { files, seen: Vec::new(), failed: None };
        Ok(Self { inner: Mutex::new(inner) })
    }

    /// Begins empty books that end with the run.
    pub fn in_memory() -> Self {
        let inner = Inner { files: BTreeMap::new(), seen: Vec::new(), failed: None };
        Self { inner: Mutex::new(inner) }
    }

    pub fn write(&self, seen: Seen) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let mut inner = self.inner.lock();
        let file = inner.files.get_mut(seen.book());
        let line = Line { at, seen };
        let written = file.map(|file| {
            let json = serde_json::to_string(&line).map_err(std::io::Error::other)?;
            writeln!(file, "{json}")
        });
        if let Some(Err(error)) = written {
            inner.failed.get_or_insert(error);
        }
        if inner.seen.len() < LINES_MAX {
            inner.seen.push(line.seen);
        }
    }

    /// What has been seen so far.
    pub fn with<T>(&self, look: impl FnOnce(&[Seen]) -> T) -> T {
        look(&self.inner.lock().seen)
    }

    /// To the disk. A book that lacks a line proves nothing, so every failed write counts.
    pub fn close(&self) -> anyhow::Result<()> {
        let mut inner = self.inner.lock();
        for file in inner.files.values_mut() {
            file.flush()?;
        }
        ensure!(inner.seen.len() < LINES_MAX, "more than {LINES_MAX} lines: run it with fewer messages");
        match inner.failed.take() {
            Some(error) => Err(error).context("the books could not be written"),
            None => Ok(()),
        }
    }
}

/// Reads the books of a run that is over.
pub fn read(folder: &Path) -> anyhow::Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for book in BOOKS {
        let path = path(folder, book);
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let line: Line = serde_json::from_str(&line?)
                .with_context(|| format!("{}, line {}", path.display(), number + 1))?;
            ensure!(seen.len() < LINES_MAX, "more than {LINES_MAX} lines");
            seen.push(line.seen);
        }
    }
    Ok(seen)
}

fn path(folder: &Path, book: &str) -> PathBuf {
    folder.join(format!("{book}.jsonl"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let books = Books::begin(folder.path()).unwrap();
        let key = Key { tenant: "acme".into(), sender: "planner".into(), message: "m".into() };
        let lines = [
            Seen::Sending { key: key.clone(), to: To::Many, fate: Fate::Delivered },
            Seen::Submitting { key: key.clone(), to: To::One, fate: Fate::Approved },
            Seen::Submitted { key: key.clone(), status: None, reason: "no answer".into() },
            Seen::Voting { key: key.clone(), voter: "judge".into(), approve: true },
            Seen::Left { key, place: Place::DeadLetters },
            Seen::Ended { process: "nats".into(), how: "SIGKILL".into(), millis: 3 },
        ];
        lines.iter().cloned().for_each(|line| books.write(line));
        assert!(books.with(|seen| seen == lines));
        books.close().unwrap();
        assert_eq!(read(folder.path()).unwrap(), lines);
        fs::write(path(folder.path(), "audit"), "{}\n").unwrap();
        let error = read(folder.path()).unwrap_err();
        assert!(error.to_string().contains("audit.jsonl, line 1"), "{error}");
    }
}
