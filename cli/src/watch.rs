//! How is something watched? Looked at again and again, until Ctrl-C or until nobody reads it any more.

use std::{process::ExitCode, time::Duration};

use agentbus::shutdown::Shutdown;

use super::output::{self, Reader, offer};

/// Clears the terminal and begins at its first line.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// `lines`: what `look` gives is for machines, and stays.
pub(super) async fn watch(
    every: Duration,
    lines: bool,
    mut look: impl AsyncFnMut() -> anyhow::Result<String>,
) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::default();
    shutdown.on_terminal_signals()?;
    let clear = if output::is_terminal() && !lines { CLEAR } else { "" };
    loop {
        let text = format!("{clear}{}", look().await?);
        if offer(text.as_bytes())? == Reader::Gone {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = shutdown.requested() => return Ok(ExitCode::SUCCESS),
        }
    }
}
