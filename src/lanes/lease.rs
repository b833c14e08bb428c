//! How much may this node let in of what all nodes may together? It leases some at a time, and asks for more before it
//! is used up, so that no message waits for the answer.
//!
//! Until the answer comes it lets in some on credit, and pays with what it is given: so in the long run all nodes
//! together keep to the rate, and are wrong by the credit of each at most. Whose limit it is says how much that is, and
//! how much a node keeps in reserve, which no other node has meanwhile.

use std::time::{Duration, Instant};

use crate::state::{Leased, StoreError};

/// Leases of a burst: small enough that one node has not what another needs, few enough for Redis.
const LEASES: u32 = 8;
/// No answer by then is none.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// After no answer each node goes by its own count until one comes, and asks again after this.
const AWAY_FOR: Duration = Duration::from_secs(1);
/// Where all credit is used and the answer is under way.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// On what terms a message is let in. In messages, or in nanoseconds where each takes another time of its rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    /// What it takes.
    cost: u64,
    /// What a node may owe, at least `cost`.
    credit: u64,
    /// What a node leases ahead; with 0 it pays for what it has let in, and no more.
    reserve: u64,
}

impl Terms {
    /// Of a limit in messages, so many of which may come at once.
    pub(super) fn messages(burst: u32) -> Self {
        Self { cost: 1, credit: burst.into(), reserve: burst.div_ceil(LEASES).into() }
    }

    /// Of one that is counted in time, for one of so many nodes: together they owe no more than what may come at once, or
    /// one message of each; and hold no more than an eighth of it, so that who always reaches the same node gets the rest.
    pub(super) fn time(each: Duration, messages: u32, nodes: u32) -> Self {
        let (cost, nodes) = (nanoseconds(each).max(1), nodes.max(1));
        let times = |messages: u32| cost.saturating_mul(messages.into());
        let reserve = times(messages / LEASES.saturating_mul(nodes));
        Self { cost, credit: times((messages / nodes).max(1)), reserve }
    }
}

/// Of up to five centuries.
pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What one node has of one account.
#[derive(Debug, Default)]
pub(super) struct Lease {
    /// Below 0: on credit.
    left: i64,
    asked: Option<Instant>,
    none_until: Option<Instant>,
    /// Since no answer came, and until one does: each node goes by its own count.
    apart: bool,
    /// It is asked again then.
    away_until: Option<Instant>,
}

/// Whether a message may come in, and how many more are to be asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Or after what time.
    pub(super) let_in: Result<(), Duration>,
    pub(super) ask_for: Option<u64>,
}

impl Lease {
    /// Takes what one message takes.
    pub(super) fn take(&mut self, terms: Terms, now: Instant) -> Taken {
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
        let [cost, credit, reserve] = [terms.cost, terms.credit, terms.reserve].map(signed);
        let let_in = match self.left.saturating_sub(cost) >= -credit {
            true => {
                self.left = self.left.saturating_sub(cost);
                Ok(())
            }
            false => Err(AGAIN_AFTER),
        };
        let wanted = reserve.saturating_sub(self.left);
        // Where there is none, it is asked again when there is.
        let none = self.none_until.is_some_and(|until| now < until);
        let asks = self.asked.is_none() && !none && self.left <= reserve / 2 && wanted > 0;
        let ask_for = asks.then(|| wanted.unsigned_abs());
        if asks {
            self.asked = Some(now);
        }
        Taken { let_in, ask_for }
    }

    /// What was let in is not done after all.
    pub(super) fn put_back(&mut self, terms: Terms) {
        self.left = self.left.saturating_add(signed(terms.cost));
    }

    /// How long there is none, as it was told.
    pub(super) fn none_for(&self, now: Instant) -> Duration {
        match self.none_until {
            Some(until) if self.left <= 0 && !self.is_away(now) => until.saturating_duration_since(now),
            _ => Duration::ZERO,
        }
    }

    /// Whether each node goes by its own count, and so takes its part alone. That ends with an answer and not with
    /// time: who sends seldom would pay for one only, each time that it is asked again.
    pub(super) fn is_apart(&self) -> bool {
        self.apart
    }

    fn is_away(&self, now: Instant) -> bool {
        self.away_until.is_some_and(|until| now < until)
    }

    /// The answer to what was asked for.
    pub(super) fn told(&mut self, leased: Result<Leased, StoreError>, now: Instant) {
        self.asked = None;
        if leased.is_ok() {
            (self.apart, self.away_until) = (false, None);
        }
        match leased {
            Ok(Leased::Given(given)) => {
                self.left = self.left.saturating_add(signed(given));
                self.none_until = None;
            }
            Ok(Leased::After(wait)) => self.none_until = Some(now + wait),
            Err(_) => self.away(now),
        }
    }

    /// What was on credit is forgotten: it is not known whether it was paid.
    fn away(&mut self, now: Instant) {
        *self = Self { apart: true, away_until: Some(now + AWAY_FOR), ..Self::default() };
    }
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    /// The account as Redis has it, in steps of what is counted in.
    struct Account {
        due: u64,
        burst: u64,
    }

    impl Account {
        fn lease(&mut self, wanted: u64, now: u64) -> Leased {
            self.due = self.due.max(now);
            match now + self.burst - self.due {
                0 => Leased::After(Duration::from_millis(self.due + 1 - now - self.burst)),
                left => {
                    let given = left.min(wanted);
                    self.due += given;
                    Leased::Given(given)
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
            let mut nodes: [(Lease, Option<u64>); 3] = Default::default();
            let mut let_in = 0;
            for (node, passes, answered) in steps {
                now += passes;
                let at = began + Duration::from_millis(now);
                let (lease, asked) = &mut nodes[node];
                if let Some(wanted) = asked.filter(|_| answered) {
                    *asked = None;
                    lease.told(Ok(account.lease(wanted, now)), at);
                }
                let taken = lease.take(Terms::messages(BURST), at);
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

    proptest! {
        /// A policy's rate: `messages` at once and then one each 2 s, over the nodes that hear of each other.
        #[test]
        fn however_many_nodes_a_rate_in_time_is_kept_but_for_the_credit_of_each_and_none_is_lost_to_who_has_one_node(
            steps in prop::collection::vec((0..4_usize, 0..3_u64, any::<bool>()), 1..1_000),
            messages in 1..200_u32,
            heard in 1..5_u32,
        ) {
            const EACH: u64 = 2_000;
            let each = Duration::from_millis(EACH);
            let (began, mut now, mut let_in) = (Instant::now(), 0, 0_u64);
            let terms = Terms::time(each, messages, heard);
            // In nanoseconds, as Redis has it.
            let burst = nanoseconds(each) * u64::from(messages);
            let mut account = Account { due: 0, burst };
            let mut nodes: Vec<(Lease, Option<u64>)> = (0..heard).map(|_| Default::default()).collect();
            for (node, passes, answered) in steps {
                now += passes * 100;
                let at = began + Duration::from_millis(now);
                let which = node % nodes.len();
                let (lease, asked) = &mut nodes[which];
                if let Some(wanted) = asked.filter(|_| answered) {
                    *asked = None;
                    lease.told(Ok(account.lease(wanted, now * 1_000_000)), at);
                }
                let taken = lease.take(terms, at);
                let_in += u64::from(taken.let_in.is_ok());
                *asked = taken.ask_for.or(*asked);
                if lease.away_until.is_some() {
                    break;
                }
                let owed = messages.max(heard);
                prop_assert!(let_in <= now / EACH + u64::from(messages + owed) + 1, "{let_in} in {now} ms");
                let held = nodes.iter().map(|(lease, _)| lease.left.max(0).unsigned_abs()).sum::<u64>();
                prop_assert!(held <= burst / 8, "{held} held of {burst}");
            }
        }
    }

    #[test]
    fn of_a_small_limit_nothing_is_leased_ahead_and_of_a_large_one_an_eighth_over_all_nodes() {
        let second = Duration::from_secs(1);
        let terms = |messages, nodes| Terms::time(second, messages, nodes);
        let in_seconds =
            |Terms { cost, credit, reserve }| [cost, credit, reserve].map(|it| it / 1_000_000_000);
        assert_eq!(in_seconds(terms(1, 3)), [1, 1, 0]);
        assert_eq!(in_seconds(terms(23, 3)), [1, 7, 0]);
        assert_eq!(in_seconds(terms(240, 3)), [1, 80, 10]);
        assert_eq!(in_seconds(terms(8, 0)), [1, 8, 1], "whoever hears nobody is one itself");
        // What is owed is asked for, and no more.
        let (mut lease, now) = (Lease::default(), Instant::now());
        let owed = |messages: u64| Some(messages * 1_000_000_000);
        assert_eq!(lease.take(terms(23, 3), now).ask_for, owed(1));
        lease.told(Ok(Leased::Given(1_000_000_000)), now);
        assert_eq!((lease.left, lease.take(terms(23, 3), now).ask_for), (0, owed(1)));
        lease.put_back(terms(23, 3));
        assert_eq!(lease.left, 0);
    }

    #[test]
    fn a_message_never_waits_for_an_answer_and_what_it_took_on_credit_is_paid() {
        let (mut lease, now) = (Lease::default(), Instant::now());
        let first = lease.take(Terms::messages(80), now);
        assert_eq!(first, Taken { let_in: Ok(()), ask_for: Some(11) });
        for _ in 1..80 {
            assert_eq!(lease.take(Terms::messages(80), now), Taken { let_in: Ok(()), ask_for: None });
        }
        assert_eq!(lease.take(Terms::messages(80), now).let_in, Err(AGAIN_AFTER), "the credit is used");
        lease.told(Ok(Leased::Given(11)), now);
        assert_eq!(lease.take(Terms::messages(80), now), Taken { let_in: Ok(()), ask_for: Some(80) });
        lease.told(Ok(Leased::After(Duration::from_secs(1))), now);
        let refused = lease.take(Terms::messages(80), now + Duration::from_millis(400));
        assert_eq!(refused, Taken { let_in: Err(Duration::from_millis(600)), ask_for: None });
        assert!(
            lease.take(Terms::messages(80), now + Duration::from_secs(1)).ask_for.is_some(),
            "it asks again"
        );
    }

    #[test]
    fn while_the_store_is_away_each_node_goes_by_its_own_count_and_asks_again() {
        let (mut lease, now) = (Lease::default(), Instant::now());
        assert!(lease.take(Terms::messages(8), now).ask_for.is_some());
        lease.told(Err(StoreError::Disconnected), now);
        for _ in 0..100 {
            assert_eq!(lease.take(Terms::messages(8), now), Taken { let_in: Ok(()), ask_for: None });
        }
        assert!(lease.take(Terms::messages(8), now + AWAY_FOR).ask_for.is_some());
        assert!(lease.is_apart(), "it is not back because it is asked again");
        // An answer that never comes is none.
        let late = now + AWAY_FOR + ANSWER_WITHIN + Duration::from_millis(1);
        assert_eq!(lease.take(Terms::messages(8), late), Taken { let_in: Ok(()), ask_for: None });
        assert!(lease.away_until.is_some());
        // One that comes late is one.
        lease.told(Ok(Leased::Given(8)), late);
        assert!(!lease.is_apart() && !lease.is_away(late));
    }
}
