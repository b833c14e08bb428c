//! The `agentbus` command: arguments in, exit code out.

use std::{process::ExitCode, time::Duration};

use tokio::runtime::Runtime;

/// glibc's allocator took a sixth of a node's time (`docs/benchmarks.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// For what is still being written to a terminal or a file.
const BLOCKED_FOR_MAX: Duration = Duration::from_millis(500);

fn main() -> std::io::Result<ExitCode> {
    let runtime = Runtime::new()?;
    let code = runtime.block_on(agentbus_cli::main());
    // What is blocked for longer, such as a read from storage that does not answer, holds nothing up.
    runtime.shutdown_timeout(BLOCKED_FOR_MAX);
    Ok(code)
}
