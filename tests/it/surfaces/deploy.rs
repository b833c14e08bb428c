//! Is what stands in `deploy/` true? Units, images, alerts, dashboards and the chart, held against a real node and by their own tools.

use std::{path::PathBuf, process::Command};

use crate::surfaces::clients::{AGENTBUS, text};

mod chart;
mod cluster;
mod health;
mod image;
mod monitoring;
mod pages;
mod systemd;
mod tls;

/// What CI does not install: systemd's own.
const LEFT_OUT: [&str; 1] = ["systemd-analyze"];

/// A program that not every machine has; without it a test says that it was left out.
fn tool(name: &str) -> Option<PathBuf> {
    let local = crate::support::root().join(".servers/bin");
    let search = std::env::var_os("PATH").unwrap_or_default();
    let found = std::iter::once(local).chain(std::env::split_paths(&search)).map(|folder| folder.join(name));
    let found = found.into_iter().find(|path| path.is_file());
    if found.is_none() {
        let how = "`deploy/install-servers --deploy` installs it";
        let may = LEFT_OUT.contains(&name) || std::env::var("CI").as_deref() != Ok("true");
        assert!(may, "{name} is needed in CI; {how}");
        println!("SKIPPED: {name} is not here; {how}");
    }
    found
}

/// A keeper that is started by these words finds no key where they say, and nothing else wrong with them.
fn keeper_is_understood<'a>(words: impl Iterator<Item = &'a str>) {
    let nowhere = tempfile::tempdir().unwrap();
    let nowhere = nowhere.path().display().to_string();
    let words = words.map(|word| if word == "/etc/agentbus" { &nowhere } else { word });
    let (good, told) = run(Command::new(AGENTBUS).args(words));
    assert!(!good && told.contains(&format!("{nowhere}/keys/sys/keeper.nk")), "{told}");
}

/// Runs it, and says all that it printed.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    (output.status.success(), format!("{}{}", text(&output.stdout), text(&output.stderr)))
}
