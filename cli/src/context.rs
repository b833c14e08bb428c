//! Who is talking, to which server, and on what kind of terminal? Shared by what agents and reviewers type.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context as _, bail};
use clap::Args;

use super::server::ServerArgs;
pub(super) use super::{
    output::say,
    paint::{Paint, Tone},
    printable::safe,
};
use agentbus::{
    client::AgentClient,
    domain::{AgentId, IdError, TenantId},
    secret_file::{self, SecretFileError},
    tenants::{User, names::keys_dir},
};

/// A seed has 58 characters.
const SEED_BYTES_MAX: u64 = 1024;
/// Names listed in an error.
const LISTED_MAX: usize = 20;

/// Who you are, and where the bus is.
#[derive(Debug, Args)]
pub(super) struct Identity {
    /// Who you are
    #[arg(long = "as", value_name = "TENANT/AGENT", env = "AGENTBUS_AS")]
    pub(super) who: Who,
    /// Data folder of `agentbus up`; it names the server and holds the agents' keys
    #[arg(long, value_name = "DIR", default_value = ".agentbus", env = "AGENTBUS_DIR")]
    pub(super) dir: PathBuf,
    #[command(flatten)]
    pub(super) server: ServerArgs,
    /// File with your NKey seed, instead of keys/TENANT/AGENT.nk in --dir
    #[arg(long, value_name = "FILE", env = "AGENTBUS_NKEY_FILE")]
    pub(super) nkey_file: Option<PathBuf>,
}

/// An agent of a tenant, written `tenant/agent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) tenant: TenantId,
    pub(super) agent: AgentId,
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (tenant, agent) =
            text.split_once('/').ok_or("expected a tenant and an agent, such as acme/planner")?;
        let told = |error: IdError| error.to_string();
        Ok(Self { tenant: tenant.parse().map_err(told)?, agent: agent.parse().map_err(told)? })
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.agent)
    }
}

impl Identity {
    pub(super) async fn connect(&self) -> anyhow::Result<AgentClient> {
        let seed = self.seed()?;
        Ok(AgentClient::connect(&self.server.of(&self.dir)?, &self.who.agent, &seed).await?)
    }

    pub(super) fn seed_path(&self) -> PathBuf {
        let user = || User::Agent(self.who.tenant.clone(), self.who.agent.clone());
        self.nkey_file.clone().unwrap_or_else(|| user().seed_path(&self.dir))
    }

    pub(super) fn seed(&self) -> anyhow::Result<String> {
        if let Some(path) = &self.nkey_file {
            return secret_file::read(path, SEED_BYTES_MAX).context("--nkey-file");
        }
        match secret_file::read(&self.seed_path(), SEED_BYTES_MAX) {
            Ok(seed) => Ok(seed),
            Err(SecretFileError::Read { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                bail!("{}", self.unknown())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What to type instead.
    fn unknown(&self) -> String {
        let keys = keys_dir(&self.dir);
        let tenants: Vec<String> =
            entries(&keys).into_iter().filter(|name| !matches!(name.as_str(), "bus" | "sys")).collect();
        if tenants.is_empty() {
            return format!(
                "there are no keys in {}; start a bus with `agentbus up`, or name your key with --nkey-file",
                keys.display()
            );
        }
        let known: Vec<String> = tenants
            .iter()
            .flat_map(|tenant| {
                let agents = entries(&keys.join(tenant)).into_iter();
                agents.filter_map(move |file| Some(format!("{tenant}/{}", file.strip_suffix(".nk")?)))
            })
            .collect();
        let shown = known.iter().take(LISTED_MAX).cloned().collect::<Vec<_>>().join(", ");
        let more = known.len().saturating_sub(LISTED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("there is no agent {} in {}; there are {shown}{more}", self.who, self.dir.display())
    }
}

/// Names in a folder, sorted; none if there is no such folder.
fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Waits until then; for ever without a time.
pub(super) async fn at(when: Option<tokio::time::Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn identity(who: &str, dir: &Path) -> Identity {
        Identity {
            who: who.parse().unwrap(),
            dir: dir.to_owned(),
            server: ServerArgs::default(),
            nkey_file: None,
        }
    }

    /// A file with a secret.
    fn keep(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn who_is_a_tenant_and_an_agent_and_nothing_else() {
        assert_eq!("acme/planner".parse::<Who>().unwrap().to_string(), "acme/planner");
        for bad in ["", "acme", "acme/", "/planner", "acme/a/b", "acme/../bus", "Acme/x", "acme/*"] {
            assert!(bad.parse::<Who>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn an_unknown_agent_hears_which_ones_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let error = identity("acme/planner", dir.path()).seed().unwrap_err().to_string();
        assert!(error.contains("agentbus up"), "{error}");
        for (folder, file) in [("acme", "planner.nk"), ("acme", "worker.nk"), ("bus", "node.nk")] {
            fs::create_dir_all(dir.path().join("keys").join(folder)).unwrap();
            keep(&dir.path().join("keys").join(folder).join(file), "SU");
        }
        let error = identity("acme/plannr", dir.path()).seed().unwrap_err().to_string();
        assert!(error.contains("acme/planner, acme/worker") && !error.contains("node"), "{error}");
        assert_eq!(identity("acme/planner", dir.path()).seed().unwrap(), "SU");
    }

    #[test]
    fn a_key_that_others_can_read_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("keys/acme")).unwrap();
        let path = dir.path().join("keys/acme/planner.nk");
        keep(&path, "SU");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let mut named = identity("acme/planner", dir.path());
        named.nkey_file = Some(path.clone());
        for identity in [identity("acme/planner", dir.path()), named] {
            let error = format!("{:#}", identity.seed().unwrap_err());
            assert!(error.contains("mode 0644"), "{error}");
            assert!(error.ends_with(&format!("chmod 600 {}", path.display())), "{error}");
        }
    }

    #[tokio::test]
    async fn where_no_bus_runs_one_hears_how_to_start_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("keys/acme")).unwrap();
        keep(&dir.path().join("keys/acme/planner.nk"), "SU");
        let error = identity("acme/planner", dir.path()).connect().await.unwrap_err().to_string();
        assert!(error.contains("no bus is running") && error.contains("agentbus up"), "{error}");
    }
}
