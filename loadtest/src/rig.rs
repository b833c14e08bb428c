//! What does a measurement run on, and whose turn is it?
//!
//! One nats-server (and one redis-server) for the whole run, with generated accounts as in
//! production. The echo and the node never run at the same time: each is started for its turn and
//! stopped after it, so neither takes a request or a slice of processor time from the other. Both
//! log in as the same NATS user and subscribe to the same subject in the same queue group.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use agentbus::{
    client::AgentClient,
    servers::{Child, Stack, StackOptions, Tool, find},
    tenants::{BusUser, Plan},
};
use agentbus_testkit::agents;
use anyhow::{Context as _, ensure};
use tokio::{process::Command, task::JoinHandle};

use crate::{
    cpu::Processes,
    load::{self, Parties},
    message::{Expected, Template},
    options::LoadOptions,
    trips::{self, Trips},
};

const TENANT: &str = "acme";
const SENDER: &str = "planner";
const RECIPIENT: &str = "worker";
/// The rate limit is the plan's highest, so that what is measured is not the limiter.
const PLAN: &str = "[tenants.acme.limits]\nmessages_per_minute = 10000000\n\
    [tenants.acme.agents]\nplanner = { roles = [\"executive\"] }\nworker = { roles = [\"implementer\"] }\n";
/// A stored verdict takes some 700 bytes of Redis: at full speed the default window of ten minutes
/// would fill the memory of a Redis on one machine within a minute. Storing costs the same.
/// The impact by keywords: what a model costs is measured by itself.
pub(crate) const NODE: &str = "idempotency.window = \"10s\"\nimpact.scorer = \"keywords\"";
/// How long a side may take until it answers its first request as it should.
const FIRST_ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Nothing arrives for so long: nothing is on its way.
const SETTLED: Duration = Duration::from_millis(100);
const STOP_GRACE: Duration = Duration::from_secs(12);
/// Registrations are renewed so often while the node is measured.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    Baseline,
    Bus,
}

impl Side {
    pub(crate) fn expects(self) -> Expected {
        match self {
            Side::Baseline => Expected::Echo,
            Side::Bus => Expected::Delivered,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Side::Baseline => "baseline",
            Side::Bus => "bus",
        }
    }
}

/// Servers and agents of a whole run. Dropping it ends the servers and removes the folder.
pub(crate) struct Rig {
    pub(crate) parties: Arc<Parties>,
    recipient: AgentClient,
    stack: Stack,
    _folder: tempfile::TempDir,
}

/// One side, answering.
pub(crate) struct Turn {
    pub(crate) side: Side,
    pub(crate) processes: Processes,
    /// Where the node's metrics are.
    pub(crate) http: Option<String>,
    program: Program,
}

enum Program {
    Echo(Box<Child>),
    /// The stack's own.
    Node {
        heartbeat: JoinHandle<()>,
    },
}

impl Rig {
    pub(crate) async fn start(options: &LoadOptions) -> anyhow::Result<Self> {
        let agentbus = options.agentbus.clone().map_or_else(beside_this_program, Ok)?;
        let folder = tempfile::Builder::new().prefix("agentbus-loadtest-").tempdir()?;
        let stack = StackOptions::new(folder.path(), Plan::parse(PLAN)?, agentbus);
        let node_overrides = NODE.parse()?;
        let stack = StackOptions { nodes: 0, redis: !options.memory, node_overrides, ..stack };
        let stack = Stack::start(stack).await?;
        let sender = agent(&stack, SENDER).await?;
        let recipient = agent(&stack, RECIPIENT).await?;
        let arrived = load::count_arrivals(&recipient).await?;
        let template = Template::new(RECIPIENT, usize::try_from(options.payload)?)?;
        let parties = Arc::new(Parties { sender, template, arrived });
        Ok(Self { parties, recipient, stack, _folder: folder })
    }

    /// Starts a side and waits until it answers as it should.
    pub(crate) async fn turn(&mut self, side: Side) -> anyhow::Result<Turn> {
        let (program, pid, http) = match side {
            Side::Baseline => self.start_echo()?,
            Side::Bus => self.start_node().await?,
        };
        let processes = Processes {
            node: pid,
            nats: self.stack.nats().child().pid(),
            redis: self.stack.redis().map(|redis| redis.child().pid()),
        };
        self.first_answer(side).await?;
        Ok(Turn { side, processes, http, program })
    }

    fn start_echo(&self) -> anyhow::Result<(Program, u32, Option<String>)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([
            "echo-node",
            "--recipient",
            RECIPIENT,
            "--nats",
            &self.stack.nats_url(),
            "--nkey-file",
        ]);
        command.arg(self.stack.seed_path(&BusUser::Node.into()));
        let child = Child::spawn("echo", command, &self.stack.dir().join("echo.log"))?;
        let pid = child.pid();
        Ok((Program::Echo(Box::new(child)), pid, None))
    }

    async fn start_node(&mut self) -> anyhow::Result<(Program, u32, Option<String>)> {
        if let Some(node) = self.stack.node_mut(0) {
            node.restart().await?;
        } else {
            self.stack.add_node().await?;
        }
        let node = self.stack.nodes().first().context("the node that was just started")?;
        let (pid, http) = (node.child().pid(), node.http());
        // In memory they are gone with every start; in Redis this renews them.
        for agent in [&self.parties.sender, &self.recipient] {
            register(agent).await?;
        }
        let (sender, recipient) = (self.parties.sender.clone(), self.recipient.clone());
        let heartbeat = tokio::spawn(async move {
            loop {
                tokio::time::sleep(HEARTBEAT).await;
                for agent in [&sender, &recipient] {
                    if let Err(error) = agent.register(&[]).await {
                        eprintln!("loadtest: heartbeat of {}: {error}", agent.id());
                    }
                }
            }
        });
        Ok((Program::Node { heartbeat }, pid, Some(http)))
    }

    /// Ends a side before the other one begins.
    pub(crate) async fn end(&mut self, turn: Turn) -> anyhow::Result<()> {
        match turn.program {
            Program::Echo(mut child) => {
                child.stop(STOP_GRACE).await;
            }
            Program::Node { heartbeat } => {
                heartbeat.abort();
                let node = self.stack.node_mut(0).context("the node of this turn")?;
                let exit = node.stop().await;
                ensure!(exit.0.success(), "the node ended badly ({exit}):\n{}", node.child().tail());
            }
        }
        Ok(())
    }

    async fn first_answer(&self, side: Side) -> anyhow::Result<()> {
        let subject = format!("bus.{SENDER}.send");
        let started = Instant::now();
        loop {
            let request = async_nats::Request::new()
                .payload(self.parties.template.next())
                .timeout(Some(FIRST_ANSWER_WAIT));
            let last = match self.parties.sender.nats().send_request(subject.clone(), request).await {
                Ok(answer) => match side.expects().check(&answer) {
                    Ok(()) => return self.settled().await,
                    Err(what) => what,
                },
                Err(error) => error.to_string(),
            };
            ensure!(started.elapsed() < FIRST_ANSWER_WAIT, "the {} does not answer: {last}", side.as_str());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until what was delivered so far has arrived, so that it does not count for the first
    /// measurement.
    async fn settled(&self) -> anyhow::Result<()> {
        let arrived = || self.parties.arrived.load(Ordering::Relaxed);
        let (started, mut before) = (Instant::now(), (arrived(), Instant::now()));
        while before.1.elapsed() < SETTLED {
            ensure!(started.elapsed() < FIRST_ANSWER_WAIT, "deliveries go on though nothing is sent");
            tokio::time::sleep(Duration::from_millis(5)).await;
            if arrived() != before.0 {
                before = (arrived(), Instant::now());
            }
        }
        Ok(())
    }

    /// Versions of what is under measurement, as the programs tell them.
    pub(crate) async fn versions(&self) -> anyhow::Result<Vec<String>> {
        let mut versions = vec![format!("agentbus {}", env!("CARGO_PKG_VERSION"))];
        let info = self.parties.sender.nats().server_info();
        versions.push(format!("nats-server {}", info.version));
        if self.stack.redis().is_some() {
            let output = Command::new(find(Tool::RedisServer)?).arg("--version").output().await?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let version = text.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("?");
            versions.push(format!("redis-server {version}"));
        }
        Ok(versions)
    }

    /// While neither side runs.
    pub(crate) async fn trips(&self) -> anyhow::Result<Trips> {
        trips::measure(&self.stack).await
    }

    pub(crate) fn store(&self) -> &'static str {
        if self.stack.redis().is_some() { "Redis" } else { "memory" }
    }

    pub(crate) async fn stop(self) {
        self.stack.stop().await;
    }
}

/// A node that was just started may not have reached Redis yet, and says so.
pub(crate) async fn register(agent: &AgentClient) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let answer = agent.register(&[]).await?;
        if answer.get("status").is_some_and(|status| status == "ok") {
            return Ok(());
        }
        ensure!(started.elapsed() < FIRST_ANSWER_WAIT, "{} cannot register: {answer}", agent.id());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn agent(stack: &Stack, id: &str) -> anyhow::Result<AgentClient> {
    agents::of_stack(stack, TENANT, id).await
}

pub(crate) fn beside_this_program() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("agentbus");
    ensure!(path.is_file(), "{} is not there; build it with `cargo build --release --bins`", path.display());
    Ok(path)
}
