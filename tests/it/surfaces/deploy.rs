//! Is what stands in `deploy/` true? Units, alerts, dashboards and charts, held against a real node and by their own tools.

use std::{path::PathBuf, process::Command};

use crate::surfaces::clients::text;

mod health;
mod monitoring;
mod systemd;

/// A program that not every machine has; without it a test says that it was left out.
fn tool(name: &str) -> Option<PathBuf> {
    let local = crate::support::root().join(".servers/bin");
    let search = std::env::var_os("PATH").unwrap_or_default();
    let found = std::iter::once(local).chain(std::env::split_paths(&search)).map(|folder| folder.join(name));
    let found = found.into_iter().find(|path| path.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: {name} is not here");
    }
    found
}

/// Runs it, and says all that it printed.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    (output.status.success(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
}
