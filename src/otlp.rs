//! What does a collector get to know of a node? Traces, metrics and logs, over OTLP
//! (<https://opentelemetry.io/docs/specs/otlp/>).
//!
//! Whatever is exported waits in a bounded queue, and what finds no room is dropped and counted: no message waits for a
//! collector. What a collector does not take is tried again a few times, and then dropped and counted, too.

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use tokio::{
    sync::{Mutex, mpsc},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    telemetry::{Metrics, NotExported, Signal},
    trace::Spans,
};

mod logs;
mod numbers;
mod spans;
mod target;
mod values;

pub use logs::{LogLayer, LogLines};
use target::SendError;
pub use target::{OpenError, Protocol, Target, TargetSettings};
use values::{Source, counted};

/// How long what has come is gathered before it is sent.
const GATHERED_FOR: Duration = Duration::from_secs(1);
/// Messages, or log lines, of one request.
const BATCH_MAX: usize = 256;
/// What fails is tried so often, at first after a second, then after the double of it, and so on.
const ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Reads all numbers of the node, as OpenMetrics.
pub type ReadNumbers = Arc<dyn Fn() -> String + Send + Sync>;

/// Tells a collector what a node does.
pub struct Exporter {
    target: Target,
    source: Source,
    metrics: Arc<Metrics>,
    spans: Option<Mutex<Spans>>,
    lines: Option<Mutex<LogLines>>,
    numbers: Option<(ReadNumbers, Duration)>,
}

/// What is exported, each if it is to be.
pub struct Exported {
    pub spans: Option<Spans>,
    pub lines: Option<LogLines>,
    /// And how often.
    pub numbers: Option<(ReadNumbers, Duration)>,
}

impl Exporter {
    pub fn new(target: Target, node: &str, metrics: Arc<Metrics>, exported: Exported) -> Self {
        let Exported { spans, lines, numbers } = exported;
        let (spans, lines) = (spans.map(Mutex::new), lines.map(Mutex::new));
        Self { target, source: Source::new(node), metrics, spans, lines, numbers }
    }

    /// Until the stop, and then once more what waits.
    pub async fn run(&self, stop: &CancellationToken) {
        tokio::join!(self.tell_spans(stop), self.tell_lines(stop), self.tell_numbers(stop));
    }

    async fn tell_spans(&self, stop: &CancellationToken) {
        let Some(spans) = &self.spans else { return };
        let (mut spans, mut batch) = (spans.lock().await, Vec::new());
        while gather(&mut spans, &mut batch, stop).await {
            let all: Vec<_> = batch.drain(..).flatten().collect();
            let items = all.len();
            self.tell(Signal::Traces, spans::request(&self.source, all).encode_to_vec(), items, stop).await;
        }
    }

    async fn tell_lines(&self, stop: &CancellationToken) {
        let Some(lines) = &self.lines else { return };
        let (mut lines, mut batch) = (lines.lock().await, Vec::new());
        while gather(&mut lines.waiting, &mut batch, stop).await {
            let items = batch.len();
            let request = logs::request(&self.source, batch.drain(..)).encode_to_vec();
            self.tell(Signal::Logs, request, items, stop).await;
            self.metrics.not_exported(Signal::Logs, NotExported::Full, lines.take_dropped());
        }
    }

    async fn tell_numbers(&self, stop: &CancellationToken) {
        let Some((read, every)) = &self.numbers else { return };
        let mut going_on = true;
        while going_on {
            going_on = stop.run_until_cancelled(sleep(*every)).await.is_some();
            let numbers = numbers::read(&read(), self.source.started);
            let items = numbers.iter().map(numbers::points).sum();
            let request = numbers::request(&self.source, numbers).encode_to_vec();
            self.tell(Signal::Metrics, request, items, stop).await;
        }
    }

    /// Sends it, again if need be; counts what became of it.
    async fn tell(&self, signal: Signal, request: Vec<u8>, items: usize, stop: &CancellationToken) {
        if items == 0 {
            return;
        }
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=ATTEMPTS {
            match self.target.send(signal, &request).await {
                Ok(refused) => {
                    let refused = counted(refused).min(items);
                    self.metrics.exported(signal, items - refused);
                    self.metrics.not_exported(signal, NotExported::Refused, refused);
                    return;
                }
                Err(SendError::Refused(why)) => {
                    tracing::warn!(why, signal = signal.as_str(), items, "the OTLP collector refuses");
                    self.metrics.not_exported(signal, NotExported::Refused, items);
                    return;
                }
                Err(SendError::Failed(why)) => {
                    tracing::debug!(
                        why,
                        signal = signal.as_str(),
                        attempt,
                        "the OTLP collector did not take it"
                    );
                    if attempt == ATTEMPTS || stop.run_until_cancelled(sleep(pause)).await.is_none() {
                        tracing::warn!(
                            why,
                            signal = signal.as_str(),
                            items,
                            "dropped: no OTLP collector took it"
                        );
                        break;
                    }
                    pause *= 2;
                }
            }
        }
        self.metrics.not_exported(signal, NotExported::Failed, items);
    }
}

/// Waits for something and takes what has come, for a moment; `false`: nothing will come any more.
async fn gather<T>(waiting: &mut mpsc::Receiver<T>, batch: &mut Vec<T>, stop: &CancellationToken) -> bool {
    let first = stop.run_until_cancelled(waiting.recv_many(batch, BATCH_MAX)).await;
    if matches!(first, Some(1..BATCH_MAX)) {
        stop.run_until_cancelled(sleep(GATHERED_FOR)).await;
    }
    while batch.len() < BATCH_MAX
        && let Ok(next) = waiting.try_recv()
    {
        batch.push(next);
    }
    !batch.is_empty()
}

#[cfg(test)]
mod tests;
