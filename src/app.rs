//! The composition root: makes a node out of its parts, runs it and takes it down in order.
//!
//! The only place that names concrete backends.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use async_nats::{Client, ConnectErrorKind, connection::State};
use parking_lot::Mutex;

use crate::{
    admin::{self, Health, Part, PartState, Report},
    bus::{self, Agents, Bus, BusError, Micro, Outbox},
    config::{self, NodeConfig},
    domain::{Tenant, TenantId, Timestamp},
    impact::{self, Assessor, Meter, Senders, semantic},
    pipeline::{Admission, AdmissionLimits, Limits, Pipeline, Rotation, Tenants},
    policy::{Gate, PolicyEngine as _, PolicySources, RegoEngine},
    shutdown::Shutdown,
    state::{
        CachedRegistry, Idempotency, Lifetimes, MemoryStore, Pasts, RedisSettings, RedisStore, Registry,
    },
    telemetry::{Metrics, PolicyCounts},
    tenants::{Directory, plan::CONTENT_BYTES_MAX},
    wire,
};

/// A node that has not been connected for so long should be restarted.
const DISCONNECTED_MAX: Duration = Duration::from_secs(30);

/// How long a starting node waits for Redis before it starts without.
const REDIS_WAIT: Duration = Duration::from_secs(2);

/// How long the model's threads may work off what nobody waits for.
const MODEL_DRAIN: Duration = Duration::from_secs(1);

/// Runs a node until `shutdown` is requested and everything in flight has ended.
pub async fn run(config: NodeConfig, shutdown: Shutdown) -> anyhow::Result<()> {
    // What messages in flight still need lives longer than the intake.
    let background = Shutdown::default();
    let metrics = Arc::new(Metrics::new(&config.node.name));
    let engine = load_policy(&config.policy)?;
    let health = Arc::new(NodeHealth::new(&config.node.name, Arc::clone(&metrics)));
    let http = admin::start(config.http.listen, Arc::clone(&health) as Arc<dyn Health>, background.clone())
        .await
        .with_context(|| format!("http.listen {}", config.http.listen))?;
    tracing::info!(node = config.node.name, %http, policy = %engine.revision(), "starting");

    // Before it is connected: loading takes a moment, and readiness waits for it.
    let model = load_model(&config.impact, &metrics).await?;
    health.model(&model);
    let Some(client) = connect(&config, &metrics, &shutdown).await? else { return Ok(()) };
    let directory = Directory::watch(&client, background.token().clone(), background.tracker());
    let stores = Stores::open(&config, &background)?;
    let outbox =
        Arc::new(Outbox::start(&config.node.name, &config.nats, client.clone(), Arc::clone(&metrics))?);
    let wire_limits = wire::Limits {
        request_bytes: config.limits.request_bytes,
        // What any tenant can be given; its own limit comes after decoding.
        content_bytes: CONTENT_BYTES_MAX,
        ..wire::Limits::default()
    };
    let senders = Arc::new(Senders::sharing(config.impact.senders_max, Arc::clone(&stores.pasts)));
    background.tracker().spawn(Arc::clone(&senders).keep(wall_clock, background.token().clone()));
    let pipeline = Arc::new(Pipeline {
        node: config.node.name.clone(),
        limits: Limits {
            wire: wire_limits.clone(),
            deadline: config.limits.deadline,
            clock_skew: config.limits.clock_skew,
        },
        admission: Arc::new(Admission::new(AdmissionLimits {
            in_flight: config.limits.in_flight,
            in_flight_per_tenant: config.limits.in_flight_per_tenant,
        })),
        constitutions: config.constitutions()?,
        tenants: Arc::clone(&directory) as Arc<dyn Tenants>,
        registry: Arc::clone(&stores.registry),
        idempotency: Arc::clone(&stores.idempotency),
        gate: Gate::new(Arc::new(engine)),
        assessor: Assessor::new(Arc::clone(&model.scorer), config.impact.clone(), Arc::clone(&senders))?
            .metered(Arc::clone(&metrics) as Arc<dyn Meter>),
        rotation: Rotation::new(),
        courier: Arc::clone(&outbox) as Arc<dyn crate::pipeline::Courier>,
        clock: wall_clock,
        metrics: Arc::clone(&metrics),
        tasks: shutdown.tracker().clone(),
    });
    let agents = Agents {
        registry: Arc::clone(&stores.registry),
        tenants: Arc::clone(&directory) as Arc<dyn Tenants>,
        admission: Arc::clone(&pipeline.admission),
        metrics: Arc::clone(&metrics),
        limits: wire_limits,
        ttl: config.registry.ttl,
        deadline: config.limits.deadline,
    };
    let bus = Arc::new(Bus::new(
        client.clone(),
        Arc::clone(&pipeline),
        agents,
        Micro::new(&config.node.name),
        2 * config.limits.in_flight,
    ));
    health.serve(Serving {
        client,
        directory: Arc::clone(&directory),
        stores: stores.clone(),
        pipeline,
        outbox: Arc::clone(&outbox),
    });

    // A node that knows no tenants, or cannot deliver, takes no requests: others of the queue group
    // answer them.
    tokio::select! {
        () = async { tokio::join!(directory.ready(), outbox.ready()); } => {}
        () = shutdown.requested() => {}
    }
    // Not for ever: without Redis a node starts all the same, and says that it is degraded.
    if let Some(redis) = &stores.redis
        && !shutdown.is_requested()
        && !redis.ready(REDIS_WAIT).await
    {
        tracing::warn!("redis does not answer; starting without it");
    }
    if !shutdown.is_requested() {
        bus.start(&shutdown).await?;
        health.started();
        tracing::info!(node = config.node.name, tenants = directory.tenants().len(), "serving");
    }

    shutdown.requested().await;
    health.stopping();
    tracing::info!("stopping: no new requests, finishing those in flight");
    if !shutdown.finished_within(config.node.drain).await {
        tracing::warn!("some requests did not finish in time; their senders ask again");
    }
    if let Some(pool) = &model.pool
        && !pool.close(MODEL_DRAIN).await
    {
        tracing::warn!("the model's threads did not end in time");
    }
    if !outbox.flush(Duration::from_secs(1)).await {
        tracing::warn!("some records are not confirmed");
    }
    bus.close().await;
    senders.flush_all(wall_clock(), Duration::from_millis(250)).await;
    background.request();
    background.finished_within(Duration::from_millis(500)).await;
    tracing::info!("stopped");
    Ok(())
}

/// The shipped modules and the operator's own, compiled.
pub fn load_policy(policy: &config::Policy) -> anyhow::Result<RegoEngine> {
    let sources = PolicySources::read(policy.dir.as_deref(), policy.shipped).context("policy")?;
    RegoEngine::load(&sources).context("policy")
}

/// Loads the model on a thread that may block. A node whose model does not work runs without, loudly.
async fn load_model(
    settings: &impact::Settings,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<semantic::Prepared> {
    let (settings, meter) = (settings.clone(), Arc::clone(metrics) as Arc<dyn Meter>);
    let started = Instant::now();
    let prepared = tokio::task::spawn_blocking(move || semantic::prepare(&settings, &meter)).await?;
    match &prepared.state {
        Ok(model) => tracing::info!(model, took = ?started.elapsed(), "impact scorer ready"),
        Err(cause) => tracing::error!(
            cause,
            "no impact model: messages whose words could matter are not delivered; mend impact.model_dir \
             and restart, or set impact.scorer = \"keywords\""
        ),
    }
    Ok(prepared)
}

/// Waits for NATS as long as it takes, unless it says that this node is not welcome.
async fn connect(
    config: &NodeConfig,
    metrics: &Arc<Metrics>,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<Client>> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let error =
            match bus::connect(&config.node.name, &config.nats, config.limits.in_flight, Arc::clone(metrics))
                .await
            {
                Ok(client) => return Ok(Some(client)),
                Err(error) => error,
            };
        match &error {
            BusError::Connect { cause, .. } if !refused(cause.kind()) => {
                tracing::warn!(%error, attempts, "NATS does not answer; trying again");
            }
            _ => bail!(error),
        }
        tokio::select! {
            () = tokio::time::sleep(bus::reconnect_delay(attempts)) => {}
            () = shutdown.requested() => return Ok(None),
        }
    }
}

fn refused(kind: ConnectErrorKind) -> bool {
    matches!(kind, ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation)
}

fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Tenants for Directory {
    fn tenant(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        Directory::tenant(self, id)
    }
}

/// What nodes share, over Redis or in this process's memory.
#[derive(Clone)]
struct Stores {
    registry: Arc<dyn Registry>,
    idempotency: Arc<dyn Idempotency>,
    pasts: Arc<dyn Pasts>,
    /// Absent: in memory.
    redis: Option<Arc<RedisStore>>,
}

impl Stores {
    fn open(config: &NodeConfig, background: &Shutdown) -> anyhow::Result<Self> {
        let lifetimes = Lifetimes {
            agent: config.registry.ttl,
            window: config.idempotency.window,
            lease: config.idempotency.lease,
        };
        let Some(redis) = &config.redis else {
            tracing::warn!("no redis.url: registry and repeats are kept in this process's memory only");
            let store = Arc::new(MemoryStore::new(lifetimes));
            return Ok(Self {
                registry: Arc::clone(&store) as Arc<dyn Registry>,
                idempotency: Arc::clone(&store) as Arc<dyn Idempotency>,
                pasts: store,
                redis: None,
            });
        };
        let mut settings = RedisSettings::new(&redis.url);
        settings.lifetimes = lifetimes;
        let store = Arc::new(
            RedisStore::connect(settings, background.token().clone(), background.tracker())
                .context("redis.url")?,
        );
        Ok(Self {
            registry: Arc::new(CachedRegistry::new(Arc::clone(&store))),
            idempotency: Arc::clone(&store) as Arc<dyn Idempotency>,
            pasts: Arc::clone(&store) as Arc<dyn Pasts>,
            redis: Some(store),
        })
    }
}

/// The node's health, as far as it has come.
struct NodeHealth {
    node: String,
    metrics: Arc<Metrics>,
    serving: OnceLock<Serving>,
    /// What the words are scored with, or why they are not.
    model: OnceLock<Result<String, String>>,
    phase: Mutex<Phase>,
    disconnected_since: Mutex<Option<Instant>>,
}

struct Serving {
    client: Client,
    directory: Arc<Directory>,
    stores: Stores,
    pipeline: Arc<Pipeline>,
    outbox: Arc<Outbox>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Serving,
    Stopping,
}

impl NodeHealth {
    fn new(node: &str, metrics: Arc<Metrics>) -> Self {
        Self {
            node: node.to_owned(),
            metrics,
            serving: OnceLock::new(),
            model: OnceLock::new(),
            phase: Mutex::new(Phase::Starting),
            disconnected_since: Mutex::new(None),
        }
    }

    fn serve(&self, serving: Serving) {
        // Called once; a second value would be dropped.
        let _ = self.serving.set(serving);
    }

    fn model(&self, model: &semantic::Prepared) {
        let _ = self.model.set(model.state.clone());
    }

    fn started(&self) {
        *self.phase.lock() = Phase::Serving;
    }

    fn stopping(&self) {
        *self.phase.lock() = Phase::Stopping;
    }

    fn nats(&self) -> Part {
        let connected = self.serving.get().is_some_and(|s| s.client.connection_state() == State::Connected);
        let mut since = self.disconnected_since.lock();
        if connected {
            *since = None;
            return Part { name: "nats", state: PartState::Up, note: String::new() };
        }
        let away = since.get_or_insert_with(Instant::now).elapsed();
        let note = format!("not connected for {} s; trying again without end", away.as_secs());
        Part { name: "nats", state: PartState::Down, note }
    }

    fn outbox(&self) -> Part {
        let outbox = self.serving.get().map(|serving| &serving.outbox).filter(|outbox| outbox.connected());
        let (state, note) = match outbox.map(|outbox| outbox.records_late()) {
            None => (PartState::Down, "the connection for deliveries is not there".to_owned()),
            Some(None) => (PartState::Up, String::new()),
            Some(Some(late)) => {
                let late = late.as_secs();
                (
                    PartState::Degraded,
                    format!("JetStream has not confirmed records for {late} s: nothing is delivered"),
                )
            }
        };
        Part { name: "outbox", state, note }
    }

    fn tenants(&self) -> Part {
        let directory = self.serving.get().map(|serving| &serving.directory).filter(|d| d.is_ready());
        match directory.map(|directory| directory.tenants().len()) {
            Some(0) => Part {
                name: "tenants",
                state: PartState::Degraded,
                note: "the directory is empty; publish tenants by `agentbus tenants apply`".to_owned(),
            },
            Some(count) => Part { name: "tenants", state: PartState::Up, note: format!("{count} tenants") },
            None => Part {
                name: "tenants",
                state: PartState::Down,
                note: "the directory is not read yet; is the bus provisioned (`agentbus tenants apply`)?"
                    .to_owned(),
            },
        }
    }

    fn scorer(&self) -> Part {
        let (state, note) = match self.model.get() {
            None => (PartState::Down, "not loaded yet".to_owned()),
            Some(Ok(model)) => (PartState::Up, model.clone()),
            Some(Err(cause)) => (
                PartState::Degraded,
                format!("none: messages whose words could matter are not delivered ({cause})"),
            ),
        };
        Part { name: "model", state, note }
    }

    fn store(&self) -> Part {
        let stores = self.serving.get().map(|serving| &serving.stores);
        let (state, note) = match stores.map(|stores| stores.redis.as_ref().map(|redis| redis.healthy())) {
            None => (PartState::Down, "not opened yet"),
            Some(None) => (PartState::Up, "in memory: this node shares nothing with others"),
            Some(Some(true)) => (PartState::Up, "redis"),
            Some(Some(false)) => {
                (PartState::Degraded, "redis does not answer: messages are refused, retryable, until it does")
            }
        };
        Part { name: "store", state, note: note.to_owned() }
    }
}

impl Health for NodeHealth {
    fn report(&self) -> Report {
        let phase = match *self.phase.lock() {
            Phase::Starting => (PartState::Down, "starting"),
            Phase::Serving => (PartState::Up, "serving"),
            Phase::Stopping => (PartState::Down, "stopping: finishing requests in flight"),
        };
        let parts = vec![
            Part { name: "node", state: phase.0, note: phase.1.to_owned() },
            self.nats(),
            self.outbox(),
            self.tenants(),
            self.store(),
            self.scorer(),
        ];
        let away = self.disconnected_since.lock().map(|since| since.elapsed());
        // A node that never was connected waits for NATS; a restart would not help it.
        let live = self.serving.get().is_none() || away.is_none_or(|away| away < DISCONNECTED_MAX);
        Report { node: self.node.clone(), live, parts }
    }

    fn metrics(&self) -> String {
        if let Some(serving) = self.serving.get() {
            let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
            self.metrics.tenants.set(count(serving.directory.tenants().len()));
            self.metrics.in_flight.set(count(serving.pipeline.admission.in_flight()));
            let gate = serving.pipeline.gate.counters();
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            self.metrics.policy(PolicyCounts {
                cached: read(&gate.hits),
                evaluated: read(&gate.misses) + read(&gate.uncached),
                denied: read(&gate.denied),
                unavailable: read(&gate.unavailable),
            });
            self.metrics
                .store_healthy
                .set(serving.stores.redis.as_ref().is_none_or(|redis| redis.healthy()).into());
        }
        self.metrics.encode()
    }
}
