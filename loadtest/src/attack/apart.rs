//! Whose machine do attackers run on? In real life one of their own: here a runtime of their own, and the bus and the
//! honest agents go first.

use agentbus::cpu;
use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};

/// Enough that no way of taking waits for another; which of them has a core is not for them to say.
const THREADS: usize = 2;

/// Runs what attackers do on threads of the lowest priority. On the runtime where honest agents measure, their answers
/// would wait behind the attackers' own tasks, which says nothing of the bus.
pub(super) struct Apart(Option<Runtime>);

impl Apart {
    pub(super) fn start() -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("attacker")
            .on_thread_start(|| cpu::stand_back(cpu::NICEST))
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Runs it there to its end. A connection lives where it was opened, so attackers connect by this too.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = anyhow::Result<T>> + Send + 'static,
    ) -> anyhow::Result<T> {
        self.0.as_ref().context("the attackers' runtime has ended")?.spawn(work).await?
    }
}

impl Drop for Apart {
    /// Waits for nothing: it is dropped in an async task, where a runtime that waits panics.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
