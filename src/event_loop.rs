//! The threads on which the lanes govern: an event loop each, with the connections that each message needs.
//!
//! What a turn of a loop reads are the requests and answers that have come meanwhile; the messages go on one after
//! the other, and what they ask of Redis and send by NATS is written behind them, once for all. So batches form by
//! themselves, nothing waits when there is little to do, and none of it wakes another thread. What takes long is
//! computed elsewhere (`cpu`, the model's threads), and whoever waits for it waits here.
//!
//! Each loop of the fast lane has connections of its own ([`PerLoop`]), and a message stays on the loop that has read
//! it. The durable lane has one loop by itself.

use std::{
    cell::Cell,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use tokio::{
    runtime::{Builder, Handle},
    sync::Notify,
    task::{JoinError, yield_now},
};
use tokio_util::sync::{CancellationToken, DropGuard};

thread_local! {
    /// Which of the loops runs on this thread. On any other thread: the first.
    static HERE: Cell<usize> = const { Cell::new(0) };
    /// For how long this thread had run when it was last looked.
    static RAN: Cell<Option<Moment>> = const { Cell::new(None) };
}

/// How old a look at the processor's clock may be: it is a call of the system, some microseconds on a virtual machine.
const RAN_WITHIN: Duration = Duration::from_millis(5);

/// A moment of a loop. Between two of them its thread has had the processor for as long as it had something to do and
/// the system gave it one: where others want it, or a container may not have more, that is less than has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    pub at: Instant,
    ran: Duration,
}

impl Moment {
    /// Of the thread that asks.
    pub fn now() -> Self {
        let at = Instant::now();
        let last = RAN.get().filter(|last| at.saturating_duration_since(last.at) < RAN_WITHIN);
        if let Some(Self { ran, .. }) = last {
            return Self { at, ran };
        }
        let looked = Self { at, ran: thread_time() };
        RAN.set(Some(looked));
        looked
    }

    /// How long its thread has run since an earlier one, to within a few milliseconds.
    pub fn ran_since(&self, earlier: &Self) -> Duration {
        let passed = self.at.saturating_duration_since(earlier.at);
        match passed < RAN_WITHIN {
            true => passed,
            false => self.ran.saturating_sub(earlier.ran).min(passed),
        }
    }
}

/// For how long this thread has run, since it began.
pub fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

/// One for each loop. Who is on none of them, uses the first.
#[derive(Debug, Clone)]
pub struct PerLoop<T> {
    first: T,
    others: Vec<T>,
}

impl<T> PerLoop<T> {
    /// For who has no loops.
    pub fn one(first: T) -> Self {
        Self { first, others: Vec::new() }
    }

    /// That of the loop on whose thread this is.
    pub fn here(&self) -> &T {
        let other = HERE.get().checked_sub(1).and_then(|index| self.others.get(index));
        other.unwrap_or(&self.first)
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.first).chain(&self.others)
    }

    pub fn map<U>(&self, mut make: impl FnMut(&T) -> U) -> PerLoop<U> {
        PerLoop { first: make(&self.first), others: self.others.iter().map(make).collect() }
    }

    pub fn try_map<U, E>(&self, mut make: impl FnMut(&T) -> Result<U, E>) -> Result<PerLoop<U>, E> {
        let first = make(&self.first)?;
        Ok(PerLoop { first, others: self.others.iter().map(make).collect::<Result<_, _>>()? })
    }
}

/// Runs until it is dropped.
pub struct EventLoop {
    handle: Handle,
    idle: Idle,
    _running: DropGuard,
}

/// Whether a loop is about to sleep until a socket or a timer wakes it.
#[derive(Clone, Default)]
pub struct Idle(Arc<Sleep>);

#[derive(Default)]
struct Sleep {
    /// Somebody polls instead of sleeping.
    polled: AtomicBool,
    /// It was polled for long enough without anything happening: let it sleep.
    enough: AtomicBool,
    begins: Notify,
}

impl EventLoop {
    /// That many, on threads `lane-0` and so on; at least one.
    pub fn start_all(count: usize) -> io::Result<PerLoop<Self>> {
        let others = (1..count).map(Self::start).collect::<io::Result<_>>()?;
        Ok(PerLoop { first: Self::start(0)?, others })
    }

    /// One by itself, on a thread of this name. Of what each loop has it uses the first's.
    pub fn start_beside(name: &str) -> io::Result<Self> {
        Self::start_on(0, name.to_owned())
    }

    fn start(index: usize) -> io::Result<Self> {
        Self::start_on(index, format!("lane-{index}"))
    }

    fn start_on(index: usize, thread: String) -> io::Result<Self> {
        let idle = Idle::default();
        let (sleeping, woken) = (Arc::clone(&idle.0), Arc::clone(&idle.0));
        let runtime = Builder::new_current_thread()
            .enable_all()
            .on_thread_park(move || {
                if sleeping.polled.load(Ordering::Relaxed) && !sleeping.enough.load(Ordering::Relaxed) {
                    sleeping.begins.notify_one();
                }
            })
            .on_thread_unpark(move || woken.enough.store(false, Ordering::Relaxed))
            .build()?;
        let (handle, stop) = (runtime.handle().clone(), CancellationToken::new());
        let running = stop.clone().drop_guard();
        thread::Builder::new().name(thread).spawn(move || {
            HERE.set(index);
            runtime.block_on(stop.cancelled());
        })?;
        Ok(Self { handle, idle, _running: running })
    }

    /// For what is to run there.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Does it there and waits for it here: what this starts stays on the loop.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JoinError> {
        self.handle.spawn(work).await
    }

    /// For [`Idle::poll`].
    pub fn idle(&self) -> Idle {
        self.idle.clone()
    }
}

impl Idle {
    /// Looks at the sockets again and again for that long, while few messages are on their way, instead of sleeping
    /// until one of them has something: an answer is seen some tens of microseconds earlier, for all of a core
    /// meanwhile. Nothing is polled while nothing is on its way. To be kept running on the loop.
    pub async fn poll(self, within: Duration, few: impl Fn() -> bool) {
        self.0.polled.store(true, Ordering::Relaxed);
        loop {
            self.0.begins.notified().await;
            let since = Instant::now();
            while few() && since.elapsed() < within {
                yield_now().await;
            }
            self.0.enough.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn each_loop_has_its_own_and_who_is_on_none_the_first() {
        let loops = EventLoop::start_all(3).unwrap();
        let mut count = 0;
        let numbers = loops.map(|_| {
            count += 1;
            count
        });
        let on = |event_loop: &EventLoop| {
            let (numbers, (tell, told)) = (numbers.clone(), std::sync::mpsc::channel());
            event_loop.handle().spawn(async move { tell.send(*numbers.here()) });
            told.recv().unwrap()
        };
        assert_eq!(loops.iter().map(on).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(*numbers.here(), 1);
        assert_eq!(*PerLoop::one("only").here(), "only");
    }

    #[test]
    fn a_thread_that_sleeps_has_not_run_and_one_that_works_has() {
        let began = Moment::now();
        thread::sleep(Duration::from_millis(50));
        let slept = Moment::now();
        assert!(slept.ran_since(&began) < Duration::from_millis(20), "{:?}", slept.ran_since(&began));
        while Moment::now().ran_since(&slept) < Duration::from_millis(20) {}
        assert!(slept.at.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn it_polls_while_few_wait_and_sleeps_while_none_or_many_do() {
        let event_loop = EventLoop::start(0).unwrap();
        let (waiting, looks) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (seen, looked) = (Arc::clone(&waiting), Arc::clone(&looks));
        let few = move || {
            looked.fetch_add(1, Ordering::Relaxed);
            seen.load(Ordering::Relaxed) == 1
        };
        event_loop.handle().spawn(event_loop.idle().poll(Duration::from_millis(50), few));
        let looks_of = |waits: usize| {
            waiting.store(waits, Ordering::Relaxed);
            let before = looks.load(Ordering::Relaxed);
            // Something happens, so that it is looked whether there is more.
            event_loop.handle().spawn(async {});
            thread::sleep(Duration::from_millis(200));
            looks.load(Ordering::Relaxed) - before
        };
        assert!(looks_of(0) <= 10, "it polls although nobody waits");
        assert!(looks_of(1) > 20, "it does not poll although one waits");
        assert!(looks_of(9) <= 10, "it polls although many wait");
    }
}
