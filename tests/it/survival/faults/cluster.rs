//! A bus whose parts can be broken one by one: NATS, Redis, and nodes as processes of their own.

use agentbus::{
    client::AgentClient,
    servers::{NatsServer, Node, RedisServer},
    tenants::Plan,
};

use crate::support::bus::Bus;

/// High limits, so that load does not meet them.
const PLAN: &str = "[tenants.acme.limits]\nmessages_per_minute = 10000000\n\
    [tenants.acme.agents]\nplanner = { roles = [\"executive\"] }\nworker = { roles = [\"implementer\"] }\n";

pub(super) fn plan() -> Plan {
    Plan::parse(PLAN).unwrap()
}

/// Dropping it ends every process of it.
pub(super) struct Cluster(Bus);

impl Cluster {
    pub(super) async fn start(nodes: usize) -> Self {
        Self::of(Bus::with(nodes, |options| options.plan = plan()).await)
    }

    pub(super) fn of(bus: Bus) -> Self {
        Self(bus)
    }

    pub(super) async fn agent(&self, id: &str) -> AgentClient {
        self.0.agent("acme", id).await
    }

    pub(super) fn node(&mut self, index: usize) -> &mut Node {
        self.0.stack.node_mut(index).unwrap()
    }

    pub(super) fn nats(&mut self) -> &mut NatsServer {
        self.0.stack.nats_mut()
    }

    pub(super) fn redis(&mut self) -> &mut RedisServer {
        self.0.stack.redis_mut().unwrap()
    }

    pub(super) async fn stop(self) {
        self.0.stop().await;
    }
}
