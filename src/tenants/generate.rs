//! How do keys and accounts come about? Writes both for a plan, again and again with one result.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use crate::domain::TenantId;

use super::{
    accounts,
    keys::{self, KeysError},
    names::accounts_conf,
    plan::{Plan, PlanError},
    public_keys,
};

/// What a run wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    pub accounts_conf: PathBuf,
    /// All users, agents and the bus's own.
    pub users: usize,
    /// Seeds that are new.
    pub created: Vec<PathBuf>,
    /// Seeds of agents that are no longer in the plan, or bring other keys, deleted.
    pub removed: Vec<PathBuf>,
    /// Seeds that others could get at, closed to them now. Somebody may have a copy.
    pub exposed: Vec<PathBuf>,
    /// The accounts differ from those on disk before: servers need a reload.
    pub changed: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("another run is at work in {}; try again when it has ended", dir.display())]
    Busy { dir: PathBuf },
}

impl Plan {
    /// Writes the seeds and `nats/accounts.conf` below `dir`. Seeds that exist are kept. Blocks.
    pub fn generate(&self, dir: &Path) -> Result<Generated, GenerateError> {
        self.generate_with(dir, &BTreeSet::new())
    }

    /// The same, and the provisioner may delete the streams of `former` tenants.
    pub(super) fn generate_with(
        &self,
        dir: &Path,
        former: &BTreeSet<TenantId>,
    ) -> Result<Generated, GenerateError> {
        let path = accounts_conf(dir);
        let folder = path.parent().unwrap_or(dir).to_owned();
        let failed = |source| GenerateError::Write { path: path.clone(), source };
        fs::create_dir_all(&folder).map_err(failed)?;
        // Two runs at once could leave the accounts of one with the seeds of the other. The lock
        // ends with the process, however that ends.
        let lock = File::create(folder.join(".lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(GenerateError::Busy { dir: dir.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }

        let mut public = BTreeMap::new();
        let (mut created, mut exposed) = (Vec::new(), Vec::new());
        for user in self.users() {
            if let Some(named) = self.named_keys(&user) {
                public.insert(user, named.to_vec());
                continue;
            }
            let kept = keys::keep(dir, &user)?;
            if kept.created {
                created.push(user.seed_path(dir));
            }
            if kept.exposed {
                exposed.push(user.seed_path(dir));
            }
            public.insert(user, vec![kept.seed.public_key()?]);
        }
        public_keys::each_has_one_user(&public)?;
        let before = fs::read_to_string(&path).unwrap_or_default();
        let (rendered, revision) = (accounts::render(self, &public, former), accounts::revision(&before));
        let changed = before != accounts::revised(&rendered, revision);
        if changed {
            let text = accounts::revised(&rendered, revision.saturating_add(1));
            keys::write_whole(&path, text.as_bytes(), 0o644).map_err(failed)?;
        }
        // Last: a crash before this leaves a seed too many, never an account without its seed.
        let removed = keys::gone(dir, self)?;
        keys::sweep(&removed)?;
        Ok(Generated { accounts_conf: path, users: public.len(), created, removed, exposed, changed })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tenants::{BusUser, Seed, User};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn seeds_are_for_their_owner_only_and_survive_the_next_run() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::example().unwrap();
        let first = plan.generate(dir.path()).unwrap();
        assert_eq!((first.users, first.created.len(), first.changed), (18, 18, true));
        let path = dir.path().join("keys/acme/planner.nk");
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(mode(&dir.path().join("keys")), 0o700);
        for own in [
            "bus/node.nk",
            "bus/provisioner.nk",
            "bus/operator.nk",
            "sys/admin.nk",
            "sys/kicker.nk",
            "sys/keeper.nk",
        ] {
            Seed::read(&dir.path().join("keys").join(own)).unwrap();
        }

        let seed = fs::read(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let again = plan.generate(dir.path()).unwrap();
        assert_eq!((again.created.len(), again.removed.len(), again.changed), (0, 0, false));
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (seed, 0o600));
        assert_eq!((first.exposed, again.exposed), (vec![], vec![path]));
    }

    #[test]
    fn what_leaves_the_plan_loses_its_seed_and_nothing_else_is_deleted() {
        let dir = tempfile::tempdir().unwrap();
        Plan::example().unwrap().generate(dir.path()).unwrap();
        fs::write(dir.path().join("keys/globex/notes.txt"), "mine").unwrap();
        let smaller = Plan::parse("[tenants.acme.agents]\nplanner = {}").unwrap();
        let generated = smaller.generate(dir.path()).unwrap();
        assert_eq!((generated.removed.len(), generated.created.len()), (11, 0));
        assert!(generated.changed);
        assert!(dir.path().join("keys/acme/planner.nk").exists());
        assert!(!dir.path().join("keys/acme/worker.nk").exists());
        assert!(dir.path().join("keys/globex/notes.txt").exists());
        assert!(User::from(BusUser::Node).seed_path(dir.path()).exists());
    }

    #[test]
    fn no_seed_is_in_the_accounts_or_in_debug() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::example().unwrap();
        let generated = plan.generate(dir.path()).unwrap();
        let text = fs::read_to_string(generated.accounts_conf).unwrap();
        for user in plan.users() {
            let seed = Seed::read(&user.seed_path(dir.path())).unwrap();
            assert!(!text.contains(seed.reveal()));
            assert!(!format!("{seed:?}").contains(seed.reveal()));
            assert!(text.contains(&seed.public_key().unwrap()));
        }
    }

    #[test]
    fn a_file_that_is_not_a_seed_stops_the_run_and_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::example().unwrap();
        plan.generate(dir.path()).unwrap();
        let path = dir.path().join("keys/acme/planner.nk");
        fs::write(&path, "not a seed").unwrap();
        let error = plan.generate(dir.path()).unwrap_err();
        assert!(matches!(error, GenerateError::Keys(KeysError::NotASeed { .. })), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"not a seed");
    }
}
