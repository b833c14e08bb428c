//! The `agentbus` command: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser as _;

/// glibc's allocator took a sixth of a node's time (`docs/benchmarks.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    agentbus::cli::run(agentbus::cli::Arguments::parse()).await
}
