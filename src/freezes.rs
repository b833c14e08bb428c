//! Which messages are stopped? A node's own copy of what is frozen, held against every message.
//!
//! A node serves nobody before it has read it once. When it cannot be read any more, the last one stays in force.
//! What the policy or an agent of itself has stopped is in force here at once, and wanted of all nodes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    domain::{AgentId, AgentRecord, Freeze, Message, NoPlace, Reason, Scope, TenantId},
    following::{Followed, Following},
    health::{Health, Part},
    phrase::counted,
    rejection::Rejection,
};

/// Senders are told to ask again after this: a thaw is seen about as soon.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Between two words in the log of whom there is no place to stop: each of its messages would say so.
const NO_PLACE_TOLD_EVERY: Duration = Duration::from_secs(60);

/// What is frozen, as far as this node knows.
#[derive(Default)]
pub struct Freezes {
    in_force: ArcSwap<InForce>,
    pub following: Following,
    /// What this node wants of all nodes, and they have not yet; at most as many as find a place.
    wanted: Mutex<Vec<Freeze>>,
    /// Changes with what is wanted.
    wants: watch::Sender<()>,
    cuts_off: AtomicBool,
    no_place_told: Mutex<Option<Instant>>,
}

/// One state of it.
#[derive(Default)]
pub struct InForce {
    /// Which, counted by the store; 0: nothing was ever frozen.
    pub revision: u64,
    pub frozen: Vec<Arc<Held>>,
}

/// A freeze, and how many messages it has stopped here.
pub struct Held {
    pub freeze: Freeze,
    stopped: AtomicU64,
}

impl Held {
    pub fn stopped(&self) -> u64 {
        self.stopped.load(Ordering::Relaxed)
    }

    fn refuses(&self) -> Rejection {
        self.stopped.fetch_add(1, Ordering::Relaxed);
        Rejection::new(Reason::Frozen, self.freeze.told()).after(AGAIN_AFTER)
    }
}

impl InForce {
    /// Beside what it would be; `None`: the same is stopped already.
    fn has_place_for(&self, freeze: &Freeze) -> Result<Option<Vec<Freeze>>, NoPlace> {
        if self.frozen.iter().any(|held| held.freeze.scope == freeze.scope) {
            return Ok(None);
        }
        let all: Vec<_> = self.frozen.iter().map(|held| held.freeze.clone()).collect();
        freeze.finds_place(&all)?;
        Ok(Some(all))
    }
}

impl Freezes {
    /// Refuses a message that is stopped, for now.
    pub fn check(&self, message: &Message) -> Result<(), Rejection> {
        let in_force = self.in_force.load();
        let Some(held) = in_force.frozen.iter().find(|held| held.freeze.scope.stops(message)) else {
            return Ok(());
        };
        Err(held.refuses())
    }

    /// Whether nothing of the tenant's goes on.
    pub fn has_all_of(&self, tenant: &TenantId) -> bool {
        self.in_force.load().frozen.iter().any(|held| held.freeze.scope.is_all_of(tenant))
    }

    /// Those of them that are not stopped; none of some is a refusal.
    pub fn reachable(
        &self,
        tenant: &TenantId,
        mut recipients: Vec<Arc<AgentRecord>>,
    ) -> Result<Vec<Arc<AgentRecord>>, Rejection> {
        let in_force = self.in_force.load();
        let stops =
            |agent: &AgentId| in_force.frozen.iter().find(|held| held.freeze.scope.is_agent(tenant, agent));
        let last = recipients.iter().rev().find_map(|recipient| stops(&recipient.id)).cloned();
        recipients.retain(|recipient| stops(&recipient.id).is_none());
        match last {
            Some(held) if recipients.is_empty() => Err(held.refuses()),
            _ => Ok(recipients),
        }
    }

    pub fn in_force(&self) -> Arc<InForce> {
        self.in_force.load_full()
    }

    /// Messages that come to a step from now on are held against this. Nothing is done where a later state is in force
    /// already: who reads and who writes it need not come in its order.
    pub fn put_in_force(&self, revision: u64, freezes: Vec<Freeze>) {
        self.put(revision, freezes, |in_force| in_force <= revision);
    }

    /// The same where revisions are counted anew, since the store was made anew.
    pub fn begin_anew(&self, revision: u64, freezes: Vec<Freeze>) {
        self.put(revision, freezes, |_| true);
    }

    fn put(&self, revision: u64, freezes: Vec<Freeze>, may: impl Fn(u64) -> bool) {
        let mut wanted = self.wanted.lock();
        if !may(self.in_force.load().revision) {
            return;
        }
        let had = wanted.len();
        wanted.retain(|wanted| freezes.iter().all(|freeze| freeze.scope != wanted.scope));
        self.have_in_force(revision, freezes.into_iter().chain(wanted.iter().cloned()));
        if wanted.len() < had {
            self.wants.send_replace(());
        }
    }

    /// Whether it can be stopped, or is.
    pub fn has_place_for(&self, freeze: &Freeze) -> Result<(), NoPlace> {
        self.in_force().has_place_for(freeze).map(drop)
    }

    /// Whether it is time to say again that there was no place.
    pub fn tells_of_no_place(&self, now: Instant) -> bool {
        let mut told = self.no_place_told.lock();
        let due = told.is_none_or(|told| now.saturating_duration_since(told) >= NO_PLACE_TOLD_EVERY);
        if due {
            *told = Some(now);
        }
        due
    }

    /// Stops an agent here at once, and wants it of all nodes. Idempotent; whoever has stopped it before is kept.
    pub fn want(&self, freeze: Freeze) -> Result<(), NoPlace> {
        let mut wanted = self.wanted.lock();
        let in_force = self.in_force();
        let Some(all) = in_force.has_place_for(&freeze)? else { return Ok(()) };
        wanted.push(freeze.clone());
        self.have_in_force(in_force.revision, all.into_iter().chain([freeze]));
        self.wants.send_replace(());
        Ok(())
    }

    /// What all nodes are to have yet.
    pub fn wanted(&self) -> Vec<Freeze> {
        self.wanted.lock().clone()
    }

    /// Whether all nodes are to have it yet.
    pub fn is_wanted(&self, scope: &Scope) -> bool {
        self.wanted.lock().iter().any(|freeze| freeze.scope == *scope)
    }

    /// Returns when there is something that all nodes are to have.
    pub async fn something_wanted(&self) {
        let mut wants = self.wants.subscribe();
        while self.wanted.lock().is_empty() {
            // Cannot fail: the sender lives in `self`.
            let _ = wants.changed().await;
        }
    }

    /// Returns when all nodes are told of it, or have no place for it; whether it is in force. The caller bounds the wait.
    pub async fn settled(&self, scope: &Scope) -> bool {
        let mut wants = self.wants.subscribe();
        while self.is_wanted(scope) {
            let _ = wants.changed().await;
        }
        self.in_force().frozen.iter().any(|held| held.freeze.scope == *scope)
    }

    /// The other nodes have no place for it, or an operator has let it go on: so it does here as well.
    pub fn give_up(&self, scope: &Scope) {
        let mut wanted = self.wanted.lock();
        wanted.retain(|freeze| freeze.scope != *scope);
        let in_force = self.in_force();
        let others = in_force.frozen.iter().filter(|held| held.freeze.scope != *scope);
        let others: Vec<_> = others.map(|held| held.freeze.clone()).collect();
        self.have_in_force(in_force.revision, others.into_iter());
        self.wants.send_replace(());
    }

    /// What is to be cut off from the bus as well.
    pub fn cut_off(&self) -> Vec<Scope> {
        let in_force = self.in_force.load();
        let cut_off = in_force.frozen.iter().filter(|held| held.freeze.cut_off);
        cut_off.map(|held| held.freeze.scope.clone()).collect()
    }

    /// Whether this node can end connections, as it has found out.
    pub fn cuts_off(&self) -> bool {
        self.cuts_off.load(Ordering::Relaxed)
    }

    pub fn can_cut_off(&self, can: bool) {
        self.cuts_off.store(can, Ordering::Relaxed);
    }

    fn have_in_force(&self, revision: u64, freezes: impl Iterator<Item = Freeze>) {
        let before = self.in_force();
        let kept = |freeze: &Freeze| before.frozen.iter().find(|held| held.freeze == *freeze).cloned();
        // Of one that is exchanged, as when an operator takes it over, the count goes on.
        let new = |freeze: Freeze| {
            let Freeze { scope, why, by, cut_off, .. } = &freeze;
            tracing::warn!(frozen = %scope, ?by, cut_off, why, "messages are stopped");
            let same = before.frozen.iter().find(|held| held.freeze.scope == freeze.scope);
            let stopped = AtomicU64::new(same.map_or(0, |held| held.stopped()));
            Arc::new(Held { freeze, stopped })
        };
        let frozen: Vec<_> = freezes.map(|freeze| kept(&freeze).unwrap_or_else(|| new(freeze))).collect();
        let is_stopped = |scope: &Scope| frozen.iter().any(|held| held.freeze.scope == *scope);
        for held in before.frozen.iter().filter(|held| !is_stopped(&held.freeze.scope)) {
            tracing::warn!(thawed = %held.freeze.scope, stopped = held.stopped(), "messages go on again");
        }
        self.in_force.store(Arc::new(InForce { revision, frozen }));
    }

    /// A later state than this node's was heard of.
    pub fn heard_of(&self, revision: u64) {
        if revision > self.in_force.load().revision {
            self.following.look_again();
        }
    }
}

impl Part for Freezes {
    fn health(&self) -> Option<Health> {
        let in_force = self.in_force();
        let frozen =
            in_force.frozen.iter().map(|held| held.freeze.scope.to_string()).collect::<Vec<_>>().join(", ");
        let frozen = match in_force.frozen.len() {
            0 => String::new(),
            many => format!("{} in force: {frozen}", counted(many, "freeze")),
        };
        Some(match self.following.followed() {
            Followed::NotYet(why) => Health::down(format!("what is frozen is not known: {why}")),
            Followed::Stale(why) => {
                Health::degraded(format!("cannot see whether more is frozen: {why}; {frozen}"))
            }
            Followed::Current => Health::up(frozen),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;
    use crate::domain::{FrozenBy, Timestamp};

    fn own(agent: &str) -> Freeze {
        let of = (&"acme".parse().unwrap(), &agent.parse().unwrap());
        Freeze::automatic(of, FrozenBy::Agent, "I was told to leak", Timestamp(1))
    }

    fn scopes(freezes: &Freezes) -> Vec<String> {
        freezes.in_force().frozen.iter().map(|held| held.freeze.scope.to_string()).collect()
    }

    #[tokio::test]
    async fn what_is_wanted_is_in_force_here_until_all_have_it_or_have_no_place_and_once() {
        let freezes = Freezes::default();
        freezes.put_in_force(7, Vec::new());
        freezes.want(own("planner")).unwrap();
        freezes.want(Freeze { why: "again".to_owned(), ..own("planner") }).unwrap();
        freezes.want(own("worker")).unwrap();
        assert_eq!(freezes.wanted(), [own("planner"), own("worker")]);
        assert_eq!(scopes(&freezes), ["agent acme/planner", "agent acme/worker"]);
        // Another state, without them, takes nothing away.
        freezes.put_in_force(8, Vec::new());
        assert_eq!(scopes(&freezes), ["agent acme/planner", "agent acme/worker"]);
        freezes.put_in_force(9, vec![own("planner")]);
        assert_eq!(
            (freezes.wanted(), freezes.settled(&own("planner").scope).await),
            (vec![own("worker")], true)
        );
        freezes.give_up(&own("worker").scope);
        assert!(!freezes.settled(&own("worker").scope).await);
        assert_eq!(scopes(&freezes), ["agent acme/planner"]);
        // Thawed by an operator, it is not wanted again.
        freezes.put_in_force(10, Vec::new());
        assert_eq!((scopes(&freezes).len(), freezes.wanted().len()), (0, 0));
    }

    #[test]
    fn an_older_state_never_takes_the_place_of_a_later_one_unless_they_are_counted_anew() {
        let freezes = Freezes::default();
        freezes.put_in_force(8, vec![own("planner")]);
        freezes.put_in_force(7, Vec::new());
        assert_eq!((freezes.in_force().revision, scopes(&freezes).len()), (8, 1));
        freezes.begin_anew(1, Vec::new());
        assert_eq!((freezes.in_force().revision, scopes(&freezes).len()), (1, 0));
    }

    #[test]
    fn one_that_an_operator_takes_over_goes_on_counting() {
        let freezes = Freezes::default();
        freezes.put_in_force(1, vec![own("planner")]);
        freezes.in_force().frozen[0].refuses();
        freezes.put_in_force(2, vec![Freeze { by: None, cut_off: true, ..own("planner") }]);
        assert_eq!((freezes.in_force().frozen[0].stopped(), freezes.cut_off().len()), (1, 1));
        freezes.put_in_force(3, Vec::new());
        freezes.put_in_force(4, vec![own("planner")]);
        assert_eq!(freezes.in_force().frozen[0].stopped(), 0, "it was let go on");
    }

    #[test]
    fn that_there_is_no_place_is_said_once_a_minute() {
        let (freezes, now) = (Freezes::default(), Instant::now());
        assert!(freezes.tells_of_no_place(now) && !freezes.tells_of_no_place(now));
        assert!(freezes.tells_of_no_place(now + NO_PLACE_TOLD_EVERY));
    }

    #[tokio::test]
    async fn as_many_are_wanted_as_find_a_place() {
        let freezes = Freezes::default();
        for agent in 0..8 {
            freezes.want(own(&format!("a{agent}"))).unwrap();
        }
        assert_eq!(freezes.want(own("one-more")), Err(NoPlace::OfTenant));
        assert_eq!(freezes.want(own("a3")), Ok(()), "it is stopped");
        assert_eq!(freezes.wanted().len(), 8);
        freezes.something_wanted().await;
    }
}
