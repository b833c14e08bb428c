//! All breakers of a node: each is made when it is first asked for, and those of tenants are bounded in number.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use parking_lot::RwLock;

use super::{Breaker, Kind, Table, breaker::Tally};

/// Of one kind. Beyond it those of which nothing is to be remembered make room, and who finds none shares one.
pub const TARGETS_MAX: usize = 4_096;
/// What those share: no tenant has such an id.
const OTHERS: &str = "*";

/// The breakers of a node.
#[derive(Debug, Default)]
pub struct Breakers {
    settings: Table,
    all: RwLock<BTreeMap<Kind, OfKind>>,
}

#[derive(Debug, Default)]
struct OfKind {
    targets: BTreeMap<Box<str>, Arc<Breaker>>,
    tally: Arc<Tally>,
}

/// One that keeps calls away.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Standing {
    pub kind: String,
    /// Which of its kind; empty where there is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// The last fault.
    pub why: String,
    /// Until it is tried again; absent: it waits for `agentbus recover`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_ms: Option<u64>,
}

/// Of all of one kind, since the node began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Those that keep calls away now.
    pub open: u64,
    pub opened: u64,
    pub tried: u64,
    pub closed: u64,
    pub refused: u64,
}

impl Breakers {
    pub fn new(settings: Table) -> Self {
        Self { settings, all: RwLock::default() }
    }

    /// The only one of its kind.
    pub fn of(&self, kind: Kind) -> Arc<Breaker> {
        self.of_target(kind, "")
    }

    /// That of one server or tenant.
    pub fn of_target(&self, kind: Kind, target: &str) -> Arc<Breaker> {
        if let Some(found) = self.all.read().get(&kind).and_then(|of| of.targets.get(target)) {
            return Arc::clone(found);
        }
        let mut all = self.all.write();
        let OfKind { targets, tally } = all.entry(kind).or_default();
        if targets.len() >= TARGETS_MAX && !targets.contains_key(target) {
            // Who holds one and has not called yet finds that it counts for nobody else: no harm.
            targets
                .retain(|_, breaker| !breaker.is_calm() && (breaker.is_closed() || breaker.is_in_the_way()));
        }
        let target = if targets.len() < TARGETS_MAX { target } else { OTHERS };
        let made = || Arc::new(Breaker::new(kind, target, self.settings.of(kind), Arc::clone(tally)));
        Arc::clone(targets.entry(target.into()).or_insert_with(made))
    }

    /// Those of this kind, or of all.
    pub fn each(&self, kind: Option<Kind>) -> Vec<Arc<Breaker>> {
        let all = self.all.read();
        let wanted = all.iter().filter(|(of, _)| kind.is_none_or(|kind| kind == **of));
        wanted.flat_map(|(_, of)| of.targets.values().cloned()).collect()
    }

    /// All that keep calls away. What nobody has asked since its pause was over is none.
    pub fn open(&self) -> Vec<Standing> {
        self.open_of(None)
    }

    /// Those of this kind, or of all.
    pub fn open_of(&self, kind: Option<Kind>) -> Vec<Standing> {
        self.each(kind).iter().filter_map(|breaker| breaker.standing()).collect()
    }

    pub fn counts(&self, kind: Kind) -> Counts {
        let all = self.all.read();
        let Some(OfKind { targets, tally }) = all.get(&kind) else { return Counts::default() };
        Counts {
            open: targets.values().filter(|breaker| breaker.is_in_the_way()).count() as u64,
            opened: tally.opened.load(Relaxed),
            tried: tally.tried.load(Relaxed),
            closed: tally.closed.load(Relaxed),
            refused: tally.refused.load(Relaxed),
        }
    }

    /// Those of which others are to hear, or which wait for others.
    pub fn shared(&self) -> Vec<Arc<Breaker>> {
        let mut all = self.each(None);
        all.retain(|breaker| breaker.kind.is_shared() && !is_here(&breaker.target));
        all
    }

    /// The next calls of this kind find out whether it is well again; how many breakers were not closed.
    pub fn release(&self, kind: Kind) -> usize {
        let open: Vec<_> = self.each(Some(kind)).into_iter().filter(|breaker| !breaker.is_closed()).collect();
        open.iter().for_each(|breaker| breaker.released());
        open.len()
    }
}

impl Breaker {
    /// `<kind>` or `<kind>:<target>`, the same on all nodes.
    pub fn name(&self) -> String {
        match &*self.target {
            "" => self.kind.as_str().to_owned(),
            target => format!("{}:{target}", self.kind.as_str()),
        }
    }

    fn standing(&self) -> Option<Standing> {
        if self.is_closed() || !self.is_in_the_way() {
            return None;
        }
        let (why, left) = self.trouble()?;
        let millis = |left: Duration| u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        Some(Standing {
            kind: self.kind.as_str().to_owned(),
            target: self.target.to_string(),
            why,
            retry_ms: left.map(millis),
        })
    }
}

/// A server of this machine: what others find by that name is another.
fn is_here(target: &str) -> bool {
    let host = target.rsplit_once(':').map_or(target, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_tenants_breaker_is_its_own_and_there_are_never_more_than_the_bound() {
        let breakers = Breakers::default();
        let acme = breakers.of_target(Kind::Jetstream, "acme");
        acme.fell(&"no answer");
        assert!(breakers.of_target(Kind::Jetstream, "bravo").admit().is_ok());
        assert!(breakers.of_target(Kind::Deliberations, "acme").admit().is_ok(), "of another kind");
        for number in 0..2 * TARGETS_MAX {
            breakers.of_target(Kind::Jetstream, &format!("t{number}"));
        }
        assert!(breakers.each(Some(Kind::Jetstream)).len() <= TARGETS_MAX);
        assert!(Arc::ptr_eq(&acme, &breakers.of_target(Kind::Jetstream, "acme")), "an open one stays");
        for number in 0..TARGETS_MAX {
            breakers.of_target(Kind::Jetstream, &format!("open{number}")).fell(&"no answer");
        }
        let one = breakers.of_target(Kind::Jetstream, "x");
        assert!(Arc::ptr_eq(&one, &breakers.of_target(Kind::Jetstream, "y")), "the rest share one");
        assert!(breakers.open().iter().any(|standing| standing.target == "acme"));
    }

    #[test]
    fn a_server_of_each_nodes_own_machine_is_nothing_to_other_nodes() {
        let breakers = Breakers::default();
        for target in ["127.0.0.1:8181", "[::1]:8181", "localhost:8181", "opa:8181", "10.0.0.7:8181"] {
            breakers.of_target(Kind::Opa, target);
        }
        let shared: Vec<_> = breakers.shared().iter().map(|breaker| breaker.name()).collect();
        assert_eq!(shared, ["opa:10.0.0.7:8181", "opa:opa:8181"]);
    }

    #[test]
    fn what_is_released_is_tried_and_counted() {
        let breakers = Breakers::default();
        let records = breakers.of(Kind::Records);
        records.fell(&"no answer");
        assert!(records.admit().is_err());
        assert_eq!(
            breakers.counts(Kind::Records),
            Counts { open: 1, opened: 1, refused: 1, ..Counts::default() }
        );
        assert_eq!((breakers.release(Kind::Records), breakers.release(Kind::Opa)), (1, 0));
        records.admit().unwrap().good();
        assert!(breakers.open().is_empty());
        let Counts { opened, closed, .. } = breakers.counts(Kind::Records);
        assert_eq!((opened, closed), (1, 1));
    }
}
