//! How do records of the durable lane get into their stream? Those of one tenant that wait together are one message.
//!
//! One task owns them. A tenant's record leaves at once if none of its tenant is under way; what comes meanwhile waits,
//! and leaves together. So batches form by themselves, and nobody waits when there is little to do. Whoever waits hears
//! what became of its own record, and no tenant waits for another's.

use std::{sync::Arc, time::Instant};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::{
        Mutex,
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    time::{MissedTickBehavior, interval},
};

use super::{
    gathering::{Gathering, LOOK_EVERY, Leaving, Told, Waiting},
    requests::{Message, Requests},
};
use crate::{audit::Part, domain::TenantId, lanes::LaneError, shutdown::Shutdown, supervisor::Supervisor};

/// Records that wait: far more than messages of the lane can be in a node's hands.
const QUEUE_MAX: usize = 4_096;
/// Records that are taken out of the queue at one time.
const TAKEN_MAX: usize = 256;

/// Where records are handed in.
pub(super) struct Records {
    queue: mpsc::Sender<Waiting>,
}

impl Records {
    pub(super) fn start(requests: Arc<Requests>, background: &Shutdown, supervisor: &Supervisor) -> Self {
        let (queue, taken) = mpsc::channel(QUEUE_MAX);
        // Where the task begins anew, what it held is told to nobody, and whoever waits hears that it is not confirmed.
        let taken = Arc::new(Mutex::new(taken));
        supervisor.keep("lane records", background.tracker(), background.token().clone(), move || {
            let (requests, taken) = (Arc::clone(&requests), Arc::clone(&taken));
            async move { run(&requests, &mut *taken.lock().await).await }
        });
        Self { queue }
    }

    /// Returns when it is kept.
    pub(super) async fn keep(&self, part: Part) -> Result<(), LaneError> {
        let (done, told) = oneshot::channel();
        match self.queue.try_send(Waiting { part, since: Instant::now(), done }) {
            Ok(()) => told.await.unwrap_or(Err(LaneError::Unconfirmed)),
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => Err(LaneError::Away),
        }
    }
}

async fn run(requests: &Requests, queue: &mut mpsc::Receiver<Waiting>) {
    let (mut gathering, mut taken) = (Gathering::default(), Vec::with_capacity(TAKEN_MAX));
    let mut under_way = FuturesUnordered::new();
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            Some(tenant) = under_way.next(), if !under_way.is_empty() => gathering.ended(&tenant),
            count = queue.recv_many(&mut taken, TAKEN_MAX) => match count {
                0 => return,
                _ => gathering.extend(taken.drain(..)),
            },
            _ = look.tick(), if gathering.waits() => {}
        }
        let now = Instant::now();
        gathering.give_up(now);
        // An absent connection is no fault of the stream: it is waited for.
        if requests.writes() {
            under_way.extend(gathering.leaving(now).into_iter().map(|leaving| publish(requests, leaving)));
        }
    }
}

/// One message, and what its records hear.
async fn publish(requests: &Requests, leaving: Leaving) -> TenantId {
    let Leaving { tenant, entry, told, within } = leaving;
    let (subject, payload) = (entry.subject(), entry.payload());
    let message = Message { subject, headers: &[], payload, not_after: None };
    let kept = requests.publish_within(within, message).await;
    tell(told, &kept.map(drop));
    tenant
}

/// One message that is not confirmed is one fault, however many records it has: the breaker before this counts.
fn tell(told: Vec<Told>, kept: &Result<(), LaneError>) {
    let others = match kept {
        Err(LaneError::Unconfirmed) => Err(LaneError::UnconfirmedBeside),
        kept => kept.clone(),
    };
    // One who no longer waits has passed its deadline, and does not count.
    let mut told = told.into_iter();
    let heard = told.by_ref().any(|first| first.send(kept.clone()).is_ok());
    for other in told.filter(|_| heard) {
        let _ = other.send(others.clone());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test]
    async fn a_message_that_is_not_confirmed_is_one_fault_of_the_first_who_waits_for_it() {
        let (told, heard): (Vec<_>, Vec<_>) = (0..4).map(|_| oneshot::channel()).unzip();
        let mut heard = heard.into_iter();
        // The first has given up.
        drop(heard.next());
        tell(told, &Err(LaneError::Unconfirmed));
        let mut all = Vec::new();
        for heard in heard {
            all.push(heard.await.unwrap().unwrap_err());
        }
        let beside = LaneError::UnconfirmedBeside;
        assert_eq!(all, [LaneError::Unconfirmed, beside.clone(), beside]);
    }
}
