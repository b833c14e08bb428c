//! For how long at a time does a task keep a thread of the runtime? What watches that none does for long.
//!
//! Between two awaits a task has its thread for itself, and whatever else is ready on it waits. By the
//! clock on the wall, unless told otherwise: on a machine that is busy with other things every task has
//! long polls now and then. The thread's own clock of the processor does not run meanwhile, but a look at it
//! is a call of the system, some microseconds on a virtual machine.

use std::{
    future::poll_fn,
    pin::pin,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::Latency;
use crate::{config::PollClock, event_loop::thread_time};

/// A poll above this is a long one: beyond it, the work belongs on threads of its own (`crate::cpu`).
pub const LONG: Duration = Duration::from_micros(200);
/// A poll above this is worth a line in the log, of which there is one in [`TELL_EVERY`] at most.
const VERY_LONG: Duration = Duration::from_millis(10);
const TELL_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabel {
    task: &'static str,
}

/// Polls of the tasks that work on messages, and of a node's parts.
#[derive(Debug)]
pub struct Polls {
    by_processor: AtomicBool,
    took: Family<TaskLabel, Histogram, Latency>,
    long: Family<TaskLabel, Counter>,
    longest: Family<TaskLabel, Gauge<f64, AtomicU64>>,
    started: Instant,
    /// Nanoseconds from `started` to the last line in the log, and 1.
    told: AtomicU64,
}

impl Default for Polls {
    fn default() -> Self {
        Self {
            by_processor: AtomicBool::new(false),
            took: Family::new_with_constructor(Latency),
            long: Family::default(),
            longest: Family::default(),
            started: Instant::now(),
            told: AtomicU64::new(0),
        }
    }
}

impl Polls {
    /// By which clock polls are measured from now on.
    pub fn time_by(&self, clock: PollClock) {
        self.by_processor.store(clock == PollClock::Processor, Ordering::Relaxed);
    }

    /// Runs `task` and measures each of its polls.
    pub async fn watch<F: Future>(&self, name: &'static str, task: F) -> F::Output {
        // Looked up once for all of its polls.
        let took = self.took.get_or_create(&TaskLabel { task: name }).clone();
        let mut task = pin!(task);
        poll_fn(|context| self.measure(name, &took, || task.as_mut().poll(context))).await
    }

    /// Measures one poll.
    pub fn time<T>(&self, task: &'static str, poll: impl FnOnce() -> T) -> T {
        let took = self.took.get_or_create(&TaskLabel { task }).clone();
        self.measure(task, &took, poll)
    }

    fn measure<T>(&self, task: &'static str, took: &Histogram, poll: impl FnOnce() -> T) -> T {
        let started = self.now();
        let polled = poll();
        let elapsed = self.now().saturating_sub(started);
        took.observe(elapsed.as_secs_f64());
        if elapsed > LONG {
            self.long(task, elapsed);
        }
        polled
    }

    /// Since some moment; comparable on one thread only.
    fn now(&self) -> Duration {
        if !self.by_processor.load(Ordering::Relaxed) {
            return self.started.elapsed();
        }
        thread_time()
    }

    #[cold]
    fn long(&self, task: &'static str, took: Duration) {
        self.long.get_or_create(&TaskLabel { task }).inc();
        let longest = self.longest.get_or_create(&TaskLabel { task });
        // Two at one time can leave the shorter one; the next longer one mends it.
        if took.as_secs_f64() > longest.get() {
            longest.set(took.as_secs_f64());
        }
        if took > VERY_LONG && self.may_tell() {
            tracing::warn!(task, ?took, "a task kept a thread of the runtime from others");
        }
    }

    fn may_tell(&self) -> bool {
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX).saturating_add(1);
        let every = u64::try_from(TELL_EVERY.as_nanos()).unwrap_or(u64::MAX);
        let last = self.told.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= every;
        due && self.told.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let took = "Time for which a task kept a thread of the runtime at once";
        registry.register_with_unit("poll", took, Unit::Seconds, self.took.clone());
        let long = "Times that a task kept a thread of the runtime for more than 200 microseconds";
        registry.register("long_polls", long, self.long.clone());
        let longest = "The longest time since the start that a task kept a thread of the runtime at once";
        registry.register_with_unit("longest_poll", longest, Unit::Seconds, self.longest.clone());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::telemetry::Metrics;

    #[tokio::test]
    async fn a_task_that_keeps_its_thread_is_counted_by_name_and_one_that_waits_is_not() {
        let metrics = Metrics::new("node-1");
        let waits = metrics.polls.watch("vote", async {
            tokio::time::sleep(20 * LONG).await;
            1
        });
        assert_eq!(waits.await, 1);
        let keeps = metrics.polls.watch("send", async {
            tokio::task::yield_now().await;
            std::thread::sleep(VERY_LONG + LONG);
            2
        });
        assert_eq!(keeps.await, 2);
        let text = metrics.encode();
        assert!(text.contains("agentbus_long_polls_total{task=\"send\"}"), "{text}");
        assert!(text.contains("agentbus_poll_seconds_count{task=\"send\"} 2"), "{text}");
        assert!(text.contains("agentbus_poll_seconds_count{task=\"vote\"} 2"), "{text}");
        let longest =
            text.lines().find(|line| line.starts_with("agentbus_longest_poll_seconds{task=\"send\"}"));
        let longest: f64 = longest.unwrap().split(' ').next_back().unwrap().parse().unwrap();
        assert!(longest >= VERY_LONG.as_secs_f64(), "{longest}");
    }

    #[test]
    fn by_the_processors_clock_a_task_is_not_blamed_for_the_time_that_others_had() {
        let long = |polls: &Polls| polls.long.get_or_create(&TaskLabel { task: "send" }).get();
        let polls = Polls::default();
        polls.time_by(PollClock::Processor);
        polls.time("send", || std::thread::sleep(VERY_LONG));
        assert_eq!(long(&polls), 0);
        polls.time("send", || {
            let started = polls.now();
            while polls.now() - started < 2 * LONG {}
        });
        assert_eq!(long(&polls), 1);
        polls.time_by(PollClock::Wall);
        polls.time("send", || std::thread::sleep(VERY_LONG));
        assert_eq!(long(&polls), 2);
    }

    #[test]
    fn the_log_is_told_once_in_a_while() {
        let polls = Polls::default();
        assert!(polls.may_tell());
        // Within a second, unless this machine stands still.
        let again = polls.may_tell();
        assert!(!again || polls.started.elapsed() >= TELL_EVERY);
    }
}
