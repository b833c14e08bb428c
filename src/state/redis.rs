//! How do nodes share their state through Redis, and what happens while it is away?
//!
//! The only owner of fred. Each question is one script or one command, within one hash slot, with a
//! short time limit and one attempt: a question that may have been heard is not repeated here,
//! because claims are not idempotent and callers repeat whole messages anyway. While Redis does not
//! answer a probe, questions fail at once instead of waiting; the probe goes on without end.
//!
//! | key | what |
//! |---|---|
//! | `agentbus:{<tenant>}:agent:<id>` | a live agent's record as JSON; expires without heartbeats |
//! | `agentbus:{<tenant>}:agents` | sorted set of the tenant's agents by expiry |
//! | `agentbus:{<tenant>}:cap:<capability>` | sorted set of a capability's holders by expiry |
//! | `agentbus:epoch:{<tenant>}` | when the tenant's agents last changed, in µs of server time |
//! | `agentbus:{<tenant>}:msg:<sender>:<message_id>` | a claim or a verdict (`claim.lua`) |
//! | `agentbus:{<tenant>}:decision:<digest>` | the policy's answer to a question, as JSON (`answers.rs`) |
//! | `agentbus:{<tenant>}:labels:<conversation>` | sorted set of what the policy has labelled it with (`label.lua`) |
//! | `agentbus:{<tenant>}:labelled:<agent>` | sorted set of the conversations that its messages have labelled |
//! | `agentbus:{<tenant>}:cause:<agent>:<name>` | what led to what the agent got, by a name of that (`cause.lua`) |
//! | `agentbus:{<tenant>}:conversation:<agent>/<name>` | messages of the conversation that it began (`count.lua`) |
//! | `agentbus:{<tenant>}:followers:<agent>:<name>` | messages that it sent because of what it got by that name |
//! | `agentbus:breakers` | what nodes have seen of what they ask behind breakers (`breakers.lua`) |
//! | `agentbus:{<tenant>}:rate` | until when what its nodes have leased of its messages is paid for, in µs of server time (`lease.lua`) |
//! | `agentbus:{<tenant>}:hour:<agent>` | the same of one agent's messages |
//! | `agentbus:{<tenant>}:rule:<agent>:<module>` | the same of what a rule of the policy lets it send |
//! | `agentbus:{<tenant>}:past:<agent>:<scale>` | how often it sent of late, and how it was scored (`past.lua`) |

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fred::{
    clients::{Client, WithOptions},
    prelude::{ClientLike as _, LuaInterface as _, Value},
    types::{Key, config::Options, scripts::Script},
};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Lifetimes, StoreError,
    seal::{Seals, Trust},
};
use crate::{
    event_loop::PerLoop,
    skew::Skew,
    supervisor::Supervisor,
    tls::{self, TlsError},
};

mod agents;
mod alarm;
mod answers;
mod breakers;
mod causes;
mod connection;
mod labels;
mod limits;
mod messages;
mod past;
mod pipe;
mod refusal;
mod tracking;

use alarm::Alarm;
pub use alarm::Forgery;
use connection::{Connector, Watch};
use pipe::Pipe;
use refusal::Refusals;

/// What a node must know to use Redis.
#[derive(Clone)]
pub struct RedisSettings {
    /// May hold a password, so it is never shown.
    url: String,
    login: Option<Login>,
    /// What TLS goes by, where the URL asks for TLS.
    pub files: tls::Files,
    /// What is believed of what is read.
    pub trust: Trust,
    pub lifetimes: Lifetimes,
    /// After this time a question counts as not answered.
    pub command_timeout: Duration,
    /// Connections for commands. One more listens for invalidations.
    pub connections: usize,
    /// Where messages are governed; a loop that is none: where it is connected.
    pub runs_on: PerLoop<Option<Handle>>,
}

impl RedisSettings {
    /// `redis://[user:password@]host:port[/database]`, or the cluster or sentinel form of it.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            login: None,
            files: tls::Files::default(),
            trust: Trust::default(),
            lifetimes: Lifetimes::default(),
            command_timeout: Duration::from_millis(250),
            connections: 1,
            runs_on: PerLoop::one(None),
        }
    }

    /// Whether the URL and the files for TLS can be used, without connecting. Blocks.
    pub fn check(&self) -> Result<(), RedisUrlError> {
        Connector::new(self).map(drop)
    }

    /// Logs in so, whatever the URL says. Without a user it is Redis' user `default`.
    #[must_use]
    pub fn login(mut self, user: Option<String>, password: String) -> Self {
        self.login = Some(Login { user, password });
        self
    }
}

/// In no `Debug`.
#[derive(Clone)]
struct Login {
    user: Option<String>,
    password: String,
}

impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url: _, login: _, files, trust, lifetimes, command_timeout, connections, runs_on: _ } =
            self;
        f.debug_struct("RedisSettings")
            .field("files", files)
            .field("trust", trust)
            .field("lifetimes", lifetimes)
            .field("command_timeout", command_timeout)
            .field("connections", connections)
            .finish_non_exhaustive()
    }
}

/// Why a Redis URL cannot be used. The URL is not repeated: it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum RedisUrlError {
    #[error("expected redis://[user:password@]host:port[/database], or rediss:// for TLS")]
    Malformed,
    #[error("redis.tls: {0}")]
    Tls(#[from] TlsError),
}

/// Whether Redis answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Up,
    Down,
}

/// The registry and the record of messages in Redis.
pub struct RedisStore {
    commands: Vec<WithOptions<Client>>,
    next: AtomicUsize,
    /// For what each message asks.
    pipes: PerLoop<Pipe>,
    scripts: Scripts,
    seals: Seals,
    alarm: Arc<Alarm>,
    refusals: Arc<Refusals>,
    health: watch::Receiver<Health>,
    /// Asks for a probe now.
    doubt: Arc<Notify>,
    /// Tells that connections lead to the wrong server.
    moved: Arc<Notify>,
    settings: RedisSettings,
    connector: Connector,
    shutdown: CancellationToken,
    tracker: TaskTracker,
    supervisor: Supervisor,
}

impl RedisStore {
    /// Reads the files for TLS, starts connecting and returns; the store is `Down` until Redis answers. Cancel
    /// `shutdown` when nothing needs the store any more; all its tasks are in `tracker`, kept by `supervisor`.
    /// `skew` hears what time it is at Redis.
    pub fn connect(
        settings: RedisSettings,
        shutdown: CancellationToken,
        tracker: &TaskTracker,
        supervisor: &Supervisor,
        skew: &Skew,
    ) -> Result<Self, RedisUrlError> {
        let connector = Connector::new(&settings)?;
        let clients: Vec<Client> =
            (0..settings.connections.max(1)).map(|_| connector.command_client()).collect();
        // Deliberate: one attempt, and none while reconnecting. Whoever waits has a deadline.
        let options = Options {
            max_attempts: Some(1),
            timeout: Some(settings.command_timeout),
            fail_fast: true,
            ..Options::default()
        };
        let commands: Vec<_> = clients.iter().map(|client| client.with_options(&options)).collect();
        let (report, health) = watch::channel(Health::Down);
        let store = Self {
            commands,
            next: AtomicUsize::new(0),
            pipes: settings.runs_on.map(|_| Pipe::new()),
            scripts: Scripts::new(),
            seals: Seals::new(settings.trust.clone()),
            alarm: Arc::default(),
            refusals: Arc::default(),
            health,
            doubt: Arc::default(),
            moved: Arc::default(),
            settings,
            connector,
            shutdown,
            tracker: tracker.clone(),
            supervisor: supervisor.clone(),
        };
        if let Some(first) = clients.first() {
            store.keep_pipes(first);
        }
        for client in clients {
            store.keep_connected(client);
        }
        store.watch(report, skew.clone());
        Ok(store)
    }

    fn keep_connected(&self, client: Client) {
        let (refusals, stop) = (Arc::clone(&self.refusals), self.shutdown.clone());
        self.supervisor.keep_draining("redis connections", &self.tracker, self.shutdown.clone(), move || {
            connection::keep(client.clone(), Arc::clone(&refusals), stop.clone())
        });
    }

    fn keep_pipes(&self, client: &Client) {
        let limit = self.settings.command_timeout;
        for (pipe, runs_on) in self.pipes.iter().zip(self.settings.runs_on.iter()) {
            let refusals = Arc::clone(&self.refusals);
            let life = Arc::new(pipe.life(client.clone(), &self.connector, limit, refusals));
            let _on = runs_on.as_ref().map(Handle::enter);
            self.supervisor.keep("redis pipe", &self.tracker, self.shutdown.clone(), move || {
                let life = Arc::clone(&life);
                async move { life.run().await }
            });
        }
    }

    fn watch(&self, report: watch::Sender<Health>, skew: Skew) {
        let watch = Arc::new(Watch {
            clients: self.commands.clone(),
            refusals: Arc::clone(&self.refusals),
            report,
            doubt: Arc::clone(&self.doubt),
            moved: Arc::clone(&self.moved),
            skew,
        });
        let stop = self.shutdown.clone();
        self.supervisor.keep_draining("redis probe", &self.tracker, self.shutdown.clone(), move || {
            let (watch, stop) = (Arc::clone(&watch), stop.clone());
            async move { watch.run(stop).await }
        });
    }

    pub fn healthy(&self) -> bool {
        *self.health.borrow() == Health::Up
    }

    /// Redis answers, and has refused nothing since it last took a write.
    pub fn serves(&self) -> bool {
        self.healthy() && self.refusals.problem().is_none()
    }

    /// Changes with each loss and return of Redis.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Why Redis does not let this node in, or not do what it has to.
    pub fn refusal(&self) -> Option<String> {
        self.refusals.problem()
    }

    /// Whether something was found that no node wrote, and whether everything is believed as it is.
    pub fn distrust(&self) -> Option<String> {
        self.alarm.recent().or_else(|| self.seals.leniency())
    }

    /// Whether what is written is sealed, so that others can believe it.
    pub fn seals(&self) -> bool {
        self.seals.seals()
    }

    /// How often something of the kind was found.
    pub fn forged(&self, what: Forgery) -> u64 {
        self.alarm.count(what)
    }

    /// Waits until Redis answers, at most for `limit`, and says whether it does.
    pub async fn ready(&self, limit: Duration) -> bool {
        let mut health = self.health();
        let up = health.wait_for(|health| *health == Health::Up);
        matches!(tokio::time::timeout(limit, up).await, Ok(Ok(_)))
    }

    fn client(&self) -> Result<&WithOptions<Client>, StoreError> {
        if !self.healthy() {
            return Err(StoreError::Disconnected);
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.commands.len().max(1);
        self.commands.get(turn).ok_or(StoreError::Disconnected)
    }

    /// Runs a script by its digest. A server that does not have it (any more) gets its text.
    async fn run(&self, script: &Script, keys: Vec<Key>, args: Vec<Value>) -> Result<Value, StoreError> {
        let client = self.client()?;
        let answer = client.evalsha(script.sha1().clone(), keys.clone(), args.clone()).await;
        let answer = match (answer, script.lua()) {
            (Err(error), Some(lua)) if error.details().starts_with("NOSCRIPT") => {
                client.eval(lua.clone(), keys, args).await
            }
            (answer, _) => answer,
        };
        answer.map_err(|error| self.failed(&error))
    }

    /// Runs a script about one message or its sender, in one write with those of others where there are many.
    async fn run_for_message(
        &self,
        script: &Script,
        key: Key,
        args: Vec<Value>,
    ) -> Result<Value, StoreError> {
        if !self.healthy() {
            return Err(StoreError::Disconnected);
        }
        match self.pipes.here().run(script, &key, &args).await {
            Some(Err(error)) if !error.details().starts_with("NOSCRIPT") => Err(self.failed(&error)),
            Some(Ok(answer)) => Ok(answer),
            // fred's futures are large, and these are rare.
            Some(Err(_)) | None => Box::pin(self.run(script, vec![key], args)).await,
        }
    }

    /// What the caller may know; the rest goes to the log.
    fn failed(&self, error: &fred::error::Error) -> StoreError {
        let known = connection::store_error(error, self.settings.command_timeout);
        self.refusals.note(error);
        match known {
            StoreError::Timeout { .. } | StoreError::Disconnected | StoreError::Full => {
                tracing::debug!(%error, "redis did not do it");
                self.doubt.notify_one();
            }
            StoreError::Unexpected { .. } | StoreError::BreakerOpen { .. } => {
                tracing::warn!(%error, "redis refused");
            }
        }
        known
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The scripts, each in its own file, called by the digest of its text.
struct Scripts {
    register: Script,
    heartbeat: Script,
    reseal: Script,
    unregister: Script,
    members: Script,
    epoch: Script,
    claim: Script,
    settle: Script,
    release: Script,
    past: Script,
    labels: Script,
    label: Script,
    breakers: Script,
    lease: Script,
    cause: Script,
    follow: Script,
    count: Script,
}

/// A script after what it needs: how to read, and for those about agents, what indexes are.
macro_rules! script {
    (agents: $file:literal) => {
        Script::from_lua(concat!(
            include_str!("redis/read.lua"),
            include_str!("redis/index.lua"),
            include_str!($file)
        ))
    };
    ($file:literal) => {
        Script::from_lua(concat!(include_str!("redis/read.lua"), include_str!($file)))
    };
}

impl Scripts {
    fn new() -> Self {
        Self {
            register: script!(agents: "redis/register.lua"),
            heartbeat: script!(agents: "redis/heartbeat.lua"),
            reseal: script!("redis/reseal.lua"),
            unregister: script!(agents: "redis/unregister.lua"),
            members: script!(agents: "redis/members.lua"),
            epoch: script!(agents: "redis/epoch.lua"),
            claim: script!("redis/claim.lua"),
            settle: script!("redis/settle.lua"),
            release: script!("redis/release.lua"),
            past: script!("redis/past.lua"),
            labels: script!("redis/labels.lua"),
            label: script!("redis/label.lua"),
            breakers: script!("redis/breakers.lua"),
            lease: script!("redis/lease.lua"),
            cause: script!("redis/cause.lua"),
            follow: script!("redis/follow.lua"),
            count: script!("redis/count.lua"),
        }
    }
}

fn unexpected(found: impl Into<String>) -> StoreError {
    StoreError::Unexpected { found: found.into() }
}
