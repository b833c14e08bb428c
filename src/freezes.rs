//! Which messages has an operator stopped? A node's own copy of what is frozen, held against every message.
//!
//! A node serves nobody before it has read it once. When it cannot be read any more, the last one stays in force.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::{
    domain::{AgentId, AgentRecord, Freeze, Message, Reason, TenantId},
    health::{Health, Part},
    phrase::counted,
    rejection::Rejection,
};

/// Senders are told to ask again after this: a thaw is seen about as soon.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// It cannot be looked at for so long, and that is told.
const UNREAD_FOR: Duration = Duration::from_secs(15);

/// What is frozen, as far as this node knows.
pub struct Freezes {
    in_force: ArcSwap<InForce>,
    ready: watch::Sender<bool>,
    /// Somebody knows of a later state.
    look: Notify,
    read: Mutex<Read>,
}

struct Read {
    at: Instant,
    trouble: Option<String>,
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

impl Default for Freezes {
    fn default() -> Self {
        Self {
            in_force: ArcSwap::default(),
            ready: watch::Sender::new(false),
            look: Notify::new(),
            read: Mutex::new(Read { at: Instant::now(), trouble: None }),
        }
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

    /// It was looked at just now, whether it has changed or not.
    pub fn looked(&self, trouble: Option<String>) {
        let mut read = self.read.lock();
        if trouble.is_none() {
            read.at = Instant::now();
            self.ready.send_replace(true);
        }
        read.trouble = trouble;
    }

    /// A later state than this node's was heard of.
    pub fn heard_of(&self, revision: u64) {
        if revision > self.in_force.load().revision {
            self.look.notify_one();
        }
    }

    /// Waits until somebody has heard of a later state.
    pub async fn wanted(&self) {
        self.look.notified().await;
    }

    /// Waits until it was read once; the caller bounds the wait.
    pub async fn ready(&self) {
        // Cannot fail: the sender lives in `self`.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
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
        if !*self.ready.borrow() {
            let why = self.read.lock().trouble.clone().unwrap_or_else(|| "not read yet".to_owned());
            return Some(Health::down(format!("what is frozen is not known: {why}")));
        }
        let read = self.read.lock();
        Some(match &read.trouble {
            Some(why) if read.at.elapsed() > UNREAD_FOR => {
                Health::degraded(format!("cannot see whether more is frozen: {why}; {frozen}"))
            }
            _ => Health::up(frozen),
        })
    }
}
