//! Was anybody hurt? Honest agents of two tenants, and the nodes as they were before a try.

use std::time::{Duration, Instant};

use agentbus::servers::Stack;
use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    ATTACKED_FROM, NODES, health,
    victim::{Answer, Latency, Victim},
};

/// Honest messages of each tenant that look after each try; which node gets one is chance.
const LOOKS: usize = 2;
/// Honest messages in a row that must pass before a bus that was hurt counts as well again.
const WELL: usize = 6;
/// A bus that was hurt may mend itself for so long; then its nodes are started again.
const RECOVER_MAX: Duration = Duration::from_secs(4);
/// Nodes that were started again serve within this time.
const RESTART_MAX: Duration = Duration::from_secs(60);
/// Enough to see that somebody is not served while something lasts.
const NOW_AND_THEN: Pace = Pace { every: Duration::from_millis(40), at_once: 1 };
/// For a P99: some hundreds in the shortest of what is measured.
const STEADY: Pace = Pace { every: Duration::from_millis(5), at_once: 1 };
/// As many at one time as come while nothing is answered for a third of a second.
const STEADY_FULL: Pace = Pace { at_once: 64, ..STEADY };
/// Messages of another tenant of which one may be told to come again, where an attacker takes all that it may: both tenants, the
/// servers and the attackers have two cores between them.
const SERVED_OF: u32 = 100;

/// How an honest agent asks while something lasts.
#[derive(Debug, Clone, Copy)]
struct Pace {
    every: Duration,
    /// With so many unanswered it waits.
    at_once: usize,
}

pub(super) struct Watch {
    victims: Vec<Victim>,
    pids: Vec<u32>,
    reconnects: Vec<u64>,
    restarts: usize,
    /// Whether what an attacker takes within its permissions may be noticed a little.
    forgives: bool,
}

impl Watch {
    pub(super) async fn start(victims: Vec<Victim>, stack: &Stack) -> anyhow::Result<Self> {
        let mut watch =
            Self { victims, pids: Vec::new(), reconnects: Vec::new(), restarts: 0, forgives: false };
        ensure!(watch.well().await, "the honest agents were not served before anything was tried");
        watch.take_stock(stack).await?;
        Ok(watch)
    }

    /// Until it is told otherwise, agents of the attacker's own tenant may ask once more, and one message of [`SERVED_OF`] of
    /// another's may be refused for now.
    pub(super) fn forgive_colleagues(&mut self, forgive: bool) {
        self.forgives = forgive;
        for victim in self.victims.iter_mut().filter(|victim| victim.tenant == ATTACKED_FROM) {
            victim.asks_again = forgive;
        }
    }

    /// Runs what lasts while honest agents go on, and tells who was not served: in another tenant nobody may
    /// notice, in the same one an answer in time is enough.
    pub(super) async fn meanwhile<T>(&self, attack: impl Future<Output = T>) -> (T, Option<String>) {
        self.meanwhile_at(NOW_AND_THEN, attack).await
    }

    /// The same, with how long the other tenant's messages took meanwhile. In full they come at a steady pace, so that
    /// one slow answer does not hide how long those behind it would have taken.
    pub(super) async fn meanwhile_timed<T>(
        &self,
        full: bool,
        attack: impl Future<Output = T>,
    ) -> ((T, Latency), Option<String>) {
        let before = self.latency_since(0).count;
        let (done, hurt) = self.meanwhile_at(if full { STEADY_FULL } else { STEADY }, attack).await;
        ((done, self.latency_since(before)), hurt)
    }

    async fn meanwhile_at<T>(&self, other: Pace, attack: impl Future<Output = T>) -> (T, Option<String>) {
        let over = CancellationToken::new();
        let probing = self.victims.iter().map(|victim| {
            let pace = if victim.tenant == ATTACKED_FROM { NOW_AND_THEN } else { other };
            self.served(victim, pace, &over)
        });
        let attack = async {
            let done = attack.await;
            over.cancel();
            done
        };
        let (done, wrong) = tokio::join!(attack, join_all(probing));
        (done, told(wrong.into_iter().flatten().collect()))
    }

    /// Has an agent ask until it is over, and waits for all answers. What was wrong, if anything.
    async fn served(&self, victim: &Victim, pace: Pace, over: &CancellationToken) -> Option<String> {
        let mut fared = Fared { colleague: victim.tenant == ATTACKED_FROM, ..Fared::default() };
        let mut waiting = FuturesUnordered::new();
        let mut ticks = interval(pace.every);
        // No burst makes up for what found no room.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = over.cancelled() => break,
                Some(answer) = waiting.next() => fared.note(answer),
                _ = ticks.tick(), if waiting.len() < pace.at_once => waiting.push(victim.probe()),
            }
        }
        while let Some(answer) = waiting.next().await {
            fared.note(answer);
        }
        fared.wrong(self.forgives)
    }

    /// How long honest messages of the other tenant took after the first so many.
    fn latency_since(&self, before: usize) -> Latency {
        let other = self.victims.iter().find(|victim| victim.tenant != ATTACKED_FROM);
        other.map(|victim| victim.latency_since(before)).unwrap_or_default()
    }

    /// Who or what is not as it was.
    pub(super) async fn hurt(&mut self, stack: &mut Stack) -> Option<String> {
        let probes = join_all(self.victims.iter().flat_map(|victim| (0..LOOKS).map(move |_| victim.probe())));
        let addresses = addresses(stack);
        let healths = join_all(addresses.iter().map(|address| health::health(address)));
        let (answers, healths) = tokio::join!(probes, healths);
        let mut found: Vec<String> = answers.into_iter().filter_map(Answer::wrong).collect();
        for (index, (health, address)) in healths.into_iter().zip(&addresses).enumerate() {
            match (health, self.reconnects.get_mut(index)) {
                (Err(error), _) => found.push(format!("{address}: {error:#}")),
                (Ok(reconnects), Some(known)) if reconnects != *known => {
                    *known = reconnects;
                    found.push(format!("node-{} lost its connection to NATS", index + 1));
                }
                (Ok(_), _) => {}
            }
        }
        found.extend(self.dead(stack));
        found.extend(self.victims.iter().flat_map(Victim::strays));
        found.dedup();
        told(found)
    }

    fn dead(&self, stack: &mut Stack) -> Vec<String> {
        let mut dead = Vec::new();
        for (index, pid) in self.pids.iter().enumerate() {
            let Some(node) = stack.node_mut(index) else { continue };
            if let Some(exit) = node.child_mut().try_exited() {
                dead.push(format!("{} (process {pid}) has ended: {exit}", node.name()));
            } else if node.child().pid() != *pid {
                dead.push(format!("{} is another process", node.name()));
            }
        }
        dead
    }

    /// Whether honest messages pass again, several in a row.
    async fn well(&self) -> bool {
        for _ in 0..WELL {
            let answers = join_all(self.victims.iter().map(Victim::probe)).await;
            if !answers.iter().all(|answer| matches!(answer, Answer::Delivered)) {
                return false;
            }
        }
        true
    }

    /// So that the next try has a bus that works: waits, and starts the nodes again where that does not help.
    pub(super) async fn recover(&mut self, stack: &mut Stack) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < RECOVER_MAX {
            if self.dead(stack).is_empty() && self.well().await && self.take_stock(stack).await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        eprintln!("attack: the nodes are started again");
        self.restarts += 1;
        for index in 0..NODES {
            let node = stack.node_mut(index).context("a node of the stack")?;
            node.child_mut().kill().await;
            node.restart().await?;
        }
        let began = Instant::now();
        while !self.well().await {
            ensure!(
                began.elapsed() < RESTART_MAX,
                "the bus does not work although its nodes were started again"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.take_stock(stack).await
    }

    async fn take_stock(&mut self, stack: &Stack) -> anyhow::Result<()> {
        let addresses = addresses(stack);
        let healths = join_all(addresses.iter().map(|address| health::health(address))).await;
        self.reconnects = healths.into_iter().collect::<anyhow::Result<_>>()?;
        self.pids = stack.nodes().iter().map(|node| node.child().pid()).collect();
        Ok(())
    }

    /// How often the nodes had to be started again, and how honest messages fared.
    pub(super) fn tell(&self) {
        for victim in &self.victims {
            let Latency { count, half, most } = victim.latency_since(0);
            println!(
                "{}: {count} honest messages answered, P50 {:.1} ms, P99 {:.1} ms; {} times Redis was too slow",
                victim.tenant,
                half.as_secs_f64() * 1e3,
                most.as_secs_f64() * 1e3,
                victim.slow()
            );
        }
        if self.restarts > 0 {
            println!("nodes started again: {} times", self.restarts);
        }
    }
}

/// How an honest agent fared while something lasted.
#[derive(Default)]
struct Fared {
    /// Of the attacker's own tenant.
    colleague: bool,
    asked: u32,
    /// How often it was told to come again.
    times: u32,
    refused: Option<String>,
    wrong: Option<String>,
}

impl Fared {
    fn note(&mut self, answer: Answer) {
        self.asked += 1;
        match answer {
            Answer::Delivered => {}
            Answer::NoRoom(_) if self.colleague => {}
            Answer::NoRoom(what) => {
                self.times += 1;
                self.refused = Some(what);
            }
            Answer::Wrong(what) => self.wrong = Some(what),
        }
    }

    fn wrong(self, forgives: bool) -> Option<String> {
        let Self { asked, times, refused, wrong, .. } = self;
        let often = refused.filter(|_| !forgives || times * SERVED_OF > asked);
        wrong.or_else(|| Some(format!("{}, {times} of {asked} messages", often?)))
    }
}

/// Where the nodes' HTTP servers are.
pub(super) fn addresses(stack: &Stack) -> Vec<String> {
    stack.nodes().iter().map(|node| node.http()).collect()
}

fn told(found: Vec<String>) -> Option<String> {
    (!found.is_empty()).then(|| found.join("; "))
}
