//! Where are large messages read? On threads of their own, a few milliseconds each at most, the senders
//! in turn: no thread of the runtime is held up by a text, and no sender by another's.

use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::Unscored;
use crate::domain::{AgentId, Message, TenantId};

/// Two where somebody waits, so that one long text does not hold up everybody; each reads some hundred large ones a
/// second.
pub(super) const THREADS: usize = 2;
/// Messages that wait to be read, of all senders and of one.
const WAITING_MAX: usize = 256;
const WAITING_OF_ONE_MAX: usize = 32;

type Key = (TenantId, AgentId);
type Job = Box<dyn FnOnce() + Send>;

/// The threads and what waits for them. They start with the first large message, and end with this.
pub(super) struct Readers {
    shared: Arc<Shared>,
    /// What the threads are called, before their number.
    name: &'static str,
    threads: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whose turn it is, each once.
    turns: VecDeque<Key>,
    waiting: HashMap<Key, VecDeque<Job>>,
    /// Of all.
    count: usize,
    threads: usize,
    closed: bool,
}

impl Readers {
    pub(super) fn new(name: &'static str, threads: usize) -> Self {
        Self { shared: Arc::default(), name, threads }
    }

    /// The answer of `work`, done when it is this sender's turn. Nobody waits for longer than `limit`.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        message: &Message,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unscored> {
        let (reply, answer) = oneshot::channel();
        self.start(message, move || {
            // Who has given up needs no answer.
            if !reply.is_closed() {
                drop(reply.send(work()));
            }
        })?;
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(found)) => Ok(found),
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
        let mut state = self.shared.state.lock();
        while state.threads < self.threads {
            let (shared, number) = (Arc::clone(&self.shared), state.threads);
            let name = format!("{}-{number}", self.name);
            let thread = std::thread::Builder::new().name(name).spawn(move || run(&shared));
            if let Err(error) = thread {
                tracing::error!(%error, "a thread that reads messages does not start");
                break;
            }
            state.threads += 1;
        }
        if state.threads == 0 {
            return Err(Unscored::Failed);
        }
        let key = (message.tenant.clone(), message.sender.clone());
        let own = state.waiting.get(&key).map_or(0, VecDeque::len);
        if state.count >= WAITING_MAX || own >= WAITING_OF_ONE_MAX {
            return Err(Unscored::Busy { waiting: state.count });
        }
        if own == 0 {
            state.turns.push_back(key.clone());
        }
        state.waiting.entry(key).or_default().push_back(Box::new(work));
        state.count += 1;
        drop(state);
        self.shared.changed.notify_one();
        Ok(())
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl State {
    fn next(&mut self) -> Option<Job> {
        let key = self.turns.pop_front()?;
        let own = self.waiting.get_mut(&key)?;
        let job = own.pop_front();
        if own.is_empty() {
            self.waiting.remove(&key);
        } else {
            self.turns.push_back(key);
        }
        self.count = self.count.saturating_sub(1);
        job
    }
}

fn run(shared: &Shared) {
    loop {
        let job = {
            let mut state = shared.state.lock();
            loop {
                if state.closed {
                    return;
                }
                if let Some(job) = state.next() {
                    break job;
                }
                shared.changed.wait(&mut state);
            }
        };
        // Who waits hears of it: the end of the channel goes with the job.
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("reading a message panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use std::sync::mpsc;

    use super::*;
    use crate::impact::tests::{message, text};

    const PATIENCE: Duration = Duration::from_secs(60);

    fn of(sender: &str) -> Message {
        message(sender, &text("hello"))
    }

    #[tokio::test]
    async fn senders_are_read_in_turn_and_one_cannot_fill_the_queue() {
        let readers = Readers::new("reader", THREADS);
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
            assert!(readers.shared.state.lock().count <= WAITING_MAX);
        }
    }

    #[tokio::test]
    async fn what_panics_is_told_and_the_next_is_read_elsewhere_than_on_the_runtime() {
        let readers = Readers::new("reader", THREADS);
        let found = readers.read(&of("a"), PATIENCE, || -> u32 { panic!("as asked") }).await;
        assert_eq!(found, Err(Unscored::Failed));
        let name =
            readers.read(&of("a"), PATIENCE, || std::thread::current().name().map(str::to_owned)).await;
        assert!(name.unwrap().unwrap().starts_with("reader-"));
    }
}
