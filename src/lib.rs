//! agentbus: a governed message bus for AI agents on NATS.
//!
//! The map, in reading order:
//!
//! - [`domain`]: the words of the bus as types. [`rejection`]: every way to say no.
//! - [`wire`]: bytes to domain and back, under hard limits.
//! - [`state`]: what nodes share, as traits; memory and Redis.
//! - [`policy`]: Rego decides; makes the `Permit` without which nothing is delivered.
//! - [`impact`]: how much harm a message could do.

pub mod domain;
pub mod impact;
pub mod policy;
pub mod rejection;
pub mod state;
pub mod wire;
