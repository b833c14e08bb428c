//! What one node finds out, the others learn: their breakers open without faults of their own, and one node tries for all.
//!
//! Each node goes by its own evidence first. While the store does not answer, it goes by that alone.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    breakers::{Breaker, Breakers, Told},
    state::{BREAKERS_MAX, BreakerSeen, BreakerStanding, SharedBreakers},
};

/// While all are closed, and while one is not.
const EVERY: Duration = Duration::from_secs(1);
const EVERY_WHILE_OPEN: Duration = Duration::from_millis(200);
/// For an answer of the store.
const WITHIN: Duration = Duration::from_millis(500);

/// Tells other nodes of this one's breakers, and this one's of theirs.
pub struct Spread {
    breakers: Arc<Breakers>,
    store: Arc<dyn SharedBreakers>,
}

/// One breaker, with what others are to be told of it.
struct News {
    breaker: Arc<Breaker>,
    told: Told,
    seen: BreakerSeen,
}

impl Spread {
    pub fn new(breakers: &Arc<Breakers>, store: Arc<dyn SharedBreakers>) -> Self {
        Self { breakers: Arc::clone(breakers), store }
    }

    /// Until the future is dropped.
    pub async fn run(&self) {
        // Those that have faults anywhere: of these others want to hear the good calls too.
        let mut faulty = HashSet::new();
        loop {
            let shared = self.breakers.shared();
            let all_closed = shared.iter().all(|breaker| breaker.is_closed());
            faulty = self.round(&shared, &faulty).await;
            tokio::time::sleep(if all_closed { EVERY } else { EVERY_WHILE_OPEN }).await;
        }
    }

    async fn round(&self, shared: &[Arc<Breaker>], faulty: &HashSet<String>) -> HashSet<String> {
        let mut news: Vec<News> = shared.iter().filter_map(|breaker| news(breaker, faulty)).collect();
        for News { breaker, told, .. } in news.drain(BREAKERS_MAX.min(news.len())..) {
            breaker.untold(told);
        }
        let seen: Vec<BreakerSeen> = news.iter().map(|news| news.seen.clone()).collect();
        let answer = tokio::time::timeout(WITHIN, self.store.share(&seen)).await;
        let Ok(Ok(all)) = answer else {
            news.iter().for_each(|News { breaker, told, .. }| breaker.untold(*told));
            shared.iter().for_each(|breaker| breaker.out_of_touch());
            return HashSet::new();
        };
        let by_name: HashMap<&str, &BreakerStanding> =
            all.iter().map(|standing| (standing.name.as_str(), standing)).collect();
        for breaker in shared {
            heard(breaker, by_name.get(breaker.name().as_str()).copied());
        }
        all.into_iter().map(|standing| standing.name).collect()
    }
}

fn news(breaker: &Arc<Breaker>, faulty: &HashSet<String>) -> Option<News> {
    let (told, due, name) = (breaker.tell(), breaker.is_due(), breaker.name());
    let Told { good, bad, closed } = told;
    if bad == 0 && !closed && !due && !faulty.contains(&name) {
        return None;
    }
    let (failures, open_for) = (breaker.settings().failures, breaker.left().unwrap_or_default());
    let seen = BreakerSeen { name, good, bad, failures, open_for, closed, due };
    Some(News { breaker: Arc::clone(breaker), told, seen })
}

fn heard(breaker: &Breaker, standing: Option<&BreakerStanding>) {
    match standing {
        Some(standing) if standing.tries => breaker.released(),
        Some(standing) if !standing.open_for.is_zero() => breaker.opened_elsewhere(standing.open_for),
        // Its faults are too old to count, and who tries it will be told.
        Some(_) => {}
        // It is well again for those who had found it at fault.
        None => breaker.closed_elsewhere(),
    }
}
