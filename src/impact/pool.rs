//! Who runs the model, when, and on which thread? Named threads with an instance each, fed by one
//! bounded queue.
//!
//! A forward pass takes milliseconds of pure arithmetic, which no thread of the runtime can spare.
//! Jobs whose answer nobody waits for any more are not run; what waits together is run together, and
//! nothing waits to be run together. A long text is run pass by pass, and short ones between. Knows nothing of
//! messages and of models: an [`Engine`] is both.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{Meter, Patience, Room, Semantic, Unscored};
use crate::{
    cpu,
    fair_queue::Owner,
    trace::{Probe, probe},
};

mod idle;
mod long;
mod pace;
mod pass;
mod queue;
mod turns;
mod worker;

use pace::Pace;
use queue::Queue;
use turns::Kind;

/// One instance of a model with its scratch memory. Stays on the thread that made it.
pub trait Engine {
    /// The token ids of all windows of these texts, `max` full ones at most.
    fn windows(&mut self, texts: &[String], max: usize) -> Result<Vec<Vec<u32>>, Unscored>;

    /// How harmful each window sounds, 0 to 1, one for each.
    fn scores(&mut self, windows: &[&[u32]]) -> Result<Vec<Semantic>, Unscored>;
}

/// Makes an instance, on the thread that is to use it.
pub type MakeEngine = Arc<dyn Fn() -> Result<Box<dyn Engine>, Unscored> + Send + Sync>;

/// Whose a text is that the node itself wants scored.
const NODE: Owner = Owner { tenant: 0, sender: 0 };

/// How many threads, how many jobs, how long.
#[derive(Debug, Clone, Copy)]
pub struct PoolSettings {
    /// What the threads are called, before their number.
    pub thread: &'static str,
    /// At least 1.
    pub threads: usize,
    /// How far other threads of the machine go first, 0 to 19; only Linux has it for a thread.
    pub nice: u8,
    /// What they run they leave to threads that only have what nothing else wants; Linux again.
    pub idle: bool,
    /// Jobs that wait at one time; at least 1.
    pub queue: usize,
    /// For who waits.
    pub brief: Room,
    /// For what nobody waits for.
    pub long: Room,
}

/// Texts that belong together: the highest score of all their windows is theirs.
struct Job {
    texts: Vec<String>,
    answer: Answer,
    /// Who asks.
    owner: Owner,
    /// Of a long one, who waits for it.
    long: Option<Kind>,
    /// Windows that are run of it at most.
    windows_max: usize,
    enqueued: Instant,
    deadline: Instant,
    /// It takes half of its time or more by itself, at the best pace that was seen.
    heavy: Arc<AtomicBool>,
    /// Of who asked, so that what happens on the thread is told with the message it happens to.
    span: tracing::Span,
    /// Of who asked, if it is told how long this took.
    probe: Option<Probe>,
}

enum Answer {
    /// Somebody waits, until the other end is gone.
    Reply(oneshot::Sender<Result<Semantic, Unscored>>),
    /// Nobody waits, and only a score is worth telling.
    Then(Box<dyn FnOnce(f64) + Send>),
}

/// The threads and their queue. Dropped, its threads end by themselves.
pub struct Pool {
    queue: Arc<Queue>,
    threads: parking_lot::Mutex<Vec<JoinHandle<()>>>,
    meter: Arc<dyn Meter>,
    brief: Room,
    long: Room,
}

impl Pool {
    /// Starts the threads; fails if the system gives none.
    pub fn start(
        settings: PoolSettings,
        make: MakeEngine,
        meter: Arc<dyn Meter>,
    ) -> Result<Self, std::io::Error> {
        let threads = settings.threads.max(1);
        let queue = Arc::new(Queue::new(threads, settings.queue.max(1)));
        let pace = Arc::new(Pace::unknown());
        let make = if settings.idle { idle::relieved(make) } else { make };
        let pool = Self {
            queue: Arc::clone(&queue),
            threads: parking_lot::Mutex::new(Vec::with_capacity(threads)),
            meter: Arc::clone(&meter),
            brief: settings.brief,
            long: settings.long,
        };
        for number in 0..threads {
            let (queue, make, meter) = (Arc::clone(&queue), Arc::clone(&make), Arc::clone(&meter));
            let pace = Arc::clone(&pace);
            let thread = std::thread::Builder::new().name(format!("{}-{number}", settings.thread)).spawn(
                move || {
                    cpu::stand_back(settings.nice);
                    worker::run(&queue, &make, &*meter, &pace);
                },
            )?;
            pool.threads.lock().push(thread);
        }
        Ok(pool)
    }

    /// The highest score of all windows of all texts. Tenants share the threads, and within a tenant its senders.
    pub async fn score(
        &self,
        texts: Vec<String>,
        owner: Owner,
        patience: Patience,
    ) -> Result<Semantic, Unscored> {
        let limit = patience.room(self.brief, self.long).deadline;
        let (reply, answer) = oneshot::channel();
        let (deadline, heavy) = self.submit(texts, owner, patience, Answer::Reply(reply))?;
        // What is late for its own length will be late again.
        let late = || match heavy.load(Ordering::Relaxed) {
            true => Unscored::TooSlow { limit },
            false => Unscored::TimedOut { limit },
        };
        // Who stops waiting takes the receiver along, and the job is skipped when its turn comes.
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(Err(Unscored::TimedOut { .. }))) | Err(_) => Err(late()),
            Ok(Ok(scored)) => scored,
            // Dropped unanswered: the pool has ended, unless it was passed over for being late.
            Ok(Err(_)) if Instant::now() < deadline => Err(Unscored::Stopping),
            Ok(Err(_)) => Err(late()),
        }
    }

    /// Scores if nothing else waits; a busy pool forgets it, and what is long.
    pub fn score_in_background(&self, texts: Vec<String>, then: Box<dyn FnOnce(f64) + Send>) {
        if self.queue.len() == 0 && !long::is_long(&texts) {
            // Refused: there was something better to do after all.
            let _ = self.submit(texts, NODE, Patience::RoundTrip, Answer::Then(then));
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

    fn submit(
        &self,
        texts: Vec<String>,
        owner: Owner,
        patience: Patience,
        answer: Answer,
    ) -> Result<(Instant, Arc<AtomicBool>), Unscored> {
        let enqueued = Instant::now();
        let Room { windows: windows_max, deadline } = patience.room(self.brief, self.long);
        let deadline = enqueued + deadline;
        let heavy = Arc::new(AtomicBool::new(false));
        let span = tracing::Span::current();
        let (heavy_too, probe) = (Arc::clone(&heavy), probe());
        let long = long::is_long(&texts).then(|| Kind::of(patience));
        let job = Job {
            texts,
            answer,
            owner,
            long,
            windows_max,
            enqueued,
            deadline,
            heavy: heavy_too,
            span,
            probe,
        };
        self.queue.push(job, &*self.meter)?;
        Ok((deadline, heavy))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Job {
    fn abandoned(&self, now: Instant) -> bool {
        let unheard = match &self.answer {
            Answer::Reply(reply) => reply.is_closed(),
            Answer::Then(_) => false,
        };
        unheard || now >= self.deadline
    }

    fn answer(self, scored: Result<Semantic, Unscored>) {
        match self.answer {
            // Gone in the meantime: nobody is left to tell.
            Answer::Reply(reply) => drop(reply.send(scored)),
            Answer::Then(then) => {
                if let Ok(Semantic { score, .. }) = scored {
                    then(score);
                }
            }
        }
    }
}

thread_local! {
    static WORKING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this is a thread of a pool. What runs a model asks, so that a forward pass on a thread
/// of the runtime is an error and not a stall.
pub fn is_pool_thread() -> bool {
    WORKING.get()
}

#[cfg(test)]
mod tests;
