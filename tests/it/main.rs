//! All integration tests in one binary, against real servers started on free ports, by what they promise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on should stop with its reason"
)]

mod architecture;
mod governance;
mod lanes;
mod support;
mod surfaces;
mod survival;
mod tenancy;
