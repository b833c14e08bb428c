//! Users whose new connections are ended as soon as they are made.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::{connected::came, kicker::Kicker};
use crate::{domain::TenantId, tenants::names};

/// Users at one time; of more the connections are ended when they are looked at again.
const USERS_MAX: usize = 1_024;

/// By key, until when. Who connects is heard of only while there is one.
#[derive(Default)]
pub(super) struct TurnedAway {
    users: HashMap<String, (TenantId, Instant)>,
    connects: Option<Subscriber>,
}

impl TurnedAway {
    pub(super) async fn turn_away(&mut self, kicker: &Kicker, tenant: &TenantId, key: &str, lasts: Duration) {
        let now = Instant::now();
        self.users.retain(|_, (_, until)| now < *until);
        if self.users.len() < USERS_MAX || self.users.contains_key(key) {
            self.users.insert(key.to_owned(), (tenant.clone(), now + lasts));
        }
        if self.connects.is_none() {
            self.connects = kicker.hear(names::CONNECTED).await;
        }
    }

    pub(super) fn is_turned_away(&self, tenant: &TenantId, key: &str) -> bool {
        let user = self.users.get(key).filter(|(of, _)| of == tenant);
        user.is_some_and(|(_, until)| Instant::now() < *until)
    }

    /// The next one who connects. The caller gives it to [`Self::end`].
    pub(super) async fn connects(&mut self) -> Option<Bytes> {
        match &mut self.connects {
            Some(connects) => connects.next().await.map(|event| event.payload),
            None => std::future::pending().await,
        }
    }

    /// Ends a connection that has just been made, if it is to be; how many are ended.
    pub(super) async fn end(&mut self, kicker: &Kicker, event: Option<Bytes>) -> usize {
        let now = Instant::now();
        if event.is_none() || self.users.values().all(|(_, until)| *until <= now) {
            self.connects = None;
            self.users.clear();
        }
        let Some((link, account, key)) = event.as_ref().and_then(came) else { return 0 };
        if !account.parse().is_ok_and(|tenant| self.is_turned_away(&tenant, &key)) {
            return 0;
        }
        kicker.end(&link).await;
        1
    }
}
