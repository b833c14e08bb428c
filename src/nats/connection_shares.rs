//! Does one user hold so many of its tenant's connections that others find none? Then some of its own are ended.
//!
//! nats-server limits the connections of an account and not those of a user. It says when an account has another number
//! of them; where half is taken, the node that watches for all asks whose they are, and ends the newest of who has more
//! than is left. So one alone keeps half, two a third each (`shares.rs`), and who has few always finds room. For a while
//! its new ones are ended at once (`turned_away.rs`). Where those that are about to be ended fill all but an eighth of what
//! there is, it keeps two.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::{
    connected::{Connected, changed},
    kicker::Kicker,
    link::Link,
    peers::Peers,
    turned_away::TurnedAway,
};
use crate::{
    domain::{Tenant, TenantId},
    telemetry::{EndedFor, Metrics},
    tenants::{Directory, names},
};

/// Between two looks at whose connections there are.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What one look has seen is compared with the next so long.
const SEEN_FOR: Duration = Duration::from_secs(2);
/// Who had more than its share gets no other so long.
const FULL_FOR: Duration = Duration::from_secs(10);
/// Less than one in so many left, while new ones are ended, is a storm of them.
const STORM: usize = 8;
/// Between two tries to hear of connections.
const HEAR_EVERY: Duration = Duration::from_secs(5);
/// Tenants that are looked at one after the other; others are told of again.
const TENANTS_MAX: usize = 64;
/// So many nobody loses: while its key is changed an agent has two.
const KEPT: usize = 2;

/// What keeps connections for all of a tenant's users.
#[derive(Clone)]
pub struct ConnectionShares {
    pub kicker: Kicker,
    pub away: Arc<TurnedAway>,
    pub peers: Arc<Peers>,
    pub directory: Arc<Directory>,
    pub metrics: Arc<Metrics>,
}

/// Whose a connection was in the last look, by server and number.
type Keys = HashMap<(String, u64), String>;
/// The last look at each tenant.
type Seen = HashMap<TenantId, (Instant, Keys)>;

impl ConnectionShares {
    /// Looks until the future is dropped.
    pub(super) async fn keep(&self) {
        let (mut due, mut seen) = (BTreeMap::new(), Seen::new());
        let mut next = Instant::now();
        loop {
            let Some(mut told) = self.kicker.hear(names::CONNECTIONS_CHANGED).await else {
                tokio::time::sleep(HEAR_EVERY).await;
                continue;
            };
            loop {
                tokio::select! {
                    event = told.next() => match event {
                        Some(event) => self.note(&event.payload, &mut due),
                        None => break,
                    },
                    () = tokio::time::sleep_until(next), if !due.is_empty() => {
                        for (id, tenant) in std::mem::take(&mut due) {
                            if !self.look(&tenant, &mut seen).await {
                                due.insert(id, tenant);
                            }
                        }
                        next = Instant::now() + LOOK_EVERY;
                    }
                }
            }
        }
    }

    /// Takes down whose connections could be too many of one user's, if the other servers have as many.
    fn note(&self, event: &Bytes, due: &mut BTreeMap<TenantId, Arc<Tenant>>) {
        if !self.peers.is_first() {
            return;
        }
        let Some(account) = changed(event) else { return };
        let tenant = account.name.parse().ok().and_then(|id: TenantId| self.directory.tenant(&id));
        let Some(tenant) = tenant else { return };
        let taken = account.connections.saturating_mul(self.kicker.servers());
        // Nobody has more than all have together.
        if due.len() < TENANTS_MAX && taken >= (tenant.connections as usize).saturating_sub(taken) {
            due.insert(tenant.id.clone(), tenant);
        }
    }

    /// `false`: another look is needed to tell.
    async fn look(&self, tenant: &Tenant, seen: &mut Seen) -> bool {
        let all = self.kicker.connected(&tenant.id).await;
        let now = Instant::now();
        seen.retain(|_, (at, _)| now.duration_since(*at) < SEEN_FOR);
        let before = seen.remove(&tenant.id).map(|(_, before)| before);
        let keys = all.iter().map(|one| (one.place(), one.key.clone())).collect();
        seen.insert(tenant.id.clone(), (now, keys));
        let Some(before) = before else { return false };
        let most = tenant.connections as usize;
        // Servers know of a larger limit, and nodes are not told of it yet.
        if all.len() > most {
            return true;
        }
        let hardly_any = most.saturating_sub(all.len()) < most / STORM;
        let storms = |key: &str| hardly_any && self.away.turns_away(&tenant.id, key);
        for (key, links) in surplus(&all, most, &before, storms) {
            let ended = links.len();
            if !self.away.turns_away(&tenant.id, &key) {
                tracing::warn!(
                    tenant = %tenant.id, key, ended,
                    "a user holds more connections than it leaves to others: the newest are ended"
                );
            }
            self.away.turn_away(&tenant.id, &key, EndedFor::Share, FULL_FOR);
            for link in &links {
                self.kicker.end(link).await;
            }
            self.metrics.nats.connections_ended(EndedFor::Share, ended);
        }
        true
    }
}

/// The newest connections of who has more than is left, by key, and all but the first two of who storms.
///
/// Counted for a user are those that were its own in the look before as well: before a server has verified a key, it
/// shows what the client says.
fn surplus(
    all: &[Connected],
    most: usize,
    before: &Keys,
    storms: impl Fn(&str) -> bool,
) -> BTreeMap<String, Vec<Link>> {
    let mut left = most.saturating_sub(all.len());
    let mut held: BTreeMap<String, Vec<&Connected>> = BTreeMap::new();
    for one in all.iter().filter(|one| before.get(&one.place()) == Some(&one.key)) {
        held.entry(one.key.clone()).or_default().push(one);
    }
    // Servers number their connections each for itself.
    held.values_mut().for_each(|links| links.sort_by_key(|one| (one.since, one.link.client())));
    let mut surplus: BTreeMap<String, Vec<Link>> = BTreeMap::new();
    for (key, links) in held.iter_mut().filter(|(key, links)| links.len() > KEPT && storms(key)) {
        let ended = links.split_off(KEPT);
        left += ended.len();
        surplus.insert(key.clone(), ended.into_iter().map(|one| one.link.clone()).collect());
    }
    while let Some((key, links)) = held.iter_mut().max_by_key(|(_, links)| links.len()) {
        if links.len() <= left.max(KEPT) {
            break;
        }
        surplus.entry(key.clone()).or_default().extend(links.pop().map(|one| one.link.clone()));
        left += 1;
    }
    surplus
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn connections(of: &[usize]) -> Vec<Connected> {
        let mut all = Vec::new();
        for (user, count) in of.iter().enumerate() {
            for number in 0..*count {
                let since = (number * 100 + user) as u64;
                // A server that began later gives smaller numbers.
                let link = Link::new("NA".to_owned(), 100_000 - since);
                let (account, key) = ("acme".to_owned(), format!("U{user}"));
                all.push(Connected { link, account, key, written: 0, since });
            }
        }
        all
    }

    fn known(all: &[Connected]) -> Keys {
        all.iter().map(|one| (one.place(), one.key.clone())).collect()
    }

    fn ended(of: &[usize], most: usize) -> BTreeMap<String, usize> {
        let all = connections(of);
        let ended = surplus(&all, most, &known(&all), |_| false).into_iter();
        ended.map(|(key, links)| (key, links.len())).collect()
    }

    #[test]
    fn one_alone_keeps_half_two_a_third_each_and_it_is_the_newest_that_go() {
        assert_eq!(ended(&[256], 256), [("U0".to_owned(), 128)].into());
        assert_eq!(ended(&[250, 1, 2], 256)["U0"], 124, "126 are kept, 127 left");
        assert_eq!(ended(&[128, 128], 256), [("U0".to_owned(), 43), ("U1".to_owned(), 43)].into());
        assert_eq!(ended(&[128], 256), BTreeMap::new(), "who has half keeps it");
        let all = connections(&[6]);
        let newest = surplus(&all, 8, &known(&all), |_| false);
        assert_eq!(newest["U0"].iter().map(Link::client).collect::<Vec<_>>(), [99_500, 99_600]);
    }

    #[test]
    fn who_makes_one_after_the_other_keeps_its_first_two() {
        let all = connections(&[5, 100]);
        let ended = surplus(&all, 256, &known(&all), |key| key == "U0");
        assert_eq!(ended["U0"].iter().map(Link::client).collect::<Vec<_>>(), [99_800, 99_700, 99_600]);
        assert_eq!(ended.len(), 1);
    }

    #[test]
    fn a_connection_that_names_another_key_than_before_counts_for_nobody() {
        let all = connections(&[200]);
        let mut before = known(&all);
        before.values_mut().for_each(|key| *key = "UX".to_owned());
        assert!(surplus(&all, 256, &before, |_| true).is_empty());
        assert!(surplus(&all, 256, &Keys::new(), |_| true).is_empty(), "nor does a new one");
    }

    proptest! {
        #[test]
        fn nobody_loses_its_last_two_nor_what_it_leaves_room_beside(
            of in prop::collection::vec(0..40_usize, 1..30),
            most in 1..400_usize,
        ) {
            let before: usize = of.iter().sum();
            let ended = ended(&of, most);
            let gone: usize = ended.values().sum();
            let left = most.saturating_sub(before) + gone;
            for (user, had) in of.iter().enumerate() {
                let lost = ended.get(&format!("U{user}")).copied().unwrap_or_default();
                prop_assert!(lost == 0 || had - lost >= KEPT);
                // Who has lost some has no fewer than is left now, and nobody has more.
                prop_assert!(lost == 0 || had - lost + 1 >= left);
                prop_assert!(had - lost <= left.max(KEPT));
            }
        }
    }
}
