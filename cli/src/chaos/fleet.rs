//! With which fleet are experiments made, who uses it meanwhile, and is it well?

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use agentbus::{
    admin,
    client::{AgentClient, Draft, Patience},
    config,
    domain::{Encoding, Status},
    nats::{RecordStream, StoredRecord},
    servers::{Child, control::is_open, folder::Running},
    tenants::{BusUser, Plan, connect as connect_as},
};
use agentbus_testkit::agents;
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{process::Command, time::sleep};

/// A fleet of its own starts within this.
const STARTS_WITHIN: Duration = Duration::from_secs(120);
/// Nodes drain for some seconds, and end one after the other with what they need.
const STOPS_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A registration lives for half a minute, and is gone with a Redis that comes back empty.
const REGISTER_EVERY: Duration = Duration::from_secs(1);
/// What a fleet needs to be taken for well: so many messages in a row.
const ROW: usize = 20;
const ONE_MESSAGE: Duration = Duration::from_secs(2);
/// For the records of what was delivered last.
const RECORDS_WITHIN: Duration = Duration::from_secs(3);
/// Told for a minute after a part was started again, which is how some faults are survived.
const RESTARTS: &str = "restarts";
/// How a fleet of its own is started, besides its folder.
const OWN: [&str; 13] = [
    "up",
    "--chaos",
    "--nodes",
    "2",
    "--port",
    "0",
    "--http-port",
    "0",
    "--redis-port",
    "0",
    "--set",
    "impact.scorer=keywords",
    "--dir",
];

/// A running fleet, and two agents of it.
pub(super) struct Fleet {
    pub(super) folder: PathBuf,
    nodes: Vec<(String, SocketAddr)>,
    pub(super) tenant: String,
    pub(super) sender: AgentClient,
    pub(super) recipient: AgentClient,
    records: RecordStream,
    own: Option<(Child, TempDir)>,
}

impl Fleet {
    pub(super) async fn open(own: bool, dir: &Path) -> anyhow::Result<Self> {
        match own {
            false => Self::join(dir, None).await,
            true => {
                let home = tempfile::Builder::new().prefix("agentbus-chaos-").tempdir()?;
                let folder = home.path().join("bus");
                let mut command = Command::new(std::env::current_exe().context("where is this program?")?);
                command.args(OWN).arg(&folder);
                let mut child = Child::spawn("up", command, &home.path().join("up.log"))?;
                eprintln!("starting a fleet in {} …", folder.display());
                match started(&mut child, &folder).await {
                    Ok(()) => Self::join(&folder, Some((child, home))).await,
                    Err(error) => {
                        child.stop(STOPS_WITHIN).await;
                        Err(error)
                    }
                }
            }
        }
    }

    async fn join(dir: &Path, own: Option<(Child, TempDir)>) -> anyhow::Result<Self> {
        let running = Running::read(dir).with_context(|| {
            format!("no fleet runs in {}; start one by `agentbus up --chaos`", dir.display())
        })?;
        ensure!(
            is_open(dir),
            "experiments are not allowed with the fleet in {}: start it by `agentbus up --chaos`",
            dir.display()
        );
        let path = dir.join("tenants.toml");
        let plan = Plan::load(&path).with_context(|| path.display().to_string())?;
        let (tenant, sender, recipient) =
            pair(&plan).context("tenants.toml names no tenant with two agents")?;
        let nodes = running.nodes.iter().map(|node| Ok((node.name.clone(), node.http.parse()?)));
        let nodes = nodes.collect::<anyhow::Result<_>>()?;
        let connect = |agent: String| {
            let (url, tenant) = (running.nats_url.clone(), tenant.clone());
            async move { agents::connect(&url, dir, &tenant, &agent).await }
        };
        let (sender, recipient) = (connect(sender).await?, connect(recipient).await?);
        let operator = connect_as(&running.nats_url, dir, BusUser::Operator).await?;
        let records = RecordStream::new(operator);
        Ok(Self { folder: dir.to_path_buf(), nodes, tenant, sender, recipient, records, own })
    }

    /// Ends a fleet of its own.
    pub(super) async fn close(self) {
        if let Some((mut up, _home)) = self.own {
            up.stop(STOPS_WITHIN).await;
        }
    }

    /// Keeps the recipient registered, until the future is dropped.
    pub(super) async fn keep_registered(&self) {
        loop {
            let _ = self.recipient.register(&[]).await;
            sleep(REGISTER_EVERY).await;
        }
    }

    /// Waits until it is well, and says how long that took.
    pub(super) async fn well(&self, within: Duration) -> Result<Duration, String> {
        let started = Instant::now();
        loop {
            let last = match self.ill().await {
                None => match self.serves().await {
                    true => return Ok(started.elapsed()),
                    false => "messages are not delivered".to_owned(),
                },
                Some(why) => why,
            };
            if started.elapsed() >= within {
                return Err(last);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Whether some node says that this part of it is not well.
    pub(super) async fn tells(&self, part: &str) -> bool {
        for (_, http) in &self.nodes {
            if parts(*http).await.is_ok_and(|ill| ill.iter().any(|name| name == part)) {
                return true;
            }
        }
        false
    }

    /// How many of these messages of the sender are not on record. Records are waited for a little.
    pub(super) async fn unrecorded(
        &self,
        messages: &BTreeSet<&str>,
        since: SystemTime,
    ) -> anyhow::Result<usize> {
        let (tenant, begun) = (self.tenant.parse()?, Instant::now());
        loop {
            let mut left = messages.clone();
            let look = |stored: StoredRecord| {
                if let Some(key) = stored.message().filter(|key| key.sender == *self.sender.id()) {
                    left.remove(key.message.as_str());
                }
                ControlFlow::<()>::Continue(())
            };
            self.records.newest_first(Some(&tenant), Some(since), look).await?;
            if left.is_empty() || begun.elapsed() >= RECORDS_WITHIN {
                return Ok(left.len());
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// The first node that is not well, and why.
    async fn ill(&self) -> Option<String> {
        for (name, http) in &self.nodes {
            match parts(*http).await {
                Err(error) => return Some(format!("{name}: {error}")),
                Ok(ill) if ill.iter().any(|part| part != RESTARTS) => {
                    return Some(format!("{name}: not well: {}", ill.join(", ")));
                }
                Ok(_) => {}
            }
        }
        None
    }

    /// So many messages in a row, each at the first attempt.
    async fn serves(&self) -> bool {
        let patience = Patience { attempt: ONE_MESSAGE, deadline: ONE_MESSAGE };
        for _ in 0..ROW {
            let draft = Draft::to_agent(self.recipient.id().as_str(), "is all well?");
            let said = self.sender.send(draft.encode(Encoding::MessagePack), patience).await;
            if !said.is_ok_and(|verdict| verdict.status == Status::Delivered) {
                return false;
            }
        }
        true
    }
}

/// The parts of a node that are not well.
async fn parts(http: SocketAddr) -> anyhow::Result<Vec<String>> {
    let answer = admin::ask(&config::Http { listen: http, ..config::Http::default() }, "/readyz").await?;
    let report: Value =
        serde_json::from_str(&answer.body).context("the answer of /readyz is not a node's")?;
    let parts =
        report.get("parts").and_then(Value::as_object).context("the answer of /readyz names no parts")?;
    let ill = parts.iter().filter(|(_, part)| part.get("state").is_none_or(|state| state != "up"));
    Ok(ill.map(|(name, _)| name.clone()).collect())
}

async fn started(up: &mut Child, folder: &Path) -> anyhow::Result<()> {
    let begun = Instant::now();
    while Running::read(folder).is_none() || !is_open(folder) {
        if let Some(exit) = up.try_exited() {
            bail!("the fleet did not start ({exit}):\n{}", up.tail());
        }
        ensure!(
            begun.elapsed() < STARTS_WITHIN,
            "the fleet did not start within {STARTS_WITHIN:?}:\n{}",
            up.tail()
        );
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Two agents of one tenant: planner and worker where they are, for whom the policy denies something.
fn pair(plan: &Plan) -> Option<(String, String, String)> {
    let tenant = plan.tenants().iter().find(|tenant| tenant.agents.len() >= 2)?;
    let mut names = tenant.agents.keys().map(|agent| agent.as_str());
    let has = |name: &str| tenant.agents.keys().any(|agent| agent.as_str() == name);
    let (sender, recipient) = match has("planner") && has("worker") {
        true => ("planner", "worker"),
        false => (names.next()?, names.next()?),
    };
    Some((tenant.id.to_string(), sender.to_owned(), recipient.to_owned()))
}
