//! Does one user hold so many of its tenant's connections that others find none? Then some of its own are ended.
//!
//! nats-server limits the connections of an account and not those of a user. It says when an account has another number
//! of them; where half is taken, the node that looks for all asks whose they are, and ends the newest of who has more
//! than is left. So one alone keeps half, two a third each (`shares.rs`), and who has few always finds room. For a while
//! its new ones are ended at once, and if it goes on opening so many that half is taken, all but two of the others.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::{
    connected::{Connected, changed, connected},
    kicker::{Kicker, WaitFor},
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
/// Who had more than its share gets no other so long.
const FULL_FOR: Duration = Duration::from_secs(10);
/// Between two tries to hear of connections.
const HEAR_EVERY: Duration = Duration::from_secs(5);
/// Tenants that are looked at one after the other; others are told of again.
const TENANTS_MAX: usize = 64;
/// Connections in one server's answer; what is beyond is not seen.
const CONNECTIONS_MAX: usize = 65_536;
/// So many nobody loses: while its key is changed an agent has two.
const KEPT: usize = 2;

/// What keeps connections for all of a tenant's users.
#[derive(Clone)]
pub struct ConnectionShares {
    pub kicker: Option<Kicker>,
    pub peers: Arc<Peers>,
    pub directory: Arc<Directory>,
    pub metrics: Arc<Metrics>,
}

impl ConnectionShares {
    /// Looks until the future is dropped.
    pub async fn keep(self) {
        let Some(kicker) = &self.kicker else { return std::future::pending().await };
        let (mut due, mut full) = (BTreeMap::new(), TurnedAway::default());
        let mut next = Instant::now();
        loop {
            let Some(mut told) = kicker.hear(names::CONNECTIONS_CHANGED).await else {
                tokio::time::sleep(HEAR_EVERY).await;
                continue;
            };
            loop {
                tokio::select! {
                    event = full.connects() => {
                        let ended = full.end(kicker, event).await;
                        self.metrics.nats.connections_ended(EndedFor::Share, ended);
                    }
                    event = told.next() => match event {
                        Some(event) => self.note(&event.payload, &mut due),
                        None => break,
                    },
                    () = tokio::time::sleep_until(next), if !due.is_empty() => {
                        for tenant in std::mem::take(&mut due).values() {
                            self.look(kicker, tenant, &mut full).await;
                        }
                        next = Instant::now() + LOOK_EVERY;
                    }
                }
            }
        }
    }

    /// Takes down whose connections could be too many of one user's, if the other servers have as many.
    fn note(&self, event: &Bytes, due: &mut BTreeMap<TenantId, Arc<Tenant>>) {
        let Some(account) = changed(event).filter(|_| self.peers.is_first()) else { return };
        let tenant = account.name.parse().ok().and_then(|id: TenantId| self.directory.tenant(&id));
        let servers = self.kicker.as_ref().map_or(1, Kicker::servers);
        let Some(tenant) = tenant else { return };
        let taken = account.connections.saturating_mul(servers);
        // Nobody has more than all have together.
        if due.len() < TENANTS_MAX && taken >= (tenant.connections as usize).saturating_sub(taken) {
            due.insert(tenant.id.clone(), tenant);
        }
    }

    async fn look(&self, kicker: &Kicker, tenant: &Tenant, full: &mut TurnedAway) {
        let asked = serde_json::json!({ "acc": tenant.id, "auth": true, "limit": CONNECTIONS_MAX });
        let answers = kicker.connections(&[asked.to_string()], WaitFor::AsMany).await;
        let all = answers.iter().flat_map(|(_, answer)| connected(answer));
        let all: Vec<_> = all.filter(|one| one.account == tenant.id.as_str()).collect();
        let goes_on = |key: &str| full.is_turned_away(&tenant.id, key);
        let surplus = surplus(all, tenant.connections as usize, goes_on);
        for (key, links) in &surplus {
            let ended = links.len();
            if !full.is_turned_away(&tenant.id, key) {
                tracing::warn!(
                    tenant = %tenant.id, key, ended,
                    "a user holds more connections than it leaves to others: the newest are ended"
                );
            }
            full.turn_away(kicker, &tenant.id, key, FULL_FOR).await;
            for link in links {
                kicker.end(link).await;
            }
            self.metrics.nats.connections_ended(EndedFor::Share, ended);
        }
    }
}

/// The newest connections of who has more than is left, by key, and all but the first two of who goes on.
fn surplus(all: Vec<Connected>, most: usize, goes_on: impl Fn(&str) -> bool) -> BTreeMap<String, Vec<Link>> {
    let mut left = most.saturating_sub(all.len());
    let mut held: BTreeMap<String, Vec<Link>> = BTreeMap::new();
    for one in all {
        held.entry(one.key).or_default().push(one.link);
    }
    // A server gives later ones larger numbers.
    held.values_mut().for_each(|links| links.sort_by_key(Link::client));
    let mut surplus: BTreeMap<String, Vec<Link>> = BTreeMap::new();
    for (key, links) in held.iter_mut().filter(|(key, links)| links.len() > KEPT && goes_on(key)) {
        let ended = links.split_off(KEPT);
        left += ended.len();
        surplus.insert(key.clone(), ended);
    }
    while let Some((key, links)) = held.iter_mut().max_by_key(|(_, links)| links.len()) {
        if links.len() <= left.max(KEPT) {
            break;
        }
        surplus.entry(key.clone()).or_default().extend(links.pop());
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
                let link = Link::new("NA".to_owned(), (number * 10 + user) as u64);
                let (account, key) = ("acme".to_owned(), format!("U{user}"));
                all.push(Connected { link, account, key, written: 0, subjects: Vec::new() });
            }
        }
        all
    }

    fn ended(of: &[usize], most: usize) -> BTreeMap<String, usize> {
        let ended = surplus(connections(of), most, |_| false).into_iter();
        ended.map(|(key, links)| (key, links.len())).collect()
    }

    #[test]
    fn one_alone_keeps_half_two_a_third_each_and_it_is_the_newest_that_go() {
        assert_eq!(ended(&[256], 256), [("U0".to_owned(), 128)].into());
        assert_eq!(ended(&[250, 1, 2], 256)["U0"], 124, "126 are kept, 127 left");
        assert_eq!(ended(&[128, 128], 256), [("U0".to_owned(), 43), ("U1".to_owned(), 43)].into());
        let newest = surplus(connections(&[6]), 8, |_| false);
        assert_eq!(newest["U0"].iter().map(Link::client).collect::<Vec<_>>(), [50, 40]);
    }

    #[test]
    fn who_goes_on_opening_keeps_its_first_two() {
        let ended = surplus(connections(&[5, 100]), 256, |key| key == "U0");
        assert_eq!(ended["U0"].iter().map(Link::client).collect::<Vec<_>>(), [20, 30, 40]);
        assert_eq!(ended.len(), 1);
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
