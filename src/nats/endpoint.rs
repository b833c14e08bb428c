//! What a node listens to, from when until when, and who takes what is heard.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use async_nats::Client;
use futures_util::future::join_all;
use tokio::runtime::Handle;

use super::{
    BusError, Link,
    arrival::Arrival,
    fence,
    intake::{Incoming, Intake, Subscription, Took},
    micro::{self, Micro},
    policy_requests::{PolicyRequest, PolicyRequests},
    recovery::Recoverable,
    status::StatusSource,
    subjects,
};
use crate::{
    config,
    domain::Verb,
    event_loop::{EventLoop, PerLoop},
    fair_queue::Owners,
    lanes::Lanes,
    overload::Gate,
    review::{Agents, Reviewers},
    shutdown::Shutdown,
    supervisor::Supervisor,
    tenants::names,
};

/// For the server's word that no more requests come to a node that stops.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// What the intake hands requests to.
pub struct Bus {
    /// One connection for each thread of the fast lane; only the first hears what every node is to hear.
    pub(super) intakes: OnceLock<PerLoop<Intake>>,
    client: Client,
    pub(super) lanes: Arc<Lanes>,
    pub(super) agents: Arc<Agents>,
    pub(super) reviewers: Arc<Reviewers>,
    pub(super) micro: Micro,
    pub(super) policy: PolicyRequests,
    pub(super) status: Arc<dyn StatusSource>,
    pub(super) recoverable: Arc<dyn Recoverable>,
    /// Of each loop: bounds the requests that are worked on, and those that wait, so that tasks cannot pile up.
    pub(super) gates: PerLoop<Arc<Gate<Arrival>>>,
    /// In whose turns they wait.
    pub(super) owners: Owners,
    /// Where requests of the durable lane are worked on, and where all are that are of neither lane.
    pub(super) durable: Handle,
    pub(super) others: Handle,
}

/// What a subscription of the intake is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Requests(Verb),
    /// Also of verbs that are none.
    AnyRequests,
    /// To this node's own questions.
    Answers,
    /// From an operator who looks at the nodes.
    Micro(micro::Question),
    /// From an operator, about the policy of all nodes.
    Policy(PolicyRequest),
    /// From an operator, about what all nodes have frozen.
    Diff,
    Freezes,
    /// From an operator, about the constitutions of all nodes.
    Constitutions,
    /// From an operator, about how all nodes are.
    Status,
    /// From an operator, to all nodes.
    Recovery,
}

/// What operators ask is answered by these.
type ForOperators = (Micro, PolicyRequests, Arc<dyn StatusSource>, Arc<dyn Recoverable>);

impl Bus {
    pub fn new(
        client: Client,
        lanes: Arc<Lanes>,
        agents: Agents,
        reviewers: Reviewers,
        (micro, policy, status, recoverable): ForOperators,
        (loops, durable, in_flight): (&PerLoop<EventLoop>, &Handle, usize),
    ) -> Self {
        let (each, now) = ((in_flight / loops.iter().count().max(1)).max(1), Instant::now());
        Self {
            intakes: OnceLock::new(),
            client,
            lanes,
            agents: Arc::new(agents),
            reviewers: Arc::new(reviewers),
            micro,
            policy,
            status,
            recoverable,
            gates: loops.map(|_| Arc::new(Gate::new(each, now))),
            owners: Owners::default(),
            durable: durable.clone(),
            others: Handle::current(),
        }
    }

    /// Subscribes to every verb and serves until the shutdown; then gives the subscriptions up. Returns when
    /// the server has confirmed them. The connection lives as long as `background`, for the last answers.
    pub async fn start(
        self: &Arc<Self>,
        name: &str,
        settings: &config::Nats,
        shutdown: &Shutdown,
        background: &Shutdown,
        (loops, supervisor): (&PerLoop<EventLoop>, &Supervisor),
    ) -> Result<(), BusError> {
        let (requests, mut others) = (self.requests(), self.questions_to_every_node());
        let sources = requests.iter().chain(&others).map(|subscription| subscription.source);
        let sources: Arc<Vec<Source>> = Arc::new(sources.collect());
        let intakes = loops.try_map(|event_loop| {
            let (bus, stop, metrics) = (Arc::clone(self), shutdown.clone(), Arc::clone(&self.lanes.metrics));
            let handler = move |source: &Source, message: Incoming| bus.hear(*source, message, &stop);
            let subscriptions = requests.iter().cloned().chain(std::mem::take(&mut others)).collect();
            let (intake, life) = Intake::new(name, settings, subscriptions, handler, metrics)?;
            let (life, refused) = (Arc::new(life), supervisor.clone());
            let _on = event_loop.handle().enter();
            supervisor.keep("intake", background.tracker(), background.token().clone(), move || {
                let (life, refused) = (Arc::clone(&life), refused.clone());
                async move { refused.fail(format!("NATS does not let the node in: {}", life.run().await)) }
            });
            Ok::<_, BusError>(intake)
        })?;
        let _ = self.intakes.set(intakes.clone());
        self.keep_gates(shutdown, background, (loops, supervisor));
        // The server has read the subscriptions when a message comes back that was sent behind them.
        while self.silent_for().is_none() {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
                () = shutdown.requested() => return Err(BusError::Intake),
            }
        }
        for intake in intakes.iter() {
            let (bus, intake, stop) = (Arc::clone(self), intake.clone(), shutdown.clone());
            let sources = Arc::clone(&sources);
            supervisor.keep_draining("attendance", shutdown.tracker(), shutdown.token().clone(), move || {
                let (bus, intake, stop) = (Arc::clone(&bus), intake.clone(), stop.clone());
                let sources = Arc::clone(&sources);
                async move { bus.attend(&intake, &sources, &stop).await }
            });
        }
        Ok(())
    }

    /// What waits begins as long as the connections live, also of what is read last.
    fn keep_gates(
        self: &Arc<Self>,
        shutdown: &Shutdown,
        background: &Shutdown,
        (loops, supervisor): (&PerLoop<EventLoop>, &Supervisor),
    ) {
        for (event_loop, gate) in loops.iter().zip(self.gates.iter()) {
            let (bus, gate, stop) = (Arc::clone(self), Arc::clone(gate), shutdown.clone());
            let _on = event_loop.handle().enter();
            supervisor.keep("gate", background.tracker(), background.token().clone(), move || {
                let (bus, gate, stop) = (Arc::clone(&bus), Arc::clone(&gate), stop.clone());
                async move { bus.begin_waiting(&gate, &stop).await }
            });
        }
    }

    /// What one node of all hears. First the answers: where a question is taken in, its answer is heard.
    fn requests(&self) -> Vec<Subscription<Source>> {
        let queue = Some(names::NODES_QUEUE);
        let answers = names::answers_to(self.lanes.questions.node());
        let mut subscriptions = vec![Subscription { subject: answers, queue, source: Source::Answers }];
        subscriptions.extend(Verb::ALL.iter().map(|&verb| Subscription {
            subject: names::requests_of_all_tenants(verb),
            queue,
            source: Source::Requests(verb),
        }));
        subscriptions.push(Subscription {
            subject: names::REQUESTS_OF_ANY_VERB.to_owned(),
            queue,
            source: Source::AnyRequests,
        });
        subscriptions
    }

    /// What each node hears, once.
    fn questions_to_every_node(&self) -> Vec<Subscription<Source>> {
        let micro = self.micro.subjects().map(|(subject, question)| (subject, Source::Micro(question)));
        let policy = PolicyRequest::ALL
            .map(|request| (names::policy_request(request.as_str()), Source::Policy(request)));
        let each = [
            (names::FREEZE_STATUS, Source::Freezes),
            (names::CONSTITUTION_STATUS, Source::Constitutions),
            (names::NODE_STATUS, Source::Status),
            (names::NODE_RECOVERY, Source::Recovery),
            (names::POLICY_DIFF, Source::Diff),
        ]
        .map(|(subject, source)| (subject.to_owned(), source));
        let all = micro.chain(policy).chain(each);
        all.map(|(subject, source)| Subscription { subject, queue: None, source }).collect()
    }

    /// No requests are taken while this node's clock is off: others of the queue group get them. When the node
    /// stops: no more requests, and no more answers when nobody waits for one.
    async fn attend(&self, intake: &Intake, sources: &[Source], shutdown: &Shutdown) {
        // What is heard of any verb is of the same queue group: while it is, requests come by it.
        let is_request =
            |index: usize| matches!(sources.get(index), Some(Source::Requests(_) | Source::AnyRequests));
        let mut off = self.lanes.skew.changes();
        while !shutdown.is_requested() {
            if *off.borrow_and_update() {
                intake.leave(is_request, LEAVE_WITHIN).await;
            } else {
                intake.enter(is_request);
            }
            tokio::select! {
                _ = off.changed() => {}
                () = shutdown.requested() => {}
            }
        }
        let is_answers = |index: usize| sources.get(index) == Some(&Source::Answers);
        intake.leave(|index| !is_answers(index), LEAVE_WITHIN).await;
        self.nobody_waits().await;
        intake.leave(is_answers, LEAVE_WITHIN).await;
    }

    /// For how long no message to ourselves has come back, over the intake that has been silent longest. `None`:
    /// over one of them none ever has.
    pub fn silent_for(&self) -> Option<Duration> {
        let silent: Option<Vec<Duration>> = self.intakes.get()?.iter().map(Intake::silent_for).collect();
        silent?.into_iter().max()
    }

    /// Requests that were answered since the node began, and those of them that were refused.
    pub fn answered(&self) -> (u64, u64) {
        self.micro.answered()
    }

    /// What the server calls the intakes' connections.
    pub fn links(&self) -> Vec<Link> {
        self.intakes.get().into_iter().flat_map(PerLoop::iter).filter_map(Intake::link).collect()
    }

    /// All intakes' connections are there.
    pub fn connected(&self) -> bool {
        self.intakes.get().is_some_and(|intakes| intakes.iter().all(Intake::connected))
    }

    /// After the last answer: the servers have read it.
    pub async fn close(&self) {
        let intakes = self.intakes.get().into_iter().flat_map(PerLoop::iter).map(Intake::fence);
        tokio::join!(join_all(intakes), fence(&self.client));
    }

    /// Takes what the intake has read; never waits.
    fn hear(self: &Arc<Self>, source: Source, message: Incoming, shutdown: &Shutdown) -> Took {
        match source {
            Source::Requests(verb) => return self.take(verb, &message, shutdown),
            Source::AnyRequests => match subjects::verb(&message.subject()) {
                Some(verb) => return self.take(verb, &message, shutdown),
                None => {
                    self.refuse_verb(&message);
                    return Took::Refused(None);
                }
            },
            Source::Answers => return self.take_answer(&message, shutdown),
            Source::Policy(request) => self.take_policy_request(request, &message, shutdown),
            Source::Diff => self.tell_shadow(&message, shutdown),
            Source::Freezes => self.tell_freezes(&message),
            Source::Constitutions => self.tell_constitutions(&message),
            Source::Status => self.tell_status(&message),
            Source::Recovery => self.recover(&message),
            Source::Micro(question) => {
                if let Some(reply) = &message.reply {
                    let answer = self.micro.answer(question).to_string();
                    self.send(reply, &[], answer.as_bytes());
                }
            }
        }
        // Few may ask.
        Took::Work
    }
}
