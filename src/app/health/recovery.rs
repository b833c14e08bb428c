//! How does a node recover at a person's word? What it asks by begins anew, and its breakers let the next call through.

use super::NodeHealth;
use crate::{
    breakers::Kind,
    nats::{NodeRecovery, Recoverable},
};

/// Parts of the supervisor that calls of a kind go by, and what to begin them anew does. The model's threads begin anew by
/// themselves where they fail.
fn parts(kind: Kind) -> &'static [&'static str] {
    match kind {
        // Reads again who answers, by which policy.
        Kind::Opa => &["opa"],
        // Connects anew, and looks its name up again.
        Kind::Redis => &["redis connections", "redis pipe"],
        Kind::Model => &[],
        // Connects anew.
        Kind::Records => &["outbox", "lane session"],
        // Makes the consumers' pulls anew, of each tenant.
        Kind::Jetstream => &["lane session", "lane"],
        Kind::Deliberations => &["deliberations"],
        Kind::Webhook => &["webhook"],
    }
}

impl Recoverable for NodeHealth {
    fn recover(&self, kind: Kind) -> NodeRecovery {
        *self.recovered.lock().entry(kind.as_str()).or_default() += 1;
        let renewed = parts(kind).iter().filter(|part| self.supervisor.renew(part));
        NodeRecovery {
            node: self.node.clone(),
            renewed: renewed.map(|part| (*part).to_owned()).collect(),
            released: self.breakers.release(kind),
        }
    }
}
