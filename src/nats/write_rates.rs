//! Does an agent write to NATS so much faster than it may that others are served later? Then it is kept out for a while.
//!
//! Pulls, acknowledgements and what an agent may not even publish never come to a node, and nats-server has no limit for
//! them. It counts what each connection has written. Who has written more than twice what its tenant may send in that
//! time and [`FREE`] messages a second besides, and has not been sent as much from its durable inbox, in two looks one
//! after the other, loses its connections, and those that it opens are ended at once until its time is over.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::jetstream::{self, Context};
use tokio::time::MissedTickBehavior;

use super::{
    connected::{accounts, connected},
    kicker::{Kicker, WaitFor},
    link::Link,
    peers::Peers,
    turned_away::TurnedAway,
};
use crate::{
    domain::{AgentId, Tenant, TenantId},
    telemetry::{EndedFor, Metrics},
    tenants::{Directory, names},
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Where no server answers: none is there, or none lets this node ask.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// For one answer of JetStream.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Messages a second that an agent may write beside those of its tenant's rate: heartbeats, answers, pulls.
const FREE: f64 = 1_000.0;
/// For each message from its durable inbox: a pull, that it is being worked on, and that it is done.
const FOR_EACH_READ: u64 = 3;
/// Tenants whose connections are asked about in one look, those with the most first.
const SUSPECTS_MAX: usize = 8;
const CONNECTIONS_MAX: usize = 65_536;
/// How long one is kept out at first, doubling to the last where it does it again within [`REMEMBERED`].
const OUT_FIRST: Duration = Duration::from_secs(10);
const OUT_MAX: Duration = Duration::from_secs(600);
const REMEMBERED: Duration = Duration::from_secs(600);
const REMEMBERED_MAX: usize = 1_024;

/// What looks at who writes how much.
#[derive(Clone)]
pub struct WriteRates {
    pub kicker: Option<Kicker>,
    pub peers: Arc<Peers>,
    pub directory: Arc<Directory>,
    pub jetstream: Context,
    pub metrics: Arc<Metrics>,
}

/// What one look has found, for the next one.
#[derive(Default)]
struct Looked {
    at: Option<Instant>,
    /// Messages that each tenant's connections have written, by server.
    written: HashMap<(String, TenantId), u64>,
    /// Of tenants that have written too much for one of their agents.
    suspects: HashMap<TenantId, Suspect>,
}

/// A tenant that has written so much that it could be one agent's.
struct Suspect {
    at: Instant,
    by_link: HashMap<(String, u64), u64>,
    /// Who has written too much since the look before, and what it was sent from its durable inbox until now.
    over: HashMap<String, u64>,
}

/// Who is kept out.
#[derive(Default)]
struct Out {
    away: TurnedAway,
    /// How long each key was kept out when it last was, and until when that is remembered.
    lasted: HashMap<String, (Duration, Instant)>,
}

impl Out {
    /// For how long one is to be kept out now.
    fn lasts(&mut self, key: &str) -> Duration {
        let now = Instant::now();
        self.lasted.retain(|_, (_, until)| now < *until);
        let lasts = self.lasted.get(key).map_or(OUT_FIRST, |(lasted, _)| OUT_MAX.min(*lasted * 2));
        if self.lasted.len() < REMEMBERED_MAX || self.lasted.contains_key(key) {
            self.lasted.insert(key.to_owned(), (lasts, now + lasts + REMEMBERED));
        }
        lasts
    }
}

/// One user, as the connections with its key say.
#[derive(Default)]
struct Writer {
    agent: Option<AgentId>,
    links: Vec<Link>,
    written: u64,
}

/// Messages a second that one agent of it may write.
fn allowed(tenant: &Tenant) -> f64 {
    f64::from(tenant.limits.messages_per_minute) / 30.0 + FREE
}

/// Who was sent much from its durable inbox has much to acknowledge.
fn is_too_much(written: u64, read: u64, allowed: f64) -> bool {
    written.saturating_sub(read.saturating_mul(FOR_EACH_READ)) as f64 > allowed
}

impl WriteRates {
    pub fn new(
        kicker: Option<Kicker>,
        peers: Arc<Peers>,
        directory: Arc<Directory>,
        client: async_nats::Client,
        metrics: Arc<Metrics>,
    ) -> Self {
        let mut jetstream = jetstream::new(client);
        jetstream.set_timeout(ANSWER_WITHIN);
        Self { kicker, peers, directory, jetstream, metrics }
    }

    /// Looks until the future is dropped.
    pub async fn watch(self) {
        let Some(kicker) = &self.kicker else { return std::future::pending().await };
        let (mut looked, mut out) = (Looked::default(), Out::default());
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = out.away.connects() => {
                    let ended = out.away.end(kicker, event).await;
                    self.metrics.nats.connections_ended(EndedFor::Rate, ended);
                }
                _ = tick.tick() => {
                    if !self.peers.is_first() {
                        (looked, out) = (Looked::default(), Out::default());
                    } else if !self.look(kicker, &mut looked, &mut out).await {
                        tick.reset_after(ASK_AGAIN);
                    }
                }
            }
        }
    }

    /// `false`: no server has answered.
    async fn look(&self, kicker: &Kicker, looked: &mut Looked, out: &mut Out) -> bool {
        let now = Instant::now();
        let answers = kicker.accounts().await;
        let mut written = HashMap::new();
        let mut since: BTreeMap<TenantId, u64> = BTreeMap::new();
        for (server, accounts) in answers.iter().filter_map(accounts) {
            for account in accounts {
                let Ok(tenant) = account.name.parse::<TenantId>() else { continue };
                let of = (server.clone(), tenant);
                // A server that begins anew counts from 0.
                let more =
                    looked.written.get(&of).map_or(0, |was| account.received.msgs.saturating_sub(*was));
                *since.entry(of.1.clone()).or_default() += more;
                written.insert(of, account.received.msgs);
            }
        }
        let lasted = looked.at.map(|at| now.duration_since(at)).filter(|lasted| !lasted.is_zero());
        (looked.at, looked.written) = (Some(now), written);
        let Some(lasted) = lasted else { return !answers.is_empty() };
        let mut suspects: Vec<_> = since
            .into_iter()
            .filter_map(|(id, written)| {
                let tenant = self.directory.tenant(&id)?;
                (written as f64 > allowed(&tenant) * lasted.as_secs_f64()).then_some((written, tenant))
            })
            .collect();
        suspects.sort_by_key(|(written, _)| std::cmp::Reverse(*written));
        suspects.truncate(SUSPECTS_MAX);
        looked.suspects.retain(|id, _| suspects.iter().any(|(_, tenant)| tenant.id == *id));
        for (_, tenant) in suspects {
            let before = looked.suspects.remove(&tenant.id);
            let suspect = self.suspect(kicker, &tenant, before, out).await;
            looked.suspects.insert(tenant.id.clone(), suspect);
        }
        !answers.is_empty()
    }

    /// Who of a tenant writes too much? Who has done so in the look before as well is kept out.
    async fn suspect(
        &self,
        kicker: &Kicker,
        tenant: &Tenant,
        before: Option<Suspect>,
        out: &mut Out,
    ) -> Suspect {
        let asked = serde_json::json!({
            "acc": tenant.id, "auth": true, "subscriptions": true, "limit": CONNECTIONS_MAX,
        });
        let answers = kicker.connections(&[asked.to_string()], WaitFor::AsMany).await;
        let at = Instant::now();
        let (mut by_link, mut writers) = (HashMap::new(), BTreeMap::<String, Writer>::new());
        for one in answers.iter().flat_map(|(_, answer)| connected(answer)) {
            if one.account != tenant.id.as_str() || one.key.is_empty() {
                continue;
            }
            let of = (one.link.server().to_owned(), one.link.client());
            let had = before.as_ref().and_then(|before| before.by_link.get(&of)).copied().unwrap_or_default();
            let writer = writers.entry(one.key).or_default();
            writer.agent = writer.agent.take().or_else(|| agent_of(tenant, &one.subjects));
            writer.links.push(one.link);
            writer.written += one.written.saturating_sub(had);
            by_link.insert(of, one.written);
        }
        let mut over = HashMap::new();
        // Without a look before, connections have written in all of their time.
        let lasted = before.as_ref().map(|before| at.duration_since(before.at).as_secs_f64());
        for (key, writer) in writers {
            let Some(lasted) = lasted else { break };
            let allowed = allowed(tenant) * lasted;
            if writer.written as f64 <= allowed {
                continue;
            }
            let read = self.read_by(tenant, writer.agent.as_ref()).await;
            let had_read = before.as_ref().and_then(|before| before.over.get(&key));
            if had_read.is_some_and(|had| is_too_much(writer.written, read.saturating_sub(*had), allowed)) {
                self.keep_out(kicker, (tenant, &key), &writer, lasted, out).await;
                continue;
            }
            over.insert(key, read);
        }
        Suspect { at, by_link, over }
    }

    /// Messages that an agent was sent from its durable inbox so far, those that came again too.
    async fn read_by(&self, tenant: &Tenant, agent: Option<&AgentId>) -> u64 {
        let Some(agent) = agent else { return 0 };
        let stream = self.jetstream.get_stream_no_info(names::outbound_stream(&tenant.id)).await;
        let Ok(stream) = stream else { return 0 };
        stream.consumer_info(agent.as_str()).await.map_or(0, |info| info.delivered.consumer_sequence)
    }

    async fn keep_out(
        &self,
        kicker: &Kicker,
        (tenant, key): (&Tenant, &str),
        writer: &Writer,
        lasted: f64,
        out: &mut Out,
    ) {
        let lasts = out.lasts(key);
        let ended = writer.links.len();
        let per_second = (writer.written as f64 / lasted) as u64;
        tracing::warn!(
            tenant = %tenant.id,
            agent = writer.agent.as_ref().map(AgentId::as_str),
            key,
            per_second,
            allowed = allowed(tenant) as u64,
            kept_out_for = ?lasts,
            ended,
            "an agent writes so much to NATS that others are served later: its connections are ended"
        );
        out.away.turn_away(kicker, &tenant.id, key, lasts).await;
        for link in &writer.links {
            kicker.end(link).await;
        }
        self.metrics.nats.connections_ended(EndedFor::Rate, ended);
    }
}

/// Whose these subjects are: nobody else may listen to them.
fn agent_of(tenant: &Tenant, subjects: &[String]) -> Option<AgentId> {
    subjects.iter().find_map(|subject| {
        let mut tokens = subject.split('.');
        let agent = matches!(tokens.next(), Some("_INBOX" | "agent")).then(|| tokens.next()).flatten()?;
        agent.parse().ok().filter(|agent| tenant.agents.contains_key(agent))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::domain::AgentGrant;

    #[test]
    fn who_reads_what_has_gathered_in_its_inbox_may_acknowledge_it_and_who_asks_for_nothing_may_not_ask_so_often()
     {
        let tenant = Tenant::new("acme".parse().unwrap());
        let allowed = allowed(&tenant);
        assert!((allowed - 1_333.0).abs() < 1.0, "{allowed}");
        assert!(!is_too_much(1_300, 0, allowed));
        assert!(is_too_much(6_000, 0, allowed));
        assert!(!is_too_much(20_000, 10_000, allowed), "pulled and acknowledged one by one");
        assert!(is_too_much(20_000, 1_000, allowed), "and no more than that");
    }

    #[test]
    fn an_agent_is_known_by_what_only_it_may_listen_to() {
        let mut tenant = Tenant::new("acme".parse().unwrap());
        tenant.agents.insert("planner".parse().unwrap(), AgentGrant::default());
        let of = |subjects: &[&str]| {
            let subjects: Vec<_> = subjects.iter().map(|subject| (*subject).to_owned()).collect();
            agent_of(&tenant, &subjects).map(|agent| agent.to_string())
        };
        assert_eq!(of(&["_INBOX.planner.x.*"]).as_deref(), Some("planner"));
        assert_eq!(of(&["x.planner", "agent.planner.deliver"]).as_deref(), Some("planner"));
        for nobody in [&["agent"][..], &["_INBOX.nobody.>"], &["bus.planner.send"], &["_INBOX.*.x"], &[]] {
            assert_eq!(of(nobody), None, "{nobody:?}");
        }
    }
}
