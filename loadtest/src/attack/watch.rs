//! Was anybody hurt? Honest agents of two tenants, and the nodes as they were before a try.

use std::time::{Duration, Instant};

use agentbus::servers::Stack;
use anyhow::{Context as _, ensure};
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::{
    ATTACKED_FROM, NODES, health,
    victim::{Answer, Victim},
};

/// Honest messages of each tenant that look after each try; which node gets one is chance.
const LOOKS: usize = 2;
/// Honest messages in a row that must pass before a bus that was hurt counts as well again.
const WELL: usize = 6;
/// A bus that was hurt may mend itself for so long; then its nodes are started again.
const RECOVER_MAX: Duration = Duration::from_secs(4);
/// Nodes that were started again serve within this time.
const RESTART_MAX: Duration = Duration::from_secs(60);
/// Between the honest messages of one agent while something lasts.
const PAUSE: Duration = Duration::from_millis(40);
/// Messages of another tenant of which one may be told to come again, where an attacker takes all that it may: both tenants, the
/// servers and the attackers have two cores between them.
const SERVED_OF: u32 = 100;

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
        let over = CancellationToken::new();
        let probing = self.victims.iter().map(|victim| {
            let over = over.clone();
            async move {
                let (mut wrong, mut refused) = (None, None);
                let (mut asked, mut times) = (0_u32, 0_u32);
                while !over.is_cancelled() {
                    asked += 1;
                    match victim.probe().await {
                        Answer::Delivered => {}
                        Answer::NoRoom(_) if victim.tenant == ATTACKED_FROM => {}
                        Answer::NoRoom(what) => {
                            times += 1;
                            refused = Some(what);
                        }
                        Answer::Wrong(what) => wrong = Some(what),
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                let often = refused.filter(|_| !self.forgives || times * SERVED_OF > asked);
                wrong.or_else(|| Some(format!("{}, {times} of {asked} messages", often?)))
            }
        });
        let attack = async {
            let done = attack.await;
            over.cancel();
            done
        };
        let (done, wrong) = tokio::join!(attack, join_all(probing));
        (done, told(wrong.into_iter().flatten().collect()))
    }

    /// How many honest messages of the other tenant were answered.
    pub(super) fn answered(&self) -> usize {
        self.others().map(|victim| victim.latency_since(0).0).sum()
    }

    /// The P99 of those that were answered since there were so many.
    pub(super) fn slowest_since(&self, before: usize) -> Duration {
        self.others().map(|victim| victim.latency_since(before).2).max().unwrap_or_default()
    }

    fn others(&self) -> impl Iterator<Item = &Victim> {
        self.victims.iter().filter(|victim| victim.tenant != ATTACKED_FROM)
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
            let (count, half, most) = victim.latency_since(0);
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

/// Where the nodes' HTTP servers are.
pub(super) fn addresses(stack: &Stack) -> Vec<String> {
    stack.nodes().iter().map(|node| node.http()).collect()
}

fn told(found: Vec<String>) -> Option<String> {
    (!found.is_empty()).then(|| found.join("; "))
}
