//! All integration tests in one binary, against real servers started on free ports.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on should stop with its reason"
)]

mod clients;
mod docs;
mod faults;
mod impact;
mod isolation;
mod journeys;
#[cfg(feature = "model")]
mod model_tools;
mod operators;
mod past;
mod policy;
mod servers;
mod state;
mod support;
mod takeover;
mod tenancy;
mod tidy;
