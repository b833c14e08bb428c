//! Who reads the open deliberations when? One at a time for each tenant, some for the node; who waits in
//! line takes what is read after their question. So no agent keeps other tenants' reviewers waiting.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::Semaphore, time::Instant};

use crate::{
    deliberation::{LogError, Summary},
    domain::TenantId,
};

/// Tenants whose open deliberations are read at one time.
const TENANTS_AT_ONCE: usize = 4;

/// What was open at some moment after `asked`.
struct Open {
    asked: Instant,
    summaries: Arc<Vec<Arc<Summary>>>,
}

type Turn = tokio::sync::Mutex<Option<Open>>;

/// Turns of those who list.
pub struct SingleFlight {
    room: Semaphore,
    /// Of tenants for which somebody flights or waits; no more than there are requests in flight.
    turns: Mutex<HashMap<TenantId, Arc<Turn>>>,
}

impl Default for SingleFlight {
    fn default() -> Self {
        Self { room: Semaphore::new(TENANTS_AT_ONCE), turns: Mutex::default() }
    }
}

impl SingleFlight {
    /// What `read` says, or what another has read since `asked`. Waits without a limit of its own: who asks
    /// has a deadline.
    pub(super) async fn share<F>(
        &self,
        tenant: &TenantId,
        asked: Instant,
        read: impl FnOnce() -> F,
    ) -> Result<Arc<Vec<Arc<Summary>>>, LogError>
    where
        F: Future<Output = Result<Vec<Arc<Summary>>, LogError>>,
    {
        let place = Place::take(self, tenant);
        let mut open = place.turn.lock().await;
        if let Some(open) = open.as_ref().filter(|open| open.asked >= asked) {
            return Ok(Arc::clone(&open.summaries));
        }
        // Never closed; each tenant has one in this line, so each has its turn.
        let _room = self.room.acquire().await;
        let asked = Instant::now();
        let summaries = Arc::new(read().await?);
        *open = Some(Open { asked, summaries: Arc::clone(&summaries) });
        Ok(summaries)
    }
}

/// A place in a tenant's line. With the last one what was read is forgotten.
struct Place<'a> {
    flights: &'a SingleFlight,
    tenant: &'a TenantId,
    turn: Arc<Turn>,
}

impl<'a> Place<'a> {
    fn take(flights: &'a SingleFlight, tenant: &'a TenantId) -> Self {
        let mut turns = flights.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = Arc::clone(turns.entry(tenant.clone()).or_default());
        drop(turns);
        Self { flights, tenant, turn }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut turns = self.flights.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's and this one's.
        if Arc::strong_count(&self.turn) == 2 {
            turns.remove(self.tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn one_tenants_crowd_is_read_for_twice_and_keeps_nobody_else_waiting() {
        let flights = SingleFlight::default();
        let reads = AtomicUsize::new(0);
        let (flights, reads) = (&flights, &reads);
        let slow = move || async move {
            reads.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            Ok(Vec::new())
        };
        let (acme, globex) = (tenant("acme"), tenant("globex"));
        let first = flights.share(&acme, Instant::now(), slow);
        let crowd = async {
            // They ask while the first is read, and so want what is read later.
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            join_all((0..100).map(|_| flights.share(&acme, Instant::now(), slow))).await
        };
        let other = async {
            tokio::time::sleep(std::time::Duration::from_millis(600)).await;
            let asked = Instant::now();
            flights.share(&globex, asked, || std::future::ready(Ok(Vec::new()))).await.unwrap();
            asked.elapsed()
        };
        let (first, crowd, waited) = tokio::join!(first, crowd, other);
        assert!(first.is_ok() && crowd.iter().all(Result::is_ok));
        assert_eq!(reads.load(Ordering::Relaxed), 2);
        assert_eq!(waited, std::time::Duration::ZERO);
        assert!(flights.turns.lock().unwrap().is_empty(), "nothing is kept when nobody asks");
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_leaves_the_line() {
        let flights = SingleFlight::default();
        let acme = tenant("acme");
        let never = flights.share(&acme, Instant::now(), std::future::pending);
        let short = std::time::Duration::from_secs(1);
        assert!(tokio::time::timeout(short, never).await.is_err());
        assert!(flights.turns.lock().unwrap().is_empty());
        let now = flights.share(&acme, Instant::now(), || std::future::ready(Ok(Vec::new())));
        assert!(now.await.is_ok());
        assert_eq!(flights.room.available_permits(), TENANTS_AT_ONCE);
    }
}
