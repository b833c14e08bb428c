//! Which constitutions may messages name? A node's own copy: what operators have left, or else what its configuration
//! says.

use std::{collections::BTreeSet, sync::Arc};

use arc_swap::{ArcSwap, Guard};

use crate::{
    domain::{Amendments, Constitution, ConstitutionHash, Timestamp},
    following::{Followed, Following},
    health::{Health, Part},
};

/// What messages may name, as far as this node knows.
pub struct Constitutions {
    configured: Vec<Constitution>,
    in_force: ArcSwap<InForce>,
    /// What other nodes that are heard accept, and this one may not.
    elsewhere: ArcSwap<BTreeSet<ConstitutionHash>>,
    pub following: Following,
}

/// One state of it.
pub struct InForce {
    /// Which, counted by the store; 0: as it is configured.
    pub revision: u64,
    pub accepted: Vec<Constitution>,
    /// What operators want messages to name.
    activated: Option<ConstitutionHash>,
}

impl InForce {
    fn configured(accepted: &[Constitution]) -> Self {
        Self { revision: 0, accepted: accepted.to_vec(), activated: None }
    }

    /// Those that messages may name now.
    pub fn at(&self, now: Timestamp) -> impl Iterator<Item = ConstitutionHash> {
        self.accepted.iter().filter(move |it| it.in_force(now)).map(|it| it.hash)
    }

    /// Which of them messages should name now: of what is configured the one that came last.
    pub fn preferred(&self, now: Timestamp) -> Option<ConstitutionHash> {
        let in_force = self.accepted.iter().filter(|it| it.in_force(now));
        self.activated.or_else(|| in_force.max_by_key(|it| it.from).map(|it| it.hash))
    }
}

impl Constitutions {
    /// Until operators have left others.
    pub fn configured(configured: Vec<Constitution>) -> Self {
        let in_force = ArcSwap::from_pointee(InForce::configured(&configured));
        Self { configured, in_force, elsewhere: ArcSwap::default(), following: Following::default() }
    }

    /// For a moment: cheap, as each message asks.
    pub fn in_force(&self) -> Guard<Arc<InForce>> {
        self.in_force.load()
    }

    /// Messages that are checked from now on are held against this.
    pub fn put_in_force(&self, state: Option<(u64, Amendments)>) {
        let (revision, known) = (state.as_ref().map_or(0, |(revision, _)| *revision), self.in_force());
        if revision == known.revision {
            return;
        }
        let in_force = match state {
            None => InForce::configured(&self.configured),
            Some((revision, Amendments { accepted, preferred, act })) => {
                tracing::info!(hash = %act.hash, what = %act.what, why = act.why, "constitutions were changed");
                InForce { revision, accepted, activated: Some(preferred) }
            }
        };
        self.in_force.store(Arc::new(in_force));
    }

    /// A later state than this node's was heard of.
    pub fn heard_of(&self, revision: u64) {
        if revision > self.in_force.load().revision {
            self.following.look_again();
        }
    }

    /// What the other nodes that are heard accept.
    pub fn heard_elsewhere(&self, hashes: BTreeSet<ConstitutionHash>) {
        if **self.elsewhere.load() != hashes {
            self.elsewhere.store(Arc::new(hashes));
        }
    }

    pub fn elsewhere(&self) -> Guard<Arc<BTreeSet<ConstitutionHash>>> {
        self.elsewhere.load()
    }
}

impl Part for Constitutions {
    fn health(&self) -> Option<Health> {
        match self.following.followed() {
            Followed::NotYet(why) => {
                Some(Health::down(format!("which constitutions are in force is not known: {why}")))
            }
            Followed::Stale(why) => {
                Some(Health::degraded(format!("cannot see whether constitutions have changed: {why}")))
            }
            Followed::Current => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::domain::{Act, Amendment};

    fn hash(digit: char) -> ConstitutionHash {
        digit.to_string().repeat(16).parse().unwrap()
    }

    fn since(digit: char, from: Option<u64>) -> Constitution {
        Constitution { hash: hash(digit), from: from.map(Timestamp), until: None }
    }

    #[test]
    fn what_is_configured_is_in_force_until_operators_have_left_others_and_again_when_those_are_gone() {
        let configured = vec![since('a', None), since('b', Some(100))];
        let constitutions = Constitutions::configured(configured);
        let now = |at| {
            let in_force = constitutions.in_force();
            let accepted: Vec<_> = in_force.at(Timestamp(at)).collect();
            (accepted, in_force.preferred(Timestamp(at)))
        };
        assert_eq!(now(50), (vec![hash('a')], Some(hash('a'))));
        assert_eq!(now(100), (vec![hash('a'), hash('b')], Some(hash('b'))), "the one that came last");
        let act = Amendment {
            what: Act::Proposed,
            hash: hash('c'),
            why: "why".to_owned(),
            at: Timestamp(1),
            login: None,
        };
        let accepted = vec![since('a', None), since('c', None)];
        let state = Amendments { accepted, preferred: hash('a'), act };
        constitutions.put_in_force(Some((7, state)));
        assert_eq!(now(200), (vec![hash('a'), hash('c')], Some(hash('a'))));
        constitutions.put_in_force(None);
        assert_eq!(now(50).0, [hash('a')]);
    }
}
