//! What does a run run on, and whose turn is it?
//!
//! Servers of its own on free ports of loopback, with generated accounts as in production, or a bus that is already
//! there. The sides never run at
//! the same time: each is started for its turn and stopped after it. The direct side has a bare NATS server
//! of its own, which idles meanwhile.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use agentbus::{
    servers::{Child, NatsOptions, NatsServer, Stack, StackOptions, Tool, find},
    tenants::{BusUser, Plan},
};
use anyhow::{Context as _, ensure};
use tokio::process::Command;
use toml::{Table, Value};

use super::{
    aim::Aim,
    lines, names,
    profile::{Group, Profile, ROLE, Side, Way},
    quota::Quota,
    usage::Pids,
};
use crate::{
    rig::WINDOW,
    trips::{self, Trips},
};

const STOP_GRACE: Duration = Duration::from_secs(12);

/// What a whole run runs on. Dropping it ends the servers that are its own, and removes their folder.
pub(crate) struct World {
    servers: Servers,
    profile: Profile,
}

enum Servers {
    Own(Box<Own>),
    /// Somebody else's: they go on as they are.
    Running(Aim),
}

struct Own {
    stack: Stack,
    direct: Option<NatsServer>,
    _folder: tempfile::TempDir,
}

/// One side, answering.
pub(crate) struct Turn {
    pub(crate) side: Side,
    pub(crate) nats_url: String,
    pub(crate) pids: Pids,
    /// Where the nodes' metrics are.
    pub(crate) http: Vec<String>,
    bare: Option<Child>,
    quotas: Vec<Quota>,
}

impl World {
    pub(crate) async fn start(profile: &Profile, agentbus: PathBuf) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("agentbus-loadtest-").tempdir()?;
        let node_overrides = merged(&WINDOW.parse()?, lines(&profile.node).map_err(anyhow::Error::msg)?);
        let plan = Plan::parse(&tenants_file(profile)?).context("the tenants of the profile")?;
        let options = StackOptions::new(folder.path().join("stack"), plan, agentbus);
        let options =
            StackOptions { nodes: 0, redis: !profile.memory, sync: profile.sync, node_overrides, ..options };
        let stack = Stack::start(options).await?;
        let direct = match profile.sides.contains(&Side::Direct) {
            true => Some(bare_server(&folder.path().join("direct")).await?),
            false => None,
        };
        let own = Own { stack, direct, _folder: folder };
        Ok(Self { servers: Servers::Own(Box::new(own)), profile: profile.clone() })
    }

    /// On a bus that is already there.
    pub(crate) fn at(profile: &Profile, aim: Aim) -> Self {
        Self { servers: Servers::Running(aim), profile: profile.clone() }
    }

    /// Where the users' seeds are.
    pub(crate) fn keys(&self) -> &Path {
        match &self.servers {
            Servers::Own(own) => own.stack.dir(),
            Servers::Running(aim) => &aim.keys,
        }
    }

    /// Starts a side, the bus with so many nodes. Whether it answers is seen by the clients.
    pub(crate) async fn turn(&mut self, side: Side, nodes: u32) -> anyhow::Result<Turn> {
        match &mut self.servers {
            Servers::Own(own) => own.turn(side, nodes, &self.profile).await,
            Servers::Running(aim) => Ok(Turn {
                side,
                nats_url: aim.nats_url.clone(),
                pids: Pids::default(),
                http: Vec::new(),
                bare: None,
                quotas: Vec::new(),
            }),
        }
    }

    /// Bare round trips to the servers, while no side runs. Of a running bus they are not known.
    pub(crate) async fn trips(&self) -> anyhow::Result<Option<Trips>> {
        match &self.servers {
            Servers::Own(own) => trips::measure(&own.stack).await.map(Some),
            Servers::Running(_) => Ok(None),
        }
    }

    /// Ends a side before the next one begins.
    pub(crate) async fn end(&mut self, turn: Turn) -> anyhow::Result<()> {
        match &mut self.servers {
            Servers::Own(own) => own.end(turn).await,
            Servers::Running(_) => Ok(()),
        }
    }

    /// Of what is under measurement, as the programs tell them.
    pub(crate) async fn versions(&self) -> anyhow::Result<Vec<String>> {
        match &self.servers {
            Servers::Own(own) => own.versions().await,
            Servers::Running(_) => Ok(vec!["of a running bus, unknown".to_owned()]),
        }
    }

    pub(crate) async fn stop(self) {
        if let Servers::Own(own) = self.servers {
            if let Some(mut direct) = own.direct {
                direct.stop().await;
            }
            own.stack.stop().await;
        }
    }
}

impl Own {
    async fn turn(&mut self, side: Side, nodes: u32, profile: &Profile) -> anyhow::Result<Turn> {
        let mut pids = Pids {
            nats: vec![self.stack.nats().child().pid()],
            redis: self.stack.redis().map(|redis| redis.child().pid()).into_iter().collect(),
            ..Pids::default()
        };
        let (mut nats_url, mut http) = (self.stack.nats_url(), Vec::new());
        let (mut bare, mut quotas) = (None, Vec::new());
        match side {
            Side::Direct => {
                let server = self.direct.as_ref().context("a bare server, which the profile asks for")?;
                nats_url = server.url();
                pids.nats = vec![server.child().pid()];
            }
            Side::Baseline => {
                let child = self.bare_node(profile)?;
                pids.nodes = vec![child.pid()];
                bare = Some(child);
            }
            Side::Bus => {
                self.start_nodes(nodes).await?;
                let running = || self.stack.nodes().iter().take(nodes as usize);
                pids.nodes = running().map(|node| node.child().pid()).collect();
                http = running().map(|node| node.http()).collect();
                if let Some(cores) = profile.node_cores {
                    quotas = pids.nodes.iter().map(|&pid| Quota::of(pid, cores)).collect::<Result<_, _>>()?;
                }
            }
        }
        Ok(Turn { side, nats_url, pids, http, bare, quotas })
    }

    async fn start_nodes(&mut self, count: u32) -> anyhow::Result<()> {
        for at in 0..count as usize {
            match self.stack.node_mut(at) {
                Some(node) => node.restart().await?,
                None => drop(self.stack.add_node().await?),
            }
        }
        Ok(())
    }

    /// The echo of what is sent, or who stores what is submitted.
    fn bare_node(&self, profile: &Profile) -> anyhow::Result<Child> {
        let group = profile.group.first().context("a group")?;
        let submits = group.mix.iter().any(|entry| entry.verb == Way::Submit);
        let mut command = Command::new(std::env::current_exe()?);
        match submits {
            true => command.args(["bare-node", "--tenant", &names::tenant(group, 1)]),
            false => command.arg("echo-node"),
        };
        command.args(["--recipient", &names::recipient(1), "--nats", &self.stack.nats_url(), "--nkey-file"]);
        command.arg(self.stack.seed_path(&BusUser::Node.into()));
        Ok(Child::spawn("bare", command, &self.stack.dir().join("bare.log"))?)
    }

    async fn end(&mut self, turn: Turn) -> anyhow::Result<()> {
        if let Some(mut bare) = turn.bare {
            bare.stop(STOP_GRACE).await;
        }
        // A node that has to wait for its share would not end in time.
        drop(turn.quotas);
        if turn.side == Side::Bus {
            for at in 0..turn.pids.nodes.len() {
                let node = self.stack.node_mut(at).context("a node of this turn")?;
                let exit = node.stop().await;
                ensure!(exit.0.success(), "a node ended badly ({exit}):\n{}", node.child().tail());
            }
        }
        Ok(())
    }

    async fn versions(&self) -> anyhow::Result<Vec<String>> {
        let mut versions = vec![format!("agentbus {}", env!("CARGO_PKG_VERSION"))];
        versions.push(version(Tool::NatsServer, "nats-server", "nats-server: v").await?);
        if self.stack.redis().is_some() {
            versions.push(version(Tool::RedisServer, "redis-server", "v=").await?);
        }
        Ok(versions)
    }
}

async fn version(tool: Tool, name: &str, before: &str) -> anyhow::Result<String> {
    let output = Command::new(find(tool)?).arg("--version").output().await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.split_once(before).and_then(|(_, rest)| rest.split_whitespace().next());
    Ok(format!("{name} {}", found.unwrap_or("of unknown version")))
}

/// Without accounts, users and JetStream.
async fn bare_server(folder: &Path) -> anyhow::Result<NatsServer> {
    fs::create_dir_all(folder)?;
    let config = folder.join("server.conf");
    fs::write(&config, "host: 127.0.0.1\n")?;
    let options = NatsOptions { name: "direct".to_owned(), config, folder: folder.to_owned(), port: 0 };
    Ok(NatsServer::start(options).await?)
}

/// The tenants file of a profile. Limits so high that what is measured is not a limit, unless the profile says so.
pub(crate) fn tenants_file(profile: &Profile) -> anyhow::Result<String> {
    let mut tenants = Table::new();
    for group in &profile.group {
        let entry = entry(group, profile)?;
        tenants
            .extend((1..=group.tenants).map(|number| (names::tenant(group, number), entry.clone().into())));
    }
    let file = Table::from_iter([("tenants".to_owned(), Value::from(tenants))]);
    Ok(toml::to_string(&file)?)
}

fn entry(group: &Group, profile: &Profile) -> anyhow::Result<Table> {
    let agents = group.senders + group.recipients + group.judges;
    let connections =
        group.senders * profile.connections * profile.processes + group.recipients + group.judges;
    // JetStream reserves it on disk, and has 16 GiB.
    let keepers: u32 = profile.group.iter().filter(|group| keeps(group)).map(|group| group.tenants).sum();
    let (inbox, rest) = match keeps(group) {
        true => ((6_u64 << 30) / u64::from(keepers), (64_u64 << 20) / u64::from(keepers)),
        false => (4 << 20, 4 << 20),
    };
    let (inbox, rest) = (inbox.max(4 << 20), rest.max(4 << 20));
    let mut text = format!(
        "limits = {{ messages_per_minute = 10000000, agents = {agents} }}\n\
         nats = {{ connections = {}, subscriptions = 65536 }}\n\
         store = {{ inbox_bytes = {inbox}, waiting_bytes = {}, deliberations_bytes = {rest}, dead_letters_bytes = {rest} }}\n\
         [agents]\n",
        connections + 64,
        rest * 8,
    );
    let roles = [
        ("executive", group.senders, names::sender as fn(u32) -> String),
        (ROLE, group.recipients, names::recipient),
        ("judicial", group.judges, names::judge),
    ];
    for (role, count, name) in roles {
        for number in 1..=count {
            text.push_str(&format!("{} = {{ roles = [\"{role}\"] }}\n", name(number)));
        }
    }
    Ok(merged(&text.parse()?, lines(&group.tenant).map_err(anyhow::Error::msg)?))
}

/// Whether its durable inboxes are used.
fn keeps(group: &Group) -> bool {
    group.judges > 0 || group.mix.iter().any(|entry| entry.verb == Way::Submit)
}

/// `over` laid over `base`, table by table.
fn merged(base: &Table, over: Table) -> Table {
    let mut all = base.clone();
    for (key, value) in over {
        let value = match (all.get(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => merged(base, over).into(),
            (_, value) => value,
        };
        all.insert(key, value);
    }
    all
}
