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

mod ask;
mod busy;
mod chaos;
mod clients;
mod commands;
mod deliberation;
mod docs;
mod doctor;
mod durable;
mod faults;
mod forgery;
mod golden;
mod hangup;
mod impact;
mod intake;
mod isolation;
mod journeys;
mod learning;
mod messages;
#[cfg(feature = "model")]
mod model_tools;
mod neighbours;
mod nodes;
mod operators;
mod past;
mod people;
mod policy;
mod readme;
mod secrets;
mod servers;
mod state;
mod strangers;
mod support;
mod takeover;
mod tenancy;
mod tidy;
mod upgrade;
mod verbs;
mod webhook;
