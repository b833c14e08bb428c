//! Who plays? Every agent of the demo: connected by its own key, registered, listening.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use agentbus::{
    client::{AgentClient, ClientError, Patience, is_delivery},
    domain::{Reason, Tenant, Verb, Verdict},
    shutdown::Shutdown,
};
use agentbus_testkit::{agents, traffic::BUSY};
use anyhow::Context as _;
use futures_util::{StreamExt as _, future::join_all};
use serde_json::Value;

use super::{
    ledger::{Ledger, Series},
    letter::Letter,
    script,
};
use crate::context::Who;

/// One attempt; a node that was killed is asked no longer than this.
const ATTEMPT: Duration = Duration::from_millis(1000);
/// Over all retries, so that no outcome stays unknown.
const DEADLINE: Duration = Duration::from_secs(30);
/// Between two askings of a bus that has no time.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_secs(1);
/// A third of a registration's default time to live.
const HEARTBEAT: Duration = Duration::from_secs(8);

/// All agents, and the books they share.
pub(super) struct Cast {
    actors: Vec<Actor>,
    pub(super) ledger: Arc<Ledger>,
    unknown: AtomicU64,
}

/// One agent.
pub(super) struct Actor {
    pub(super) who: Who,
    pub(super) client: AgentClient,
    role: Part,
}

/// How an agent takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Registered and listening.
    Full,
    /// Registered, but deaf: what is sent to it finds nobody.
    Deaf,
    /// Connected, no more.
    Stranger,
}

impl Cast {
    pub(super) async fn gather(
        url: &str,
        dir: &Path,
        tenants: &[Tenant],
        shutdown: &Shutdown,
    ) -> anyhow::Result<Self> {
        let ledger = Arc::new(Ledger::new());
        let mut actors = Vec::new();
        for tenant in tenants {
            for agent in tenant.agents.keys() {
                let who = Who { tenant: tenant.id.clone(), agent: agent.clone() };
                let client = agents::connect(url, dir, tenant.id.as_str(), agent.as_str()).await?;
                actors.push(Actor { role: part(&who), who, client });
            }
        }
        for actor in &actors {
            if actor.role == Part::Full {
                actor.listen(&ledger, shutdown).await?;
            }
            if actor.role != Part::Stranger {
                let answer = actor.client.register(script::capabilities(&actor.who)).await?;
                anyhow::ensure!(ok(&answer), "{} could not register: {answer}", actor.who);
            }
        }
        let live: Vec<AgentClient> = actors
            .iter()
            .filter(|actor| actor.role != Part::Stranger)
            .map(|actor| actor.client.clone())
            .collect();
        shutdown.tracker().spawn(stay_alive(live, shutdown.clone()));
        Ok(Self { actors, ledger, unknown: AtomicU64::new(0) })
    }

    pub(super) fn actor(&self, who: &Who) -> anyhow::Result<&Actor> {
        self.actors.iter().find(|actor| actor.who == *who).with_context(|| format!("{who} does not play"))
    }

    pub(super) fn named(&self, who: &str) -> anyhow::Result<&Actor> {
        self.actor(&who.parse().map_err(anyhow::Error::msg)?)
    }

    pub(super) fn size(&self) -> usize {
        self.actors.len()
    }

    /// Messages that never got a verdict.
    pub(super) fn unknown(&self) -> u64 {
        self.unknown.load(Ordering::Relaxed)
    }

    /// What the server has refused all agents so far.
    pub(super) fn violations(&self) -> u64 {
        self.actors.iter().map(|actor| actor.client.violations()).sum()
    }

    /// Sends, waits for the verdict, and books both.
    pub(super) async fn send(
        &self,
        letter: &Letter,
        series: Series,
    ) -> anyhow::Result<Option<(Verdict, Duration)>> {
        let started = Instant::now();
        let Some(verdict) = self.ask(letter).await? else { return Ok(None) };
        let latency = started.elapsed();
        self.ledger.answered(letter, &verdict, latency, series, latency >= ATTEMPT);
        Ok(Some((verdict, latency)))
    }

    /// Sends a message again, which must get the verdict it had.
    pub(super) async fn repeat(&self, letter: &Letter) -> anyhow::Result<()> {
        let started = Instant::now();
        if let Some(verdict) = self.ask(letter).await? {
            self.ledger.repeated(letter, &verdict, started.elapsed());
        }
        Ok(())
    }

    /// Sends without booking the answer: the twin of a message that is booked.
    pub(super) async fn send_unbooked(&self, letter: &Letter) -> anyhow::Result<Option<Verdict>> {
        self.ask(letter).await
    }

    /// Asks until the bus has time for it, as an agent does that is told when to come back.
    async fn ask(&self, letter: &Letter) -> anyhow::Result<Option<Verdict>> {
        let (client, started) = (&self.actor(&letter.from)?.client, Instant::now());
        loop {
            let left = DEADLINE.saturating_sub(started.elapsed());
            match client.send(letter.body.clone(), Patience { attempt: ATTEMPT, deadline: left }).await {
                Ok(Verdict { reason, retry_after, .. }) if is_busy(reason) && left > PAUSE => {
                    tokio::time::sleep(retry_after.unwrap_or_default().clamp(PAUSE_MIN, PAUSE)).await;
                }
                Ok(verdict) => return Ok(Some(verdict)),
                Err(error @ ClientError::NoAnswer { .. }) => {
                    self.unknown.fetch_add(1, Ordering::Relaxed);
                    self.ledger.wrong(format!("{} → {}: {error}", letter.from, letter.target));
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A registry verb, and the reason of its answer.
    pub(super) async fn registry(&self, who: &str, verb: Verb) -> anyhow::Result<Option<Reason>> {
        let answer = self.named(who)?.client.json(verb, "{}".to_owned()).await?;
        let reason = answer.get("reason").and_then(Value::as_str).and_then(Reason::parse);
        reason.into_iter().for_each(|reason| self.ledger.registry(reason));
        Ok(reason)
    }
}

impl Actor {
    async fn listen(&self, ledger: &Arc<Ledger>, shutdown: &Shutdown) -> anyhow::Result<()> {
        let mut messages = self.client.everything().await?;
        let (who, ledger, stop) = (self.who.clone(), Arc::clone(ledger), shutdown.clone());
        shutdown.tracker().spawn(async move {
            loop {
                let message = tokio::select! {
                    message = messages.next() => message,
                    () = stop.requested() => None,
                };
                let Some(message) = message else { return };
                if is_delivery(&message, &who.agent) {
                    let header = |name: &str| {
                        let headers = message.headers.as_ref();
                        headers
                            .and_then(|headers| headers.get(name))
                            .map(|value| value.as_str())
                            .unwrap_or_default()
                    };
                    ledger.received(&who, header);
                } else {
                    ledger.dropped(&who);
                }
            }
        });
        Ok(())
    }
}

/// Whether a node, or what it needs, had no time for a message: this machine has other work.
fn is_busy(reason: Reason) -> bool {
    reason == Reason::Unscored || BUSY.contains(&reason)
}

fn part(who: &Who) -> Part {
    match (who.tenant.as_str(), who.agent.as_str()) {
        ("acme", "ghost") => Part::Deaf,
        // Comes when the quota of its tenant is used up.
        ("initech", "bill") => Part::Stranger,
        // Away: what is for it is kept until it comes.
        ("acme", "nomad") => Part::Stranger,
        _ => Part::Full,
    }
}

async fn stay_alive(agents: Vec<AgentClient>, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(HEARTBEAT) => {}
            () = shutdown.requested() => return,
        }
        // One that is lost is made good by the next; the scene notices if not.
        join_all(agents.iter().map(|agent| agent.json(Verb::Heartbeat, "{}".to_owned()))).await;
    }
}

fn ok(answer: &Value) -> bool {
    answer.get("status").and_then(Value::as_str) == Some("ok")
}
