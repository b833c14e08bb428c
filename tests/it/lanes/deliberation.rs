//! What happens to a message that its reviewers must see first? A real bus, reviewers with plain
//! requests, and everything that can come between parking a message and its end.

use std::time::{Duration, Instant};

use agentbus::{
    client::{AgentClient, Draft, Patience, outcome},
    domain::{Encoding, Priority, Reason, Status, Verb, Verdict},
    servers::StackOptions,
    tenants::Plan,
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::support::bus::Bus;

mod lanes;
mod neighbours;
mod races;
mod release;
mod survival;
mod voting;

/// For what follows by itself, on a busy machine: what is tried again may wait for 90 s.
const SOON: Duration = Duration::from_secs(180);
/// For what must not come.
const MEANWHILE: Duration = Duration::from_millis(400);

/// A bus with reviewers, and its agents.
struct Court {
    bus: Bus,
    planner: AgentClient,
    worker: AgentClient,
    judge: AgentClient,
}

impl Court {
    /// `terms` are lines of `[tenants.acme.deliberation.terms]`.
    async fn sit(nodes: usize, terms: &str) -> Self {
        Self::with(terms, |options| options.nodes = nodes).await
    }

    async fn with(terms: &str, change: impl FnOnce(&mut StackOptions)) -> Self {
        let bus = Bus::with(1, |options| {
            options.plan = plan(terms);
            change(options);
        })
        .await;
        let agent = |name| bus.agent("acme", name);
        let (planner, worker, judge) = tokio::join!(agent("planner"), agent("worker"), agent("judge"));
        if !bus.stack.nodes().is_empty() {
            worker.register(&[]).await.unwrap();
        }
        Self { bus, planner, worker, judge }
    }

    async fn agent(&self, name: &str) -> AgentClient {
        self.bus.agent("acme", name).await
    }

    /// Sends what is parked, and returns its id and digest.
    async fn park(&self, draft: &Draft) -> Waiting {
        let verdict = send(&self.planner, draft).await;
        assert_eq!(
            (verdict.status, verdict.reason),
            (Status::Deliberating, Reason::Deliberating),
            "{verdict:?}"
        );
        // Kept as an outcome as well, for the durable lane to find.
        let outcome = told(&self.planner).await;
        assert_eq!((outcome.status, &outcome.deliberation_id), (verdict.status, &verdict.deliberation_id));
        let id = verdict.deliberation_id.expect("a parked message has a deliberation").to_string();
        let shown = self.show(&self.judge, &id).await;
        let digest = shown["digest"].as_str().unwrap().to_owned();
        Waiting { id, digest }
    }

    /// The deliberation, as this agent sees it.
    async fn show(&self, agent: &AgentClient, id: &str) -> Value {
        let answer = ask(agent, Verb::Deliberations, json!({ "id": id })).await;
        assert_eq!(answer["status"], "ok", "{answer}");
        answer["deliberation"].clone()
    }

    /// The node that answers says so in the end.
    async fn until(&self, id: &str, what: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + SOON;
        loop {
            let shown = self.show(&self.judge, id).await;
            if what(&shown) {
                return shown;
            }
            assert!(Instant::now() < until, "not in {SOON:?}: {shown}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn stop(self) {
        self.bus.stop().await;
    }
}

struct Waiting {
    id: String,
    digest: String,
}

impl Waiting {
    async fn vote(&self, voter: &AgentClient, choice: &str) -> Value {
        ask(voter, Verb::Vote, json!({ "id": self.id, "choice": choice, "digest": self.digest })).await
    }
}

fn plan(terms: &str) -> Plan {
    Plan::parse(&plan_text(terms)).unwrap()
}

fn plan_text(terms: &str) -> String {
    format!(
        "[tenants.acme.agents]\nplanner = {{ roles = [\"executive\"] }}\n\
         worker = {{ roles = [\"implementer\"] }}\njudge = {{ roles = [\"judicial\"] }}\n\
         arbiter = {{ roles = [\"judicial\"] }}\nsteward = {{ roles = [\"controller\"] }}\n\
         stranger = {{}}\n[tenants.acme.deliberation]\nopen_max = 5000\n\
         [tenants.acme.deliberation.terms]\n{terms}\n"
    )
}

/// One approval, or one rejection of two, decides.
const ONE_OF_TWO: &str = "rule = \"roles\"\ndistinct_roles = 1";

/// Its priority alone is reason enough to ask its reviewers.
fn severe(text: &str) -> Draft {
    Draft { priority: Priority::Critical, ..Draft::to_agent("worker", text) }
}

/// Sends, and asks again as senders do: a node was killed with its claim, or a store is not back yet.
async fn send(planner: &AgentClient, draft: &Draft) -> Verdict {
    let patience = Patience { attempt: Duration::from_secs(3), deadline: SOON };
    let (message, until) = (draft.encode(Encoding::Json), Instant::now() + SOON);
    loop {
        let verdict = planner.send(message.clone(), patience).await.unwrap();
        if !verdict.reason.retryable() || Instant::now() >= until {
            return verdict;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A reviewer's verb, in JSON.
async fn ask(agent: &AgentClient, verb: Verb, body: Value) -> Value {
    let patience = Patience { attempt: Duration::from_secs(3), deadline: SOON };
    let answer = agent.call(verb, body.to_string().into(), patience).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

/// What is in a durable inbox within this time, acknowledged; at most `limit`.
async fn take(agent: &AgentClient, limit: usize, within: Duration) -> Vec<async_nats::Message> {
    let (nats, inbox) = (agent.nats(), agent.nats().new_inbox());
    let mut messages = nats.subscribe(inbox.clone()).await.unwrap();
    let next = format!("$JS.API.CONSUMER.MSG.NEXT.OUT_acme.{}", agent.id());
    let batch = json!({ "batch": limit, "expires": u64::try_from(within.as_nanos()).unwrap() });
    nats.publish_with_reply(next, inbox, batch.to_string().into()).await.unwrap();
    let mut taken = Vec::new();
    while taken.len() < limit {
        let message = tokio::time::timeout(within + SOON, messages.next()).await.unwrap().unwrap();
        // A status: the time is over.
        let (None, Some(reply)) = (message.status, message.reply.clone()) else { break };
        nats.publish(reply, "+ACK".into()).await.unwrap();
        taken.push(message);
    }
    nats.flush().await.unwrap();
    taken
}

/// The next outcome in an agent's durable inbox.
async fn told(agent: &AgentClient) -> Verdict {
    let message = take(agent, 1, SOON).await.pop().expect("an outcome is kept");
    outcome(&message, agent.id()).unwrap_or_else(|| panic!("not an outcome: {message:?}"))
}

/// Nothing is in this durable inbox, and nothing comes.
async fn nothing_for(agent: &AgentClient) {
    let found = take(agent, 1, MEANWHILE).await;
    assert!(found.is_empty(), "{found:?}");
}

fn header<'a>(message: &'a async_nats::Message, name: &str) -> &'a str {
    message.headers.as_ref().and_then(|h| h.get(name)).map(|v| v.as_str()).unwrap_or_default()
}

/// Waits until a number of the bus's nodes, added up, is this.
async fn counts(bus: &Bus, name: &str, expected: u64) {
    let until = Instant::now() + SOON;
    loop {
        let found = bus.counted(name).await;
        if found == expected {
            return;
        }
        assert!(Instant::now() < until, "{name}: found {found}, expected {expected}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
