//! How many of the policy's decisions need not be made (P13)? By a node's own cache, and by what nodes share in Redis.
//!
//! A thousand agents, each with fifty kinds of messages, and of all those the first is sent twice as often as the second,
//! three times as often as the third, and so on (Zipf). The shipped rules decide.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use agentbus::{
    domain::{AgentGrant, AgentId, CapabilityId, Tenant, TenantId},
    governance::Decoded,
    policy::{
        Decision, Gate, InForce, Party, PolicyEngine, PolicyError, PolicySources, Question, RegoEngine,
        SharedTier, Source, reads::Reads,
    },
    state::SharedAnswers,
};
use anyhow::Context as _;
use async_trait::async_trait;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;
use tokio::task::JoinHandle;

use super::server::Server;
use crate::{
    hot,
    spread::Spread,
    tables::{show, table},
    targets::{Is, Target},
};

const AGENTS: usize = 1_000;
const TYPES: [&str; 5] = ["event", "query", "notification", "response", "task_response"];
const PRIORITIES: [&str; 2] = ["low", "normal"];
const RECIPIENTS: usize = 5;
const SHAPES: usize = TYPES.len() * PRIORITIES.len() * RECIPIENTS;
/// Messages of a round, after as many that fill the cache.
const MESSAGES: usize = 200_000;
const ROUNDS: u64 = 3;
/// Of those by several nodes, each of which starts with nothing.
const NODES: usize = 4;
/// Messages a second, and lives of an answer in seconds, for the table.
const RATES: [f64; 3] = [100.0, 1_000.0, 10_000.0];
const LIVES: [f64; 3] = [60.0, 600.0, 3_600.0];

pub(super) async fn run() -> anyhow::Result<(String, Vec<Target>)> {
    let (zipf, traffic) = (Zipf::new(AGENTS * SHAPES), Traffic::new()?);
    let engine = Arc::new(RegoEngine::load(&PolicySources::shipped())?);
    let (mut first, mut then) = (Vec::new(), Vec::new());
    for seed in 0..ROUNDS {
        let (node, mut random) = (Gate::new(Arc::clone(&engine) as _), StdRng::seed_from_u64(seed));
        first.push(traffic.sent(std::slice::from_ref(&node), &zipf, &mut random).await);
        then.push(traffic.sent(std::slice::from_ref(&node), &zipf, &mut random).await);
    }
    let shared = shared(&traffic, &zipf, &engine).await?;

    let mut rows = table(&["of 100 decisions", "remembered", "by another node", "asked"]);
    let mut row = |what: String, of: &[Counts]| {
        let cell = |share: fn(&Counts) -> f64| show(Spread::of(of.iter().map(share)));
        rows.add_row([what, cell(Counts::cached), cell(Counts::shared), cell(Counts::asked)]);
    };
    row(format!("one node, its first {MESSAGES} messages"), &first);
    row(format!("one node, the next {MESSAGES}"), &then);
    row(format!("{NODES} nodes, the first {MESSAGES} of all"), std::slice::from_ref(&shared.first));
    row("one node more, its first as many".to_owned(), std::slice::from_ref(&shared.later));
    row("that node, the next as many".to_owned(), std::slice::from_ref(&shared.then));
    let mut lives = table(&["messages a second", "kept 1 min", "10 min", "1 h"]);
    for rate in RATES {
        let [short, middle, long] = LIVES.map(|life| format!("{:.1}", 100.0 * zipf.remembered(rate * life)));
        lives.add_row([format!("{rate:.0}"), short, middle, long]);
    }
    let text = format!(
        "{AGENTS} agents with {SHAPES} kinds of messages each, by Zipf; {ROUNDS} rounds of one node. To look in Redis takes \
         {} µs where an answer is there.\n\n{rows}\n\nWhat of 100 is remembered by a node that keeps an answer for so \
         long, computed: of a kind that comes at a rate r, rt ÷ (1 + rt).\n\n{lives}",
        show(shared.micros)
    );
    let target = |of: &[Counts], share: fn(&Counts) -> f64, how: &str| {
        Target::new("P13", Spread::of(of.iter().map(share)), (Is::AtLeast, 95.0), "%", how)
    };
    let sharing = std::slice::from_ref(&shared.then);
    let targets = [
        target(&then, Counts::cached, "decisions that a node remembers, Zipf over 50,000"),
        target(sharing, Counts::known, "the same with what Redis tells, of a node that came later"),
    ];
    Ok((text, targets.into_iter().flatten().collect()))
}

/// What nodes that share their answers make of it.
struct Shared {
    first: Counts,
    /// Of one that starts then, and what follows.
    later: Counts,
    then: Counts,
    /// For an answer from Redis.
    micros: Option<Spread>,
}

async fn shared(traffic: &Traffic, zipf: &Zipf, engine: &Arc<RegoEngine>) -> anyhow::Result<Shared> {
    let (server, mut random) = (Server::start().await?, StdRng::seed_from_u64(ROUNDS));
    let (mut nodes, mut keeping) = (Vec::new(), Keeping::default());
    for _ in 0..=NODES {
        let gate = Gate::new(Arc::new(Far(Arc::clone(engine))));
        let store = server.connect().await? as Arc<dyn SharedAnswers>;
        let tier = Arc::new(SharedTier::new(store, Arc::new(())));
        gate.share(Arc::clone(&tier));
        keeping.0.push(tokio::spawn(async move { tier.run().await }));
        nodes.push(gate);
    }
    let (last, others) = nodes.split_last().context("a node")?;
    let first = traffic.sent(others, zipf, &mut random).await;
    let later = traffic.sent(std::slice::from_ref(last), zipf, &mut random).await;
    let then = traffic.sent(std::slice::from_ref(last), zipf, &mut random).await;
    server.stop().await;
    let micros = Spread::of([later.shared_micros]);
    Ok(Shared { first, later, then, micros })
}

/// Tasks that end with it.
#[derive(Default)]
struct Keeping(Vec<JoinHandle<()>>);

impl Drop for Keeping {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// The shipped rules, as if they were asked over a network.
struct Far(Arc<RegoEngine>);

#[async_trait]
impl PolicyEngine for Far {
    async fn evaluate(&self, question: &Question<'_>) -> Result<Decision, PolicyError> {
        self.0.decide(question)
    }

    fn revision(&self) -> &Arc<str> {
        self.0.revision()
    }

    fn reads(&self) -> Reads {
        self.0.reads()
    }

    fn is_far(&self, _: &TenantId) -> bool {
        true
    }
}

/// Who decided, how often.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    all: f64,
    cached: f64,
    shared: f64,
    /// Of one of those, the mean.
    shared_micros: f64,
}

impl Counts {
    fn cached(&self) -> f64 {
        100.0 * self.cached / self.all
    }

    fn shared(&self) -> f64 {
        100.0 * self.shared / self.all
    }

    fn known(&self) -> f64 {
        self.cached() + self.shared()
    }

    fn asked(&self) -> f64 {
        100.0 - self.known()
    }
}

/// Who could send what.
struct Traffic {
    tenant: Tenant,
    agents: Vec<AgentId>,
    recipients: Vec<AgentId>,
    /// One of each kind, without the recipient.
    messages: Vec<Decoded>,
    roles: BTreeSet<String>,
    none: BTreeSet<CapabilityId>,
}

impl Traffic {
    fn new() -> anyhow::Result<Self> {
        let mut tenant = Tenant::new("acme".parse()?);
        let named = |name: &str, many: usize| -> anyhow::Result<Vec<AgentId>> {
            (0..many).map(|at| Ok(format!("{name}-{at}").parse()?)).collect()
        };
        let (agents, recipients) = (named("agent", AGENTS)?, named("worker", RECIPIENTS)?);
        let sender = agents.first().context("an agent")?;
        tenant.agents.insert(sender.clone(), AgentGrant::default());
        let shared = Arc::new(tenant.clone());
        let kinds = TYPES.iter().flat_map(|kind| PRIORITIES.map(|priority| (kind, priority)));
        let message = |(kind, priority)| {
            let message = json!({
                "message_id": "m1", "message_type": kind, "priority": priority, "to": { "agent": "worker-0" },
                "constitutional_hash": agentbus::config::DEFAULT_CONSTITUTION, "content": { "text": "hi" },
                "created_at": hot::NOW.0,
            });
            hot::decoded(message.to_string().as_bytes(), &shared, sender)
        };
        let messages = kinds.map(message).collect::<anyhow::Result<_>>()?;
        let roles = BTreeSet::from(["implementer".to_owned()]);
        Ok(Self { tenant, agents, recipients, messages, roles, none: BTreeSet::new() })
    }

    /// Sends so many, by the nodes in turn.
    async fn sent(&self, nodes: &[Gate], zipf: &Zipf, random: &mut StdRng) -> Counts {
        let mut counts = Counts::default();
        let mut waited = 0.0;
        for gate in nodes.iter().cycle().take(MESSAGES) {
            let Some(question) = self.question(zipf.draw(random)) else { continue };
            let (policy, asked): (Arc<InForce>, _) = (gate.in_force(), Instant::now());
            counts.all += 1.0;
            match gate.decide_by(&policy, &question, "").await.source {
                Source::Cache => counts.cached += 1.0,
                Source::Shared => {
                    counts.shared += 1.0;
                    waited += asked.elapsed().as_secs_f64() * 1e6;
                }
                Source::Policy => {}
            }
        }
        counts.shared_micros = waited / counts.shared.max(1.0);
        counts
    }

    /// The one of this rank: of each kind all agents, one after the other.
    fn question(&self, rank: usize) -> Option<Question<'_>> {
        let (agent, shape) = (self.agents.get(rank % AGENTS)?, rank / AGENTS);
        let recipient = self.recipients.get(shape % RECIPIENTS)?;
        let message = self.messages.get(shape / RECIPIENTS)?;
        let party = |id| Party { id, roles: &self.roles, capabilities: &self.none, registered: true };
        Some(Question {
            message: message.message(),
            size: message.body().canonical.len(),
            sender: party(agent),
            recipient: party(recipient),
            tenant: &self.tenant,
            approval: None,
            labels: None,
        })
    }
}

/// Ranks from 0, the one at `n` as often as 1 ÷ (n + 1).
struct Zipf {
    /// What is drawn at or below each rank, of all.
    below: Vec<f64>,
}

impl Zipf {
    fn new(ranks: usize) -> Self {
        let mut sum = 0.0;
        let mut below: Vec<f64> = (1..=ranks)
            .map(|rank| {
                sum += 1.0 / rank as f64;
                sum
            })
            .collect();
        below.iter_mut().for_each(|it| *it /= sum);
        Self { below }
    }

    fn draw(&self, random: &mut StdRng) -> usize {
        let drawn: f64 = random.random();
        self.below.partition_point(|below| *below < drawn)
    }

    /// The share that is remembered while an answer lives, of so many messages in that time.
    fn remembered(&self, messages: f64) -> f64 {
        let mut before = 0.0;
        let mut sum = 0.0;
        for below in &self.below {
            let share = below - before;
            before = *below;
            sum += share * (messages * share) / (1.0 + messages * share);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_drawn_twice_as_often_as_the_second_and_what_lives_longer_is_remembered_more() {
        let (zipf, mut random) = (Zipf::new(1_000), StdRng::seed_from_u64(7));
        let mut drawn = vec![0.0_f64; 1_000];
        for _ in 0..200_000 {
            drawn[zipf.draw(&mut random)] += 1.0;
        }
        assert!((drawn[0] / drawn[1] - 2.0).abs() < 0.1, "{} {}", drawn[0], drawn[1]);
        assert!(drawn.iter().all(|count| *count > 0.0), "every rank is drawn");
        let [few, many] = [1_000.0, 1_000_000.0].map(|messages| zipf.remembered(messages));
        assert!((0.0..1.0).contains(&few) && few < many && many > 0.99, "{few} {many}");
    }

    #[tokio::test]
    async fn each_kind_of_message_of_each_agent_is_another_question_and_is_remembered() {
        let traffic = Traffic::new().unwrap();
        let gate = Gate::new(Arc::new(RegoEngine::load(&PolicySources::shipped()).unwrap()));
        let policy = gate.in_force();
        for rank in [0, 1, AGENTS, 7 * AGENTS + 3, AGENTS * SHAPES - 1] {
            for source in [Source::Policy, Source::Cache] {
                let ruling = gate.decide_by(&policy, &traffic.question(rank).unwrap(), "").await;
                assert_eq!(ruling.source, source, "{rank}");
            }
        }
        assert!(traffic.question(AGENTS * SHAPES).is_none());
    }
}
