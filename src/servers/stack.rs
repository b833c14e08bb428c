//! How do NATS, Redis and nodes come up together on one machine, and in which order do they go?
//!
//! What `agentbus up`, `agentbus demo`, `loadtest` and the integration tests run on. Up: servers,
//! then accounts and streams, then nodes, each step waiting until the one before is ready. Down:
//! nodes first, so that they can still drain to the servers.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::future::{join_all, select_all, try_join_all};
use tokio::time::{Instant, timeout};

use super::{
    Child, Exit, MissingTool, NatsOptions, NatsServer, Node, NodeOptions, RedisData, RedisOptions,
    RedisServer, ServerError, Tool, find,
    folder::{Folder, FolderError, Running, RunningNode},
    node, ports,
    redis::NODE_USER,
    secrets,
};
use crate::tenants::{
    self, BusUser, ConnectError, DiskSync, GenerateError, Plan, ProvisionError, ServerConf, StoreSettings,
    User, names,
};

mod faults;
mod links;

pub use faults::{ALL_NODES, Fault, FaultError, Server};
use links::Links;

/// One machine has no use for more.
pub const NODES_MAX: usize = 16;
/// How often the children's logs are looked at.
const LOG_CHECK: Duration = Duration::from_secs(10);

/// What to start.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// Keys, JetStream data, logs and configurations. One stack at a time.
    pub dir: PathBuf,
    /// Delete first what an earlier run left in `dir`, but `tenants.toml`.
    pub fresh: bool,
    pub plan: Plan,
    /// 1 to [`NODES_MAX`]; may be 0 for tests that start nodes later.
    pub nodes: usize,
    pub ports: Ports,
    /// Without Redis a node keeps its state in memory, so there can be only one.
    pub redis: bool,
    /// When JetStream's writes reach the disk.
    pub sync: DiskSync,
    /// Whether Redis knows after a restart what it knew before.
    pub redis_data: RedisData,
    /// The `agentbus` that runs as node.
    pub executable: PathBuf,
    /// Laid over each node's configuration.
    pub node_overrides: toml::Table,
    /// Things may be broken in it on purpose ([`Stack::inflict`]); nodes reach the servers by proxies.
    pub chaos: bool,
}

impl StackOptions {
    /// One node with Redis on free ports, in memory only.
    pub fn new(dir: impl Into<PathBuf>, plan: Plan, executable: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            fresh: false,
            plan,
            nodes: 1,
            ports: Ports::FREE,
            redis: true,
            sync: DiskSync::default(),
            redis_data: RedisData::InMemory,
            executable: executable.into(),
            node_overrides: toml::Table::new(),
            chaos: false,
        }
    }
}

/// On loopback. 0: a free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    pub nats: u16,
    pub redis: u16,
    /// Of the first node; the others follow.
    pub http: u16,
}

impl Ports {
    pub const FREE: Self = Self { nats: 0, redis: 0, http: 0 };
}

/// Why the stack did not come up. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(
        "port {port} for {purpose} is taken by {holder}; choose another with {flag}, or 0 for a free one"
    )]
    PortTaken { port: u16, purpose: &'static str, holder: String, flag: &'static str },
    #[error("{nodes} nodes are too many for one machine; at most {NODES_MAX}")]
    TooManyNodes { nodes: usize },
    #[error("{nodes} nodes need Redis: without it each would have its own registry; use --nodes 1")]
    NodesNeedRedis { nodes: usize },
    #[error(transparent)]
    Generate(#[from] GenerateError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Provision(#[from] ProvisionError),
}

impl From<MissingTool> for StackError {
    fn from(missing: MissingTool) -> Self {
        Self::Server(missing.into())
    }
}

/// Everything that runs. Dropping it kills all of it; [`Stack::stop`] ends it in order.
#[derive(Debug)]
pub struct Stack {
    // Children before the folder: it is let go of when they are gone.
    nodes: Vec<Node>,
    /// One for each node, where experiments may be made.
    links: Vec<Links>,
    redis: Option<RedisServer>,
    nats: NatsServer,
    node_config: toml::Table,
    options: StackOptions,
    leftovers: Vec<String>,
    took: Duration,
    folder: Folder,
}

/// A child that ended although nobody asked it to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} ended ({exit}); its last lines:\n{tail}")]
pub struct Death {
    pub name: String,
    pub exit: Exit,
    pub tail: String,
}

impl Stack {
    /// Starts everything and waits until every node says that it is ready.
    pub async fn start(options: StackOptions) -> Result<Self, StackError> {
        let started = Instant::now();
        check_nodes(&options)?;
        // All that can be known beforehand, before anything is written or started.
        find(Tool::NatsServer)?;
        if options.redis {
            find(Tool::RedisServer)?;
        }
        let folder = match options.fresh {
            true => Folder::open_fresh(&options.dir).await?,
            false => Folder::open(&options.dir)?,
        };
        let leftovers = folder.end_leftovers().await;
        check_ports(&options)?;

        let dir = folder.path().to_path_buf();
        options.plan.generate(&dir)?;
        write_server_conf(&dir, options.sync)?;
        let nats = NatsServer::start(NatsOptions {
            name: "nats".into(),
            config: names::server_conf(&dir),
            folder: dir.join("nats"),
            port: options.ports.nats,
        });
        let redis = async {
            if !options.redis {
                return Ok(None);
            }
            let redis = RedisOptions {
                name: "redis".into(),
                folder: dir.join("redis"),
                port: options.ports.redis,
                data: options.redis_data,
            };
            RedisServer::start(redis).await.map(Some)
        };
        let (nats, redis) = tokio::try_join!(nats, redis)?;
        provision(&nats.url(), &dir, &options.plan).await?;

        if redis.is_some() {
            let nodes = dir.join("nodes");
            fs::create_dir_all(&nodes).map_err(|cause| ServerError::File {
                what: "folder",
                path: nodes,
                cause,
            })?;
            secrets::keep(&seal_key_file(&dir))?;
        }
        let node_config = node_config(&nats, redis.as_ref(), &dir, &options);
        let count = options.nodes;
        let mut stack = Self {
            nodes: Vec::new(),
            links: Vec::new(),
            redis,
            nats,
            node_config,
            options,
            leftovers,
            took: Duration::ZERO,
            folder,
        };
        stack.note_children()?;
        for _ in 1..=count {
            stack.link().await?;
        }
        let starts = (1..=count).map(|number| Node::start(stack.node_options(number)));
        stack.nodes = try_join_all(starts).await?;
        stack.took = started.elapsed();
        stack.publish()?;
        Ok(stack)
    }

    /// Absolute.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    pub fn plan(&self) -> &Plan {
        &self.options.plan
    }

    pub fn nats_url(&self) -> String {
        self.nats.url()
    }

    /// Absent: nodes keep their state in memory.
    pub fn redis_url(&self) -> Option<String> {
        self.redis.as_ref().map(RedisServer::url)
    }

    /// What nodes seal with, in a file.
    pub fn seal_key_file(&self) -> PathBuf {
        seal_key_file(self.dir())
    }

    /// Where a user's seed is.
    pub fn seed_path(&self, user: &User) -> PathBuf {
        user.seed_path(self.dir())
    }

    /// Logged in as this user, an agent or one of the bus's own.
    pub async fn connect(&self, user: impl Into<User>) -> Result<async_nats::Client, ConnectError> {
        tenants::connect(&self.nats_url(), self.dir(), user).await
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn node_mut(&mut self, index: usize) -> Option<&mut Node> {
        self.nodes.get_mut(index)
    }

    pub fn nats(&self) -> &NatsServer {
        &self.nats
    }

    pub fn nats_mut(&mut self) -> &mut NatsServer {
        &mut self.nats
    }

    pub fn redis(&self) -> Option<&RedisServer> {
        self.redis.as_ref()
    }

    pub fn redis_mut(&mut self) -> Option<&mut RedisServer> {
        self.redis.as_mut()
    }

    /// Servers of an earlier, killed run in the same folder that had to be ended first.
    pub fn leftovers(&self) -> &[String] {
        &self.leftovers
    }

    /// From nothing to ready.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Starts one more node and waits until it is ready.
    pub async fn add_node(&mut self) -> Result<&mut Node, StackError> {
        let number = self.nodes.len() + 1;
        if self.redis.is_none() && number > 1 {
            return Err(StackError::NodesNeedRedis { nodes: number });
        }
        if number > NODES_MAX {
            return Err(StackError::TooManyNodes { nodes: number });
        }
        self.link().await?;
        let node = Node::start(self.node_options(number)).await?;
        self.nodes.push(node);
        self.publish()?;
        let last = self.nodes.last_mut();
        last.ok_or_else(|| ServerError::NotRunning { name: format!("node-{number}") }.into())
    }

    /// Resolves when the first child has ended. Cancel safe. Keeps the logs bounded meanwhile.
    pub async fn death(&mut self) -> Death {
        loop {
            let ends = self.children_mut().map(|child| {
                Box::pin(async {
                    let exit = child.exited().await;
                    Death { name: child.name().to_owned(), exit, tail: child.tail() }
                })
            });
            if let Ok((death, ..)) = timeout(LOG_CHECK, select_all(ends)).await {
                return death;
            }
            self.children_mut().for_each(|child| child.trim_log());
        }
    }

    /// Nodes, then Redis, then NATS: each is asked, given its time, and killed after it. Tells how
    /// each ended.
    pub async fn stop(mut self) -> Vec<(String, Exit)> {
        self.resume_all();
        let mut ends = join_all(self.nodes.iter_mut().map(|node| async {
            let exit = node.stop().await;
            (node.name().to_owned(), exit)
        }))
        .await;
        if let Some(redis) = &mut self.redis {
            ends.push((redis.child().name().to_owned(), redis.stop().await));
        }
        ends.push((self.nats.child().name().to_owned(), self.nats.stop().await));
        self.folder.unpublish();
        ends
    }

    fn children_mut(&mut self) -> impl Iterator<Item = &mut Child> {
        let nodes = self.nodes.iter_mut().map(Node::child_mut);
        nodes.chain(self.redis.as_mut().map(RedisServer::child_mut)).chain([self.nats.child_mut()])
    }

    fn note_children(&self) -> Result<(), FolderError> {
        let nodes = self.nodes.iter().map(Node::child);
        let children = nodes.chain(self.redis.as_ref().map(RedisServer::child)).chain([self.nats.child()]);
        let noted: Vec<_> = children.map(|child| (child.name(), child.pid())).collect();
        self.folder.note_children(&noted)
    }

    fn publish(&self) -> Result<(), FolderError> {
        self.note_children()?;
        let node = |node: &Node| RunningNode { name: node.name().to_owned(), http: node.http() };
        self.folder.publish(&Running {
            pid: std::process::id(),
            nats_url: self.nats_url(),
            redis_url: self.redis_url(),
            nodes: self.nodes.iter().map(node).collect(),
        })
    }

    /// For the next node.
    async fn link(&mut self) -> Result<(), ServerError> {
        if self.options.chaos {
            self.links.push(Links::start(&self.nats, self.redis.as_ref()).await?);
        }
        Ok(())
    }

    fn node_options(&self, number: usize) -> NodeOptions {
        let StackOptions { executable, ports, .. } = &self.options;
        let mut config = self.node_config.clone();
        if let Some(links) = self.links.get(number.saturating_sub(1)) {
            node::merge(&mut config, &links.config());
        }
        NodeOptions {
            name: format!("node-{number}"),
            executable: executable.clone(),
            folder: self.dir().join("nodes"),
            config,
            http_port: node_port(*ports, number),
        }
    }
}

fn node_port(ports: Ports, number: usize) -> u16 {
    match ports.http {
        0 => 0,
        first => first.saturating_add(u16::try_from(number - 1).unwrap_or(u16::MAX)),
    }
}

fn check_nodes(options: &StackOptions) -> Result<(), StackError> {
    match (options.nodes, options.redis) {
        (nodes, _) if nodes > NODES_MAX => Err(StackError::TooManyNodes { nodes }),
        (nodes, false) if nodes > 1 => Err(StackError::NodesNeedRedis { nodes }),
        _ => Ok(()),
    }
}

fn check_ports(options: &StackOptions) -> Result<(), StackError> {
    let ports = options.ports;
    let mut wanted = vec![(ports.nats, "NATS", "--port")];
    if options.redis {
        wanted.push((ports.redis, "Redis", "--redis-port"));
    }
    let nodes = (1..=options.nodes).map(|number| (node_port(ports, number), "a node's HTTP", "--http-port"));
    for (port, purpose, flag) in wanted.into_iter().chain(nodes) {
        if port != 0 && !ports::is_free(port) {
            let holder = ports::holder(port).unwrap_or_else(|| "another process".into());
            return Err(StackError::PortTaken { port, purpose, holder, flag });
        }
    }
    Ok(())
}

fn write_server_conf(dir: &Path, sync: DiskSync) -> Result<(), ServerError> {
    let path = names::server_conf(dir);
    // The port is given when the server starts, so that a restart can keep a free one.
    let conf = ServerConf { sync, ..ServerConf::local(None, dir.join("jetstream")) };
    fs::write(&path, tenants::render_server_conf(&conf)).map_err(|cause| ServerError::File {
        what: "server configuration",
        path,
        cause,
    })
}

async fn provision(url: &str, dir: &Path, plan: &Plan) -> Result<(), StackError> {
    let client = tenants::connect(url, dir, BusUser::Provisioner).await?;
    tenants::provision(&client, plan, &StoreSettings::default()).await?;
    Ok(())
}

/// Beside the nodes' configurations: Redis has no need to know it.
fn seal_key_file(dir: &Path) -> PathBuf {
    dir.join("nodes").join("seal.key")
}

/// What all nodes share; each adds its name and its HTTP address.
fn node_config(
    nats: &NatsServer,
    redis: Option<&RedisServer>,
    dir: &Path,
    options: &StackOptions,
) -> toml::Table {
    let section = |pairs: &[(&str, String)]| -> toml::Value {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into()));
        toml::Table::from_iter(pairs).into()
    };
    let mut config = toml::Table::new();
    let path = |user: BusUser| User::from(user).seed_path(dir).to_string_lossy().into_owned();
    let nats = section(&[
        ("url", nats.url()),
        ("nkey_file", path(BusUser::Node)),
        ("kicker_nkey_file", path(BusUser::Kicker)),
    ]);
    config.insert("nats".into(), nats);
    if let Some(redis) = redis {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let redis = section(&[
            ("url", redis.url()),
            ("user", NODE_USER.to_owned()),
            ("password_file", text(redis.node_password_file())),
            ("seal_key_file", text(seal_key_file(dir))),
        ]);
        config.insert("redis".into(), redis);
    }
    if options.chaos {
        let chaos = toml::Table::from_iter([("allowed".to_owned(), true.into())]);
        config.insert("chaos".into(), chaos.into());
    }
    node::merge(&mut config, &options.node_overrides);
    config
}
