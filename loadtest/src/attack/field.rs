//! Where is it tried? On a whole bus of real processes, with honest agents beside the attackers, and after
//! each try a look at all of it.

use std::{
    collections::BTreeMap,
    fmt::Display,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use agentbus::{
    client::AgentClient,
    servers::{Stack, StackOptions},
    tenants::{Plan, Seed},
};
use agentbus_testkit::agents;
use anyhow::{Context as _, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::timeout;

use super::{
    ATTACKED_FROM, NODES,
    ledger::{Ledger, Outcome},
    raw::Raw,
    victim::{Latency, Victim},
    watch::{self, Watch},
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
reader = { roles = ["implementer"] }
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
const NODE: &str = "impact.threads = 1\nimpact.deadline = \"20s\"\nlimits.deadline = \"25s\"\n\
                    idempotency.lease = \"40s\"\nidempotency.window = \"120s\"";
/// Files that a node may open; the servers take what they need.
const NODE_FILES: u64 = 512;
/// Registrations live 30 s.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// One try, whatever it does.
const TRY_MAX: Duration = Duration::from_secs(120);
/// Who is registered all the time.
const AGENTS: [(&str, &str); 6] = [
    ("acme", "worker"),
    ("globex", "worker"),
    ("globex", "mallory"),
    ("globex", "sink"),
    ("globex", "reader"),
    ("globex", "planner"),
];

pub(crate) struct Field {
    pub(crate) full: bool,
    pub(crate) ledger: Ledger,
    pub(crate) agentbus: PathBuf,
    stack: Stack,
    clients: Clients,
    watch: Watch,
    ends: Instant,
    _folder: tempfile::TempDir,
}

/// The one connection of each agent, by tenant and name.
type Clients = BTreeMap<(&'static str, &'static str), AgentClient>;

impl Field {
    /// Its nodes are configured by `NODE` and by `more`.
    pub(crate) async fn start(
        full: bool,
        agentbus: PathBuf,
        more: &str,
        ends: Instant,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("agentbus-attack-").tempdir()?;
        let options = StackOptions::new(folder.path().join("bus"), Plan::parse(PLAN)?, &agentbus);
        let options =
            StackOptions { nodes: NODES, node_overrides: format!("{NODE}\n{more}").parse()?, ..options };
        let own = getrlimit(Resource::Nofile);
        // As few as a service may be given, so that sockets can be held that use them up.
        setrlimit(Resource::Nofile, Rlimit { current: Some(NODE_FILES), ..own })?;
        let stack = Stack::start(options).await?;
        setrlimit(Resource::Nofile, Rlimit { current: own.maximum, ..own })?;
        let mut clients = Clients::new();
        for (tenant, agent) in AGENTS {
            let client = agents::of_stack(&stack, tenant, agent).await?;
            crate::rig::register(&client).await?;
            clients.insert((tenant, agent), client.clone());
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(HEARTBEAT).await;
                    // While a node is being restarted it fails; the next one makes up for it.
                    let _ = client.register(&[]).await;
                }
            });
        }
        let mut victims = Vec::new();
        for tenant in ["acme", ATTACKED_FROM] {
            let planner = agents::of_stack(&stack, tenant, "planner").await?;
            let worker = clients.get(&(tenant, "worker")).context("a worker")?;
            victims.push(Victim::start(tenant, planner, worker).await?);
        }
        let watch = Watch::start(victims, &stack).await?;
        Ok(Self { full, ledger: Ledger::default(), agentbus, stack, clients, watch, ends, _folder: folder })
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
        watch::addresses(&self.stack)
    }

    pub(crate) fn seed(&self, tenant: &str, agent: &str) -> anyhow::Result<Seed> {
        agents::seed(self.stack.dir(), tenant, agent)
    }

    /// Sends SIGHUP to a node.
    pub(crate) fn hang_up(&mut self, node: usize) -> anyhow::Result<()> {
        self.stack.node_mut(node).context("no such node")?.child_mut().reload();
        Ok(())
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self, tenant: &str, agent: &str) -> anyhow::Result<AgentClient> {
        agents::of_stack(&self.stack, tenant, agent).await
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
        Raw::login(self.nats_port(), &self.seed(ATTACKED_FROM, "mallory")?).await
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
        let hurt = self.watch.hurt(&mut self.stack).await;
        let outcome = match (&gained, &hurt) {
            (Ok(None), None) => Outcome::Held,
            (Ok(Some(gained)), None) => Outcome::Succeeded(gained.clone()),
            (Ok(None) | Err(_), Some(hurt)) => Outcome::Succeeded(hurt.clone()),
            (Ok(Some(gained)), Some(hurt)) => Outcome::Succeeded(format!("{gained}; {hurt}")),
            (Err(error), None) => Outcome::NotRun(format!("{error:#}")),
        };
        self.ledger.note(&name.to_string(), &outcome);
        if hurt.is_some() {
            self.watch.recover(&mut self.stack).await?;
        }
        ensure!(Instant::now() < self.ends, "no time is left");
        Ok(())
    }

    /// Runs what lasts while honest agents go on, and tells who was not served.
    pub(crate) async fn meanwhile<T>(&self, attack: impl Future<Output = T>) -> (T, Option<String>) {
        self.watch.meanwhile(attack).await
    }

    /// The same, with how long the other tenant's honest messages took meanwhile, of which there are many more.
    pub(super) async fn meanwhile_timed<T>(
        &self,
        attack: impl Future<Output = T>,
    ) -> ((T, Latency), Option<String>) {
        self.watch.meanwhile_timed(self.full, attack).await
    }

    /// In the attacker's own tenant agents may ask once more, until this is taken back.
    pub(crate) fn forgive_colleagues(&mut self, forgive: bool) {
        self.watch.forgive_colleagues(forgive);
    }

    /// How honest messages fared.
    pub(crate) fn tell(&self) {
        self.watch.tell();
    }

    pub(crate) async fn stop(self) -> Ledger {
        self.stack.stop().await;
        self.ledger
    }
}
