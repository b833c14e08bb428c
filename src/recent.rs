//! What is known of those who came last: when there is room for no more, who has been gone longest is forgotten.
//!
//! For what must be known, such as how much a sender has sent. Moka's own policy goes by how often somebody was asked
//! for, and may refuse to remember who is new at all: right for what can be computed again, as decisions and scores.

use std::hash::Hash;

use moka::{
    policy::EvictionPolicy,
    sync::{Cache, CacheBuilder},
};

/// For at most so many, or of so much weight where there is a weigher.
pub fn recent<K, V>(most: u64) -> CacheBuilder<K, V, Cache<K, V>>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder().max_capacity(most).eviction_policy(EvictionPolicy::lru())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_new_is_remembered_however_often_the_others_were_asked_for() {
        const MOST: u64 = 64;
        let known: Cache<u64, u64> = recent(MOST).build();
        (0..MOST).for_each(|number| known.insert(number, number));
        for _ in 0..10 {
            assert!((0..MOST).all(|number| known.get(&number).is_some()));
            known.run_pending_tasks();
        }
        for number in MOST..3 * MOST {
            known.insert(number, number);
            known.run_pending_tasks();
            assert_eq!(known.get(&number), Some(number));
        }
    }
}
