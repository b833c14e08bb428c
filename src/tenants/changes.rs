//! Who could log in until now and will not, who will and could not? Looks at keys and accounts, changes nothing.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    accounts,
    generate::GenerateError,
    keys,
    names::{User, accounts_conf},
    plan::Plan,
};

/// What [`Plan::generate`] would change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessChanges {
    /// Users that are new, such as `acme/clerk`.
    pub added: Vec<String>,
    /// Users that left the plan, with the keys that open nothing any more.
    pub removed: Vec<(String, BTreeSet<String>)>,
    /// Users that stay and have other keys.
    pub changed: Vec<KeyChange>,
    pub seeds_made: Vec<PathBuf>,
    pub seeds_deleted: Vec<PathBuf>,
}

/// Other keys of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    pub user: String,
    pub added: BTreeSet<String>,
    pub removed: BTreeSet<String>,
}

impl AccessChanges {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether somebody loses a key or a seed.
    pub fn takes_away(&self) -> bool {
        let Self { removed, changed, seeds_deleted, .. } = self;
        !removed.is_empty()
            || !seeds_deleted.is_empty()
            || changed.iter().any(|change| !change.removed.is_empty())
    }

    /// Keys with which nobody could log in any more.
    pub fn keys_removed(&self) -> impl Iterator<Item = &String> {
        let gone = self.removed.iter().flat_map(|(_, keys)| keys);
        gone.chain(self.changed.iter().flat_map(|change| &change.removed))
    }
}

impl Plan {
    /// What [`Plan::generate`] would change below `dir`. Blocks.
    pub fn access_changes(&self, dir: &Path) -> Result<AccessChanges, GenerateError> {
        let path = accounts_conf(dir);
        let accounts = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(GenerateError::Read { path, source }),
        };
        let mut before = accounts::users_in(&String::from_utf8_lossy(&accounts));
        let mut changes = AccessChanges { seeds_deleted: keys::gone(dir, self)?, ..AccessChanges::default() };
        for user in self.users() {
            let keys = keys::public_keys(dir, self, &user)?;
            let seed = user.seed_path(dir);
            let made = self.named_keys(&user).is_none() && !seed.exists();
            if made {
                changes.seeds_made.push(seed);
            }
            match before.remove(&user.to_string()) {
                None => changes.added.push(user.to_string()),
                // Its key is not known, and stays.
                Some(_) if keys.is_empty() && !made => {}
                Some(old) => changes.changed.extend(key_change(&user, &old, keys)),
            }
        }
        changes.removed = before.into_iter().collect();
        Ok(changes)
    }
}

fn key_change(user: &User, old: &BTreeSet<String>, keys: Vec<String>) -> Option<KeyChange> {
    let new: BTreeSet<String> = keys.into_iter().collect();
    let change = KeyChange {
        user: user.to_string(),
        added: new.difference(old).cloned().collect(),
        removed: old.difference(&new).cloned().collect(),
    };
    (!change.added.is_empty() || !change.removed.is_empty()).then_some(change)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use nkeys::KeyPair;

    use super::*;
    use crate::tenants::Seed;

    fn plan(agents: &str) -> Plan {
        Plan::parse(&format!("[tenants.acme.agents]\n{agents}")).unwrap()
    }

    #[test]
    fn what_generate_would_do_is_what_it_then_does() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let first = plan("planner = {}\nworker = {}").access_changes(dir).unwrap();
        assert_eq!((first.added.len(), first.seeds_made.len(), first.takes_away()), (8, 8, false));
        assert!(!dir.join("keys").exists(), "looking writes nothing");
        plan("planner = {}\nworker = {}").generate(dir).unwrap();
        assert!(plan("planner = {}\nworker = {}").access_changes(dir).unwrap().is_empty());

        let own = KeyPair::new_user().public_key();
        let old = Seed::read(&dir.join("keys/acme/planner.nk")).unwrap().public_key().unwrap();
        let both = plan(&format!("planner = {{ nkeys = [{old:?}, {own:?}] }}\nworker = {{}}"));
        let changes = both.access_changes(dir).unwrap();
        assert_eq!(changes.changed[0].added, BTreeSet::from([own.clone()]));
        assert!(!changes.takes_away(), "a second key takes nothing away: {changes:?}");
        both.generate(dir).unwrap();
        assert!(dir.join("keys/acme/planner.nk").exists(), "its seed still opens something");

        let next = plan(&format!("planner = {{ nkey = {own:?} }}"));
        let changes = next.access_changes(dir).unwrap();
        let keys: BTreeSet<_> = changes.keys_removed().cloned().collect();
        assert!(changes.takes_away() && keys.contains(&old) && keys.len() == 2, "{changes:?}");
        assert_eq!(changes.removed[0].0, "acme/worker");
        let seeds = ["keys/acme/planner.nk", "keys/acme/worker.nk"].map(|seed| dir.join(seed));
        assert_eq!(changes.seeds_deleted, seeds);
        let generated = next.generate(dir).unwrap();
        assert_eq!((generated.removed, generated.created), (seeds.to_vec(), Vec::new()));
        assert!(next.access_changes(dir).unwrap().is_empty());
    }

    #[test]
    fn a_key_that_the_seed_of_another_user_has_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        plan("planner = {}").generate(dir.path()).unwrap();
        let key = Seed::read(&dir.path().join("keys/acme/planner.nk")).unwrap().public_key().unwrap();
        let error = plan(&format!("planner = {{}}\nworker = {{ nkey = {key:?} }}")).generate(dir.path());
        assert!(error.unwrap_err().to_string().contains("acme/planner and acme/worker have the same key"));
    }
}
