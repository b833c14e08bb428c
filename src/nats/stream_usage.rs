//! How full are the tenants' streams? Looked at one after the other, at a bounded pace, for the operator.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_nats::{
    Client,
    jetstream::{self, Context, stream::Stream},
};
use parking_lot::Mutex;

use crate::{
    domain::TenantId,
    shutdown::Shutdown,
    supervisor::Supervisor,
    telemetry::Metrics,
    tenants::{Directory, names},
};

/// Between two rounds over all tenants.
const ROUND_EVERY: Duration = Duration::from_secs(15);
/// Between two questions: a thousand tenants take a minute and a half.
const QUESTION_EVERY: Duration = Duration::from_millis(20);
/// For one answer of JetStream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// A stream that is filled so far is told of.
const NEARLY_FULL: f64 = 0.9;

/// What every tenant has, as metrics and people call it, and the stream's name.
type Kind = (&'static str, fn(&TenantId) -> String);
const INBOXES: &str = "inboxes";
const KINDS: [Kind; 4] = [
    ("waiting", names::inbound_stream),
    (INBOXES, names::outbound_stream),
    ("deliberations", names::deliberations_stream),
    ("dead_letters", names::dead_letters_stream),
];

/// Looks, and remembers what is nearly full.
pub struct StreamUsage {
    context: Context,
    directory: Arc<Directory>,
    metrics: Arc<Metrics>,
    /// Of the last round: each kind that has any, and how many tenants' are nearly full.
    nearly_full: Mutex<Vec<(&'static str, usize)>>,
}

impl StreamUsage {
    pub fn new(client: Client, directory: Arc<Directory>, metrics: Arc<Metrics>) -> Arc<Self> {
        let mut context = jetstream::new(client);
        context.set_timeout(ANSWER_TIMEOUT);
        Arc::new(Self { context, directory, metrics, nearly_full: Mutex::default() })
    }

    pub fn start(self: &Arc<Self>, shutdown: &Shutdown, supervisor: &Supervisor) {
        let usage = Arc::clone(self);
        supervisor
            .keep("fill", shutdown.tracker(), shutdown.token().clone(), move || Arc::clone(&usage).look());
    }

    /// What is nearly full, for people. No tenant is named: whoever sees the page may be none of theirs.
    pub fn note(&self) -> String {
        let nearly_full = self.nearly_full.lock();
        let told = nearly_full
            .iter()
            .map(|(kind, tenants)| format!("{kind} of {}", crate::phrase::counted(*tenants, "tenant")));
        match told.collect::<Vec<_>>().join(", ") {
            told if told.is_empty() => told,
            told => format!("nearly full: {told}; the log names them"),
        }
    }

    async fn look(self: Arc<Self>) {
        let mut told = HashSet::new();
        loop {
            let tenants = self.directory.tenants();
            let (mut nearly_full, mut names, mut unsettled) = (Vec::new(), HashSet::new(), 0);
            for (kind, stream) in KINDS {
                let (mut worst, mut count) = (0.0_f64, 0);
                for tenant in tenants.keys() {
                    tokio::time::sleep(QUESTION_EVERY).await;
                    let name = stream(tenant);
                    let Some((share, stream)) = self.share(&name).await else { continue };
                    if kind == INBOXES {
                        unsettled += unsettled_in(&stream).await;
                    }
                    worst = worst.max(share);
                    if share >= NEARLY_FULL {
                        count += 1;
                        // Once, until it is better.
                        if !told.contains(&name) {
                            tracing::warn!(%tenant, kind, share, "a tenant's stream is nearly full");
                        }
                        names.insert(name);
                    }
                }
                self.metrics.filled(kind, worst);
                if count > 0 {
                    nearly_full.push((kind, count));
                }
            }
            *self.nearly_full.lock() = nearly_full;
            self.metrics.lane.unsettled.set(i64::try_from(unsettled).unwrap_or(i64::MAX));
            told = names;
            tokio::time::sleep(ROUND_EVERY).await;
        }
    }

    /// Of its bytes, those that are taken, and the stream. `None`: it does not say.
    async fn share(&self, name: &str) -> Option<(f64, Stream)> {
        let stream = self.context.get_stream(name).await.ok()?;
        let info = stream.cached_info();
        let most = u64::try_from(info.config.max_bytes).ok().filter(|most| *most > 0)?;
        Some((info.state.bytes as f64 / most as f64, stream))
    }
}

/// Messages in a tenant's durable inboxes whose place nobody gets before nodes have settled them.
async fn unsettled_in(stream: &Stream) -> u64 {
    let info = stream.consumer_info(names::EVIDENCE_CONSUMER).await;
    info.map_or(0, |info| info.num_pending.saturating_add(info.num_ack_pending as u64))
}
