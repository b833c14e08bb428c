//! How a process ends: signals, cancellation, tracked tasks, a deadline for the drain.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Handed to everything that runs for long. Clones share one fate.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tracker: TaskTracker,
    works: Arc<AtomicBool>,
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

    /// From now on there is something to be finished before the end.
    pub fn work_begins(&self) {
        self.works.store(true, Ordering::Relaxed);
    }

    pub fn has_work(&self) -> bool {
        self.works.load(Ordering::Relaxed)
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
        self.on_any(&[SignalKind::interrupt(), SignalKind::terminate()])
    }

    /// The same for what a person runs in a terminal: that it is closed (SIGHUP) ends it in order, too.
    pub fn on_terminal_signals(&self) -> std::io::Result<()> {
        self.on_signals()?;
        if hangup_is_ignored() { Ok(()) } else { self.on_any(&[SignalKind::hangup()]) }
    }

    fn on_any(&self, kinds: &[SignalKind]) -> std::io::Result<()> {
        for kind in kinds {
            let mut signals = signal(*kind)?;
            let token = self.token.clone();
            // Not tracked: it lives as long as the process, and nothing waits for it.
            tokio::spawn(async move {
                signals.recv().await;
                token.cancel();
            });
        }
        Ok(())
    }
}

/// Whether this process was started to outlive its terminal, as `nohup` does it. Handling SIGHUP would
/// undo that. Not known where there is no /proc.
pub fn hangup_is_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, HANGUP))
}

/// SIGHUP's number.
const HANGUP: u32 = 1;

/// Whether the status of a process says that it ignores a signal.
fn ignores(status: &str, signal: u32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_a_signal_is_ignored_is_read_off_the_status() {
        for (status, ignored) in [
            ("Name:\tnohup\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000000\n", true),
            ("Name:\tnode\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n", false),
            ("SigIgn:\tnonsense\n", false),
            ("", false),
        ] {
            assert_eq!(ignores(status, HANGUP), ignored, "{status}");
        }
    }
}
