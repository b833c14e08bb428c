//! What a node listens to, from when until when, and who takes what is heard.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_nats::Client;
use tokio::{runtime::Handle, sync::Semaphore};

use super::{
    BusError, Link, fence,
    intake::{Incoming, Intake, Subscription},
    micro::{self, Micro},
    policy_requests::{PolicyRequest, PolicyRequests},
    status::StatusSource,
    subjects,
};
use crate::{
    config,
    domain::Verb,
    lanes::Lanes,
    review::{Agents, Reviewers},
    shutdown::Shutdown,
    supervisor::Supervisor,
    tenants::names,
};

/// For the server's word that no more requests come to a node that stops.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);
/// Answers to requests that found no room, on their way at one time. NATS may take nothing at all, and
/// then more would only wait as well.
const SHEDDING_MAX: usize = 256;

/// What the intake hands requests to.
pub struct Bus {
    pub(super) intake: OnceLock<Intake>,
    client: Client,
    pub(super) lanes: Arc<Lanes>,
    pub(super) agents: Arc<Agents>,
    pub(super) reviewers: Arc<Reviewers>,
    pub(super) micro: Micro,
    pub(super) policy: PolicyRequests,
    pub(super) status: Arc<dyn StatusSource>,
    /// Bounds the requests that are being worked on, so that tasks cannot pile up.
    pub(super) places: Arc<Semaphore>,
    /// Bounds the requests that are being told that there is no room.
    pub(super) shedding: Arc<Semaphore>,
    /// Where requests are worked on that are not of the fast lane.
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
    Freezes,
    /// From an operator, about the constitutions of all nodes.
    Constitutions,
    /// From an operator, about how all nodes are.
    Status,
}

impl Bus {
    pub fn new(
        client: Client,
        lanes: Arc<Lanes>,
        agents: Agents,
        reviewers: Reviewers,
        (micro, policy, status): (Micro, PolicyRequests, Arc<dyn StatusSource>),
        places: usize,
    ) -> Self {
        Self {
            intake: OnceLock::new(),
            client,
            lanes,
            agents: Arc::new(agents),
            reviewers: Arc::new(reviewers),
            micro,
            policy,
            status,
            places: Arc::new(Semaphore::new(places)),
            shedding: Arc::new(Semaphore::new(SHEDDING_MAX)),
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
        (lane, supervisor): (&Handle, &Supervisor),
    ) -> Result<(), BusError> {
        let subscriptions = self.subscriptions();
        let sources: Vec<Source> = subscriptions.iter().map(|subscription| subscription.source).collect();
        let (bus, stop) = (Arc::clone(self), shutdown.clone());
        let handler = move |source: &Source, message: Incoming| bus.hear(*source, message, &stop);
        let metrics = Arc::clone(&self.lanes.metrics);
        let (intake, life) = Intake::new(name, settings, subscriptions, handler, metrics)?;
        let life = Arc::new(life);
        let _ = self.intake.set(intake.clone());
        let refused = supervisor.clone();
        let on = lane.enter();
        supervisor.keep("intake", background.tracker(), background.token().clone(), move || {
            let (life, refused) = (Arc::clone(&life), refused.clone());
            async move { refused.fail(format!("NATS does not let the node in: {}", life.run().await)) }
        });
        drop(on);
        // The server has read the subscriptions when a message comes back that was sent behind them.
        while intake.silent_for().is_none() {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
                () = shutdown.requested() => return Err(BusError::Intake),
            }
        }
        let (bus, stop, sources) = (Arc::clone(self), shutdown.clone(), Arc::new(sources));
        supervisor.keep_draining("attendance", shutdown.tracker(), shutdown.token().clone(), move || {
            let (bus, intake, stop) = (Arc::clone(&bus), intake.clone(), stop.clone());
            let sources = Arc::clone(&sources);
            async move { bus.attend(&intake, &sources, &stop).await }
        });
        Ok(())
    }

    /// First the answers: where a question is taken in, its answer is heard.
    fn subscriptions(&self) -> Vec<Subscription<Source>> {
        let queue = Some(names::NODES_QUEUE);
        let mut subscriptions = vec![Subscription {
            subject: names::answers_to(self.lanes.questions.node()),
            queue,
            source: Source::Answers,
        }];
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
        subscriptions.extend(self.micro.subjects().map(|(subject, question)| Subscription {
            subject,
            queue: None,
            source: Source::Micro(question),
        }));
        subscriptions.extend(PolicyRequest::ALL.map(|request| Subscription {
            subject: names::policy_request(request.as_str()),
            queue: None,
            source: Source::Policy(request),
        }));
        let each = [
            (names::FREEZE_STATUS, Source::Freezes),
            (names::CONSTITUTION_STATUS, Source::Constitutions),
            (names::NODE_STATUS, Source::Status),
        ];
        subscriptions.extend(each.map(|(subject, source)| Subscription {
            subject: subject.to_owned(),
            queue: None,
            source,
        }));
        subscriptions
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

    /// For how long no message to ourselves has come back over the intake. `None`: none ever has.
    pub fn silent_for(&self) -> Option<Duration> {
        self.intake.get()?.silent_for()
    }

    /// Requests that were answered since the node began, and those of them that were refused.
    pub fn answered(&self) -> (u64, u64) {
        self.micro.answered()
    }

    /// What the server calls the intake's connection.
    pub fn link(&self) -> Option<Link> {
        self.intake.get()?.link()
    }

    pub fn connected(&self) -> bool {
        self.intake.get().is_some_and(Intake::connected)
    }

    /// After the last answer: the server has read it.
    pub async fn close(&self) {
        if let Some(intake) = self.intake.get() {
            tokio::join!(intake.fence(), fence(&self.client));
        }
    }

    /// Takes what the intake has read; never waits.
    fn hear(self: &Arc<Self>, source: Source, message: Incoming, shutdown: &Shutdown) {
        match source {
            Source::Requests(verb) => self.take(verb, &message, shutdown),
            Source::AnyRequests => match subjects::verb(&message.subject()) {
                Some(verb) => self.take(verb, &message, shutdown),
                None => self.refuse_verb(&message),
            },
            Source::Answers => self.take_answer(&message, shutdown),
            Source::Policy(request) => self.take_policy_request(request, &message, shutdown),
            Source::Freezes => self.tell_freezes(&message),
            Source::Constitutions => self.tell_constitutions(&message),
            Source::Status => self.tell_status(&message),
            Source::Micro(question) => {
                if let Some(reply) = &message.reply {
                    let answer = self.micro.answer(question).to_string();
                    self.send(reply, &[], answer.as_bytes());
                }
            }
        }
    }
}
