//! Which trace does a message belong to, and is its way worth telling?
//!
//! Spans are made when a message has come to its end on this node, from what was measured anyway; so the choice is
//! made with all that is known, and whoever exports nothing has no [`Tracer`] and pays nothing. Knows no protocol:
//! `otlp` tells a collector.

use std::sync::Arc;

use tokio::sync::mpsc;

mod context;
mod probe;
mod sampling;
mod span;

pub use context::{TraceContext, TraceId, continued};
pub use probe::{Probe, Timing, probe};
use sampling::Sampler;
pub use sampling::{Ended, Sampling};
pub use span::{Attribute, Kind, Span, Value};

/// Messages whose spans wait for the exporter.
const WAITING_MAX: usize = 1_024;

/// Spans of one message, for the exporter.
pub type Spans = mpsc::Receiver<Vec<Span>>;

/// Takes the spans of messages that are worth it. Never waits.
pub struct Tracer {
    sampler: Sampler,
    waiting: mpsc::Sender<Vec<Span>>,
}

/// So many spans found no room.
#[derive(Debug, PartialEq, Eq)]
pub struct Dropped(pub usize);

impl Tracer {
    /// With the other end of its queue.
    pub fn new(sampling: Sampling) -> (Arc<Self>, Spans) {
        let (waiting, spans) = mpsc::channel(WAITING_MAX);
        (Arc::new(Self { sampler: Sampler::new(sampling), waiting }), spans)
    }

    /// A span of its own below that of `parent`, or of a new trace. Whether it is sampled, its parent has decided;
    /// of a new trace the ratio.
    pub fn begin(&self, parent: Option<TraceContext>) -> TraceContext {
        match parent {
            Some(parent) => parent.child(),
            None => {
                let new = TraceContext::start();
                new.with_sampled(self.sampler.samples(new))
            }
        }
    }

    /// Whether the spans of a message that has ended like this are kept.
    pub fn keeps(&self, context: TraceContext, ended: Ended) -> bool {
        context.is_sampled() || self.sampler.keeps(ended)
    }

    /// Whether one more message of this tenant is told of. Asked last, for it counts.
    pub fn has_room(&self, tenant: &str) -> bool {
        self.sampler.has_room(tenant)
    }

    /// Hands spans to the exporter.
    pub fn export(&self, spans: Vec<Span>) -> Result<(), Dropped> {
        self.waiting.try_send(spans).map_err(|refused| Dropped(refused.into_inner().len()))
    }
}

#[cfg(test)]
mod tests;
