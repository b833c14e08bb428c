//! How is load made? Closed loop: so many requests wait at one time. Open loop: so many are sent a
//! second, and each answer's time counts from when its request *should* have gone out, so that a
//! stall is not hidden by the requests that it kept from being sent.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use agentbus::{client::AgentClient, domain::AgentId};
use anyhow::Context as _;
use futures_util::StreamExt as _;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Semaphore, task::JoinSet};

use crate::{
    cpu::{Cpu, Processes},
    message::{Expected, Template},
};

/// One answer; longer is a failure.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Requests of an open loop that wait at one time; beyond it the loop has to hold back, and says so.
const OPEN_WAITING_MAX: u32 = 4096;
/// Different failures told apart.
const FAILURES_MAX: usize = 32;
/// Latencies are recorded from 1 µs to one minute, to three digits.
const LATENCY_MAX_US: u64 = 60_000_000;
/// One answer in so many is read for the time that its node took.
const NODE_TIME_EVERY: u64 = 8;
/// How long the last deliveries may take to arrive.
const ARRIVAL_WAIT: Duration = Duration::from_secs(3);

/// Who sends, what, and what has arrived.
pub(crate) struct Parties {
    pub(crate) sender: AgentClient,
    pub(crate) template: Template,
    /// Messages in the recipient's inbox so far.
    pub(crate) arrived: Arc<AtomicU64>,
}

/// What one measurement saw.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) answered: u64,
    pub(crate) elapsed: Duration,
    /// Microseconds.
    pub(crate) latency: Histogram<u64>,
    /// What verdicts say the node itself took, of a sample, in microseconds. Empty for an echo.
    pub(crate) node_time: Histogram<u64>,
    pub(crate) cpu: Cpu,
    /// Requests that got no answer or another than expected, by what it was.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Messages that arrived and should not have, or did not and should have.
    pub(crate) miscounted: u64,
    /// Requests that the open loop sent late because too many waited.
    pub(crate) held_back: u64,
}

/// Where the requests of one measurement put what they saw.
struct Record {
    expected: Expected,
    /// Answers from then on count.
    counted_from: Instant,
    counted_until: Instant,
    seen: Mutex<Seen>,
    sent: AtomicU64,
    held_back: AtomicU64,
}

struct Seen {
    latency: Histogram<u64>,
    node_time: Histogram<u64>,
    answered: u64,
    failures: BTreeMap<String, u64>,
}

impl Seen {
    fn new() -> anyhow::Result<Self> {
        let histogram = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)?;
        Ok(Self { latency: histogram.clone(), node_time: histogram, answered: 0, failures: BTreeMap::new() })
    }
}

impl Record {
    fn new(expected: Expected, warm_up: Duration, duration: Duration) -> anyhow::Result<Arc<Self>> {
        let counted_from = Instant::now() + warm_up;
        Ok(Arc::new(Self {
            expected,
            counted_from,
            counted_until: counted_from + duration,
            seen: Mutex::new(Seen::new()?),
            sent: AtomicU64::new(0),
            held_back: AtomicU64::new(0),
        }))
    }

    /// One request and its answer, timed from `intended`.
    async fn request(&self, parties: &Parties, subject: &str, intended: Instant) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let request = async_nats::Request::new().payload(parties.template.next()).timeout(Some(ANSWER_WAIT));
        let answer = parties.sender.nats().send_request(subject.to_owned(), request).await;
        let now = Instant::now();
        let verdict = match &answer {
            Ok(answer) => self.expected.check(answer),
            Err(error) => Err(error.to_string()),
        };
        if now < self.counted_from || now >= self.counted_until {
            // Failures count whenever they happen.
            if let Err(what) = verdict {
                self.seen.lock().failed(what);
            }
            return;
        }
        let micros = u64::try_from(now.duration_since(intended).as_micros()).unwrap_or(LATENCY_MAX_US);
        let mut seen = self.seen.lock();
        match (verdict, answer) {
            (Ok(()), Ok(answer)) => {
                seen.answered += 1;
                seen.latency.saturating_record(micros);
                let sampled = seen.answered.is_multiple_of(NODE_TIME_EVERY);
                if sampled
                    && self.expected == Expected::Delivered
                    && let Ok(verdict) = agentbus::wire::decode_verdict(&answer.payload)
                {
                    let micros = u64::try_from(verdict.elapsed.as_micros()).unwrap_or(LATENCY_MAX_US);
                    seen.node_time.saturating_record(micros);
                }
            }
            (Err(what), _) => seen.failed(what),
            (Ok(()), Err(error)) => seen.failed(error.to_string()),
        }
    }

    /// Waits for the counted time and takes the processor times at its two ends.
    async fn watch(&self, processes: Processes) -> (Duration, Cpu) {
        tokio::time::sleep_until(self.counted_from.into()).await;
        let (started, before) = (Instant::now(), processes.cpu());
        tokio::time::sleep_until(self.counted_until.into()).await;
        (started.elapsed(), processes.cpu().since(before))
    }

    fn measured(&self, elapsed: Duration, cpu: Cpu) -> Measured {
        let seen = self.seen.lock();
        Measured {
            answered: seen.answered,
            elapsed,
            latency: seen.latency.clone(),
            node_time: seen.node_time.clone(),
            cpu,
            failures: seen.failures.clone(),
            miscounted: 0,
            held_back: self.held_back.load(Ordering::Relaxed),
        }
    }
}

impl Seen {
    fn failed(&mut self, what: String) {
        let what = if self.failures.len() < FAILURES_MAX { what } else { "other".to_owned() };
        *self.failures.entry(what).or_default() += 1;
    }
}

/// `in_flight` requests wait at one time; each answer starts the next.
pub(crate) async fn closed(
    parties: &Arc<Parties>,
    expected: Expected,
    in_flight: usize,
    warm_up: Duration,
    duration: Duration,
    processes: Processes,
) -> anyhow::Result<Measured> {
    let record = Record::new(expected, warm_up, duration)?;
    let before = parties.arrived.load(Ordering::Relaxed);
    let mut workers = JoinSet::new();
    for _ in 0..in_flight {
        let (record, parties) = (Arc::clone(&record), Arc::clone(parties));
        workers.spawn(async move {
            let subject = format!("bus.{}.send", parties.sender.id());
            while Instant::now() < record.counted_until {
                record.request(&parties, &subject, Instant::now()).await;
            }
        });
    }
    let (elapsed, cpu) = record.watch(processes).await;
    while workers.join_next().await.is_some() {}
    finish(parties, &record, before, elapsed, cpu).await
}

/// `rate` requests a second, evenly, whatever the answers do.
pub(crate) async fn open(
    parties: &Arc<Parties>,
    expected: Expected,
    rate: u32,
    warm_up: Duration,
    duration: Duration,
    processes: Processes,
) -> anyhow::Result<Measured> {
    let record = Record::new(expected, warm_up, duration)?;
    paced(parties, record, rate, OPEN_WAITING_MAX, processes).await
}

async fn paced(
    parties: &Arc<Parties>,
    record: Arc<Record>,
    rate: u32,
    waiting_max: u32,
    processes: Processes,
) -> anyhow::Result<Measured> {
    let before = parties.arrived.load(Ordering::Relaxed);
    let waiting = Arc::new(Semaphore::new(usize::try_from(waiting_max)?));
    // A thread, because the runtime's timer has steps of a millisecond: six messages would leave
    // together, and then nothing.
    let pacer = {
        let (record, parties, waiting) = (Arc::clone(&record), Arc::clone(parties), Arc::clone(&waiting));
        let runtime = Handle::current();
        let pace = move || pace(&runtime, &record, &parties, &waiting, rate);
        thread::Builder::new().name("pacer".to_owned()).spawn(pace)?
    };
    let (elapsed, cpu) = record.watch(processes).await;
    let joined = tokio::task::spawn_blocking(move || pacer.join());
    joined.await?.map_err(|_| anyhow::anyhow!("the pacer ended early"))?;
    // All permits back: every request has its answer or has given up.
    let limit = ANSWER_WAIT + Duration::from_secs(1);
    tokio::time::timeout(limit, waiting.acquire_many(waiting_max))
        .await
        .context("requests do not end")??
        .forget();
    finish(parties, &record, before, elapsed, cpu).await
}

fn pace(runtime: &Handle, record: &Arc<Record>, parties: &Arc<Parties>, waiting: &Arc<Semaphore>, rate: u32) {
    // The kernel may put wake-ups off by 50 µs to save power; here that would be the measurement.
    let _ = fs::write("/proc/thread-self/timerslack_ns", "1");
    let subject: Arc<str> = format!("bus.{}.send", parties.sender.id()).into();
    let step = Duration::from_secs(1) / rate;
    let mut intended = Instant::now();
    while intended < record.counted_until {
        thread::sleep(intended.saturating_duration_since(Instant::now()));
        match Arc::clone(waiting).try_acquire_owned() {
            Ok(permit) => {
                let (record, parties, subject) =
                    (Arc::clone(record), Arc::clone(parties), Arc::clone(&subject));
                runtime.spawn(async move {
                    record.request(&parties, &subject, intended).await;
                    drop(permit);
                });
                intended += step;
            }
            // The intended time stays: what is late counts as late.
            Err(_) => {
                record.held_back.fetch_add(1, Ordering::Relaxed);
                thread::sleep(step);
            }
        }
        if Instant::now() >= record.counted_until {
            return;
        }
    }
}

/// Checks that what was sent has arrived, once each.
async fn finish(
    parties: &Parties,
    record: &Record,
    before: u64,
    elapsed: Duration,
    cpu: Cpu,
) -> anyhow::Result<Measured> {
    let mut measured = record.measured(elapsed, cpu);
    let failed: u64 = measured.failures.values().sum();
    let delivered = record.sent.load(Ordering::Relaxed).saturating_sub(failed);
    let deadline = Instant::now() + ARRIVAL_WAIT;
    let arrived = || parties.arrived.load(Ordering::Relaxed).saturating_sub(before);
    while arrived() < delivered && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let arrived = arrived();
    // A request without an answer may have been delivered; anything beyond that is a fault.
    if arrived < delivered || arrived > delivered + failed {
        measured.miscounted = arrived.abs_diff(delivered);
    }
    Ok(measured)
}

/// Subscribes the recipient and counts what the bus puts into its inbox.
pub(crate) async fn count_arrivals(recipient: &AgentClient) -> anyhow::Result<Arc<AtomicU64>> {
    let arrived = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&arrived);
    // Not `AgentClient::inbox`: the echo's deliveries have no header of the bus.
    let subject = inbox_of(recipient.id());
    let mut inbox = recipient.nats().subscribe(subject).await?;
    // Ends with the connection.
    tokio::spawn(async move {
        while inbox.next().await.is_some() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    recipient.nats().flush().await?;
    Ok(arrived)
}

fn inbox_of(agent: &AgentId) -> String {
    format!("agent.{agent}.inbox")
}

#[cfg(test)]
mod tests;
