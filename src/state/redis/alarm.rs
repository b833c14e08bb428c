//! Who hears that Redis holds what no node wrote? The metrics, the log, and whoever asks how the node is.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Lines of one kind in the log are so far apart, whatever an intruder does.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// For so long after the last one the node says that it is not well.
const SHOWN_FOR: Duration = Duration::from_secs(600);

/// A kind of value in Redis that was not what a node writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgery {
    /// A settled message without a good seal.
    Verdict,
    /// A claim, or what stands in the place of one and cannot be read.
    Claim,
    /// An agent's entry without a good seal, or one that cannot be read.
    Registration,
    /// An index, or something in it, that is not of agents.
    Index,
    /// A tenant's epoch that is no number.
    Epoch,
    /// A sender's past that cannot be read, or not be true.
    Past,
    /// Word of a change of a key that is no tenant's.
    Change,
    /// An answer of the policy without a good seal.
    Decision,
}

impl Forgery {
    pub const ALL: [Self; 8] = [
        Self::Verdict,
        Self::Claim,
        Self::Registration,
        Self::Index,
        Self::Epoch,
        Self::Past,
        Self::Change,
        Self::Decision,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verdict => "verdict",
            Self::Claim => "claim",
            Self::Registration => "registration",
            Self::Index => "index",
            Self::Epoch => "epoch",
            Self::Past => "past",
            Self::Change => "change",
            Self::Decision => "decision",
        }
    }
}

#[derive(Debug, Default)]
struct Kind {
    count: AtomicU64,
    /// When it was logged last, and what the count was.
    logged: Mutex<Option<(Instant, u64)>>,
}

/// Counts them.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    kinds: [Kind; Forgery::ALL.len()],
    last: Mutex<Option<(Instant, Forgery)>>,
}

impl Alarm {
    /// So many more; none is no alarm.
    pub(super) fn raise(&self, what: Forgery, more: u64) {
        let Some(Kind { count, logged }) = self.kinds.get(what as usize).filter(|_| more > 0) else { return };
        let total = count.fetch_add(more, Ordering::Relaxed) + more;
        let now = Instant::now();
        *self.last.lock() = Some((now, what));
        let mut logged = logged.lock();
        let (since, known) = logged.unwrap_or((now, 0));
        if logged.is_none() || now.duration_since(since) >= LOG_EVERY {
            *logged = Some((now, total));
            tracing::error!(
                kind = what.as_str(),
                more = total.saturating_sub(known),
                total,
                "redis holds what no node with a key of this one wrote; it is not believed. Who else can \
                 write to redis? Have all nodes the same redis.seal_key_file?"
            );
        }
    }

    pub(super) fn count(&self, what: Forgery) -> u64 {
        self.kinds.get(what as usize).map_or(0, |kind| kind.count.load(Ordering::Relaxed))
    }

    /// The last one, if it was not long ago.
    pub(super) fn recent(&self) -> Option<String> {
        let (when, what) = (*self.last.lock())?;
        let ago = when.elapsed();
        (ago < SHOWN_FOR).then(|| {
            format!(
                "redis holds what no node wrote, and it is not believed (a {}, {} s ago): see who else can \
                 write there",
                what.as_str(),
                ago.as_secs()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_count() {
        let alarm = Alarm::default();
        assert_eq!(alarm.recent(), None);
        alarm.raise(Forgery::Past, 0);
        assert_eq!(alarm.recent(), None);
        for (more, what) in (1..).zip(Forgery::ALL) {
            alarm.raise(what, more);
            alarm.raise(what, more);
        }
        let counts = Forgery::ALL.map(|what| alarm.count(what));
        assert_eq!(counts, [2, 4, 6, 8, 10, 12, 14, 16]);
        assert!(alarm.recent().is_some_and(|told| told.contains("a decision")));
    }
}
