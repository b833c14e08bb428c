//! Does a node have the last state of what all nodes follow, and since when does it not?

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

/// It cannot be looked at for so long, and that is told.
const UNREAD_FOR: Duration = Duration::from_secs(15);

/// How well one state is followed.
pub struct Following {
    ready: watch::Sender<bool>,
    /// Somebody knows of a later state.
    look: Notify,
    read: Mutex<Read>,
}

struct Read {
    at: Instant,
    trouble: Option<String>,
}

/// What is to be told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// It was never read.
    NotYet(String),
    /// There may be a later one.
    Stale(String),
    Current,
}

impl Default for Following {
    fn default() -> Self {
        let read = Read { at: Instant::now(), trouble: None };
        Self { ready: watch::Sender::new(false), look: Notify::new(), read: Mutex::new(read) }
    }
}

impl Following {
    /// It was looked at just now, whether it has changed or not.
    pub fn looked(&self, trouble: Option<String>) {
        let mut read = self.read.lock();
        if trouble.is_none() {
            read.at = Instant::now();
            self.ready.send_replace(true);
        }
        read.trouble = trouble;
    }

    /// A later state than this node's was heard of.
    pub fn look_again(&self) {
        self.look.notify_one();
    }

    /// Waits until somebody has heard of a later state.
    pub async fn wanted(&self) {
        self.look.notified().await;
    }

    /// Waits until it was read once; the caller bounds the wait.
    pub async fn ready(&self) {
        // Cannot fail: the sender lives in `self`.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    pub fn followed(&self) -> Followed {
        let read = self.read.lock();
        match &read.trouble {
            why if !*self.ready.borrow() => {
                Followed::NotYet(why.clone().unwrap_or_else(|| "not read yet".to_owned()))
            }
            Some(why) if read.at.elapsed() > UNREAD_FOR => Followed::Stale(why.clone()),
            _ => Followed::Current,
        }
    }
}
