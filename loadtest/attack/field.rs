//! Where is it tried, and who looks whether anybody was hurt? A whole bus of real processes, honest agents
//! beside the attackers, and after each try a look at all of it.

use std::{
    collections::BTreeMap,
    fmt::Display,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use agentbus::{
    client::AgentClient,
    servers::{Stack, StackOptions},
    tenants::{Plan, Seed, User},
};
use anyhow::{Context as _, ensure};
use futures_util::future::join_all;
use tokio::time::timeout;

use super::{
    http,
    ledger::{Ledger, Outcome},
    raw::Raw,
    victim::{Answer, Victim},
};

/// `acme` only suffers; `globex` has the attacker, honest agents beside it, and reviewers; `initech` is whose
/// data in Redis are forged.
const PLAN: &str = r#"
[tenants.acme.limits]
messages_per_minute = 10000000
[tenants.acme.agents]
planner = { roles = ["executive"] }
worker = { roles = ["implementer"] }
judge = { roles = ["judicial"] }

[tenants.globex]
labels = { deliberate_message_types = "task_request" }
[tenants.globex.limits]
messages_per_minute = 10000000
[tenants.globex.deliberation]
open_max = 10000
[tenants.globex.agents]
planner = { roles = ["executive"] }
worker = { roles = ["implementer"] }
mallory = { roles = ["implementer"] }
sink = { roles = ["implementer"] }
judge-1 = { roles = ["judicial"] }
judge-2 = { roles = ["judicial"] }

[tenants.initech.limits]
messages_per_minute = 10000000
[tenants.initech.agents]
planner = { roles = ["executive"] }
worker = { roles = ["implementer"] }
other = { roles = ["implementer"] }
"#;

/// The model reads what is tried against it; one thread, so that the machine's others are the rest's, and time
/// enough on a processor that it is slow on.
const NODE: &str = "impact.threads = 1\nimpact.deadline = \"4s\"\nlimits.deadline = \"5s\"\n\
                    idempotency.lease = \"10s\"\nidempotency.window = \"60s\"";
const NODES: usize = 2;
/// Registrations live 30 s.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Honest messages of each tenant that look after each try; which node gets one is chance.
const LOOKS: usize = 2;
/// Honest messages in a row that must pass before a bus that was hurt counts as well again.
const WELL: usize = 6;
const RECOVER_MAX: Duration = Duration::from_secs(4);
/// One try, whatever it does.
const TRY_MAX: Duration = Duration::from_secs(30);

pub(crate) struct Field {
    pub(crate) full: bool,
    pub(crate) ledger: Ledger,
    pub(crate) agentbus: PathBuf,
    stack: Stack,
    clients: BTreeMap<(&'static str, &'static str), AgentClient>,
    victims: Vec<Victim>,
    /// Of the nodes, as they were before the next try.
    pids: Vec<u32>,
    reconnects: Vec<u64>,
    restarts: usize,
    ends: Instant,
    _folder: tempfile::TempDir,
}

impl Field {
    pub(crate) async fn start(full: bool, agentbus: PathBuf, ends: Instant) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("agentbus-attack-").tempdir()?;
        let options = StackOptions::new(folder.path().join("bus"), Plan::parse(PLAN)?, &agentbus);
        let options = StackOptions { nodes: NODES, node_overrides: NODE.parse()?, ..options };
        let mut field = Self {
            full,
            ledger: Ledger::default(),
            agentbus,
            stack: Stack::start(options).await?,
            clients: BTreeMap::new(),
            victims: Vec::new(),
            pids: Vec::new(),
            reconnects: Vec::new(),
            restarts: 0,
            ends,
            _folder: folder,
        };
        for (tenant, agent) in [
            ("acme", "worker"),
            ("globex", "worker"),
            ("globex", "mallory"),
            ("globex", "sink"),
            ("globex", "planner"),
        ] {
            let client = field.client(tenant, agent).await?;
            crate::rig::register(&client).await?;
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(HEARTBEAT).await;
                    // While a node is being restarted it fails; the next one makes up for it.
                    let _ = client.register(&[]).await;
                }
            });
        }
        for tenant in ["acme", "globex"] {
            let planner = field.connect(tenant, "planner").await?;
            let worker = field.client(tenant, "worker").await?;
            field.victims.push(Victim::start(tenant, planner, &worker).await?);
        }
        ensure!(field.well().await, "the honest agents were not served before anything was tried");
        field.take_stock().await?;
        Ok(field)
    }

    pub(crate) fn stack(&self) -> &Stack {
        &self.stack
    }

    pub(crate) fn dir(&self) -> &Path {
        self.stack.dir()
    }

    pub(crate) fn nats_port(&self) -> u16 {
        self.stack.nats().port()
    }

    /// Where the nodes' HTTP servers are.
    pub(crate) fn http(&self) -> Vec<String> {
        self.stack.nodes().iter().map(|node| node.http()).collect()
    }

    pub(crate) fn seed(&self, tenant: &str, agent: &str) -> anyhow::Result<Seed> {
        Ok(Seed::read(&self.stack.seed_path(&User::Agent(tenant.parse()?, agent.parse()?)))?)
    }

    /// Sends SIGHUP to a node.
    pub(crate) fn hang_up(&mut self, node: usize) -> anyhow::Result<()> {
        self.stack.node_mut(node).context("no such node")?.child_mut().reload();
        Ok(())
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self, tenant: &str, agent: &str) -> anyhow::Result<AgentClient> {
        let seed = self.seed(tenant, agent)?;
        Ok(AgentClient::connect(&self.stack.nats_url(), &agent.parse()?, seed.reveal()).await?)
    }

    /// The agent's one connection.
    pub(crate) async fn client(
        &mut self,
        tenant: &'static str,
        agent: &'static str,
    ) -> anyhow::Result<AgentClient> {
        if let Some(client) = self.clients.get(&(tenant, agent)) {
            return Ok(client.clone());
        }
        let client = self.connect(tenant, agent).await?;
        self.clients.insert((tenant, agent), client.clone());
        Ok(client)
    }

    /// A socket on which the attacker is logged in.
    pub(crate) async fn attacker(&self) -> anyhow::Result<Raw> {
        Raw::login(self.nats_port(), &self.seed("globex", "mallory")?).await
    }

    /// Carries a try out, looks at the bus, and notes both. What the attack returns is what the attacker
    /// has gained, if anything. Fails only if nothing more can be tried.
    pub(crate) async fn attempt(
        &mut self,
        name: impl Display,
        attack: impl Future<Output = anyhow::Result<Option<String>>>,
    ) -> anyhow::Result<()> {
        let gained = timeout(TRY_MAX, attack).await.map_err(anyhow::Error::from).flatten();
        self.judge(name, gained).await
    }

    /// Looks at the bus after a try, and notes what came of it.
    pub(crate) async fn judge(
        &mut self,
        name: impl Display,
        gained: anyhow::Result<Option<String>>,
    ) -> anyhow::Result<()> {
        let hurt = self.hurt().await;
        let outcome = match (&gained, &hurt) {
            (Ok(None), None) => Outcome::Held,
            (Ok(Some(gained)), None) => Outcome::Succeeded(gained.clone()),
            (Ok(None) | Err(_), Some(hurt)) => Outcome::Succeeded(hurt.clone()),
            (Ok(Some(gained)), Some(hurt)) => Outcome::Succeeded(format!("{gained}; {hurt}")),
            (Err(error), None) => Outcome::NotRun(format!("{error:#}")),
        };
        self.ledger.note(&name.to_string(), &outcome);
        if hurt.is_some() {
            self.recover().await?;
        }
        ensure!(Instant::now() < self.ends, "no time is left");
        Ok(())
    }

    /// Runs what lasts while honest agents go on, and tells who was not served: in another tenant nobody may
    /// notice, in the same one an answer in time is enough.
    pub(crate) async fn meanwhile<T>(&self, attack: impl Future<Output = T>) -> (T, Option<String>) {
        const PAUSE: Duration = Duration::from_millis(40);
        let over = tokio_util::sync::CancellationToken::new();
        let probing = self.victims.iter().map(|victim| {
            let over = over.clone();
            async move {
                let mut wrong = None;
                while !over.is_cancelled() {
                    match victim.probe().await {
                        Answer::Delivered => {}
                        Answer::NoRoom(_) if victim.tenant == "globex" => {}
                        Answer::NoRoom(what) | Answer::Wrong(what) => wrong = Some(what),
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                wrong
            }
        });
        let attack = async {
            let done = attack.await;
            over.cancel();
            done
        };
        let (done, wrong) = tokio::join!(attack, join_all(probing));
        let wrong: Vec<String> = wrong.into_iter().flatten().collect();
        (done, (!wrong.is_empty()).then(|| wrong.join("; ")))
    }

    /// Who or what is not as it was.
    async fn hurt(&mut self) -> Option<String> {
        let probes = join_all(self.victims.iter().flat_map(|victim| (0..LOOKS).map(move |_| victim.probe())));
        let addresses = self.http();
        let healths = join_all(addresses.iter().map(|address| http::health(address)));
        let (answers, healths) = tokio::join!(probes, healths);
        let mut found: Vec<String> = Vec::new();
        for answer in answers {
            match answer {
                Answer::Delivered => {}
                Answer::NoRoom(what) | Answer::Wrong(what) => found.push(what),
            }
        }
        for (index, (health, address)) in healths.into_iter().zip(&addresses).enumerate() {
            match health {
                Err(error) => found.push(format!("{address}: {error:#}")),
                Ok(reconnects) => {
                    let known = self.reconnects.get(index).copied().unwrap_or_default();
                    if reconnects != known {
                        found.push(format!("node-{} lost its connection to NATS", index + 1));
                        if let Some(known) = self.reconnects.get_mut(index) {
                            *known = reconnects;
                        }
                    }
                }
            }
        }
        found.extend(self.dead());
        found.extend(self.victims.iter().flat_map(Victim::strays));
        found.dedup();
        (!found.is_empty()).then(|| found.join("; "))
    }

    fn dead(&mut self) -> Vec<String> {
        let mut dead = Vec::new();
        for (index, pid) in self.pids.iter().enumerate() {
            let Some(node) = self.stack.node_mut(index) else { continue };
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
    async fn recover(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        while began.elapsed() < RECOVER_MAX {
            ensure!(Instant::now() < self.ends, "no time is left");
            if self.dead().is_empty() && self.well().await && self.take_stock().await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        eprintln!("attack: the nodes are started again");
        self.restarts += 1;
        for index in 0..NODES {
            let node = self.stack.node_mut(index).context("a node of the stack")?;
            node.child_mut().kill().await;
            node.restart().await?;
        }
        let began = Instant::now();
        while !self.well().await {
            ensure!(began.elapsed() < TRY_MAX, "the bus does not work although its nodes were started again");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        self.take_stock().await
    }

    async fn take_stock(&mut self) -> anyhow::Result<()> {
        let addresses = self.http();
        let healths = join_all(addresses.iter().map(|address| http::health(address))).await;
        self.reconnects = healths.into_iter().collect::<anyhow::Result<_>>()?;
        self.pids = self.stack.nodes().iter().map(|node| node.child().pid()).collect();
        Ok(())
    }

    /// How often the nodes had to be started again, and how honest messages fared.
    pub(crate) fn tell(&self) {
        for victim in &self.victims {
            let (count, half, most) = victim.latency();
            println!(
                "{}: {count} honest messages answered, P50 {:.1} ms, P99 {:.1} ms",
                victim.tenant,
                half.as_secs_f64() * 1e3,
                most.as_secs_f64() * 1e3
            );
        }
        if self.restarts > 0 {
            println!("nodes started again: {} times", self.restarts);
        }
    }

    pub(crate) async fn stop(self) -> Ledger {
        self.stack.stop().await;
        self.ledger
    }
}
