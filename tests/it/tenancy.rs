//! Do the server's accounts keep the promises of `docs/tenancy.md`, without any node's help?
//!
//! A real nats-server runs the generated configuration. Where a node is needed, a bare client with
//! the node's user stands in, so that what holds here holds by the server alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod attacks;
mod beyond;
mod changes;
mod cli;
mod cluster;
mod crowds;
mod decisions;
mod directory;
pub mod forgery;
mod inbox;
mod isolation;
mod neighbours;
mod rotation;
mod runtime;
mod secrets;
mod server;
mod strangers;
mod sync;
mod works;
