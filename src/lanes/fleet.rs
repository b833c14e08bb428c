//! What do nodes share where a limit counts for all of them: whom they ask, and how many they are.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use tokio_util::task::TaskTracker;

use crate::state::{Leased, SharedLimits, StoreError};

/// The accounts of all nodes together, as one node reaches them. Clones are the same fleet.
#[derive(Clone)]
pub struct Fleet {
    limits: Arc<dyn SharedLimits>,
    /// For what is asked while messages go on.
    tasks: TaskTracker,
    /// How many nodes there are, as far as this one hears.
    nodes: Arc<AtomicU32>,
}

impl Fleet {
    pub fn new(limits: Arc<dyn SharedLimits>, tasks: TaskTracker) -> Self {
        Self { limits, tasks, nodes: Arc::new(AtomicU32::new(1)) }
    }

    /// So many nodes are heard, this one included.
    pub(super) fn heard(&self, nodes: usize) {
        self.nodes.store(u32::try_from(nodes).unwrap_or(u32::MAX).max(1), Ordering::Relaxed);
    }

    pub(super) fn nodes(&self) -> u32 {
        self.nodes.load(Ordering::Relaxed)
    }

    /// Asks while messages go on, and hands the answer to who wanted it.
    pub(super) fn ask<F>(
        &self,
        question: impl FnOnce(Arc<dyn SharedLimits>) -> F,
        told: impl FnOnce(Result<Leased, StoreError>) + Send + 'static,
    ) where
        F: Future<Output = Result<Leased, StoreError>> + Send + 'static,
    {
        let answer = question(Arc::clone(&self.limits));
        self.tasks.spawn(async move { told(answer.await) });
    }
}
