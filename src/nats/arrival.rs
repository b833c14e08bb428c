//! A request as it was read, until work on it begins.

use bytes::Bytes;

use crate::{
    domain::Verb,
    fair_queue::{Owner, Owners},
    lanes::Request,
};

/// Bytes of a request that cost as much as another small one.
const COST_BYTES: usize = 4 * 1024;

/// A request, and where its answer goes.
pub(super) struct Arrival {
    pub(super) verb: Verb,
    pub(super) request: Request,
    pub(super) reply: Bytes,
}

impl Arrival {
    /// In whose turn it waits, and what it costs.
    pub(super) fn whose(&self, owners: &Owners) -> (Owner, u64) {
        let Request { tenant, sender, payload, .. } = &self.request;
        let cost = 1 + payload.len() / COST_BYTES;
        (owners.of(tenant, sender), u64::try_from(cost).unwrap_or(u64::MAX))
    }
}
