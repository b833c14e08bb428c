//! What comes in, what goes back, and the bounds of the way between.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    domain::{AgentId, Encoding, Tenant, TenantId, Verdict},
    overload::Place,
    wire,
};

/// One request as it came from the wire, with what NATS stamped into its subject.
#[derive(Debug)]
pub struct Request {
    pub tenant: TenantId,
    pub sender: AgentId,
    pub payload: Bytes,
    /// W3C trace context of the request, if it had one.
    pub traceparent: Option<String>,
    /// When the node read it.
    pub received: Instant,
    /// Among the requests that the node works on.
    pub place: Place,
}

/// The answer to a request, in the request's encoding.
#[derive(Debug)]
pub struct Answer {
    pub verdict: Verdict,
    pub encoding: Encoding,
    /// The stored verdict of an earlier request with the same message id.
    pub repeat: bool,
}

/// The operator's directory of tenants, as a node holds it.
pub trait Tenants: Send + Sync {
    fn tenant(&self, id: &TenantId) -> Option<Arc<Tenant>>;
}

/// Bounds of one message's way.
#[derive(Debug, Clone)]
pub struct Limits {
    pub wire: wire::Limits,
    pub deadline: Duration,
    pub clock_skew: Duration,
    /// Between the first and the last attempt at a queued message.
    pub give_up_after: Duration,
}
