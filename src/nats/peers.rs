//! Is another node stalled? Then its connections are ended, so that no more requests go to it.
//!
//! A stalled process keeps its connections and its place in the queue group, and its share of all requests is
//! lost. The server would notice by its pings, but these are for all clients, and an agent may be busy for
//! longer than a node. So nodes hear each other's heartbeats, and whoever misses one asks the server to end the
//! connections that were named in it. A node that was taken for stalled by mistake connects again at once.
//!
//! Who hears another of its own name says so: their records, verdicts and logs could not be told apart.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::Client;
use futures_util::StreamExt as _;
use tokio::time::MissedTickBehavior;

use super::{kicker::Kicker, link::Link};
use crate::{
    constitutions::Constitutions,
    domain::{Amendments, ConstitutionHash},
    lanes::Admission,
    shutdown::Shutdown,
    skew::wall_clock,
    supervisor::Supervisor,
    tenants::names,
};

const BEAT_EVERY: Duration = Duration::from_millis(500);
/// Four heartbeats missed.
const SILENT_FOR: Duration = Duration::from_secs(2);
/// Who was away for this long itself, or does not hear itself, judges nobody.
const AWAY_FOR: Duration = Duration::from_secs(1);
const PEERS_MAX: usize = 256;
/// Two for each of 64 loops, and some.
const LINKS_MAX: usize = 136;
const BEAT_BYTES_MAX: usize = 16_384;

/// All connections of this node at this moment.
type Links = Arc<dyn Fn() -> Vec<Link> + Send + Sync>;

/// What a node says of itself.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Beat {
    /// Of the process: a node that is started again is another.
    id: String,
    name: String,
    links: Vec<Link>,
    /// Constitutions that messages may name there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    constitutions: Vec<ConstitutionHash>,
    /// It takes what is left of a delivery for one. Nodes of the last version do not say so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    reads_receipts: bool,
    /// Servers tell it who is connected and who writes how much.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    watches: bool,
}

/// This node's heartbeat, and its ear for the others'.
pub struct Peers {
    client: Client,
    /// Absent: somebody else looks after stalled nodes, or nobody.
    kicker: Option<Kicker>,
    id: String,
    name: String,
    links: Links,
    constitutions: Arc<Constitutions>,
    /// What is told how many nodes there are.
    admission: Arc<Admission>,
    /// Another node has this one's name.
    namesake: AtomicBool,
    /// All that are heard take a receipt for a delivery.
    all_read_receipts: AtomicBool,
    /// Servers tell this node who is connected and who writes how much.
    watches: AtomicBool,
    /// It does what one of those is to do for all.
    first: AtomicBool,
}

impl Peers {
    pub fn new(
        name: &str,
        client: Client,
        kicker: Option<Kicker>,
        links: impl Fn() -> Vec<Link> + Send + Sync + 'static,
        (constitutions, admission): (Arc<Constitutions>, Arc<Admission>),
    ) -> Arc<Self> {
        let id = nuid::next().to_string();
        let (name, links) = (name.to_owned(), Arc::new(links) as Links);
        let (namesake, all_read_receipts, watches, first) = Default::default();
        Arc::new(Self {
            client,
            kicker,
            id,
            name,
            links,
            constitutions,
            admission,
            namesake,
            all_read_receipts,
            watches,
            first,
        })
    }

    /// Beats until the shutdown. Nothing of this keeps a node from serving.
    pub fn start(self: &Arc<Self>, background: &Shutdown, supervisor: &Supervisor) {
        let peers = Arc::clone(self);
        supervisor.keep("peers", background.tracker(), background.token().clone(), move || {
            let peers = Arc::clone(&peers);
            async move { peers.watch().await }
        });
    }

    pub fn has_namesake(&self) -> bool {
        self.namesake.load(Ordering::Relaxed)
    }

    /// Whether a receipt may stand for a delivery: no node is heard that would not know it, and this one has listened
    /// for long enough to hear all.
    pub(super) fn all_read_receipts(&self) -> bool {
        self.all_read_receipts.load(Ordering::Relaxed)
    }

    pub(super) fn can_watch(&self, can: bool) {
        self.watches.store(can, Ordering::Relaxed);
    }

    /// Whether this node watches for all. Two may think so for a moment, or none.
    pub(super) fn is_first(&self) -> bool {
        self.first.load(Ordering::Relaxed)
    }

    async fn watch(&self) {
        self.all_read_receipts.store(false, Ordering::Relaxed);
        let Ok(mut heard) = self.client.subscribe(names::HEARTBEATS).await else { return };
        let mut watch = Watch::new(Instant::now());
        let mut tick = tokio::time::interval(BEAT_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // What has come is heard before anybody is judged.
                biased;
                beat = heard.next() => match beat {
                    Some(beat) => watch.hear(&self.id, &beat.payload, Instant::now()),
                    None => {
                        self.all_read_receipts.store(false, Ordering::Relaxed);
                        return;
                    }
                },
                _ = tick.tick() => {
                    self.beat().await;
                    for (name, links) in watch.silent(Instant::now()) {
                        self.end(&name, &links).await;
                    }
                    self.constitutions.heard_elsewhere(watch.constitutions());
                    self.admission.heard(watch.peers.len() + 1);
                    let first = self.watches.load(Ordering::Relaxed) && watch.is_first(&self.id, Instant::now());
                    self.first.store(first, Ordering::Relaxed);
                    self.all_read_receipts.store(watch.all_read_receipts(Instant::now()), Ordering::Relaxed);
                    let namesake = watch.peers.values().any(|peer| peer.name == self.name);
                    if namesake && !self.namesake.load(Ordering::Relaxed) {
                        tracing::error!("another node has the name of this one: give each its own (node.name)");
                    }
                    self.namesake.store(namesake, Ordering::Relaxed);
                }
            }
        }
    }

    async fn beat(&self) {
        let constitutions =
            self.constitutions.in_force().at(wall_clock()).take(Amendments::ACCEPTED_MAX).collect();
        let beat = Beat {
            id: self.id.clone(),
            name: self.name.clone(),
            links: (self.links)(),
            constitutions,
            reads_receipts: true,
            watches: self.watches.load(Ordering::Relaxed),
        };
        let Ok(beat) = serde_json::to_vec(&beat) else { return };
        // While NATS is away, nothing waits for it.
        let _ = tokio::time::timeout(BEAT_EVERY, self.client.publish(names::HEARTBEATS, beat.into())).await;
    }

    async fn end(&self, name: &str, links: &[Link]) {
        let Some(kicker) = &self.kicker else {
            tracing::warn!(
                node = name,
                "a node is silent, and there is no nats.kicker_nkey_file to end it by"
            );
            return;
        };
        tracing::warn!(node = name, connections = links.len(), "a node is silent: its connections are ended");
        for link in links {
            kicker.end(link).await;
        }
    }
}

struct Peer {
    name: String,
    links: Vec<Link>,
    constitutions: Vec<ConstitutionHash>,
    reads_receipts: bool,
    watches: bool,
    heard: Instant,
}

/// Who was heard, and when.
struct Watch {
    /// At most [`PEERS_MAX`].
    peers: HashMap<String, Peer>,
    /// When this node last heard itself, and when it last looked.
    own: Instant,
    looked: Instant,
    began: Instant,
    /// When somebody was last heard whose heartbeat says nothing to this version.
    unread: Option<Instant>,
}

impl Watch {
    fn new(now: Instant) -> Self {
        Self { peers: HashMap::new(), own: now, looked: now, began: now, unread: None }
    }

    fn hear(&mut self, own: &str, payload: &[u8], now: Instant) {
        let beat = (payload.len() <= BEAT_BYTES_MAX).then(|| serde_json::from_slice(payload));
        let Some(Ok(beat)) = beat else {
            self.unread = Some(now);
            return;
        };
        let Beat { id, name, links, constitutions, reads_receipts, watches } = beat;
        if id == own {
            self.own = now;
        } else if links.len() <= LINKS_MAX
            && constitutions.len() <= Amendments::ACCEPTED_MAX
            && links.iter().all(Link::is_sound)
            && (self.peers.len() < PEERS_MAX || self.peers.contains_key(&id))
        {
            self.peers.insert(id, Peer { name, links, constitutions, reads_receipts, watches, heard: now });
        } else {
            self.unread = Some(now);
        }
    }

    /// What messages may name on some other node that is heard.
    fn constitutions(&self) -> BTreeSet<ConstitutionHash> {
        self.peers.values().flat_map(|peer| peer.constitutions.iter().copied()).collect()
    }

    /// Whoever is not heard is not known of: a node that runs is heard within [`SILENT_FOR`].
    fn all_read_receipts(&self, now: Instant) -> bool {
        now.duration_since(self.began) > SILENT_FOR
            && now.duration_since(self.own) <= AWAY_FOR
            && self.peers.len() < PEERS_MAX
            && self.unread.is_none_or(|heard| now.duration_since(heard) > SILENT_FOR)
            && self.peers.values().all(|peer| peer.reads_receipts)
    }

    /// Of those that can watch the one with the least id does. Whoever is not heard is not known of.
    fn is_first(&self, own: &str, now: Instant) -> bool {
        let mut watching = self.peers.iter().filter(|(_, peer)| peer.watches);
        now.duration_since(self.began) > SILENT_FOR && watching.all(|(id, _)| own < id.as_str())
    }

    /// Those that have become silent, each told once.
    fn silent(&mut self, now: Instant) -> Vec<(String, Vec<Link>)> {
        let away = now.duration_since(self.looked).max(now.duration_since(self.own));
        self.looked = now;
        if away > AWAY_FOR {
            // The others may have been heard by everybody else.
            self.peers.values_mut().for_each(|peer| peer.heard = now);
            return Vec::new();
        }
        let gone = |peer: &Peer| now.duration_since(peer.heard) > SILENT_FOR;
        self.peers.extract_if(|_, peer| gone(peer)).map(|(_, peer)| (peer.name, peer.links)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn beat(id: &str) -> Vec<u8> {
        let links = vec![Link::new("NSERVER".to_owned(), 7)];
        let constitutions = vec!["0123456789abcdef".parse().unwrap()];
        let (id, name) = (id.to_owned(), format!("node {id}"));
        serde_json::to_vec(&Beat { id, name, links, constitutions, reads_receipts: true, watches: true })
            .unwrap()
    }

    /// Looks every half second while `heard` says who is heard.
    fn after(watch: &mut Watch, from: Instant, looks: u32, heard: &[&str]) -> Vec<String> {
        let mut silent = Vec::new();
        for look in 1..=looks {
            let now = from + BEAT_EVERY * look;
            heard.iter().for_each(|id| watch.hear("me", &beat(id), now));
            silent.extend(watch.silent(now).into_iter().map(|(name, _)| name));
        }
        silent
    }

    #[test]
    fn who_misses_four_heartbeats_is_told_once() {
        let from = Instant::now();
        let mut watch = Watch::new(from);
        watch.hear("me", &beat("a"), from);
        watch.hear("me", &beat("b"), from);
        assert_eq!(after(&mut watch, from, 4, &["me", "b"]), [""; 0]);
        assert_eq!(watch.constitutions().len(), 1, "of all together");
        assert_eq!(after(&mut watch, from + SILENT_FOR, 20, &["me", "b"]), ["node a"]);
    }

    #[test]
    fn a_receipt_stands_for_a_delivery_while_all_that_are_heard_know_it() {
        let from = Instant::now();
        let mut watch = Watch::new(from);
        watch.hear("me", &beat("a"), from);
        assert!(!watch.all_read_receipts(from), "others may not have been heard yet");
        assert_eq!(after(&mut watch, from, 5, &["me", "a"]), [""; 0]);
        let now = from + BEAT_EVERY * 5;
        assert!(watch.all_read_receipts(now));
        watch.hear("me", br#"{"id":"b","name":"of the last version","links":[]}"#, now);
        assert!(!watch.all_read_receipts(now));
        assert_eq!(after(&mut watch, now, 5, &["me", "a"]), ["of the last version"]);
        assert!(watch.all_read_receipts(now + BEAT_EVERY * 5));
        assert!(!watch.all_read_receipts(now + BEAT_EVERY * 8), "it does not hear itself");
        let now = now + BEAT_EVERY * 5;
        watch.hear("me", b"of the next version but one", now);
        assert!(!watch.all_read_receipts(now), "it may be anybody's");
        assert_eq!(after(&mut watch, now, 5, &["me", "a"]), [""; 0]);
        assert!(watch.all_read_receipts(now + BEAT_EVERY * 5));
        let beat = serde_json::to_vec(&Beat {
            id: "n".to_owned(),
            name: "node-1".to_owned(),
            links: Vec::new(),
            constitutions: Vec::new(),
            reads_receipts: true,
            watches: false,
        });
        crate::golden::same("node-beat.json", &beat.unwrap());
    }

    #[test]
    fn of_those_that_can_watch_the_one_with_the_least_id_does() {
        let from = Instant::now();
        let mut watch = Watch::new(from);
        assert!(!watch.is_first("b", from), "others may not have been heard yet");
        let now = from + SILENT_FOR * 2;
        assert!(watch.is_first("b", now));
        watch.hear("b", &beat("c"), now);
        watch.hear("b", br#"{"id":"a","name":"of the last version","links":[],"reads_receipts":true}"#, now);
        assert!(watch.is_first("b", now), "it cannot");
        watch.hear("b", &beat("a"), now);
        assert!(!watch.is_first("b", now));
    }

    #[test]
    fn who_was_away_or_does_not_hear_itself_judges_nobody() {
        let from = Instant::now();
        let mut watch = Watch::new(from);
        watch.hear("me", &beat("a"), from);
        assert_eq!(after(&mut watch, from, 100, &[]), [""; 0], "it does not hear itself");
        let woken = from + Duration::from_secs(600);
        watch.hear("me", &beat("me"), woken);
        assert_eq!(watch.silent(woken), [], "it was stalled itself");
    }

    #[test]
    fn what_is_no_heartbeat_names_no_connection() {
        let now = Instant::now();
        let mut watch = Watch::new(now);
        let bad = |links: &str| format!("{{\"id\":\"x\",\"name\":\"x\",\"links\":{links}}}").into_bytes();
        let many = format!("[{}]", ["{\"server\":\"N\",\"client\":1}"; LINKS_MAX + 1].join(","));
        let long = format!("[{{\"server\":\"{}\",\"client\":1}}]", "N".repeat(65));
        for links in
            ["[{\"server\":\"*\",\"client\":1}]", "[{\"server\":\"\",\"client\":1}]", &many, &long, "1"]
        {
            watch.hear("me", &bad(links), now);
        }
        for peer in 0..2 * PEERS_MAX {
            watch.hear("me", &beat(&peer.to_string()), now);
        }
        assert_eq!(watch.peers.len(), PEERS_MAX);
        assert!(!watch.peers.contains_key("x"));
    }
}
