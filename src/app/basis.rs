//! What does every part of a node stand on?

use std::sync::Arc;

use crate::{
    breakers::Breakers,
    config::NodeConfig,
    domain::Timestamp,
    event_loop::{EventLoop, PerLoop},
    memory::Memory,
    shutdown::Shutdown,
    supervisor::Supervisor,
    telemetry::Metrics,
};

/// Its configuration, its ends and what it counts.
pub(super) struct Basis {
    pub(super) config: NodeConfig,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shutdown: Shutdown,
    /// What messages in flight still need lives longer than the intake.
    pub(super) background: Shutdown,
    pub(super) supervisor: Supervisor,
    /// Of the fast lane.
    pub(super) loops: PerLoop<EventLoop>,
    /// Of the durable lane.
    pub(super) durable: EventLoop,
    pub(super) clock: fn() -> Timestamp,
    pub(super) breakers: Arc<Breakers>,
    pub(super) memory: Memory,
}

impl Basis {
    /// Runs a part until the node's end.
    pub(super) fn keep<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: &'static str,
        make: impl Fn() -> F + Send + 'static,
    ) {
        self.supervisor.keep(name, self.background.tracker(), self.background.token().clone(), make);
    }
}
