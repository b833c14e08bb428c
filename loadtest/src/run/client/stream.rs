//! What does a group send, and what becomes of it? One request at a time, from its making to its tally.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use agentbus::{domain::Status, wire};
use anyhow::Context as _;
use async_nats::{Message, jetstream::Context};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::{
    agents::{self, Agents, Sender},
    arrivals::Arrivals,
};
use crate::{
    echo,
    run::{
        job::{Job, Part, Sent},
        names,
        profile::{Entry, Expect, Group, Recipient, Side, Way},
        tally::Tally,
        template::{Ids, Templates},
    },
};

/// One answer; longer is a failure.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// From what is submitted to its recipient's inbox.
const ARRIVAL_WAIT: Duration = Duration::from_secs(10);
/// One answer in so many is read for the time that its node took.
const NODE_TIME_EVERY: u64 = 8;
/// How a failure ends that is a refusal for want of room.
const SHED: &str = "(shed)";

/// One group under load.
pub(super) struct Stream {
    pub(super) group: usize,
    pub(super) measured: bool,
    pub(super) background: Option<u32>,
    pub(super) stop: AtomicBool,
    side: Side,
    entries: Vec<Entry>,
    /// Of each tenant.
    recipients: u32,
    senders: Vec<Line>,
    next: AtomicU64,
    ids: Ids,
    arrivals: Arc<Arrivals>,
    node: Option<Context>,
    seen: Mutex<Vec<Tally>>,
    promised: AtomicU64,
    unknown: AtomicU64,
}

/// One connection, and where it is in the mix.
struct Line {
    sender: Sender,
    /// By entry; shared by all senders of a tenant.
    templates: Arc<Vec<Templates>>,
    /// Entries, as often as their shares say.
    order: Arc<[usize]>,
    turn: AtomicU64,
}

/// What an answer, as it should be, comes to.
struct Answered {
    at: Instant,
    deliveries: u64,
    node_time: Option<Duration>,
    inbox_at: Option<Instant>,
}

pub(super) fn build(job: &Job, all: &Agents) -> anyhow::Result<Vec<Arc<Stream>>> {
    let measured = job.profile.measured(&job.load).map(|group| group.name.as_str());
    let streams = agents::active(job).map(|(at, group)| {
        let order: Arc<[usize]> = order(&group.mix).into();
        let templates = (1..=group.tenants).map(|number| {
            let templates = templates(job, group)?;
            Ok((names::tenant(group, number), Arc::new(templates)))
        });
        let templates = templates.collect::<anyhow::Result<std::collections::BTreeMap<_, _>>>()?;
        let senders = all.senders.iter().filter(|sender| sender.group == at);
        let lines = senders.enumerate().map(|(number, sender)| {
            Ok(Line {
                sender: sender.clone(),
                templates: templates.get(&sender.tenant).cloned().context("a tenant of the profile")?,
                order: Arc::clone(&order),
                // Not all of them begin with the same entry.
                turn: AtomicU64::new(number as u64),
            })
        });
        Ok(Arc::new(Stream {
            group: at,
            measured: Some(group.name.as_str()) == measured,
            background: group.background.as_ref().map(|background| background.rate),
            stop: AtomicBool::new(false),
            side: job.side,
            entries: group.mix.clone(),
            recipients: group.recipients.max(1),
            senders: lines.collect::<anyhow::Result<_>>()?,
            next: AtomicU64::new(0),
            ids: Ids::new(),
            arrivals: Arc::clone(&all.arrivals),
            node: all.node.clone(),
            seen: Mutex::new(vec![Tally::default(); group.mix.len()]),
            promised: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
        }))
    });
    streams.collect()
}

/// What is submitted goes to recipients of this process, so that it knows when it has arrived.
fn templates(job: &Job, group: &Group) -> anyhow::Result<Vec<Templates>> {
    let recipients = |own: bool| {
        let numbers =
            (1..=group.recipients).filter(|n| !own || (n - 1) % job.profile.processes == job.process);
        numbers.map(names::recipient).collect::<Vec<_>>()
    };
    let entry = |entry: &Entry| Templates::new(entry, &recipients(entry.verb == Way::Submit), &job.corpora);
    group.mix.iter().map(entry).collect()
}

/// Entries as often as their shares say, each spread evenly (smooth weighted round robin).
fn order(mix: &[Entry]) -> Vec<usize> {
    let shares: Vec<i64> = mix.iter().map(|entry| i64::from(entry.share)).collect();
    let all: i64 = shares.iter().sum();
    let mut credit = vec![0_i64; shares.len()];
    let mut order = Vec::new();
    for _ in 0..all {
        credit.iter_mut().zip(&shares).for_each(|(credit, share)| *credit += share);
        let richest = credit.iter().enumerate().max_by_key(|(at, credit)| (**credit, std::cmp::Reverse(*at)));
        let Some(at) = richest.map(|(at, _)| at) else { break };
        if let Some(credit) = credit.get_mut(at) {
            *credit -= all;
        }
        order.push(at);
    }
    order
}

/// What was seen since the last time.
pub(super) fn taken(streams: &[Arc<Stream>]) -> Vec<Part> {
    let mut parts = Vec::new();
    for stream in streams {
        let seen: Vec<Tally> = stream.seen.lock().iter_mut().map(std::mem::take).collect();
        let of = |(entry, tally)| Part { group: stream.group, entry, tally };
        parts.extend(seen.into_iter().enumerate().filter(|(_, tally)| *tally != Tally::default()).map(of));
    }
    parts
}

pub(super) fn sent(streams: &[Arc<Stream>]) -> Sent {
    let mut sent = Sent::default();
    for stream in streams {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        sent.add(Sent { promised: count(&stream.promised), unknown: count(&stream.unknown) });
    }
    sent
}

impl Stream {
    /// One message and its answer, timed from `intended`; now, unless said.
    pub(super) async fn request(&self, intended: Option<Instant>) {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let at = usize::try_from(turn).unwrap_or_default() % self.senders.len().max(1);
        let Some(line) = self.senders.get(at) else { return };
        let turn = usize::try_from(line.turn.fetch_add(1, Ordering::Relaxed)).unwrap_or_default();
        let Some(&at) = line.order.get(turn % line.order.len().max(1)) else { return };
        let (Some(entry), Some(templates)) = (self.entries.get(at), line.templates.get(at)) else { return };
        let id = self.ids.next();
        let payload = templates.next(&id);
        let intended = intended.unwrap_or_else(Instant::now);
        let answered = match entry.verb {
            Way::Submit => self.submit(line, &id, payload).await,
            Way::Send | Way::Ask => self.ask(line, entry, turn, payload).await,
        };
        let mut seen = self.seen.lock();
        let Some(tally) = seen.get_mut(at) else { return };
        match answered {
            Ok(answered) => {
                match entry.expected() {
                    Expect::Deliberating => self.unknown.fetch_add(1, Ordering::Relaxed),
                    Expect::Delivered | Expect::Stored => {
                        self.promised.fetch_add(answered.deliveries, Ordering::Relaxed)
                    }
                };
                tally.answered += 1;
                tally.latency.record(answered.at.duration_since(intended));
                if let Some(at) = answered.inbox_at {
                    tally.inbox.record(at.duration_since(intended));
                }
                if let Some(took) = answered.node_time {
                    tally.node_time.record(took);
                }
            }
            Err(what) => {
                self.unknown.fetch_add(1, Ordering::Relaxed);
                if what.ends_with(SHED) {
                    tally.refused.record(intended.elapsed());
                }
                tally.failed(&what, 1);
            }
        }
    }

    pub(super) fn held_back(&self) {
        if let Some(tally) = self.seen.lock().first_mut() {
            tally.held_back += 1;
        }
    }

    async fn ask(&self, line: &Line, entry: &Entry, turn: usize, payload: Bytes) -> Result<Answered, String> {
        let Sender { nats, agent, tenant, .. } = &line.sender;
        let subject = match self.side {
            Side::Direct => names::direct(tenant, &names::recipient(turn as u32 % self.recipients + 1)),
            Side::Baseline | Side::Bus => format!("bus.{agent}.{}", entry.verb.as_str()),
        };
        let answer = call(nats, subject, payload).await?;
        let at = Instant::now();
        if self.side != Side::Bus {
            return match answer.payload.as_ref() == echo::ANSWER {
                true => Ok(Answered { at, deliveries: 1, node_time: None, inbox_at: None }),
                false => Err("not an echo".to_owned()),
            };
        }
        check(&answer, entry.expected())?;
        let sampled = (turn as u64).is_multiple_of(NODE_TIME_EVERY);
        let verdict = match sampled || entry.to == Recipient::Broadcast {
            true => wire::decode_verdict(&answer.payload).ok(),
            false => None,
        };
        let deliveries = match (entry.expected(), entry.to) {
            (Expect::Deliberating | Expect::Stored, _) => 0,
            (Expect::Delivered, Recipient::Agent | Recipient::Capability) => 1,
            (Expect::Delivered, Recipient::Broadcast) => {
                let reach = verdict.as_ref().and_then(|verdict| verdict.reach.as_ref());
                u64::from(reach.ok_or("a broadcast's verdict without a reach")?.delivered)
            }
        };
        // An answer waits for its recipient: the verdict's time is not the node's alone then.
        let timed = sampled && entry.verb == Way::Send;
        let node_time = verdict.filter(|_| timed).map(|verdict| verdict.elapsed);
        Ok(Answered { at, deliveries, node_time, inbox_at: None })
    }

    /// Until it is in its recipient's durable inbox.
    async fn submit(&self, line: &Line, id: &str, payload: Bytes) -> Result<Answered, String> {
        let arrival = self.arrivals.wait_for(id);
        let stored = self.store(line, id, payload).await;
        let arrived = match stored {
            Ok(_) => timeout(ARRIVAL_WAIT, arrival).await.map_err(|_| "not in the inbox in time".to_owned()),
            Err(_) => Ok(Ok(())),
        };
        let inbox_at = Some(Instant::now());
        self.arrivals.forget(id);
        let at = stored?;
        let _ = arrived?;
        Ok(Answered { at, deliveries: 1, node_time: None, inbox_at })
    }

    async fn store(&self, line: &Line, id: &str, payload: Bytes) -> Result<Instant, String> {
        let Sender { nats, agent, tenant, .. } = &line.sender;
        match &self.node {
            Some(node) => {
                let subject = format!("tenant.{tenant}.submitted.{agent}.{id}");
                let kept = node.publish(subject, payload).await.map_err(|error| error.to_string())?;
                kept.await.map_err(|error| error.to_string())?;
            }
            None => check(&call(nats, format!("bus.{agent}.submit"), payload).await?, Expect::Stored)?,
        }
        Ok(Instant::now())
    }
}

async fn call(nats: &async_nats::Client, subject: String, payload: Bytes) -> Result<Message, String> {
    let request = async_nats::Request::new().payload(payload).timeout(Some(ANSWER_WAIT));
    nats.send_request(subject, request).await.map_err(|error| error.kind().to_string())
}

/// The reason word when an answer does not say what it should.
fn check(answer: &Message, expected: Expect) -> Result<(), String> {
    let status = answer.headers.as_ref().and_then(|headers| headers.get("Agentbus-Verdict"));
    if status.is_some_and(|status| status.as_str() == expected.as_str()) {
        return Ok(());
    }
    match wire::decode_verdict(&answer.payload) {
        Ok(verdict) => match verdict.status {
            Status::Shed => Err(format!("{} {SHED}", verdict.reason.as_str())),
            status => Err(format!("{} ({})", verdict.reason.as_str(), status.as_str())),
        },
        Err(_) => Err("not a verdict".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_as_often_as_their_shares_say_and_evenly() {
        let entry = |share| toml::from_str::<Entry>(&format!("bytes = [512]\nshare = {share}")).unwrap();
        assert_eq!(order(&[entry(2), entry(1)]), [0, 1, 0]);
        let order = order(&[entry(90), entry(9), entry(1)]);
        let count = |of| order.iter().filter(|&&at| at == of).count();
        assert_eq!((count(0), count(1), count(2)), (90, 9, 1));
        assert!(order.windows(2).all(|pair| pair != [1, 1]), "{order:?}");
    }
}
