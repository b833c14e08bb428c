//! The `agentbus` command: arguments in, exit code out.

use std::process::ExitCode;

/// glibc's allocator took a sixth of a node's time (`docs/benchmarks.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    agentbus::cli::main().await
}
