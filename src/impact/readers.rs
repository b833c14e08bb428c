//! Where are large messages read? On threads of their own, a few milliseconds each at most. Tenants share their time, and
//! within a tenant its senders: no thread of the runtime is held up by a text, and nobody by another's.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::Unscored;
use crate::{
    cpu,
    domain::Message,
    fair_queue::{FairQueue, Owner, Owners},
};

/// Two where somebody waits, so that one long text does not hold up everybody; each reads some hundred large ones a
/// second.
pub(super) const THREADS: usize = 2;
/// Messages that wait to be read, of all senders and of one.
const WAITING_MAX: usize = 256;
const WAITING_OF_ONE_MAX: usize = 32;

/// Told that it is its turn, or why it never will be.
type Job = Box<dyn FnOnce(Result<(), Unscored>) + Send>;

/// The threads and what waits for them. They start with the first large message, and end with this.
pub(super) struct Readers {
    shared: Arc<Shared>,
    owners: Owners,
    /// What the threads are called, before their number.
    name: &'static str,
    threads: usize,
    /// Their niceness, as the model's.
    nice: u8,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: FairQueue<(Owner, Job)>,
    threads: usize,
    closed: bool,
}

impl Readers {
    pub(super) fn new(name: &'static str, threads: usize, nice: u8) -> Self {
        Self { shared: Arc::default(), owners: Owners::default(), name, threads, nice }
    }

    /// The answer of `work`, done when it is this sender's turn. Nobody waits for longer than `limit`.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        message: &Message,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unscored> {
        let (reply, answer) = oneshot::channel();
        self.push(message, move |turn| {
            // Who has given up needs no answer.
            if !reply.is_closed() {
                drop(reply.send(turn.map(|()| work())));
            }
        })?;
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(found)) => found,
            // It panicked, or there are no threads any more.
            Ok(Err(_)) => Err(Unscored::Failed),
            Err(_) => Err(Unscored::TimedOut { limit }),
        }
    }

    /// As [`Readers::read`], and nobody waits.
    pub(super) fn start(
        &self,
        message: &Message,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<(), Unscored> {
        self.push(message, move |turn| {
            if turn.is_ok() {
                work();
            }
        })
    }

    /// Where too many wait, the newest of who has most gives way to who has fewer.
    fn push(
        &self,
        message: &Message,
        job: impl FnOnce(Result<(), Unscored>) + Send + 'static,
    ) -> Result<(), Unscored> {
        let mut state = self.shared.state.lock();
        while state.threads < self.threads {
            let (shared, number) = (Arc::clone(&self.shared), state.threads);
            let name = format!("{}-{number}", self.name);
            let nice = self.nice;
            let thread = std::thread::Builder::new().name(name).spawn(move || {
                cpu::stand_back(nice);
                run(&shared);
            });
            if let Err(error) = thread {
                tracing::error!(%error, "a thread that reads messages does not start");
                break;
            }
            state.threads += 1;
        }
        if state.threads == 0 {
            return Err(Unscored::Failed);
        }
        let owner = self.owners.of(&message.tenant, &message.sender);
        let busy = Unscored::Busy { waiting: state.jobs.len() };
        let (_, of_sender) = state.jobs.waiting(owner);
        if of_sender >= WAITING_OF_ONE_MAX {
            return Err(busy);
        }
        let pushed_out = match state.jobs.len() >= WAITING_MAX {
            true => Some(state.jobs.push_out(owner).ok_or(busy.clone())?),
            false => None,
        };
        state.jobs.push(owner, (owner, Box::new(job)));
        drop(state);
        self.shared.changed.notify_one();
        if let Some((_, job)) = pushed_out {
            job(Err(busy));
        }
        Ok(())
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

fn run(shared: &Shared) {
    loop {
        let (owner, job) = {
            let mut state = shared.state.lock();
            loop {
                if state.closed {
                    return;
                }
                if let Some(next) = state.jobs.pop() {
                    break next;
                }
                shared.changed.wait(&mut state);
            }
        };
        let began = Instant::now();
        // Who waits hears of it: the end of the channel goes with the job.
        if catch_unwind(AssertUnwindSafe(|| job(Ok(())))).is_err() {
            tracing::error!("reading a message panicked");
        }
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        shared.state.lock().jobs.charge(owner, took);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use std::sync::mpsc;

    use super::*;
    use crate::impact::tests::{message, text};

    const PATIENCE: Duration = Duration::from_secs(60);

    fn of(sender: &str) -> Message {
        message(sender, &text("hello"))
    }

    #[tokio::test]
    async fn senders_are_read_in_turn_and_one_cannot_fill_the_queue() {
        let readers = Readers::new("reader", THREADS, 0);
        let mut gates = Vec::new();
        for _ in 0..THREADS {
            let (open, gate) = mpsc::channel::<()>();
            let (started, begun) = mpsc::channel();
            let held = move || {
                started.send(()).unwrap();
                let _ = gate.recv();
            };
            readers.start(&of("gate"), held).unwrap();
            begun.recv().unwrap();
            gates.push(open);
        }
        let (read, order) = mpsc::channel();
        for number in 0..WAITING_OF_ONE_MAX {
            let read = read.clone();
            readers.start(&of("loud"), move || read.send(("loud", number)).unwrap()).unwrap();
        }
        assert!(matches!(readers.start(&of("loud"), || ()), Err(Unscored::Busy { .. })));
        readers.start(&of("quiet"), move || read.send(("quiet", 0)).unwrap()).unwrap();
        // One thread goes on, so that the order is known.
        let open = gates.pop().unwrap();
        drop(open);
        let order: Vec<_> = order.iter().take(3).collect();
        assert!(order.contains(&("quiet", 0)), "{order:?}");
        for sender in 0..2 * WAITING_MAX {
            let _ =
                readers.start(&of(&format!("s{sender}")), || std::thread::sleep(Duration::from_millis(1)));
            assert!(readers.shared.state.lock().jobs.len() <= WAITING_MAX);
        }
    }

    #[tokio::test]
    async fn a_tenant_that_fills_the_queue_by_many_agents_gives_way_to_another_tenant() {
        let readers = Readers::new("reader", 1, 0);
        let (open, gate) = mpsc::channel::<()>();
        let (started, begun) = mpsc::channel();
        let held = move || {
            started.send(()).unwrap();
            let _ = gate.recv();
        };
        readers.start(&of("gate"), held).unwrap();
        begun.recv().unwrap();
        let (read, order) = mpsc::channel();
        for number in 0..WAITING_MAX {
            let read = read.clone();
            readers.start(&of(&format!("s{}", number % 16)), move || read.send("loud").unwrap()).unwrap();
        }
        assert!(matches!(readers.start(&of("s1"), || ()), Err(Unscored::Busy { .. })));
        let other = Message { tenant: "other".parse().unwrap(), ..of("quiet") };
        readers.start(&other, move || read.send("quiet").unwrap()).unwrap();
        drop(open);
        let order: Vec<_> = order.iter().collect();
        assert_eq!(order.len(), WAITING_MAX);
        assert!(order[..2].contains(&"quiet"), "{order:?}");
    }

    #[tokio::test]
    async fn what_panics_is_told_and_the_next_is_read_elsewhere_than_on_the_runtime() {
        let readers = Readers::new("reader", THREADS, 0);
        let found = readers.read(&of("a"), PATIENCE, || -> u32 { panic!("as asked") }).await;
        assert_eq!(found, Err(Unscored::Failed));
        let name =
            readers.read(&of("a"), PATIENCE, || std::thread::current().name().map(str::to_owned)).await;
        assert!(name.unwrap().unwrap().starts_with("reader-"));
    }
}
