//! What has arrived? Counted, and told to who waits for a certain message.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Of all recipients of this process.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    count: AtomicU64,
    /// By message id. As many as there are messages on their way.
    waiting: Mutex<HashMap<String, oneshot::Sender<()>>>,
}

impl Arrivals {
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn arrived(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn arrived_id(&self, id: &str) {
        self.arrived();
        if let Some(waiting) = self.waiting.lock().remove(id) {
            // Who has stopped waiting has counted it as a failure.
            let _ = waiting.send(());
        }
    }

    pub(super) fn wait_for(&self, id: &str) -> oneshot::Receiver<()> {
        let (told, waits) = oneshot::channel();
        self.waiting.lock().insert(id.to_owned(), told);
        waits
    }

    pub(super) fn forget(&self, id: &str) {
        self.waiting.lock().remove(id);
    }
}
