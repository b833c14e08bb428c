//! How often may a sender, by the policy's rules? Each sender's rules apart.
//!
//! Each message moves the moment at which its sender has nothing left to pay for by its part of the window; one that
//! would move it further ahead than a window has to wait. So a full window's messages may come at once, and after them
//! one each time that a part has passed. One number for each rule, however many messages there are.
//!
//! Where nodes share a Redis they lease from one account of the sender and the rule; while it is away each goes by its
//! own count, and takes its part of the rate.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use moka::sync::Cache;
use parking_lot::Mutex;

use super::{
    fleet::Fleet,
    lease::{Lease, Taken, Terms},
};
use crate::{
    domain::{AgentId, Reason, TenantId},
    policy::Rate,
    recent::recent,
    rejection::Rejection,
    state::RuleAccount,
};

/// What has counted of late, by module.
type Counted = Arc<Mutex<HashMap<String, Sent>>>;

/// What has counted against rates of late.
pub struct Rates {
    /// Only agents of the directory get an entry; the one least recently heard is forgotten first.
    senders: Cache<(TenantId, AgentId), Counted>,
    /// Absent: this node's count is the only one.
    fleet: Option<Fleet>,
}

/// By one rule.
struct Sent {
    /// Until when what this node let in is paid for.
    due: Instant,
    leased: Lease,
    /// Forgotten after this: all accounts have as much room as if it had never been.
    until: Instant,
}

impl Rates {
    const SENDERS_MAX: u64 = 65_536;

    pub fn new(fleet: Option<Fleet>) -> Self {
        let senders = recent(Self::SENDERS_MAX)
            .time_to_idle(Duration::from_secs(2 * u64::from(Rate::SECONDS_MAX)))
            .build();
        Self { senders, fleet }
    }

    /// Counts a message against all of them, or against none if one has no room for it. Waits for nobody.
    pub(super) fn count(
        &self,
        of: (&TenantId, &AgentId),
        rates: &BTreeMap<String, Rate>,
        now: Instant,
    ) -> Result<(), Rejection> {
        if rates.is_empty() {
            return Ok(());
        }
        let counted = self.senders.get_with((of.0.clone(), of.1.clone()), Arc::default);
        let mut sent = counted.lock();
        // So there are only rules of late.
        sent.retain(|_, sent| sent.until > now);
        let mut due = Vec::with_capacity(rates.len());
        for (module, rate) in rates {
            match self.after_one_more(sent.get(module), *rate, now) {
                Ok(after) => due.push(after),
                Err(wait) => return Err(refused(module, *rate, wait)),
            }
        }
        if let Some(fleet) = &self.fleet {
            lease(fleet, of, (&counted, &mut sent), rates, now)?;
        }
        for ((module, rate), due) in rates.iter().zip(due) {
            let sent = sent.entry(module.clone()).or_insert_with(|| Sent::new(now));
            sent.due = due;
            sent.until = sent.until.max(due + rate.window());
        }
        Ok(())
    }

    /// Until when this node's own count is paid for with one more, or how long that one has to wait. No node lets in
    /// more than all may, whatever is leased; and its part where the others cannot be asked.
    fn after_one_more(&self, sent: Option<&Sent>, rate: Rate, now: Instant) -> Result<Instant, Duration> {
        let apart = match (&self.fleet, sent) {
            (Some(fleet), Some(sent)) if sent.leased.is_apart() => fleet.nodes().min(rate.messages()),
            _ => 1,
        };
        let due = sent.map_or(now, |sent| sent.due.max(now)) + rate.each() * apart;
        match due.saturating_duration_since(now + rate.window()) {
            Duration::ZERO => Ok(due),
            wait => Err(wait),
        }
    }
}

impl Sent {
    fn new(now: Instant) -> Self {
        Self { due: now, leased: Lease::default(), until: now }
    }
}

/// Takes one of each account, or of none.
fn lease(
    fleet: &Fleet,
    of: (&TenantId, &AgentId),
    (counted, sent): (&Counted, &mut HashMap<String, Sent>),
    rates: &BTreeMap<String, Rate>,
    now: Instant,
) -> Result<(), Rejection> {
    let terms = |rate: &Rate| Terms::time(rate.each(), rate.messages(), fleet.nodes());
    for (taken, (module, rate)) in rates.iter().enumerate() {
        let own = sent.entry(module.clone()).or_insert_with(|| Sent::new(now));
        // What is owed or held is remembered while it counts anywhere.
        own.until = own.until.max(now + 2 * rate.window());
        let Taken { let_in, ask_for } = own.leased.take(terms(rate), now);
        if let Some(wanted) = ask_for {
            ask(fleet, of, (counted, module, *rate), wanted);
        }
        if let Err(wait) = let_in {
            for (module, rate) in rates.iter().take(taken) {
                if let Some(own) = sent.get_mut(module) {
                    own.leased.put_back(terms(rate));
                }
            }
            return Err(refused(module, *rate, wait));
        }
    }
    Ok(())
}

fn ask(
    fleet: &Fleet,
    (tenant, sender): (&TenantId, &AgentId),
    (counted, module, rate): (&Counted, &str, Rate),
    wanted: u64,
) {
    let (tenant, sender, rule) = (tenant.clone(), sender.clone(), module.to_owned());
    let (counted, module) = (Arc::clone(counted), module.to_owned());
    fleet.ask(
        |limits| async move {
            let (window, each) = (rate.window(), rate.each());
            let of = RuleAccount { tenant: &tenant, sender: &sender, rule: &rule, window, each };
            limits.lease_of_rule(of, wanted).await
        },
        move |answer| {
            if let Some(own) = counted.lock().get_mut(&module) {
                own.leased.told(answer, Instant::now());
            }
        },
    );
}

fn refused(module: &str, rate: Rate, wait: Duration) -> Rejection {
    let detail = format!("the policy's rule {module} lets a sender send {rate}");
    Rejection::new(Reason::RateLimited, detail).after(wait.max(Duration::from_millis(1)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use std::sync::atomic::Ordering;

    use tokio_util::task::TaskTracker;

    use super::{super::lease::nanoseconds, *};
    use crate::state::{Leased, SharedLimits, SharedRate, StoreError};

    struct Sender(Rates, Instant);

    impl Sender {
        fn sends(&self, agent: &str, at_ms: u64, rates: &[(&str, u32, u32)]) -> Result<(), Duration> {
            let rates = rates.iter().map(|(module, messages, seconds)| {
                ((*module).to_owned(), Rate::new(*messages, *seconds).unwrap())
            });
            let of = (&"acme".parse().unwrap(), &agent.parse().unwrap());
            let counted = self.0.count(of, &rates.collect(), self.1 + Duration::from_millis(at_ms));
            counted.map_err(|refused| {
                assert_eq!(refused.reason, Reason::RateLimited);
                refused.retry_after.unwrap()
            })
        }
    }

    #[test]
    fn a_windows_messages_may_come_at_once_and_then_one_each_part_of_it() {
        let sender = Sender(Rates::new(None), Instant::now());
        let ten = [("own", 10, 60)];
        for _ in 0..10 {
            assert_eq!(sender.sends("planner", 0, &ten), Ok(()));
        }
        assert_eq!(sender.sends("planner", 0, &ten), Err(Duration::from_secs(6)));
        // What was refused has not counted.
        assert_eq!(sender.sends("planner", 5_000, &ten), Err(Duration::from_secs(1)));
        assert_eq!(sender.sends("planner", 6_000, &ten), Ok(()));
        assert_eq!(sender.sends("planner", 6_000, &ten), Err(Duration::from_secs(6)));
        assert_eq!(sender.sends("worker", 6_000, &ten), Ok(()), "each sender has its own");
        assert_eq!(sender.sends("planner", 70_000, &ten), Ok(()));
    }

    #[test]
    fn a_message_counts_against_all_of_its_rules_or_none_and_each_rule_counts_for_itself() {
        let sender = Sender(Rates::new(None), Instant::now());
        assert_eq!(sender.sends("planner", 0, &[("few", 1, 10), ("many", 2, 10)]), Ok(()));
        let both = [("few", 1, 10), ("many", 2, 10)];
        assert_eq!(sender.sends("planner", 0, &both), Err(Duration::from_secs(10)));
        assert_eq!(sender.sends("planner", 0, &[("many", 2, 10)]), Ok(()), "the refused one was not counted");
        assert!(sender.sends("planner", 0, &[("many", 2, 10)]).is_err());
    }

    #[test]
    fn another_limit_of_the_same_rule_does_not_begin_anew() {
        let sender = Sender(Rates::new(None), Instant::now());
        assert_eq!(sender.sends("planner", 0, &[("own", 1, 60)]), Ok(()));
        assert_eq!(sender.sends("planner", 0, &[("own", 2, 60)]), Err(Duration::from_secs(30)));
        assert_eq!(sender.sends("planner", 0, &[("own", 1, 60)]), Err(Duration::from_secs(60)));
    }

    #[test]
    fn what_is_remembered_of_a_sender_is_rules_of_late() {
        let sender = Sender(Rates::new(None), Instant::now());
        for n in 0..1_000_u64 {
            sender.sends("planner", n * 2_000, &[(&format!("rule{n}"), 1, 1)]).unwrap();
        }
        let due = sender.0.senders.get(&("acme".parse().unwrap(), "planner".parse().unwrap())).unwrap();
        assert_eq!(due.lock().len(), 1);
    }

    /// One account for all, as Redis keeps them; or none, while it is away.
    #[derive(Default)]
    struct Accounts {
        /// Until when what was leased is paid for, in nanoseconds since `began`.
        due: Mutex<HashMap<String, u64>>,
        away: std::sync::atomic::AtomicBool,
        questions: std::sync::atomic::AtomicU64,
    }

    #[async_trait::async_trait]
    impl SharedLimits for Accounts {
        async fn lease(&self, _: &TenantId, _: SharedRate, _: u64) -> Result<Leased, StoreError> {
            unreachable!()
        }

        async fn lease_of_agent(
            &self,
            _: (&TenantId, &AgentId),
            _: u32,
            _: u64,
        ) -> Result<Leased, StoreError> {
            unreachable!()
        }

        /// All that is left at this moment, in which no time passes.
        async fn lease_of_rule(&self, of: RuleAccount<'_>, wanted: u64) -> Result<Leased, StoreError> {
            self.questions.fetch_add(1, Ordering::Relaxed);
            if self.away.load(Ordering::Relaxed) {
                return Err(StoreError::Disconnected);
            }
            let mut due = self.due.lock();
            let due = due.entry(format!("{}/{}", of.sender, of.rule)).or_default();
            let left = nanoseconds(of.window) - *due;
            if left < nanoseconds(of.each).min(wanted) {
                return Ok(Leased::After(Duration::from_nanos(nanoseconds(of.each) - left)));
            }
            let given = left.min(wanted);
            *due += given;
            Ok(Leased::Given(given))
        }
    }

    struct Nodes(Vec<Rates>, Arc<Accounts>, TaskTracker, Instant);

    impl Nodes {
        fn of(number: usize) -> Self {
            let (accounts, tasks) = (Arc::<Accounts>::default(), TaskTracker::new());
            let node = |_| {
                let fleet = Fleet::new(Arc::clone(&accounts) as Arc<dyn SharedLimits>, tasks.clone());
                fleet.heard(number);
                Rates::new(Some(fleet))
            };
            let nodes = (0..number).map(node).collect();
            Self(nodes, accounts, tasks, Instant::now())
        }

        async fn sends(&self, node: usize, rates: &[(&str, u32)]) -> Result<(), Duration> {
            self.sends_at(node, rates, self.3).await
        }

        async fn sends_at(&self, node: usize, rates: &[(&str, u32)], now: Instant) -> Result<(), Duration> {
            let rates = rates.iter().map(|(module, messages)| {
                ((*module).to_owned(), Rate::new(*messages, Rate::SECONDS_MAX).unwrap())
            });
            let of = (&"acme".parse().unwrap(), &"planner".parse().unwrap());
            let counted = self.0[node].count(of, &rates.collect(), now);
            // Until what was asked for has come.
            while !self.2.is_empty() {
                tokio::task::yield_now().await;
            }
            counted.map_err(|refused| refused.retry_after.unwrap())
        }

        async fn let_in(&self, nodes: impl Iterator<Item = usize>, rates: &[(&str, u32)]) -> usize {
            let mut let_in = 0;
            for node in nodes {
                let_in += usize::from(self.sends(node, rates).await.is_ok());
            }
            let_in
        }
    }

    #[tokio::test]
    async fn a_rate_counts_for_all_nodes_and_each_of_them_owes_one_message_at_most_of_those_that_come_in_turn()
     {
        for (messages, extra) in [(1, 2), (30, 3), (300, 3)] {
            let nodes = Nodes::of(3);
            let all = nodes.let_in((0..2_000).map(|n| n % 3), &[("own", messages)]).await;
            let most = usize::try_from(messages).unwrap();
            assert!((most..=most + extra).contains(&all), "{all} of {messages}");
            let wait = nodes.sends(0, &[("own", messages)]).await.unwrap_err();
            let each = Rate::new(messages, Rate::SECONDS_MAX).unwrap().each();
            // The answer came a moment after the message.
            assert!(wait < each + Duration::from_secs(10) && wait > each / 2, "{wait:?} of {each:?}");
        }
    }

    #[tokio::test]
    async fn who_always_reaches_the_same_node_gets_what_the_others_do_not_hold_and_asks_for_few_leases() {
        let nodes = Nodes::of(3);
        assert_eq!(nodes.let_in([0, 1].into_iter(), &[("own", 20)]).await, 2);
        assert_eq!(nodes.let_in(std::iter::repeat_n(2, 100), &[("own", 20)]).await, 19, "all, and one owed");
        let nodes = Nodes::of(3);
        assert_eq!(nodes.let_in([0, 1].into_iter(), &[("own", 2_400)]).await, 2);
        let rest = nodes.let_in(std::iter::repeat_n(2, 3_000), &[("own", 2_400)]).await;
        assert!((2_400 - 2 - 200..=2_400).contains(&rest), "{rest}: two nodes hold a twenty-fourth each");
        assert!(nodes.1.questions.load(Ordering::Relaxed) < 60);
    }

    #[tokio::test]
    async fn while_redis_is_away_each_node_takes_its_part_and_what_was_let_in_counts() {
        let nodes = Nodes::of(3);
        nodes.1.away.store(true, Ordering::Relaxed);
        for node in 0..3 {
            // By the first it is found out.
            let let_in = nodes.let_in(std::iter::repeat_n(node, 100), &[("own", 30)]).await;
            assert_eq!(let_in, 10, "of 30, by one of three");
        }
        let few = nodes.let_in(std::iter::repeat_n(0, 100), &[("few", 1)]).await;
        assert_eq!(few, 1, "a part is at least one message");
    }

    #[tokio::test]
    async fn who_sends_seldom_has_no_more_while_redis_is_away_than_who_sends_often() {
        let nodes = Nodes::of(3);
        nodes.1.away.store(true, Ordering::Relaxed);
        let mut let_in = 0;
        // Each message comes after Redis is asked again, for which it need not have answered.
        for n in 0..100 {
            let now = nodes.3 + Duration::from_secs(2 * n);
            let_in += usize::from(nodes.sends_at(0, &[("own", 30)], now).await.is_ok());
        }
        assert_eq!(let_in, 10, "of 30, by one of three");
    }

    #[tokio::test]
    async fn a_message_counts_against_all_accounts_or_none() {
        let nodes = Nodes::of(3);
        assert_eq!(nodes.let_in((0..10).map(|n| n % 2), &[("few", 2)]).await, 4, "one owed by each");
        // The third has let in none itself, so it hears that there is none when it has let in one.
        let both = [("all", 4), ("few", 2)];
        assert_eq!(nodes.let_in(std::iter::repeat_n(2, 10), &both).await, 1);
        let rest = nodes.let_in(std::iter::repeat_n(2, 20), &[("all", 4)]).await;
        assert_eq!(rest, 3, "none was taken of it by those that were refused");
    }

    #[tokio::test]
    async fn a_rule_that_names_other_numbers_each_time_has_one_account() {
        let nodes = Nodes::of(3);
        // A day's 86,400 at a second each, then twenty-four at an hour each.
        assert_eq!(nodes.let_in(std::iter::repeat_n(0, 43_200), &[("own", 86_400)]).await, 43_200);
        let rest = nodes.let_in(std::iter::repeat_n(1, 100), &[("own", 24)]).await;
        assert!((11..=13).contains(&rest), "{rest}: half of the day is left, less what the first holds");
    }
}
