//! How a process ends: signals, cancellation, tracked tasks, a deadline for the drain.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Handed to everything that runs for long. Clones share one fate.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tracker: TaskTracker,
}

impl Shutdown {
    /// Ends when the process is asked to stop.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    pub fn request(&self) {
        self.token.cancel();
    }

    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Every task that must be waited for is spawned here.
    pub fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }

    /// Waits for all tracked tasks, at most so long. `false`: some were still running.
    pub async fn finished_within(&self, limit: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }

    /// Requests the stop on SIGINT or SIGTERM.
    pub fn on_signals(&self) -> std::io::Result<()> {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let token = self.token.clone();
        // Not tracked: it lives as long as the process, and nothing waits for it.
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            token.cancel();
        });
        Ok(())
    }
}
