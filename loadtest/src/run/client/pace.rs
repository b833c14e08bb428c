//! When does a message leave? In a closed loop when an answer came; in an open one when its time has come,
//! whatever the answers do.

use std::{
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::{runtime::Handle, sync::Semaphore, task::JoinSet, time::timeout};

use super::stream::Stream;
use crate::run::{job::Job, profile::Ramp};

/// Requests of an open loop that wait at one time; beyond it the loop has to hold back, and says so.
pub(super) const WAITING_MAX: u32 = 4096;
/// After the last request; longer than one may take.
const END_WAIT: Duration = Duration::from_secs(20);
/// A pacer looks at least so often whether it is to stop.
const NAP_MAX: Duration = Duration::from_millis(50);

/// Everything that makes load, until it is stopped.
pub(super) struct Running {
    streams: Vec<Arc<Stream>>,
    closed: JoinSet<()>,
    open: Vec<(JoinHandle<()>, Arc<Semaphore>)>,
    waiting_max: u32,
}

/// Of an open loop at most `waiting_max` wait for their answers; of the others as many as the job says.
pub(super) fn start(streams: &[Arc<Stream>], job: &Job, waiting_max: u32) -> Running {
    let mut running =
        Running { streams: streams.to_vec(), closed: JoinSet::new(), open: Vec::new(), waiting_max };
    let share = |all: u32| f64::from(all) / f64::from(job.profile.processes);
    for stream in streams {
        let schedule = match (stream.measured, job.load.rate, job.load.ramp) {
            (false, ..) => stream.background.map(|rate| Schedule::even(share(rate))),
            (true, Some(rate), _) => Some(Schedule::even(share(rate))),
            (true, None, Some(Ramp { from, to })) => {
                let (from, to) = (share(from), share(to));
                Some(Schedule { from, to, flat: job.profile.warm_up, rises: job.profile.measure })
            }
            (true, None, None) => None,
        };
        match schedule {
            Some(schedule) => running.open(stream, schedule),
            None => running.closed(stream, in_flight(job)),
        }
    }
    running
}

/// This process's part of those that wait at one time.
fn in_flight(job: &Job) -> u32 {
    let (all, processes) = (job.load.in_flight.unwrap_or(1), job.profile.processes.max(1));
    all / processes + u32::from(job.process < all % processes)
}

impl Running {
    fn closed(&mut self, stream: &Arc<Stream>, in_flight: u32) {
        for _ in 0..in_flight {
            let stream = Arc::clone(stream);
            self.closed.spawn(async move {
                while !stream.stop.load(Ordering::Relaxed) {
                    stream.request(None).await;
                }
            });
        }
    }

    /// A thread, because the runtime's timer has steps of a millisecond: several messages would leave
    /// together, and then nothing.
    fn open(&mut self, stream: &Arc<Stream>, schedule: Schedule) {
        let waiting = Arc::new(Semaphore::new(self.waiting_max as usize));
        let (stream, runtime) = (Arc::clone(stream), Handle::current());
        let places = Arc::clone(&waiting);
        let pacer = thread::spawn(move || pace(&runtime, &stream, &places, schedule));
        self.open.push((pacer, waiting));
    }

    /// Sends no more, and waits for the answers that are outstanding.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.streams.iter().for_each(|stream| stream.stop.store(true, Ordering::Relaxed));
        let ended = async {
            while self.closed.join_next().await.is_some() {}
            for (pacer, waiting) in self.open {
                let joined = tokio::task::spawn_blocking(move || pacer.join());
                joined.await?.map_err(|_| anyhow::anyhow!("a pacer ended early"))?;
                // All permits back: every request has its answer or has given up.
                waiting.acquire_many(self.waiting_max).await?.forget();
            }
            Ok(())
        };
        timeout(END_WAIT, ended).await.context("requests do not end")?
    }
}

/// When the messages of an open loop are due.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Schedule {
    /// Messages a second.
    from: f64,
    to: f64,
    /// At `from` for so long, and then up to `to`.
    flat: Duration,
    rises: Duration,
}

impl Schedule {
    fn even(rate: f64) -> Self {
        Self { from: rate, to: rate, flat: Duration::ZERO, rises: Duration::ZERO }
    }

    /// From one message to the next.
    fn step(&self, at: Duration) -> Duration {
        let risen = at.saturating_sub(self.flat).as_secs_f64() / self.rises.as_secs_f64().max(1e-9);
        let rate = self.from + (self.to - self.from) * risen.min(1.0);
        Duration::from_secs_f64(1.0 / rate.max(1e-3))
    }
}

fn pace(runtime: &Handle, stream: &Arc<Stream>, waiting: &Arc<Semaphore>, schedule: Schedule) {
    // The kernel may put wake-ups off by 50 µs to save power; here that would be the measurement.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let started = Instant::now();
    let mut intended = started;
    while !stream.stop.load(Ordering::Relaxed) {
        let early = intended.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            thread::sleep(early.min(NAP_MAX));
            continue;
        }
        let step = schedule.step(intended.duration_since(started));
        match Arc::clone(waiting).try_acquire_owned() {
            Ok(permit) => {
                let stream = Arc::clone(stream);
                runtime.spawn(async move {
                    stream.request(Some(intended)).await;
                    drop(permit);
                });
                intended += step;
            }
            // The intended time stays: what is late counts as late.
            Err(_) => {
                stream.held_back();
                thread::sleep(step.min(NAP_MAX));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_starts_flat_and_rises_to_its_end() {
        let ramp = Schedule {
            from: 100.0,
            to: 1000.0,
            flat: Duration::from_secs(1),
            rises: Duration::from_secs(10),
        };
        let rate = |secs| (1.0 / ramp.step(Duration::from_secs(secs)).as_secs_f64()).round();
        assert_eq!([0, 1, 6, 11, 60].map(rate), [100.0, 100.0, 550.0, 1000.0, 1000.0]);
        assert_eq!(Schedule::even(250.0).step(Duration::from_secs(9)), Duration::from_millis(4));
    }
}
