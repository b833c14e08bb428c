//! Hands each event of a deliberation to [`Deadlines`], and the answer to JetStream.
//!
//! JetStream is the clock. Every parked message is given back to its consumer with a delay until
//! something is due, so a schedule outlives every node, and any node may be the one that keeps it.

use std::{panic::AssertUnwindSafe, sync::Arc};

use async_nats::{Client, Message, jetstream::AckKind};
use futures_util::FutureExt as _;

use super::{
    each_tenant::Served,
    subjects,
    tenant_consumers::{Event, Source, TenantConsumers},
};
use crate::{
    review::{Deadlines, Next},
    shutdown::Shutdown,
    skew::Skew,
    supervisor::Supervisor,
    telemetry::Metrics,
    tenants::{Directory, names},
};

/// Events of one tenant that are in hand at one time.
const SHARE: usize = 16;
/// Events of all tenants that are worked on at one time.
const AT_ONCE: usize = 128;

/// Keeps deadlines and carries decisions out, beside the other nodes.
#[derive(Clone)]
pub struct DeadlineWorker {
    consumers: Arc<TenantConsumers>,
    deadlines: Deadlines,
    skew: Skew,
    metrics: Arc<Metrics>,
}

impl From<Next> for AckKind {
    fn from(next: Next) -> Self {
        match next {
            Next::Done => AckKind::Ack,
            Next::Again(after) => AckKind::Nak(Some(after)),
        }
    }
}

impl DeadlineWorker {
    pub fn new(client: Client, deadlines: Deadlines, skew: Skew, metrics: Arc<Metrics>) -> Self {
        let consumers =
            TenantConsumers::new(client, Source::deliberations(names::DEADLINES_CONSUMER), SHARE, AT_ONCE);
        Self { consumers, deadlines, skew, metrics }
    }

    /// Tenants whose deadlines and decisions wait for their stream.
    pub fn absent(&self) -> usize {
        self.consumers.absent()
    }

    /// Works until the shutdown. What was begun is finished, what was not is given back.
    pub fn start(self, directory: Arc<Directory>, shutdown: &Shutdown, supervisor: &Supervisor) {
        let (consumers, skew) = (Arc::clone(&self.consumers), self.skew.clone());
        consumers.start("deliberations", Served { directory, skew }, shutdown, supervisor, move |event| {
            let worker = self.clone();
            async move { worker.metrics.polls.watch("clerk", worker.handle(event)).await }
        });
    }

    async fn handle(&self, event: Event) -> AckKind {
        let Event { message, attempt } = event;
        // A message that makes a node panic must not be lost with it.
        let next = AssertUnwindSafe(self.next(&message, attempt)).catch_unwind().await;
        let next = next.unwrap_or_else(|_| {
            tracing::error!(subject = %message.subject, "a deliberation made the node panic; tried again");
            Next::Again(Deadlines::AFTER_PANIC)
        });
        next.into()
    }

    async fn next(&self, message: &Message, attempt: u64) -> Next {
        match subjects::deliberation_of(&message.subject) {
            Ok((tenant, id)) if subjects::is_decided(&message.subject) => {
                self.deadlines.conclude(&tenant, &id, attempt).await
            }
            Ok((tenant, id)) => self.deadlines.look(&tenant, &id).await,
            Err(error) => {
                tracing::error!(%error, "an event on a malformed subject is dropped");
                Next::Done
            }
        }
    }
}
