//! Which public keys does the tenants file name for a user? Checked; seeds are in `keys.rs`.

use std::collections::BTreeMap;

use nkeys::{KeyPair, KeyPairType};

use crate::domain::id::shown;

use super::{
    names::User,
    plan::{PlanError, out_of_bounds},
};

/// Of one user at one time: the one in use, the next one, and some for instances of one agent.
const KEYS_MAX: usize = 8;
const EXPECTED: &str = "the public key of a NATS user, U and 55 more characters";

/// `nkey = "U…"`, or `nkeys = ["U…", "U…"]` while one takes over from the other.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedKeys {
    pub(super) nkey: Option<String>,
    pub(super) nkeys: Option<Vec<String>>,
}

impl NamedKeys {
    /// `None`: the file names none.
    pub(super) fn check(self, at: &str) -> Result<Option<Vec<String>>, PlanError> {
        let (field, keys) = match (self.nkey, self.nkeys) {
            (None, None) => return Ok(None),
            (Some(key), None) => ("nkey", vec![key]),
            (None, Some(keys)) => ("nkeys", keys),
            (Some(_), Some(_)) => {
                let both = "nkey and nkeys".to_owned();
                return Err(out_of_bounds(at.to_owned(), "a table with nkey or with nkeys", both));
            }
        };
        let at = format!("{at}.{field}");
        if !(1..=KEYS_MAX).contains(&keys.len()) {
            return Err(out_of_bounds(at, &format!("1 to {KEYS_MAX} keys"), keys.len().to_string()));
        }
        keys.iter().try_for_each(|key| check(&at, key))?;
        Ok(Some(keys))
    }
}

fn check(at: &str, key: &str) -> Result<(), PlanError> {
    let pair = KeyPair::from_public_key(key);
    if pair.is_ok_and(|pair| pair.key_pair_type() == KeyPairType::User && pair.public_key() == key) {
        return Ok(());
    }
    // Whatever could be a secret is not repeated.
    let found = match key.trim_start().starts_with(['S', 's']) {
        true => "what looks like a seed: it is secret, and stays with its owner".to_owned(),
        false => shown(key),
    };
    Err(out_of_bounds(at.to_owned(), EXPECTED, found))
}

/// The server would take a key of two users for the one or the other.
pub(super) fn each_has_one_user(keys: &BTreeMap<User, Vec<String>>) -> Result<(), PlanError> {
    let mut seen = BTreeMap::new();
    for (user, key) in keys.iter().flat_map(|(user, keys)| keys.iter().map(move |key| (user, key))) {
        if let Some(one) = seen.insert(key, user) {
            let (one, other) = (one.clone(), user.clone());
            return Err(PlanError::SharedKey { key: key.clone(), one, other });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::tenants::Plan;

    fn plan(agents: &str) -> Result<Plan, String> {
        Plan::parse(&format!("[tenants.acme.agents]\n{agents}")).map_err(|error| error.to_string())
    }

    #[test]
    fn an_agent_brings_one_key_or_several_and_nodes_do_not_hear_of_them() {
        let [one, two] = [KeyPair::new_user().public_key(), KeyPair::new_user().public_key()];
        let plan =
            plan(&format!("a = {{ nkey = \"{one}\" }}\nb = {{ nkeys = [\"{two}\"] }}\nc = {{}}")).unwrap();
        let user = |agent: &str| User::Agent("acme".parse().unwrap(), agent.parse().unwrap());
        assert_eq!(plan.named_keys(&user("a")), Some([one.clone()].as_slice()));
        assert_eq!(plan.named_keys(&user("b")), Some([two].as_slice()));
        assert_eq!(plan.named_keys(&user("c")), None);
        let published = serde_json::to_string(plan.tenants()).unwrap();
        assert!(!published.contains(&one), "nodes of the last version know no such field: {published}");
    }

    #[test]
    fn what_is_no_public_key_of_one_user_is_refused_and_a_seed_is_not_repeated() {
        let pair = KeyPair::new_user();
        let (key, seed) = (pair.public_key(), pair.seed().unwrap());
        let account = KeyPair::new_account().public_key();
        let mut typo = key.clone();
        typo.replace_range(10..11, if key.get(10..11) == Some("A") { "B" } else { "A" });
        let cases = [
            (format!("a = {{ nkey = \"{seed}\" }}"), "looks like a seed"),
            (format!("a = {{ nkeys = [\"{key}\", \"{seed}\"] }}"), "looks like a seed"),
            (format!("a = {{ nkey = \"{account}\" }}"), "public key of a NATS user"),
            (format!("a = {{ nkey = \"{typo}\" }}"), "acme.agents.a.nkey must be the public key"),
            (format!("a = {{ nkey = \" {key}\" }}"), "public key of a NATS user"),
            (format!("a = {{ nkey = \"{}\" }}", key.to_lowercase()), "public key of a NATS user"),
            (format!("a = {{ nkey = \"{key}\", nkeys = [] }}"), "nkey or with nkeys"),
            ("a = { nkey = \"\" }".to_owned(), "public key of a NATS user"),
            ("a = { nkeys = [] }".to_owned(), "nkeys must be 1 to 8 keys, found 0"),
            (format!("a = {{ nkeys = {:?} }}", vec![&key; 9]), "1 to 8 keys, found 9"),
            (format!("a = {{ nkeys = [\"{key}\", \"{key}\"] }}"), "have the same key"),
            (format!("a = {{ nkey = \"{key}\" }}\nb = {{ nkey = \"{key}\" }}"), "acme/a and acme/b"),
        ];
        for (text, expected) in cases {
            let message = plan(&text).unwrap_err();
            assert!(message.contains(expected), "{message:?} does not say {expected:?}");
            assert!(!message.contains(&seed), "{message}");
        }
    }
}
