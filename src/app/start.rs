//! What does a node wait for before it takes requests, and in which order does it begin?

use std::time::Duration;

use super::{basis::Basis, build::Node};
use crate::{nats::BusError, shutdown::Shutdown, skew::Skew};

/// How long a starting node waits for Redis before it starts without.
pub(super) const REDIS_WAIT: Duration = Duration::from_secs(2);

/// How long it waits for somebody to compare its clock with.
const CLOCK_WAIT: Duration = Duration::from_secs(2);

/// How long it waits for the connections of the durable lane: the fast one does without.
const LANE_WAIT: Duration = Duration::from_secs(2);

/// How long it waits for learned thresholds.
const THRESHOLDS_WAIT: Duration = Duration::from_secs(2);

impl Node {
    /// Returns when requests are taken, or when it is to stop.
    pub(super) async fn start(&self) -> anyhow::Result<()> {
        let Basis { config, shutdown, .. } = &self.basis;
        self.wait().await;
        if shutdown.is_requested() {
            return Ok(());
        }
        shutdown.work_begins();
        self.take_requests().await?;
        self.health.started();
        tracing::info!(node = config.node.name, tenants = self.directory.tenants().len(), "serving");
        Ok(())
    }

    /// For what a node cannot do without as long as it takes, and for the rest a moment.
    async fn wait(&self) {
        let (shutdown, stopping) = (&self.basis.shutdown, || self.basis.shutdown.is_requested());
        // A node that knows no tenants, not what is frozen or which constitutions are in force, has no policy, or cannot deliver, takes no requests:
        // others of the queue group answer them.
        let there = async {
            let (tenants, frozen) = (self.directory.ready(), self.freezes.following.ready());
            let constitutions = self.constitutions.following.ready();
            tokio::join!(tenants, frozen, constitutions, self.outbox.ready(), self.rollout.ready());
        };
        tokio::select! {
            () = there => {}
            () = shutdown.requested() => {}
        }
        // Not for ever: without Redis a node starts all the same, and says that it is degraded.
        if let Some(redis) = &self.stores.redis
            && !stopping()
            && !redis.ready(REDIS_WAIT).await
        {
            let why = redis.refusal().unwrap_or_else(|| "it does not answer".to_owned());
            tracing::warn!(why, "starting without redis");
        }
        let lane = || tokio::time::timeout(LANE_WAIT, self.lane.ready());
        if !stopping() && lane().await.is_err() {
            tracing::warn!("starting without the connections for the durable lane");
        }
        let thresholds = || tokio::time::timeout(THRESHOLDS_WAIT, self.thresholds.ready());
        if !stopping() && thresholds().await.is_err() {
            tracing::warn!(
                "learned thresholds cannot be read; for tenants that learn, the floor is in force"
            );
        }
        skew_is_right(&self.skew, shutdown).await;
    }

    async fn take_requests(&self) -> anyhow::Result<()> {
        let Basis { config, shutdown, background, supervisor, loops, .. } = &self.basis;
        let kept = (loops, supervisor);
        match self.bus.start(&config.node.name, &config.nats, shutdown, background, kept).await {
            // It was told to stop before NATS has heard of it.
            Err(BusError::Intake) if shutdown.is_requested() => {}
            started => started?,
        }
        let directory = || self.directory.clone();
        self.peers.start(background, supervisor);
        self.deadlines.clone().start(directory(), shutdown, supervisor);
        {
            let _on = self.basis.durable.handle().enter();
            self.inbound.start(directory(), shutdown, supervisor);
        }
        self.evidence.start(directory(), shutdown, supervisor);
        self.stream_usage.start(shutdown, supervisor);
        if let Some(webhooks) = &self.webhooks {
            webhooks.start(directory(), self.skew.clone(), shutdown, supervisor);
        }
        Ok(())
    }
}

/// Waits until the clock of this node can be gone by, or the stop. A clock that nobody can be asked about is
/// taken for right.
async fn skew_is_right(skew: &Skew, shutdown: &Shutdown) {
    let mut off = skew.changes();
    let right = async {
        let _ = tokio::time::timeout(CLOCK_WAIT, skew.is_known()).await;
        // Cannot fail: the sender lives in `skew`.
        let _ = off.wait_for(|off| !off).await;
    };
    tokio::select! {
        () = right => {}
        () = shutdown.requested() => {}
    }
}
