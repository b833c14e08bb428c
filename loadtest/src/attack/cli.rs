//! How is the program run as a person would, and what did it print?

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::Context as _;
use tokio::{process::Command, time::timeout};

const RUN_MAX: Duration = Duration::from_secs(100);

pub(crate) struct Ran {
    pub(crate) success: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// `agentbus` with these arguments, as somebody whose bus is in this folder; no terminal.
pub(crate) async fn agentbus(program: &Path, folder: &Path, args: &[&str]) -> anyhow::Result<Ran> {
    let mut command = Command::new(program);
    command
        .args(args)
        .env("AGENTBUS_DIR", folder)
        .env("COLUMNS", "80")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(RUN_MAX, command.output()).await.context("agentbus does not end")??;
    Ok(Ran {
        success: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
