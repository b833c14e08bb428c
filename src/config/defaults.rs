//! What does a node run with that was told nothing?

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{
    ConstitutionEntry, Cpu, DEFAULT_CONSTITUTION, Durable, Http, Idempotency, Lane, Limits, Log, LogFormat,
    Nats, Node, NodeConfig, Policy, PollClock, Registry,
};
use crate::{
    breakers, chaos, impact,
    policy::{Mode, decision_log},
    skew,
};

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            node: Node::default(),
            nats: Nats::default(),
            redis: None,
            http: Http::default(),
            log: Log::default(),
            constitution: DEFAULT_CONSTITUTION
                .parse()
                .map(|hash| ConstitutionEntry { hash, from: None, until: None })
                .into_iter()
                .collect(),
            limits: Limits::default(),
            policy: Policy::default(),
            cpu: Cpu::default(),
            lane: Lane::default(),
            registry: Registry::default(),
            idempotency: Idempotency::default(),
            durable: Durable::default(),
            impact: impact::Settings::default(),
            breakers: breakers::Table::default(),
            chaos: chaos::Settings::default(),
            webhook: None,
            otlp: None,
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        let drain = Duration::from_secs(8);
        Self {
            name: "node-1".to_owned(),
            drain,
            clock_tolerance: skew::TOLERANCE,
            poll_clock: PollClock::Wall,
        }
    }
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".to_owned(),
            nkey_file: None,
            kicker_nkey_file: None,
            ping_interval: Duration::from_secs(2),
            timeout: Duration::from_secs(2),
            tls: None,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8080)), connections: 128, tls: None }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Auto, filter: "info".to_owned() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: 192 * 1024,
            in_flight: 1024,
            in_flight_per_tenant: 512,
            asks: 4096,
            asks_per_tenant: 1024,
            answer: Duration::from_secs(20),
            deadline: Duration::from_secs(1),
            clock_skew: Duration::from_secs(30),
            memory_bytes: None,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            dir: None,
            shipped: true,
            mode: Mode::Rego,
            tenants: BTreeMap::new(),
            bundle: None,
            opa: None,
            log: decision_log::Settings::default(),
        }
    }
}

/// Two, so that one tenant's work leaves a thread for the others'.
impl Default for Cpu {
    fn default() -> Self {
        Self { threads: 2, queue: 512 }
    }
}

impl Default for Lane {
    fn default() -> Self {
        Self { threads: 1, busy_poll: Duration::ZERO }
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(30) }
    }
}

impl Default for Idempotency {
    fn default() -> Self {
        Self { window: Duration::from_secs(600), lease: Duration::from_secs(2) }
    }
}

impl Default for Durable {
    fn default() -> Self {
        Self { give_up_after: Duration::from_secs(120) }
    }
}

pub(super) fn opa_timeout() -> Duration {
    Duration::from_millis(250)
}

pub(super) fn webhook_timeout() -> Duration {
    Duration::from_secs(5)
}

/// The last one comes some ten minutes after the first.
pub(super) fn webhook_attempts() -> u32 {
    10
}
