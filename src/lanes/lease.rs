//! How many messages may this node let in of what all nodes may together? It leases some at a time, and asks for more
//! before they are used up, so that no message waits for the answer.
//!
//! Until the answer comes it lets in as many on credit as may come at once, and pays with what it is given: so in the
//! long run all nodes together keep to the rate, and are wrong by a burst of each at most.

use std::time::{Duration, Instant};

use crate::state::{Leased, StoreError};

/// Leases of a burst: small enough that one node has not what another needs, few enough for Redis.
const LEASES: u32 = 8;
/// No answer by then is none.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// After no answer each node goes by its own count, and asks again after this.
const AWAY_FOR: Duration = Duration::from_secs(1);
/// Where all credit is used and the answer is under way.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// What one node has of one tenant's messages.
#[derive(Debug, Default)]
pub(super) struct Lease {
    /// Below 0: on credit.
    left: i64,
    asked: Option<Instant>,
    none_until: Option<Instant>,
    away_until: Option<Instant>,
}

/// Whether a message may come in, and how many more are to be asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Or after what time.
    pub(super) let_in: Result<(), Duration>,
    pub(super) ask_for: Option<u32>,
}

impl Lease {
    /// Takes one. `burst`: how many may come at once.
    pub(super) fn take(&mut self, burst: u32, now: Instant) -> Taken {
        if self.asked.is_some_and(|asked| now.duration_since(asked) > ANSWER_WITHIN) {
            self.away(now);
        }
        if self.is_away(now) {
            return Taken { let_in: Ok(()), ask_for: None };
        }
        let none_for = self.none_for(now);
        if !none_for.is_zero() {
            return Taken { let_in: Err(none_for), ask_for: None };
        }
        let let_in = match self.left > -i64::from(burst) {
            true => {
                self.left -= 1;
                Ok(())
            }
            false => Err(AGAIN_AFTER),
        };
        let batch = i64::from(burst.div_ceil(LEASES));
        let asks = self.asked.is_none() && self.left <= batch / 2;
        let ask_for = asks.then(|| u32::try_from(batch - self.left).unwrap_or(u32::MAX));
        if asks {
            self.asked = Some(now);
        }
        Taken { let_in, ask_for }
    }

    /// How long there is none, as it was told.
    pub(super) fn none_for(&self, now: Instant) -> Duration {
        match self.none_until {
            Some(until) if self.left <= 0 && !self.is_away(now) => until.saturating_duration_since(now),
            _ => Duration::ZERO,
        }
    }

    /// Whether each node goes by its own count.
    pub(super) fn is_away(&self, now: Instant) -> bool {
        self.away_until.is_some_and(|until| now < until)
    }

    /// The answer to what was asked for.
    pub(super) fn told(&mut self, leased: Result<Leased, StoreError>, now: Instant) {
        self.asked = None;
        match leased {
            Ok(Leased::Messages(messages)) => {
                self.left += i64::from(messages);
                self.none_until = None;
            }
            Ok(Leased::After(wait)) => self.none_until = Some(now + wait),
            Err(_) => self.away(now),
        }
    }

    /// What was on credit is forgotten: it is not known whether it was paid.
    fn away(&mut self, now: Instant) {
        *self = Self { away_until: Some(now + AWAY_FOR), ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    /// The account as Redis has it, in steps of one message.
    struct Account {
        due: u64,
        burst: u64,
    }

    impl Account {
        fn lease(&mut self, wanted: u32, now: u64) -> Leased {
            self.due = self.due.max(now);
            match now + self.burst - self.due {
                0 => Leased::After(Duration::from_millis(self.due + 1 - now - self.burst)),
                left => {
                    let given = left.min(wanted.into());
                    self.due += given;
                    Leased::Messages(u32::try_from(given).unwrap())
                }
            }
        }
    }

    proptest! {
        /// Time in ms, and one message a ms; answers take as long as they take, and come in any order.
        #[test]
        fn nodes_that_lease_from_one_account_keep_to_its_rate_but_for_a_burst_of_each(
            steps in prop::collection::vec((0..3_usize, 0..4_u64, any::<bool>()), 1..2_000)
        ) {
            const BURST: u32 = 20;
            let (began, mut now) = (Instant::now(), 0);
            let mut account = Account { due: 0, burst: BURST.into() };
            let mut nodes: [(Lease, Option<u32>); 3] = Default::default();
            let mut let_in = 0;
            for (node, passes, answered) in steps {
                now += passes;
                let at = began + Duration::from_millis(now);
                let (lease, asked) = &mut nodes[node];
                if let Some(wanted) = asked.filter(|_| answered) {
                    *asked = None;
                    lease.told(Ok(account.lease(wanted, now)), at);
                }
                let taken = lease.take(BURST, at);
                let_in += u64::from(taken.let_in.is_ok());
                *asked = taken.ask_for.or(*asked);
                // Those that wait for an answer for too long go by their own count, which is bounded elsewhere.
                if lease.away_until.is_some() {
                    break;
                }
                prop_assert!(let_in <= now + u64::from(BURST) * 4, "{let_in} in {now} ms");
            }
        }
    }

    #[test]
    fn a_message_never_waits_for_an_answer_and_what_it_took_on_credit_is_paid() {
        let (mut lease, now) = (Lease::default(), Instant::now());
        let first = lease.take(80, now);
        assert_eq!(first, Taken { let_in: Ok(()), ask_for: Some(11) });
        for _ in 1..80 {
            assert_eq!(lease.take(80, now), Taken { let_in: Ok(()), ask_for: None });
        }
        assert_eq!(lease.take(80, now).let_in, Err(AGAIN_AFTER), "the credit is used");
        lease.told(Ok(Leased::Messages(11)), now);
        assert_eq!(lease.take(80, now), Taken { let_in: Ok(()), ask_for: Some(80) });
        lease.told(Ok(Leased::After(Duration::from_secs(1))), now);
        let refused = lease.take(80, now + Duration::from_millis(400));
        assert_eq!(refused, Taken { let_in: Err(Duration::from_millis(600)), ask_for: None });
        assert!(lease.take(80, now + Duration::from_secs(1)).ask_for.is_some(), "it asks again");
    }

    #[test]
    fn while_the_store_is_away_each_node_goes_by_its_own_count_and_asks_again() {
        let (mut lease, now) = (Lease::default(), Instant::now());
        assert!(lease.take(8, now).ask_for.is_some());
        lease.told(Err(StoreError::Disconnected), now);
        for _ in 0..100 {
            assert_eq!(lease.take(8, now), Taken { let_in: Ok(()), ask_for: None });
        }
        assert!(lease.take(8, now + AWAY_FOR).ask_for.is_some());
        // An answer that never comes is none.
        let late = now + AWAY_FOR + ANSWER_WITHIN + Duration::from_millis(1);
        assert_eq!(lease.take(8, late), Taken { let_in: Ok(()), ask_for: None });
        assert!(lease.away_until.is_some());
    }
}
