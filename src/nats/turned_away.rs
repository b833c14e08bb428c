//! Users whose new connections are ended as soon as they are made.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{connected::came, kicker::Kicker};
use crate::{
    domain::TenantId,
    telemetry::{EndedFor, Metrics},
    tenants::names,
};

/// Users at one time; of more the connections are ended when they are looked at again.
const USERS_MAX: usize = 1_024;
/// So often it is looked whether there is still one.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Who that is, by tenant and key.
#[derive(Default)]
pub struct TurnedAway {
    users: Mutex<HashMap<(TenantId, String), User>>,
    /// There is one.
    wake: Notify,
}

struct User {
    until: Instant,
    why: EndedFor,
}

impl TurnedAway {
    pub(super) fn turn_away(&self, tenant: &TenantId, key: &str, why: EndedFor, lasts: Duration) {
        let now = Instant::now();
        let mut users = self.users.lock();
        users.retain(|_, user| now < user.until);
        let who = (tenant.clone(), key.to_owned());
        let until = now + lasts;
        if let Some(user) = users.get_mut(&who) {
            if user.until < until {
                (user.until, user.why) = (until, why);
            }
        } else if users.len() < USERS_MAX {
            users.insert(who, User { until, why });
        }
        self.wake.notify_one();
    }

    pub(super) fn turns_away(&self, tenant: &TenantId, key: &str) -> bool {
        self.why(tenant.clone(), key.to_owned()).is_some()
    }

    /// Ends what they open, until the future is dropped. Who connects is heard of only while there is such a user.
    pub(super) async fn keep(&self, kicker: &Kicker, metrics: &Metrics) {
        loop {
            while !self.is_somebody() {
                self.wake.notified().await;
            }
            let Some(mut connects) = kicker.hear(names::CONNECTED).await else {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            };
            while self.is_somebody() {
                match tokio::time::timeout(LOOK_EVERY, connects.next()).await {
                    Ok(Some(event)) => {
                        let Some((link, account, key)) = came(&event.payload) else { continue };
                        let Ok(tenant) = account.parse() else { continue };
                        if let Some(why) = self.why(tenant, key) {
                            kicker.end(&link).await;
                            metrics.nats.connections_ended(why, 1);
                        }
                    }
                    Ok(None) => break,
                    Err(_) => {}
                }
            }
        }
    }

    fn is_somebody(&self) -> bool {
        let now = Instant::now();
        self.users.lock().values().any(|user| now < user.until)
    }

    /// For what it is turned away, if it is.
    fn why(&self, tenant: TenantId, key: String) -> Option<EndedFor> {
        let now = Instant::now();
        self.users.lock().get(&(tenant, key)).filter(|user| now < user.until).map(|user| user.why)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn who_is_turned_away_is_so_until_its_time_is_over_and_the_longer_time_holds() {
        let (away, acme) = (TurnedAway::default(), "acme".parse::<TenantId>().unwrap());
        let other: TenantId = "globex".parse().unwrap();
        assert!(!away.is_somebody() && !away.turns_away(&acme, "UA"));
        away.turn_away(&acme, "UA", EndedFor::Rate, Duration::from_secs(60));
        away.turn_away(&acme, "UA", EndedFor::Share, Duration::from_secs(10));
        assert_eq!(away.why(acme.clone(), "UA".to_owned()), Some(EndedFor::Rate));
        assert_eq!((away.is_somebody(), away.why(other, "UA".to_owned())), (true, None));
        away.turn_away(&acme, "UB", EndedFor::Share, Duration::ZERO);
        assert_eq!(away.why(acme, "UB".to_owned()), None);
    }
}
