//! Which decisions are recorded together? Those about messages that came within one moment, a turn. Those of the durable
//! lane have turns of their own.
//!
//! A message's record has its name before the message is claimed, so that the claim can say it: not even the write is
//! known by then in which the record will leave. What leaves late, since a model was asked, has the name of its turn
//! all the same, and a message of its own under it.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::domain::DecisionId;

/// How long a turn lasts. With little to do each record is a message by itself, and so many stand under one name.
const TURN_WITHIN: Duration = Duration::from_millis(10);
/// Of the durable lane, where nobody takes over by a turn, and records wait for each other a little longer.
const QUEUE_TURN_WITHIN: Duration = Duration::from_millis(50);
/// Decisions of a turn. Whoever takes over one of them reads the records of all.
const DECISIONS_MAX: u32 = 256;

/// Names the decisions of a node.
#[derive(Debug)]
pub struct Turns {
    session: u64,
    /// How long one lasts.
    within: Duration,
    turn: Mutex<Turn>,
}

#[derive(Debug)]
struct Turn {
    number: u64,
    began: Instant,
    decisions: u32,
}

impl Turns {
    /// Of what senders wait for. `session`: by chance.
    pub fn of(session: u64) -> Self {
        Self::that_last(TURN_WITHIN, session)
    }

    /// Of what was queued.
    pub fn of_queue(session: u64) -> Self {
        Self::that_last(QUEUE_TURN_WITHIN, session)
    }

    fn that_last(within: Duration, session: u64) -> Self {
        Self { session, within, turn: Mutex::new(Turn::begin(0, Instant::now())) }
    }

    /// Names the decision about a message that was received then.
    pub(super) fn next(&self, received: Instant) -> DecisionId {
        let mut turn = self.turn.lock();
        let lasts = received.saturating_duration_since(turn.began);
        if lasts >= self.within || turn.decisions >= DECISIONS_MAX {
            *turn = Turn::begin(turn.number + 1, received);
        }
        let index = turn.decisions;
        turn.decisions += 1;
        DecisionId::new(self.session, turn.number, index)
    }
}

impl Turn {
    fn begin(number: u64, began: Instant) -> Self {
        Self { number, began, decisions: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_by_its_time_or_by_its_decisions_and_no_two_have_one_name() {
        let (turns, began) = (Turns::of(1), Instant::now());
        let at = |ms| turns.next(began + Duration::from_millis(ms));
        let first = at(1);
        // On another thread, one that was received before may come after.
        let names = [at(1), at(0), at(9)];
        assert!(names.iter().all(|name| name.batch() == first.batch()), "{names:?}");
        let later = at(30);
        assert_ne!(later.batch(), first.batch());
        let many: Vec<_> = (0..DECISIONS_MAX).map(|_| at(31)).collect();
        let beside = many.iter().filter(|name| name.batch() == later.batch()).count();
        assert_eq!(beside, 255, "the first of the turn is one, too");
        let all: std::collections::HashSet<_> =
            [first, later].into_iter().chain(names).chain(many).map(|name| name.to_string()).collect();
        assert_eq!(all.len(), 5 + 256);
    }
}
