//! What every adapter of JetStream has in common, once: publishing with its answer and error codes, appending by
//! compare-and-set, acknowledging, and pulling from a consumer.

pub(super) mod acknowledge;
pub(super) mod consumer;
pub(super) mod delivery_info;
pub(super) mod found;
pub(super) mod publish;
pub(super) mod pull_requests;
