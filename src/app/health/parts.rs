//! What do the parts of the bus say of themselves?

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use crate::{
    app::Stores,
    health::{Health, Part},
    lanes::Lanes,
    memory::{Memory, Pressure, Reading},
    nats::{
        Bus, DeadlineWorker, Inbound, InboxEvidence, JetStreamLane, Outbox, Peers, RecordsProbe, RoundTrips,
        StreamUsage, WebhookDispatcher,
    },
    phrase::counted,
    policy::{DecisionLog, Refused, Rollout, ShadowStanding, ShadowState, Standing, opa::ServerStanding},
    review::Thresholds,
    skew::Skew,
    supervisor::Supervisor,
    tenants::Directory,
};

/// A node to which no message of its own has come back for so long takes no requests.
const SILENT_MAX: Duration = Duration::from_secs(5);

const MB: u64 = 1_000_000;

pub(super) const DIRECTORY_UNREAD: &str =
    "the directory is not read yet; is the bus provisioned (`agentbus tenants apply`)?";

/// The connections that messages of the node to itself go over.
pub(in crate::app) struct Connections {
    pub bus: Arc<Bus>,
    /// Of the connection for JetStream and the directory.
    pub jetstream: Arc<RoundTrips>,
    pub lane: Arc<JetStreamLane>,
    pub started: Instant,
}

impl Connections {
    /// For how long no message of this node to itself has come back, over the connection that has been
    /// silent longest: the one for requests, the one for JetStream, the one for the durable lane.
    pub(super) fn silent_for(&self) -> (&'static str, Duration) {
        let all = [
            ("requests", self.bus.silent_for().unwrap_or(self.started.elapsed())),
            ("JetStream", self.jetstream.silent_for()),
            ("the durable lane", self.lane.silent_for()),
        ];
        all.into_iter().max_by_key(|(_, silent)| *silent).unwrap_or_default()
    }

    /// Whether the node has ever heard of itself.
    pub(super) fn were_there(&self) -> bool {
        self.bus.silent_for().is_some()
    }
}

impl Part for Connections {
    fn health(&self) -> Option<Health> {
        let (connection, silent) = self.silent_for();
        if self.bus.connected() && silent < SILENT_MAX {
            return Some(Health::up(""));
        }
        Some(Health::down(format!(
            "no message has come back over the connection for {connection} for {} s; trying again without end",
            silent.as_secs()
        )))
    }
}

/// How the node is called, and who else is.
pub(in crate::app) struct Name {
    pub node: String,
    pub peers: Arc<Peers>,
}

impl Part for Name {
    fn health(&self) -> Option<Health> {
        let twice = self
            .peers
            .has_namesake()
            .then(|| format!("another node is called {} too: give each its own name (node.name)", self.node));
        Some(Health::degraded_if(twice))
    }
}

impl Part for Outbox {
    fn health(&self) -> Option<Health> {
        if !self.connected() {
            return Some(Health::down("the connection for deliveries is not there"));
        }
        Some(Health::degraded_if(self.records_late().map(|late| {
            format!("JetStream has not confirmed records for {} s: nothing is delivered", late.as_secs())
        })))
    }
}

impl Part for Skew {
    fn health(&self) -> Option<Health> {
        Some(match self.problem() {
            Some(problem) => Health::down(problem),
            None => Health::degraded_if(self.drift()),
        })
    }
}

/// Named only while it is tight.
impl Part for Memory {
    fn health(&self) -> Option<Health> {
        let Reading { used, limit, .. } = self.reading();
        let told =
            |then: &str| Health::degraded(format!("{} of {} MB are used: {then}", used / MB, limit / MB));
        match self.pressure() {
            Pressure::None => None,
            Pressure::Tight => Some(told("caches are emptied")),
            Pressure::Short => Some(told("caches are emptied and new messages refused (`overloaded`)")),
        }
    }
}

impl Part for Directory {
    fn health(&self) -> Option<Health> {
        if !self.is_ready() {
            return Some(Health::down(DIRECTORY_UNREAD));
        }
        Some(match self.tenants().len() {
            0 => Health::degraded("the directory is empty; publish tenants by `agentbus tenants apply`"),
            count => Health::up(counted(count, "tenant")),
        })
    }
}

/// All nodes share JetStream, so none is the better for it that another takes the requests.
impl Part for RecordsProbe {
    fn health(&self) -> Option<Health> {
        let why = self.trouble();
        Some(Health::degraded_if(
            why.map(|why| format!("JetStream takes no records: {why}; nothing is delivered")),
        ))
    }
}

/// The fast lane does without it.
pub(in crate::app) struct LanePart {
    pub lane: Arc<JetStreamLane>,
    pub inbound: Arc<Inbound>,
}

impl Part for LanePart {
    fn health(&self) -> Option<Health> {
        if !self.lane.connected() {
            return Some(Health::degraded("the connection for the durable lane is not there"));
        }
        Some(absent(self.inbound.absent(), "streams; make them by `agentbus tenants apply`"))
    }
}

impl Part for DeadlineWorker {
    fn health(&self) -> Option<Health> {
        Some(absent(
            DeadlineWorker::absent(self),
            "a stream of deliberations: nothing of theirs is parked or released; make it by `agentbus tenants apply`",
        ))
    }
}

impl Part for InboxEvidence {
    fn health(&self) -> Option<Health> {
        Some(absent(
            InboxEvidence::absent(self),
            "the consumer EVIDENCE: what is acknowledged in its durable inboxes keeps its place; make it by \
             `agentbus tenants apply`",
        ))
    }
}

fn absent(tenants: usize, what: &str) -> Health {
    Health::degraded_if((tenants > 0).then(|| format!("{} without {what}", counted(tenants, "tenant"))))
}

impl Part for Stores {
    fn health(&self) -> Option<Health> {
        let Some(redis) = &self.redis else {
            return Some(Health::up("in memory: this node shares nothing with others"));
        };
        Some(match (redis.refusal(), redis.distrust()) {
            (Some(refusal), _) => Health::degraded(format!("{refusal}; messages are refused, retryable")),
            (None, _) if !redis.healthy() => {
                Health::degraded("redis does not answer: messages are refused, retryable, until it does")
            }
            (None, Some(distrust)) => Health::degraded(distrust),
            (None, None) => Health::up("redis"),
        })
    }
}

/// The policy that messages are judged by.
pub(in crate::app) struct Policy(pub Arc<Rollout>);

impl Part for Policy {
    fn health(&self) -> Option<Health> {
        let Standing { revision, refused, bundle, unreachable, .. } = self.0.standing();
        let refused = refused.map(|Refused { why, .. }| format!("what was read last is refused: {why}"));
        let unreachable = unreachable.map(|why| format!("no other bundle can be looked for: {why}"));
        if revision.is_empty() {
            let why = refused.or(unreachable).unwrap_or_else(|| "the bundle has not come".to_owned());
            return Some(Health::down(format!("no policy yet: {why}")));
        }
        let named = bundle.map_or(revision.to_string(), |label| format!("{revision}, bundle {label}"));
        let asked = self.0.gate().trouble().map(|why| format!("the last question: {why}"));
        Some(match asked.or(refused).or(unreachable) {
            Some(why) => Health::degraded(format!("{named} is in force; {why}")),
            None => Health::up(named),
        })
    }
}

/// The candidate that judges beside it, if there is one. Whatever it does, messages fare the same.
pub(in crate::app) struct Beside(pub Arc<Rollout>);

impl Part for Beside {
    fn health(&self) -> Option<Health> {
        let gate = self.0.gate();
        let ShadowStanding { state, revision, refused, decisions, changed, .. } =
            gate.shadow()?.standing(&gate.revision())?;
        match state {
            ShadowState::Judging => Some(Health::up(format!(
                "{revision} judges beside: of {} it would change {changed}",
                counted(usize::try_from(decisions).unwrap_or(usize::MAX), "decision")
            ))),
            ShadowState::Refused => {
                Some(Health::up(format!("a candidate is refused: {}", refused.unwrap_or_default())))
            }
            ShadowState::Over | ShadowState::Stopped | ShadowState::InForce => None,
        }
    }
}

/// The servers that are asked about the policy, if there are some.
pub(in crate::app) struct Opa(pub Arc<Rollout>);

impl Part for Opa {
    fn health(&self) -> Option<Health> {
        let (modes, revision) = (self.0.modes(), self.0.gate().revision());
        let (away, there): (Vec<_>, Vec<_>) =
            modes.opa()?.standing(&revision).into_iter().partition(|server| server.problem.is_some());
        let there: Vec<_> = there.iter().map(|server| &*server.name).collect();
        if away.is_empty() {
            return Some(Health::up(there.join(", ")));
        }
        let away = away.into_iter().map(|ServerStanding { name, problem }| {
            format!("{name} is not asked: {}", problem.unwrap_or_default())
        });
        let away = away.collect::<Vec<_>>().join("; ");
        Some(match there.is_empty() {
            false => Health::degraded(format!("{} answer; {away}", there.join(", "))),
            true if modes.need_opa() => Health::down(away),
            true => Health::degraded(format!("Rego in process answers alone; {away}")),
        })
    }
}

/// The log of what the policy decides; named only while it is not whole.
pub(in crate::app) struct Decisions(pub Arc<DecisionLog>);

impl Part for Decisions {
    fn health(&self) -> Option<Health> {
        let why = self.0.trouble()?;
        Some(Health::degraded(format!("the decision log is not whole: {why}")))
    }
}

/// What the words are scored with, or why they are not.
pub(in crate::app) struct Scorer {
    model: Result<String, String>,
    /// It is loaded before there is a message to score.
    lanes: OnceLock<Arc<Lanes>>,
}

impl Scorer {
    pub(in crate::app) fn new(model: Result<String, String>) -> Arc<Self> {
        Arc::new(Self { model, lanes: OnceLock::new() })
    }

    pub(in crate::app) fn asked_by(&self, lanes: &Arc<Lanes>) {
        let _ = self.lanes.set(Arc::clone(lanes));
    }
}

impl Part for Scorer {
    fn health(&self) -> Option<Health> {
        let trouble = self.lanes.get().and_then(|lanes| lanes.assessor.trouble());
        Some(match (&self.model, trouble) {
            (Ok(model), None) => Health::up(model),
            (Ok(model), Some(why)) => Health::degraded(format!("{model}; the last text: {why}")),
            (Err(cause), _) => Health::degraded(format!(
                "none: messages whose words could matter are not delivered ({cause})"
            )),
        })
    }
}

/// What is full is refused by name, to who fills it: the node is well.
impl Part for StreamUsage {
    fn health(&self) -> Option<Health> {
        Some(self.note()).filter(|note| !note.is_empty()).map(Health::up)
    }
}

impl Part for WebhookDispatcher {
    fn health(&self) -> Option<Health> {
        Some(Health::degraded_if(self.trouble()))
    }
}

/// Nothing to say where no tenant learns.
impl Part for Thresholds {
    fn health(&self) -> Option<Health> {
        self.trouble().map(Health::degraded)
    }
}

/// Which parts had to be started again of late.
impl Part for Supervisor {
    fn health(&self) -> Option<Health> {
        let counts = self.names().into_iter().map(|name| (name, self.restarts(name)));
        let again: Vec<_> = counts
            .filter(|(_, restarts)| *restarts > 0)
            .map(|(name, restarts)| format!("{name} {}", counted(restarts, "time")))
            .collect();
        let note = format!("started again of late: {}; the log says why", again.join(", "));
        (!again.is_empty()).then(|| Health::degraded(note))
    }
}
