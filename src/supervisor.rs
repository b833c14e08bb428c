//! Which tasks does a node need, and what happens when one ends? It is started again; or, if that does not
//! help, the node ends with a word. A part that is dead and unseen would be the worst: healthy to look at, and
//! deaf.

use std::{
    collections::VecDeque,
    future::poll_fn,
    panic::{AssertUnwindSafe, resume_unwind},
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// So many restarts of one part within [`WITHIN`] do not help.
const RESTARTS_MAX: usize = 5;
const WITHIN: Duration = Duration::from_secs(60);
/// Before the first restart; the double before the second, and so on.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs one poll of a part, and may look at the clock before and after it.
pub type PollTimer = Box<dyn Fn(&'static str, &mut dyn FnMut()) + Send + Sync>;

/// The parts of a node. Clones share them.
#[derive(Clone, Default)]
pub struct Supervisor(Arc<Inner>);

#[derive(Default)]
struct Inner {
    parts: Mutex<Vec<Arc<Part>>>,
    failed: Mutex<Option<String>>,
    /// Something cannot be mended.
    fatal: CancellationToken,
    timer: OnceLock<PollTimer>,
}

struct Part {
    name: &'static str,
    /// When it was started again.
    restarts: Mutex<VecDeque<Instant>>,
    end: Notify,
    /// Somebody wants it to begin anew.
    renew: Notify,
    counts: Counts,
}

/// How often a part has begun again since the node began.
#[derive(Default)]
struct Counts {
    restarted: AtomicU64,
    renewed: AtomicU64,
}

impl Supervisor {
    /// Whoever is named first times the polls of all parts.
    pub fn timed_by(&self, timer: PollTimer) {
        let _ = self.0.timer.set(timer);
    }

    /// Keeps what `make` makes running until `stop`, and drops it then: a future that ends or panics before is
    /// made anew.
    ///
    /// Supervisor of one name count as one, such as a loop for each tenant.
    pub fn keep<F>(
        &self,
        name: &'static str,
        tracker: &TaskTracker,
        stop: CancellationToken,
        make: impl Fn() -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let stopped = stop.clone();
        self.keep_draining(name, tracker, stop, move || {
            let (run, stopped) = (make(), stopped.clone());
            async move {
                let _ = stopped.run_until_cancelled(run).await;
            }
        });
    }

    /// The same for a future that has to finish something after `stop`, and ends by itself then.
    pub fn keep_draining<F>(
        &self,
        name: &'static str,
        tracker: &TaskTracker,
        stop: CancellationToken,
        make: impl Fn() -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        self.kept(name, tracker, stop, true, make);
    }

    /// The same for what a part of this name has begun: where the part begins anew, it stops this and begins another.
    pub fn keep_below<F>(
        &self,
        name: &'static str,
        tracker: &TaskTracker,
        stop: CancellationToken,
        make: impl Fn() -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        self.kept(name, tracker, stop, false, make);
    }

    fn kept<F>(
        &self,
        name: &'static str,
        tracker: &TaskTracker,
        stop: CancellationToken,
        begins_anew: bool,
        make: impl Fn() -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let (supervisor, part) = (self.clone(), self.part(name));
        tracker.spawn(async move {
            loop {
                let run = AssertUnwindSafe(supervisor.timed(&part, make())).catch_unwind();
                let ended = tokio::select! {
                    ended = run => ended,
                    // It has not failed, so it is not counted among the restarts.
                    () = part.renew.notified(), if begins_anew => {
                        part.counts.renewed.fetch_add(1, Ordering::Relaxed);
                        tracing::info!(part = part.name, "a part of the node begins anew, as it was told to");
                        continue;
                    }
                };
                if stop.is_cancelled() || supervisor.0.fatal.is_cancelled() {
                    return;
                }
                let how = if ended.is_err() { "panicked" } else { "ended" };
                let Some(pause) = supervisor.again(&part, how) else { return };
                if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    return;
                }
            }
        });
    }

    /// For what runs on a thread of its own and begins anew there: whether it should, and after which pause.
    pub fn restart(&self, name: &'static str) -> Option<Duration> {
        self.again(&self.part(name), "ended")
    }

    /// Runs within a part on a thread of its own, so that [`Supervisor::end`] reaches it.
    pub async fn within<T>(&self, name: &'static str, run: impl Future<Output = T>) -> T {
        self.timed(&self.part(name), run).await
    }

    /// The node cannot go on; the first reason counts.
    pub fn fail(&self, why: String) {
        tracing::error!(why, "the node ends: a part of it cannot be mended");
        self.0.failed.lock().get_or_insert(why);
        self.0.fatal.cancel();
    }

    /// Waits until something cannot be mended.
    pub async fn failed(&self) {
        self.0.fatal.cancelled().await;
    }

    /// What it was.
    pub fn failure(&self) -> Option<String> {
        self.0.failed.lock().clone()
    }

    /// All that have ever run.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.parts.lock().iter().map(|part| part.name).collect()
    }

    /// How often a part was started again of late.
    pub fn restarts(&self, name: &str) -> usize {
        let parts = self.0.parts.lock();
        let part = parts.iter().find(|part| part.name == name);
        part.map_or(0, |part| part.restarts.lock().iter().filter(|at| at.elapsed() <= WITHIN).count())
    }

    /// Of each part, how often it was started again, and how often it began anew as it was told to, since the node began.
    pub fn begun_again(&self) -> Vec<(&'static str, u64, u64)> {
        let counts = |part: &Arc<Part>| {
            let Counts { restarted, renewed } = &part.counts;
            (part.name, restarted.load(Ordering::Relaxed), renewed.load(Ordering::Relaxed))
        };
        self.0.parts.lock().iter().map(counts).collect()
    }

    /// What runs of a part is dropped and begun anew at once; whether there is such a part. It must not be one that has to
    /// finish something.
    pub fn renew(&self, name: &str) -> bool {
        let parts = self.0.parts.lock();
        let part = parts.iter().find(|part| part.name == name);
        part.inspect(|part| part.renew.notify_waiters()).is_some()
    }

    /// Makes a part panic where it waits, to see what happens then.
    pub fn end(&self, name: &str) {
        for part in self.0.parts.lock().iter().filter(|part| part.name == name) {
            part.end.notify_waiters();
        }
    }

    async fn timed<T>(&self, part: &Part, run: impl Future<Output = T>) -> T {
        let mut run = pin!(part.endable(run));
        let Some(timer) = self.0.timer.get() else { return run.await };
        poll_fn(|context| {
            let mut polled = Poll::Pending;
            timer(part.name, &mut || polled = run.as_mut().poll(context));
            polled
        })
        .await
    }

    fn part(&self, name: &'static str) -> Arc<Part> {
        let mut parts = self.0.parts.lock();
        if let Some(part) = parts.iter().find(|part| part.name == name) {
            return Arc::clone(part);
        }
        let part = Arc::new(Part {
            name,
            restarts: Mutex::default(),
            end: Notify::new(),
            renew: Notify::new(),
            counts: Counts::default(),
        });
        parts.push(Arc::clone(&part));
        part
    }

    /// `None`: it was tried often enough, and the node ends.
    fn again(&self, part: &Part, how: &str) -> Option<Duration> {
        let mut restarts = part.restarts.lock();
        while restarts.front().is_some_and(|at| at.elapsed() > WITHIN) {
            restarts.pop_front();
        }
        if restarts.len() >= RESTARTS_MAX {
            drop(restarts);
            self.fail(format!("{} {how} {RESTARTS_MAX} times within {WITHIN:?}", part.name));
            return None;
        }
        let pause = PAUSE * (1 << restarts.len());
        restarts.push_back(Instant::now());
        part.counts.restarted.fetch_add(1, Ordering::Relaxed);
        tracing::error!(part = part.name, how, "a part of the node has ended; it is started again");
        Some(pause)
    }
}

impl Part {
    async fn endable<T>(&self, run: impl Future<Output = T>) -> T {
        tokio::select! {
            value = run => value,
            () = self.end.notified() => resume_unwind(Box::new("ended on purpose")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a part that panics is what this is about")]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_that_ends_or_panics_runs_again() {
        let (supervisor, tracker, stop) =
            (Supervisor::default(), TaskTracker::new(), CancellationToken::new());
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        supervisor.keep("p", &tracker, stop.clone(), move || {
            let run = counted.fetch_add(1, Ordering::Relaxed);
            async move {
                match run {
                    0 => {}
                    1 => panic!("on purpose"),
                    _ => std::future::pending().await,
                }
            }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((runs.load(Ordering::Relaxed), supervisor.restarts("p")), (3, 2));
        supervisor.end("p");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((runs.load(Ordering::Relaxed), supervisor.restarts("p")), (4, 3));
        assert!(supervisor.renew("p") && !supervisor.renew("q"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((runs.load(Ordering::Relaxed), supervisor.restarts("p")), (5, 3), "that is no restart");
        stop.cancel();
        tracker.close();
        tracker.wait().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_does_not_stay_ends_the_node_with_a_word() {
        let (supervisor, tracker) = (Supervisor::default(), TaskTracker::new());
        supervisor.keep("p", &tracker, CancellationToken::new(), || async {});
        assert!(tokio::time::timeout(Duration::from_secs(30), supervisor.failed()).await.is_ok());
        assert!(supervisor.failure().is_some_and(|why| why.starts_with("p ended 5 times")));
    }
}
