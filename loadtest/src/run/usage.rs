//! What do the processes take? Processor time and memory of node, nats-server, redis-server and client.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cpu;

/// Who runs while a measurement lasts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pids {
    pub(crate) nodes: Vec<u32>,
    pub(crate) nats: Vec<u32>,
    pub(crate) redis: Vec<u32>,
    pub(crate) clients: Vec<u32>,
}

/// One figure of each of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Each {
    pub(crate) node: f64,
    pub(crate) nats: f64,
    pub(crate) redis: f64,
    pub(crate) client: f64,
}

/// One process's figure.
pub(crate) type Pick = fn(&Each) -> f64;

/// Each of them by its name.
pub(crate) const PROCESSES: [(&str, Pick); 4] = [
    ("node", |each| each.node),
    ("nats-server", |each| each.nats),
    ("redis-server", |each| each.redis),
    ("client", |each| each.client),
];

impl Each {
    pub(crate) fn sum(self) -> f64 {
        self.node + self.nats + self.redis + self.client
    }

    pub(crate) fn map(self, of: impl Fn(f64) -> f64) -> Self {
        Self { node: of(self.node), nats: of(self.nats), redis: of(self.redis), client: of(self.client) }
    }

    pub(crate) fn with(self, other: Self, of: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            node: of(self.node, other.node),
            nats: of(self.nats, other.nats),
            redis: of(self.redis, other.redis),
            client: of(self.client, other.client),
        }
    }
}

impl Pids {
    /// Seconds of user and system time since their start, all threads.
    pub(crate) fn processor_seconds(&self) -> Each {
        self.each(|pid| cpu::time(pid).as_secs_f64())
    }

    /// Mebibytes that are resident now.
    pub(crate) fn memory_mib(&self) -> Each {
        self.each(|pid| cpu::memory(pid) as f64 / f64::from(1 << 20))
    }

    fn each(&self, of: impl Fn(u32) -> f64) -> Each {
        let sum = |pids: &[u32]| pids.iter().map(|&pid| of(pid)).sum();
        Each {
            node: sum(&self.nodes),
            nats: sum(&self.nats),
            redis: sum(&self.redis),
            client: sum(&self.clients),
        }
    }
}

/// Of a core, from one reading to the next.
pub(crate) fn cores(before: Each, after: Each, took: Duration) -> Each {
    let took = took.as_secs_f64().max(1e-6);
    after.with(before, |after, before| (after - before).max(0.0) / took)
}
