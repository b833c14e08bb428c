//! Which messages has an operator stopped? A node's own copy of what is frozen, held against every message.
//!
//! A node serves nobody before it has read it once. When it cannot be read any more, the last one stays in force.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;

use crate::{
    domain::{AgentId, AgentRecord, Freeze, Message, Reason, TenantId},
    following::{Followed, Following},
    health::{Health, Part},
    phrase::counted,
    rejection::Rejection,
};

/// Senders are told to ask again after this: a thaw is seen about as soon.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What is frozen, as far as this node knows.
#[derive(Default)]
pub struct Freezes {
    in_force: ArcSwap<InForce>,
    pub following: Following,
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
        let Freeze { scope, why, .. } = &self.freeze;
        Rejection::new(Reason::Frozen, format!("an operator has stopped {scope}: {why}")).after(AGAIN_AFTER)
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

    /// Messages that come to a step from now on are held against this.
    pub fn put_in_force(&self, revision: u64, freezes: Vec<Freeze>) {
        let before = self.in_force();
        let kept = |freeze: &Freeze| before.frozen.iter().find(|held| held.freeze == *freeze).cloned();
        let new = |freeze: Freeze| {
            tracing::warn!(frozen = %freeze.scope, why = freeze.why, "an operator has stopped messages");
            Arc::new(Held { freeze, stopped: AtomicU64::new(0) })
        };
        let frozen: Vec<_> =
            freezes.into_iter().map(|freeze| kept(&freeze).unwrap_or_else(|| new(freeze))).collect();
        for held in before.frozen.iter().filter(|held| !frozen.iter().any(|it| it.freeze == held.freeze)) {
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
