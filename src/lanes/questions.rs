//! Which questions of this node wait for their answers? Bounded, for the node and for each tenant.
//!
//! A waiting question holds a place here and none among the work in flight: recipients that never
//! answer keep their tenant from asking, and nobody from sending.

use std::{
    collections::HashMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rand::Rng as _;
use tokio::sync::oneshot;

use super::live::{AnswerTo, Delivery};
use crate::{
    domain::{AgentId, Encoding, MessageId, MessageType, Reason, TenantId},
    rejection::Rejection,
};

/// How many questions wait, and how long.
#[derive(Debug, Clone, Copy)]
pub struct QuestionLimits {
    pub waiting: usize,
    pub waiting_per_tenant: usize,
    /// From reading the question to telling the asker; below what the server remembers a request for.
    pub within: Duration,
}

/// The questions that this node has put and that are not answered yet.
pub struct Questions {
    /// Names this process to whoever answers. Random, so that what went to a node before its restart
    /// does not come to the one after it.
    node: Arc<str>,
    limits: QuestionLimits,
    // A plain lock: held for a few moves in memory, never over an await.
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    waiting: HashMap<String, Asked>,
    /// Also of those whose answer is being judged.
    places: usize,
    places_of: HashMap<TenantId, usize>,
}

/// What an answer must be.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub tenant: TenantId,
    pub asker: AgentId,
    pub question: MessageId,
    pub answer_type: MessageType,
    /// When the asker waits no longer.
    pub until: Instant,
    /// Of the question, and so of what the asker hears.
    pub encoding: Encoding,
}

/// A question that somebody has answered. Taken once.
pub struct Asked {
    pub(super) expected: Expected,
    /// To whom it went; nobody yet, before it is handed over.
    agent: Option<AgentId>,
    given: oneshot::Sender<Given>,
}

/// What came of an answer, for the asker.
pub(super) enum Given {
    /// It may go to the asker: the delivery holds the permit.
    Answer(Box<Delivery>),
    Refused(Rejection),
}

/// A question's place, for as long as it waits.
pub(super) struct Open {
    questions: Arc<Questions>,
    tenant: TenantId,
    to: AnswerTo,
    given: oneshot::Receiver<Given>,
}

impl Questions {
    pub fn new(limits: QuestionLimits) -> Self {
        Self { node: random().into(), limits, table: Mutex::default() }
    }

    /// The token of this process in the subjects of answers.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Questions whose askers still wait.
    pub fn waiting(&self) -> usize {
        self.table.lock().places
    }

    pub(super) fn within(&self) -> Duration {
        self.limits.within
    }

    pub(super) fn open(self: &Arc<Self>, expected: Expected) -> Result<Open, Rejection> {
        let (answered, given) = oneshot::channel();
        // Only who has received the question knows it.
        let to = AnswerTo { node: Arc::clone(&self.node), token: random() };
        let tenant = expected.tenant.clone();
        let mut table = self.table.lock();
        let of_tenant = table.places_of.get(&tenant).copied().unwrap_or(0);
        if of_tenant >= self.limits.waiting_per_tenant {
            return Err(overloaded("tenant", self.limits.waiting_per_tenant));
        }
        if table.places >= self.limits.waiting {
            return Err(overloaded("node", self.limits.waiting));
        }
        table.places += 1;
        table.places_of.insert(tenant.clone(), of_tenant + 1);
        table.waiting.insert(to.token.clone(), Asked { expected, agent: None, given: answered });
        drop(table);
        Ok(Open { questions: Arc::clone(self), tenant, to, given })
    }

    /// The question, if it went to this agent and is not answered yet.
    pub fn take(&self, tenant: &TenantId, agent: &AgentId, token: &str) -> Option<Asked> {
        let mut table = self.table.lock();
        let asked = table.waiting.get(token)?;
        let theirs = asked.expected.tenant == *tenant && asked.agent.as_ref() == Some(agent);
        if theirs { table.waiting.remove(token) } else { None }
    }
}

impl Asked {
    /// `false`: the asker does not wait any more.
    pub(super) fn give(self, given: Given) -> bool {
        self.given.send(given).is_ok()
    }
}

impl Open {
    pub(super) fn to(&self) -> &AnswerTo {
        &self.to
    }

    /// From now on this agent, and nobody else, may answer.
    pub(super) fn goes_to(&self, agent: &AgentId) {
        if let Some(asked) = self.questions.table.lock().waiting.get_mut(&self.to.token) {
            asked.agent = Some(agent.clone());
        }
    }

    /// `None`: no answer in time, and none will be taken.
    pub(super) async fn answer(mut self, until: Instant, give_up: impl Future<Output = ()>) -> Option<Given> {
        tokio::select! {
            biased;
            given = &mut self.given => return given.ok(),
            () = tokio::time::sleep_until(until.into()) => {}
            () = give_up => {}
        }
        // Whoever answers from here on hears that nobody waits; what was given before is given.
        self.given.close();
        self.given.try_recv().ok()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut table = self.questions.table.lock();
        table.waiting.remove(&self.to.token);
        table.places = table.places.saturating_sub(1);
        if let Some(places) = table.places_of.get_mut(&self.tenant) {
            *places = places.saturating_sub(1);
            if *places == 0 {
                table.places_of.remove(&self.tenant);
            }
        }
    }
}

/// 128 random bits in lower-case hex.
fn random() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

fn overloaded(whose: &str, limit: usize) -> Rejection {
    let wait = Duration::from_millis(rand::rng().random_range(100..200));
    let detail = format!("the {whose} has {limit} questions waiting for answers, its limit");
    Rejection::new(Reason::Overloaded, detail).after(wait)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn questions(waiting: usize, waiting_per_tenant: usize) -> Arc<Questions> {
        let within = Duration::from_secs(20);
        Arc::new(Questions::new(QuestionLimits { waiting, waiting_per_tenant, within }))
    }

    fn expected(tenant: &str) -> Expected {
        Expected {
            tenant: tenant.parse().unwrap(),
            asker: "planner".parse().unwrap(),
            question: "q1".parse().unwrap(),
            answer_type: MessageType::Response,
            until: Instant::now() + Duration::from_secs(20),
            encoding: Encoding::Json,
        }
    }

    #[test]
    fn a_tenant_has_its_share_of_the_places_and_they_come_back() {
        let questions = questions(3, 2);
        let held: Vec<_> = (0..2).map(|_| questions.open(expected("acme")).unwrap()).collect();
        let shed = questions.open(expected("acme")).err().unwrap();
        assert_eq!((shed.reason, shed.retry_after.is_some()), (Reason::Overloaded, true));
        let other = questions.open(expected("globex")).unwrap();
        assert!(questions.open(expected("initech")).is_err(), "the node is full");
        drop(held);
        drop(other);
        assert_eq!(questions.waiting(), 0);
        assert!(questions.table.lock().places_of.is_empty(), "a tenant without questions takes no room");
        assert!(questions.open(expected("acme")).is_ok());
    }

    #[test]
    fn only_who_was_asked_may_answer_and_once() {
        let questions = questions(1, 1);
        let open = questions.open(expected("acme")).unwrap();
        let (acme, globex) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        let (worker, judge): (AgentId, AgentId) = ("worker".parse().unwrap(), "judge".parse().unwrap());
        let token = open.to().token.clone();
        assert!(questions.take(&acme, &worker, &token).is_none(), "it went to nobody yet");
        open.goes_to(&worker);
        for (tenant, agent, token) in
            [(&acme, &judge, &*token), (&globex, &worker, &*token), (&acme, &worker, "0")]
        {
            assert!(questions.take(tenant, agent, token).is_none(), "{tenant}/{agent} {token}");
        }
        assert!(questions.take(&acme, &worker, &token).is_some());
        assert!(questions.take(&acme, &worker, &token).is_none(), "a second answer");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_counts_if_the_asker_still_waits() {
        let questions = questions(1, 1);
        let refused = || Given::Refused(Rejection::new(Reason::AnswerRejected, "no"));
        for (late, heard) in [(false, true), (true, false)] {
            let open = questions.open(expected("acme")).unwrap();
            open.goes_to(&"worker".parse().unwrap());
            let (tenant, worker) = ("acme".parse().unwrap(), "worker".parse().unwrap());
            let asked = questions.take(&tenant, &worker, &open.to().token).unwrap();
            let until = Instant::now() + Duration::from_secs(5);
            let waiting = tokio::spawn(open.answer(until, std::future::pending()));
            if late {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            assert_eq!(asked.give(refused()), heard);
            assert_eq!(waiting.await.unwrap().is_some(), heard);
        }
    }
}
