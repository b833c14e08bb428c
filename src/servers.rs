//! Which servers does the bus run on, where are their programs, and who starts, watches and ends them?
//!
//! Used by `agentbus up`, `agentbus demo`, `loadtest` and the tests: real nats-server and
//! redis-server processes as own children on loopback. A child is ended by its own id only, and
//! never outlives the value that owns it. Production starts its servers itself; this is for one
//! machine.
//!
//! - [`child`]: one process, its log and its end.
//! - `secrets`: what they ask of each other.
//! - [`nats`], [`redis`], [`node`]: what "ready" means for each.
//! - `proxy`: what stands between a node and a server where experiments are made. [`control`]: who may ask for them.
//! - [`folder`]: the data folder: who holds it, and what an earlier run left in it.
//! - [`stack`]: all of it together, started and stopped in order.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

pub mod child;
pub mod control;
pub mod folder;
pub mod nats;
pub mod node;
pub mod ports;
mod proxy;
pub mod redis;
mod secrets;
pub mod stack;

pub use child::{Child, Exit};
pub use control::Control;
pub use nats::{NatsOptions, NatsServer};
pub use node::{Node, NodeOptions};
pub use redis::{RedisData, RedisOptions, RedisServer};
pub use stack::{Ports, Stack, StackError, StackOptions};

/// Where `deploy/install-servers` puts what it installs.
const LOCAL_FOLDER: &str = ".servers/bin";

/// How many folders above the executable are looked at: `target/debug/deps/it-…` is the deepest.
const ANCESTORS_MAX: usize = 4;

/// A program that agentbus starts, or that the tests use as a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    NatsServer,
    RedisServer,
    /// Open Policy Agent, as a policy server.
    Opa,
    /// The `nats` command-line client.
    Nats,
}

impl Tool {
    /// The program's file name.
    pub fn program(self) -> &'static str {
        match self {
            Self::NatsServer => "nats-server",
            Self::RedisServer => "redis-server",
            Self::Opa => "opa",
            Self::Nats => "nats",
        }
    }

    /// The environment variable that names the program's path, before all other places.
    pub fn variable(self) -> &'static str {
        match self {
            Self::NatsServer => "AGENTBUS_NATS_SERVER",
            Self::RedisServer => "AGENTBUS_REDIS_SERVER",
            Self::Opa => "AGENTBUS_OPA",
            Self::Nats => "AGENTBUS_NATS",
        }
    }

    pub const ALL: [Self; 4] = [Self::NatsServer, Self::RedisServer, Self::Opa, Self::Nats];

    /// The oldest version that will do, as (major, minor).
    fn version_min(self) -> Option<(u32, u32)> {
        match self {
            // Older ones lack consumer and stream settings that the bus relies on, and have open advisories.
            Self::NatsServer => Some((2, 11)),
            // RESP3 client tracking as the bus uses it.
            Self::RedisServer => Some((7, 0)),
            Self::Opa => Some((1, 0)),
            Self::Nats => None,
        }
    }

    fn version_argument(self) -> &'static str {
        match self {
            Self::Opa => "version",
            Self::NatsServer | Self::RedisServer | Self::Nats => "--version",
        }
    }
}

/// Why a program cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MissingTool {
    #[error(
        "{program} was not found (looked at ${variable}, {LOCAL_FOLDER} and PATH); \
         `deploy/install-servers` installs it"
    )]
    NotFound { program: &'static str, variable: &'static str },
    #[error("${variable} names {path:?}, which is not a program that can be run")]
    NotAProgram { variable: &'static str, path: PathBuf },
    #[error(
        "{path:?} is {program} {found}, and at least {}.{} is needed; `deploy/install-servers` installs \
         one, or name another in ${variable}",
        minimum.0, minimum.1
    )]
    TooOld {
        program: &'static str,
        variable: &'static str,
        path: PathBuf,
        found: String,
        minimum: (u32, u32),
    },
    #[error("{path:?} did not tell its version ({cause}); name another in ${variable}")]
    NoVersion { variable: &'static str, path: PathBuf, cause: String },
}

/// The program's path: from its environment variable, the project-local folder (below the working
/// folder, or above the running executable), or `PATH`, in this order. The first one found must
/// be new enough; a later place is not tried, so that what runs is never a surprise.
pub fn find(tool: Tool) -> Result<PathBuf, MissingTool> {
    let path = locate(tool)?;
    check_version(tool, &path)?;
    Ok(path)
}

fn locate(tool: Tool) -> Result<PathBuf, MissingTool> {
    let (program, variable) = (tool.program(), tool.variable());
    if let Some(named) = env::var_os(variable).filter(|value| !value.is_empty()) {
        let path = PathBuf::from(named);
        return match is_program(&path) {
            true => Ok(path),
            false => Err(MissingTool::NotAProgram { variable, path }),
        };
    }
    let executable = env::current_exe().unwrap_or_default();
    let above = executable.ancestors().skip(1).take(ANCESTORS_MAX).map(Path::to_path_buf);
    let local = env::current_dir().into_iter().chain(above).map(|folder| folder.join(LOCAL_FOLDER));
    let search = env::var_os("PATH").unwrap_or_default();
    local
        .chain(env::split_paths(&search))
        .map(|folder| folder.join(program))
        .find(|path| is_program(path))
        .ok_or(MissingTool::NotFound { program, variable })
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn check_version(tool: Tool, path: &Path) -> Result<(), MissingTool> {
    let Some(minimum) = tool.version_min() else { return Ok(()) };
    let (program, variable) = (tool.program(), tool.variable());
    let unknown = |cause: String| MissingTool::NoVersion { variable, path: path.to_path_buf(), cause };
    let output = Command::new(path)
        .arg(tool.version_argument())
        .output()
        .map_err(|error| unknown(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (found, version) = parse_version(&text).ok_or_else(|| unknown("no version in its answer".into()))?;
    match version >= minimum {
        true => Ok(()),
        false => Err(MissingTool::TooOld {
            program,
            variable,
            path: path.to_path_buf(),
            found: found.into(),
            minimum,
        }),
    }
}

/// The first word that holds a `<major>.<minor>`: `v2.15.1`, `v=7.0.15`, `1.22.0`.
fn parse_version(text: &str) -> Option<(&str, (u32, u32))> {
    text.split_whitespace().find_map(|word| {
        let number = word.trim_start_matches(|c: char| !c.is_ascii_digit());
        let mut parts = number.split('.').map(str::parse);
        match (parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Some((number, (major, minor))),
            _ => None,
        }
    })
}

/// Why a server did not come up or could not be handled.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(transparent)]
    Missing(#[from] MissingTool),
    #[error("{name} could not be started: {cause}")]
    Spawn { name: String, cause: std::io::Error },
    #[error("{name} ended while starting ({exit}); its last lines:\n{tail}")]
    EndedEarly { name: String, exit: Exit, tail: String },
    #[error("{name} was not ready after {waited:?} ({last}); its last lines:\n{tail}")]
    NotReady { name: String, waited: std::time::Duration, last: String, tail: String },
    #[error("{name} is not running")]
    NotRunning { name: String },
    #[error("{what} {path:?}: {cause}")]
    File { what: &'static str, path: PathBuf, cause: std::io::Error },
    #[error("no free port on loopback: {cause}")]
    NoPort { cause: std::io::Error },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// A script, written by another process: one that this process had open for writing could not
    /// be run while a test beside it forks.
    fn program(folder: &Path, script: &str) -> PathBuf {
        let path = folder.join("program");
        let write = r#"printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod 755 "$1""#;
        let status = Command::new("sh").args(["-c", write, "sh"]).arg(&path).arg(script).status().unwrap();
        assert!(status.success());
        path
    }

    #[test]
    fn versions_are_read_from_what_the_servers_print() {
        for (text, expected) in [
            ("nats-server: v2.15.1", Some((2, 15))),
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", Some((7, 0))),
            ("Version: 1.22.0\nBuild Commit: \nGo Version: go1.26", Some((1, 22))),
            ("nats-server: v2.9.10", Some((2, 9))),
            ("no number here", None),
            ("", None),
        ] {
            assert_eq!(parse_version(text).map(|(_, version)| version), expected, "{text:?}");
        }
    }

    #[test]
    fn a_program_older_than_needed_is_refused_with_both_versions() {
        let folder = tempfile::tempdir().unwrap();
        let path = program(folder.path(), "echo 'nats-server: v2.9.10'");
        let refused = check_version(Tool::NatsServer, &path).unwrap_err();
        assert!(
            matches!(&refused, MissingTool::TooOld { found, minimum: (2, 11), .. } if found == "2.9.10"),
            "{refused}"
        );
        assert!(refused.to_string().contains("deploy/install-servers"), "{refused}");
    }

    #[test]
    fn a_program_that_tells_no_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = program(folder.path(), "true");
        let refused = check_version(Tool::RedisServer, &path).unwrap_err();
        assert!(matches!(refused, MissingTool::NoVersion { .. }), "{refused}");
    }
}
