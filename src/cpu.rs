//! Who computes what takes long, and on which thread? Named threads, one bounded queue, tenants in turn.
//!
//! What takes more than some 200 µs of a processor (a rule of the operator's, a large body) would hold up
//! every other message on the runtime's thread that it ran on. Here it holds up its own tenant at most: each
//! has a place in line of its own, and never all of the threads. Knows nothing of what it runs.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::domain::TenantId;

mod queue;

use queue::Queue;

/// Bytes of a body that are read or written in less than 200 µs, so a hand-over is not worth its while: the
/// worst that is known takes 14 ns for each (`cargo bench --bench worst`).
pub const BYTES_HERE_MAX: usize = 6 * 1024;

/// What is computed, for the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Work {
    Decode,
    Policy,
    /// The bytes of a delivery.
    Encode,
    /// The log of a deliberation.
    Deliberation,
}

impl Work {
    pub const ALL: &[Work] = &[Work::Decode, Work::Policy, Work::Encode, Work::Deliberation];

    pub fn as_str(self) -> &'static str {
        match self {
            Work::Decode => "decode",
            Work::Policy => "policy",
            Work::Encode => "encode",
            Work::Deliberation => "deliberation",
        }
    }
}

/// How many threads, how many jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuSettings {
    /// At least 1.
    pub threads: usize,
    /// Jobs that wait at one time, of one tenant up to half of them; at least 1.
    pub queue: usize,
}

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpuError {
    #[error("{waiting} jobs of the tenant wait already")]
    Busy { waiting: usize },
    #[error("no thread had time for it within {limit:?}")]
    Late { limit: Duration },
    #[error("it was not done {limit:?} after it had begun")]
    Overran { limit: Duration },
    #[error("it panicked")]
    Panicked,
    #[error("the node is stopping")]
    Stopping,
}

/// What happens in the pool.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    Queued {
        waiting: usize,
    },
    Taken {
        waiting: usize,
        waited: Duration,
    },
    /// Nobody waited for it any more.
    Skipped,
    Ran {
        work: Work,
        took: Duration,
    },
    Panicked,
    /// Found no room.
    Refused,
}

/// Who is told.
pub trait Meter: Send + Sync {
    fn see(&self, event: Event);
}

/// Nobody.
impl Meter for () {
    fn see(&self, _: Event) {}
}

/// The niceness of what nobody waits for.
pub const NICEST: u8 = 19;

/// Lets other threads go first, from 0, not at all, to [`NICEST`] (Linux): what reads and answers messages needs little,
/// and needs it soon.
pub fn stand_back(nice: u8) {
    if nice == 0 || !cfg!(target_os = "linux") {
        return;
    }
    // On Linux niceness is a thread's own, and no process means the calling thread.
    if let Err(error) = rustix::process::setpriority_process(None, nice.into()) {
        tracing::warn!(%error, nice, "the thread keeps its priority");
    }
}

/// One job in the queue.
trait Job: Send {
    /// Nobody waits for it any more.
    fn abandoned(&self) -> bool;

    /// Runs it and answers. `false`: it panicked.
    fn run(self: Box<Self>) -> bool;
}

struct Call<F, T> {
    job: F,
    reply: oneshot::Sender<Result<T, CpuError>>,
    begun: Arc<OnceLock<Instant>>,
    /// Of who asked, so that what happens on the thread is told with the message it happens to.
    span: tracing::Span,
}

impl<T: Send, F: FnOnce() -> T + Send> Job for Call<F, T> {
    fn abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn run(self: Box<Self>) -> bool {
        let Self { job, reply, begun, span } = *self;
        let _ = begun.set(Instant::now());
        let done = catch_unwind(AssertUnwindSafe(|| span.in_scope(job))).map_err(|_| CpuError::Panicked);
        let whole = done.is_ok();
        if !whole {
            span.in_scope(|| tracing::error!("computing for a message panicked; the thread goes on"));
        }
        // Gone in the meantime: nobody is left to tell.
        let _ = reply.send(done);
        whole
    }
}

/// The threads and their queue. Dropped, its threads end by themselves.
pub struct Cpu {
    queue: Arc<Queue>,
    threads: parking_lot::Mutex<Vec<JoinHandle<()>>>,
    meter: Arc<dyn Meter>,
    wait_max: Duration,
    run_max: Duration,
}

impl Cpu {
    /// What has not begun by then will not end within a message's deadline either.
    pub const WAIT_MAX: Duration = Duration::from_millis(400);
    /// From its beginning. Who asked waits no longer; the thread is busy for as long as it takes.
    pub const RUN_MAX: Duration = Duration::from_millis(400);

    /// Starts the threads; fails if the system gives none.
    pub fn start(settings: CpuSettings, meter: Arc<dyn Meter>) -> Result<Self, std::io::Error> {
        let count = settings.threads.max(1);
        let queue = Arc::new(Queue::new(count, settings.queue.max(1)));
        let threads = parking_lot::Mutex::default();
        let cpu = Self { queue, threads, meter, wait_max: Self::WAIT_MAX, run_max: Self::RUN_MAX };
        for number in 0..count {
            let (queue, meter) = (Arc::clone(&cpu.queue), Arc::clone(&cpu.meter));
            let thread = std::thread::Builder::new()
                .name(format!("cpu-{number}"))
                .spawn(move || work(&queue, &*meter))?;
            cpu.threads.lock().push(thread);
        }
        Ok(cpu)
    }

    /// Runs `job` on one of the threads when it is the tenant's turn. Who stops waiting takes the job out of
    /// the queue, or its result is dropped.
    pub async fn run<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        work: Work,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CpuError> {
        let (reply, mut answer) = oneshot::channel();
        let begun = Arc::new(OnceLock::new());
        let call = Call { job, reply, begun: Arc::clone(&begun), span: tracing::Span::current() };
        self.queue.push(tenant, work, Box::new(call), &*self.meter)?;
        // Dropped unanswered: the pool has ended.
        let told = |answer: Result<_, _>| answer.unwrap_or(Err(CpuError::Stopping));
        if let Ok(answer) = tokio::time::timeout(self.wait_max, &mut answer).await {
            return told(answer);
        }
        let Some(begun) = begun.get() else { return Err(CpuError::Late { limit: self.wait_max }) };
        match tokio::time::timeout_at((*begun + self.run_max).into(), answer).await {
            Ok(answer) => told(answer),
            Err(_) => Err(CpuError::Overran { limit: self.run_max }),
        }
    }

    /// As [`Cpu::run`], or here and now where the size of it promises to be quick.
    pub async fn run_sized<T: Send + 'static>(
        &self,
        bytes: usize,
        tenant: &TenantId,
        work: Work,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CpuError> {
        match bytes <= BYTES_HERE_MAX {
            true => Ok(job()),
            false => self.run(tenant, work, job).await,
        }
    }

    /// Takes no more, works off what waits, and ends; whether it did so in time.
    pub async fn close(&self, limit: Duration) -> bool {
        const LOOK_AGAIN: Duration = Duration::from_millis(5);
        self.queue.close();
        let threads = std::mem::take(&mut *self.threads.lock());
        let ended = async {
            while !threads.iter().all(JoinHandle::is_finished) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(limit, ended).await.is_ok()
    }
}

impl Drop for Cpu {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn work(queue: &Queue, meter: &dyn Meter) {
    while let Some(taken) = queue.pop(meter) {
        let started = Instant::now();
        // A job answers for its own panics; what is left is that of a value that is dropped.
        let whole = catch_unwind(AssertUnwindSafe(|| taken.job.run())).unwrap_or(false);
        queue.done(&taken.tenant);
        meter.see(Event::Ran { work: taken.work, took: started.elapsed() });
        if !whole {
            meter.see(Event::Panicked);
        }
    }
}

#[cfg(test)]
mod tests;
