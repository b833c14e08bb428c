//! Does an agent write to NATS so much faster than it may that others are served later? Then it is kept out for a while.
//!
//! Pulls, acknowledgements and what an agent may not even publish never come to a node, and nats-server has no limit for
//! them. It counts what each connection has written. Who has written more than twice what its tenant may send in that
//! time and [`FREE`] messages a second besides, and has not read as much from its durable inbox, in two looks one after
//! the other, loses its connections, and those that it opens are ended at once until its time is over.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::jetstream::{self, Context};
use futures_util::future::try_join_all;

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
/// Between two questions whether servers let this node ask, while it does not watch.
const ASK_EVERY: Duration = Duration::from_secs(4);
/// For one answer of JetStream.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Messages a second that an agent may write beside those of its tenant's rate: heartbeats, answers, pulls.
const FREE: f64 = 1_000.0;
/// For each message that it has read from its durable inbox: a pull, that it is being worked on, and that it is done.
const FOR_EACH_READ: u64 = 3;
/// Tenants whose connections are asked about in one look, those first that write most of what they may.
const SUSPECTS_MAX: usize = 8;
/// Agents of a tenant of which it is asked whether a key is theirs, and of these at one time.
const AGENTS_MAX: usize = 1_024;
const ASKED_AT_ONCE: usize = 64;
/// How long one is kept out at first, doubling to the last where it does it again within [`REMEMBERED`].
const OUT_FIRST: Duration = Duration::from_secs(10);
const OUT_MAX: Duration = Duration::from_secs(600);
const REMEMBERED: Duration = Duration::from_secs(600);
const REMEMBERED_MAX: usize = 1_024;

/// What looks at who writes how much.
#[derive(Clone)]
pub struct WriteRates {
    kicker: Kicker,
    away: Arc<TurnedAway>,
    peers: Arc<Peers>,
    directory: Arc<Directory>,
    jetstream: Context,
    metrics: Arc<Metrics>,
}

/// What looks have found, for the next one.
#[derive(Default)]
struct Looked {
    at: Option<Instant>,
    /// Messages that each tenant's connections have written, by server.
    written: HashMap<(String, TenantId), u64>,
    /// Of tenants that have written too much for one of their agents.
    suspects: HashMap<TenantId, Suspect>,
    /// How long each key was kept out when it last was, and until when that is remembered.
    lasted: HashMap<String, (Duration, Instant)>,
}

/// A tenant that has written so much that it could be one agent's.
struct Suspect {
    at: Instant,
    /// Of each connection: whose it is, and what it has written.
    by_link: HashMap<(String, u64), (String, u64)>,
    /// Who has written too much since the look before: which agent that is, and what it had read until now.
    over: HashMap<String, Over>,
}

struct Over {
    agent: Option<AgentId>,
    read: u64,
}

/// One user, as the connections with its key say.
#[derive(Default)]
struct Writer {
    links: Vec<Link>,
    written: u64,
}

/// Messages a second that one agent of it may write.
fn allowed(tenant: &Tenant) -> f64 {
    f64::from(tenant.limits.messages_per_minute) / 30.0 + FREE
}

/// Who has read much from its durable inbox had much to ask for and to acknowledge.
fn is_too_much(written: u64, read: u64, allowed: f64) -> bool {
    written.saturating_sub(read.saturating_mul(FOR_EACH_READ)) as f64 > allowed
}

impl Looked {
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

impl WriteRates {
    pub fn new(
        kicker: Kicker,
        away: Arc<TurnedAway>,
        peers: Arc<Peers>,
        directory: Arc<Directory>,
        client: async_nats::Client,
        metrics: Arc<Metrics>,
    ) -> Self {
        let mut jetstream = jetstream::new(client);
        jetstream.set_timeout(ANSWER_WITHIN);
        Self { kicker, away, peers, directory, jetstream, metrics }
    }

    /// Looks until the future is dropped.
    pub(super) async fn watch(&self) {
        let mut looked = Looked::default();
        loop {
            let may = match self.peers.is_first() {
                true => self.look(&mut looked).await,
                false => {
                    looked = Looked::default();
                    let may = self.kicker.may_ask_of_accounts().await;
                    tokio::time::sleep(ASK_EVERY).await;
                    may
                }
            };
            self.peers.can_watch(may);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// `false`: no server has answered.
    async fn look(&self, looked: &mut Looked) -> bool {
        let now = Instant::now();
        let answers = self.kicker.accounts().await;
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
        let mut suspects: Vec<(f64, Arc<Tenant>)> = Vec::new();
        for (id, written) in since {
            let Some(tenant) = self.directory.tenant(&id) else { continue };
            let times = written as f64 / (allowed(&tenant) * lasted.as_secs_f64());
            if times > 1.0 {
                suspects.push((times, tenant));
            }
        }
        suspects.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        suspects.truncate(SUSPECTS_MAX);
        looked.suspects.retain(|id, _| suspects.iter().any(|(_, tenant)| tenant.id == *id));
        for (_, tenant) in suspects {
            let before = looked.suspects.remove(&tenant.id);
            let suspect = self.suspect(&tenant, before, looked).await;
            looked.suspects.insert(tenant.id.clone(), suspect);
        }
        !answers.is_empty()
    }

    /// Who of a tenant writes too much? Who has done so in the look before as well is kept out.
    async fn suspect(&self, tenant: &Tenant, before: Option<Suspect>, looked: &mut Looked) -> Suspect {
        let all = self.kicker.connected(&tenant.id).await;
        let at = Instant::now();
        let (mut by_link, mut writers) = (HashMap::new(), BTreeMap::<String, Writer>::new());
        for one in all {
            // Before a server has verified a key, it shows what the client says: so it is to say the same twice.
            let had = before.as_ref().and_then(|before| before.by_link.get(&one.place()));
            if let Some((_, had)) = had.filter(|(key, _)| *key == one.key) {
                let writer = writers.entry(one.key.clone()).or_default();
                writer.links.push(one.link.clone());
                writer.written += one.written.saturating_sub(*had);
            }
            by_link.insert(one.place(), (one.key, one.written));
        }
        let mut suspect = Suspect { at, by_link, over: HashMap::new() };
        let Some(mut before) = before else { return suspect };
        let lasted = at.duration_since(before.at).as_secs_f64();
        let allowed = allowed(tenant) * lasted;
        for (key, writer) in writers {
            if !is_too_much(writer.written, 0, allowed) {
                continue;
            }
            let had = before.over.remove(&key);
            let agent = match &had {
                Some(had) => had.agent.clone(),
                None => self.agent_of(tenant, &key).await,
            };
            // Of whom that is not known now nobody judges.
            let Some(read) = self.read_by(tenant, agent.as_ref()).await else { continue };
            match had {
                Some(had) if is_too_much(writer.written, read.saturating_sub(had.read), allowed) => {
                    let lasts = looked.lasts(&key);
                    self.keep_out((tenant, agent.as_ref(), &key), &writer, lasted, lasts).await;
                }
                _ => {
                    suspect.over.insert(key, Over { agent, read });
                }
            }
        }
        suspect
    }

    /// Whose key that is: no other agent may listen there. What it listens to itself is not asked for, for that is as much as
    /// it likes.
    async fn agent_of(&self, tenant: &Tenant, key: &str) -> Option<AgentId> {
        let agents: Vec<_> = tenant.agents.keys().take(AGENTS_MAX).collect();
        for some in agents.chunks(ASKED_AT_ONCE) {
            let asked = some.iter().map(|agent| {
                let listens = format!("_INBOX.{agent}.>");
                let asked = serde_json::json!({
                    "acc": tenant.id, "user": key, "auth": true, "filter_subject": listens, "limit": 1,
                });
                asked.to_string()
            });
            let answers = self.kicker.connections(&asked.collect::<Vec<_>>(), WaitFor::AsMany).await;
            let is_its = |answer| {
                connected(answer).iter().any(|one| one.key == key && one.account == tenant.id.as_str())
            };
            if let Some((place, _)) = answers.iter().find(|(_, answer)| is_its(answer)) {
                return some.get(*place).map(|agent| (*agent).clone());
            }
        }
        None
    }

    /// Messages of its durable inbox that an agent has settled, in order, so far. Of whom it is not known which agent that
    /// is, since it does not listen between two pulls: of all of them. `None`: JetStream does not say.
    async fn read_by(&self, tenant: &Tenant, agent: Option<&AgentId>) -> Option<u64> {
        let all = agent.into_iter().chain(tenant.agents.keys().filter(|_| agent.is_none())).take(AGENTS_MAX);
        let mut read = 0_u64;
        for some in all.collect::<Vec<_>>().chunks(ASKED_AT_ONCE) {
            let each = try_join_all(some.iter().map(|agent| self.read_by_one(tenant, agent))).await;
            read = each.ok()?.into_iter().fold(read, u64::saturating_add);
        }
        Some(read)
    }

    async fn read_by_one(&self, tenant: &Tenant, agent: &AgentId) -> Result<u64, ()> {
        let stream = self.jetstream.get_stream_no_info(names::outbound_stream(&tenant.id)).await;
        let consumer = stream.map_err(drop)?.consumer_info(agent.as_str()).await;
        let consumer = consumer.map_err(|error| {
            tracing::debug!(%error, tenant = %tenant.id, %agent, "what it has read is not known");
        });
        Ok(consumer?.ack_floor.consumer_sequence)
    }

    async fn keep_out(
        &self,
        (tenant, agent, key): (&Tenant, Option<&AgentId>, &str),
        writer: &Writer,
        lasted: f64,
        lasts: Duration,
    ) {
        let ended = writer.links.len();
        tracing::warn!(
            tenant = %tenant.id,
            agent = agent.map(AgentId::as_str),
            key,
            per_second = (writer.written as f64 / lasted) as u64,
            allowed = allowed(tenant) as u64,
            kept_out_for = ?lasts,
            ended,
            "an agent writes so much to NATS that others are served later: its connections are ended"
        );
        self.away.turn_away(&tenant.id, key, EndedFor::Rate, lasts);
        for link in &writer.links {
            self.kicker.end(link).await;
        }
        self.metrics.nats.connections_ended(EndedFor::Rate, ended);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

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
    fn who_does_it_again_is_kept_out_twice_as_long() {
        let mut looked = Looked::default();
        let lasts: Vec<_> = (0..8).map(|_| looked.lasts("UA").as_secs()).collect();
        assert_eq!(lasts, [10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(looked.lasts("UB"), OUT_FIRST);
    }
}
