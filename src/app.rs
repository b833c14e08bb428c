//! The composition root: makes a node out of its parts, runs it and takes it down in order.
//!
//! The only place that names concrete backends.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use async_nats::{Client, ConnectErrorKind};
use async_trait::async_trait;

use crate::{
    admin::{self, Health},
    config::{self, NodeConfig},
    cpu::{self, Cpu},
    deliberation::DeliberationLog,
    domain::{Tenant, TenantId, Timestamp},
    health::Part,
    impact::{self, Assessor, Meter, Senders, semantic},
    lanes::{
        Admission, AdmissionLimits, DurableLane, Lanes, Limits, QuestionLimits, Questions, RetryGrace,
        Rotation, Tenants,
    },
    nats::{
        self, Bus, BusError, DeadlineWorker, Deliberations, Inbound, JetStreamLane, LearnedBucket, Link,
        Micro, Outbox, Peers, RecordsProbe, RoundTrips, StreamUsage, WebhookDispatcher,
    },
    policy::{Gate, OffRuntime, PolicyEngine as _, PolicySources, RegoEngine},
    review::{Agents, AllTenants, Deadlines, LearnedStore, Release, Reviewers, SingleFlight, Thresholds},
    shutdown::Shutdown,
    skew::{Skew, wall_clock},
    state::{
        CachedRegistry, Idempotency, Lifetimes, MemoryStore, RedisSettings, RedisStore, Registry, SealKeys,
        SenderHistoryStore, Trust,
    },
    supervisor::Supervisor,
    telemetry::Metrics,
    tenants::{Directory, plan::CONTENT_BYTES_MAX},
    wire,
};

mod check;
mod event_loop;
mod health;
mod reach;
mod reload;

pub use check::{Checked, check};
use event_loop::EventLoop;
use health::{Connections, LanePart, Name, NodeHealth, Numbers, Policy, Scorer};
pub use reach::{Tried, reach};
pub use reload::Reload;

/// Of a request that bears no message: a registration with all that it may say has a third of it.
const SMALL_REQUEST_BYTES_MAX: usize = 16 * 1024;

/// How long a starting node waits for Redis before it starts without.
const REDIS_WAIT: Duration = Duration::from_secs(2);

/// How long it waits for somebody to compare its clock with.
const CLOCK_WAIT: Duration = Duration::from_secs(2);

/// How long it waits for learned thresholds.
const THRESHOLDS_WAIT: Duration = Duration::from_secs(2);

/// Who stops a node often waits ten seconds and kills it then. With the 8 s that `node.drain` is unless
/// configured, and what follows it one after the other, it is 8 + 0.75 + 0.5 + 0.5 = 9.75 s at most.
/// First what is told to others, side by side: records, senders' pasts, the model's last scores.
const TELL_LIMIT: Duration = Duration::from_millis(750);
/// Then the goodbye to NATS.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);
/// A node of which a part is gone stops within this.
const FAILED_WITHIN: Duration = Duration::from_secs(3);
/// Last, what ran beside the messages.
const BACKGROUND_LIMIT: Duration = Duration::from_millis(500);

/// Runs a node until `shutdown` is requested and everything in flight has ended, or until a part of it cannot
/// be mended.
pub async fn run(config: NodeConfig, reload: Reload, shutdown: Shutdown) -> anyhow::Result<()> {
    run_with(config, Some(reload), shutdown, Supervisor::default(), wall_clock).await
}

/// The same, with a hand on its parts and its clock; without a `reload` no signal is listened to.
pub async fn run_with(
    config: NodeConfig,
    reload: Option<Reload>,
    shutdown: Shutdown,
    supervisor: Supervisor,
    clock: fn() -> Timestamp,
) -> anyhow::Result<()> {
    let ends = shutdown.clone();
    let given_up = async {
        supervisor.failed().await;
        // What is in flight is finished all the same, as far as it can be.
        ends.request();
        tokio::time::sleep(FAILED_WITHIN).await;
    };
    let ended = tokio::select! {
        ended = serve(config, reload, shutdown, supervisor.clone(), clock) => ended,
        () = given_up => Ok(()),
    };
    match supervisor.failure() {
        Some(why) => bail!("a part of the node has ended: {why}"),
        None => ended,
    }
}

async fn serve(
    config: NodeConfig,
    reload: Option<Reload>,
    shutdown: Shutdown,
    supervisor: Supervisor,
    clock: fn() -> Timestamp,
) -> anyhow::Result<()> {
    // What messages in flight still need lives longer than the intake.
    let background = Shutdown::default();
    let metrics = Arc::new(Metrics::new(&config.node.name));
    metrics.polls.time_by(config.node.poll_clock);
    let timing = Arc::clone(&metrics);
    supervisor.timed_by(Box::new(move |part, poll| timing.polls.time(part, poll)));
    let Checked { engine, webhook, redis } = Checked::read(&config).await?;
    let listener = check::listen(&config.http).await?;
    metrics.governed_by(engine.revision());
    let cpu = Cpu::start((&config.cpu).into(), Arc::clone(&metrics) as Arc<dyn cpu::Meter>);
    let cpu = Arc::new(cpu.context("cpu.threads")?);
    let health = Arc::new(NodeHealth::new(&config.node.name, Arc::clone(&metrics)));
    let reported = Arc::clone(&health) as Arc<dyn Health>;
    let http = admin::start(
        listener,
        &config.http,
        reported,
        Arc::clone(&metrics),
        background.clone(),
        &supervisor,
    )?;
    tracing::info!(node = config.node.name, %http, policy = %engine.revision(), "starting");
    let reloaded = webhook.as_ref().map(|(webhook, _)| webhook.clone());
    if let Some(reload) = reload {
        reload.keep(config.clone(), reloaded, &background, &supervisor);
    }

    // Before it is connected: loading takes a moment, and readiness waits for it.
    let model = load_model(&config.impact, &metrics).await?;
    let scorer = Scorer::new(model.state.clone());
    health.add("model", Arc::clone(&scorer) as Arc<dyn Part>);
    let Some(client) = connect(&config, &metrics, &shutdown).await? else { return Ok(()) };
    let every = config.nats.ping_interval;
    let jetstream = RoundTrips::watch("jetstream", client.clone(), every, &background, &supervisor);
    let skew = Skew::new(clock, config.node.clock_tolerance);
    nats::watch_server_time(client.clone(), skew.clone(), &background, &supervisor);
    let records = RecordsProbe::watch(client.clone(), &background, &supervisor);
    let directory = Directory::new();
    let (followed, reader) = (Arc::clone(&directory), client.clone());
    supervisor.keep("directory", background.tracker(), background.token().clone(), move || {
        let (directory, client) = (Arc::clone(&followed), reader.clone());
        async move { directory.follow(&client).await }
    });
    let thresholds = Thresholds::new(
        LearnedBucket::new(client.clone()) as Arc<dyn LearnedStore>,
        Arc::clone(&directory) as Arc<dyn AllTenants>,
        &config.node.name,
        clock,
        Arc::clone(&metrics),
        semantic::scales(&*model.scorer, &model.heads),
    );
    let learned = Arc::clone(&thresholds);
    supervisor.keep("thresholds", background.tracker(), background.token().clone(), move || {
        Arc::clone(&learned).follow()
    });
    let lane_loop = EventLoop::start("lane-0").context("the thread of the fast lane")?;
    let redis = redis.map(|mut settings| {
        settings.runs_on = Some(lane_loop.handle().clone());
        settings
    });
    let stores = Stores::open(&config, redis, &background, &supervisor, &skew)?;
    let questions = Arc::new(Questions::new(QuestionLimits {
        waiting: config.limits.asks,
        waiting_per_tenant: config.limits.asks_per_tenant,
        within: config.limits.answer,
    }));
    let outbox = Arc::new(Outbox::start(
        &config.node.name,
        &config.nats,
        client.clone(),
        Arc::clone(&metrics),
        questions.node(),
        (lane_loop.handle(), &background, &supervisor),
    )?);
    let wire_limits = wire::Limits {
        request_bytes: config.limits.request_bytes,
        // What any tenant can be given; its own limit comes after decoding.
        content_bytes: CONTENT_BYTES_MAX,
        ..wire::Limits::default()
    };
    let senders = Arc::new(Senders::sharing(config.impact.senders_max, Arc::clone(&stores.pasts)));
    let (kept, stop) = (Arc::clone(&senders), background.token().clone());
    supervisor.keep("senders", background.tracker(), background.token().clone(), move || {
        Arc::clone(&kept).keep(clock, stop.clone())
    });
    let deliberations = Arc::new(Deliberations::new(
        client.clone(),
        Arc::clone(&directory) as Arc<dyn Tenants>,
        Arc::clone(&metrics),
        Arc::clone(&cpu),
    ));
    let (name, max) = (&config.node.name, client.max_payload());
    let lane =
        JetStreamLane::connect(name, &config.nats, max, Arc::clone(&metrics), &background, &supervisor)
            .await?;
    let lane = Arc::new(lane);
    let lanes = Arc::new(Lanes {
        node: config.node.name.clone(),
        limits: Limits {
            wire: wire_limits.clone(),
            deadline: config.limits.deadline,
            clock_skew: config.limits.clock_skew,
            give_up_after: config.durable.give_up_after,
        },
        admission: Arc::new(Admission::new(AdmissionLimits {
            in_flight: config.limits.in_flight,
            in_flight_per_tenant: config.limits.in_flight_per_tenant,
        })),
        constitutions: config.constitutions()?,
        tenants: Arc::clone(&thresholds) as Arc<dyn Tenants>,
        registry: Arc::clone(&stores.registry),
        idempotency: Arc::clone(&stores.idempotency),
        gate: Gate::new(Arc::new(OffRuntime::new(engine, Arc::clone(&cpu)))),
        cpu: Arc::clone(&cpu),
        assessor: Assessor::new(Arc::clone(&model.scorer), config.impact.clone(), Arc::clone(&senders))?
            .with_heads(model.heads.clone())
            .metered(Arc::clone(&metrics) as Arc<dyn Meter>),
        rotation: Rotation::new(),
        questions,
        live: Arc::clone(&outbox) as Arc<dyn crate::lanes::LiveTransport>,
        lane: Arc::clone(&lane) as Arc<dyn DurableLane>,
        deliberations: Arc::clone(&deliberations) as Arc<dyn DeliberationLog>,
        grace: RetryGrace::default(),
        clock,
        skew: skew.clone(),
        metrics: Arc::clone(&metrics),
        tasks: shutdown.tracker().clone(),
    });
    let agents = Agents {
        registry: Arc::clone(&stores.registry),
        tenants: Arc::clone(&directory) as Arc<dyn Tenants>,
        admission: Arc::clone(&lanes.admission),
        metrics: Arc::clone(&metrics),
        // Read where it came in; what is not a message is never large.
        limits: wire::Limits {
            request_bytes: wire_limits.request_bytes.min(SMALL_REQUEST_BYTES_MAX),
            ..wire_limits
        },
        ttl: config.registry.ttl,
        deadline: config.limits.deadline,
    };
    let reviewers = Reviewers {
        log: Arc::clone(&deliberations) as Arc<dyn DeliberationLog>,
        tenants: Arc::clone(&directory) as Arc<dyn Tenants>,
        admission: Arc::clone(&lanes.admission),
        live: Arc::clone(&outbox) as Arc<dyn crate::lanes::LiveTransport>,
        metrics: Arc::clone(&metrics),
        limits: agents.limits.clone(),
        clock,
        deadline: config.limits.deadline,
        node: config.node.name.clone(),
        single_flight: SingleFlight::default(),
        cpu: Arc::clone(&cpu),
    };
    let webhooks = webhook.map(|(webhook, attempts)| {
        WebhookDispatcher::new(
            client.clone(),
            webhook,
            attempts,
            clock,
            Arc::clone(&metrics),
            Arc::clone(&cpu),
        )
    });
    let stream_usage = StreamUsage::new(client.clone(), Arc::clone(&directory), Arc::clone(&metrics));
    let deadlines = Deadlines {
        log: Arc::clone(&deliberations) as Arc<dyn DeliberationLog>,
        lanes: Arc::clone(&lanes) as Arc<dyn Release>,
        thresholds: Arc::clone(&thresholds),
        clock,
    };
    let deadlines = DeadlineWorker::new(client.clone(), deadlines, skew.clone(), Arc::clone(&metrics));
    let bus = Arc::new(Bus::new(
        client.clone(),
        Arc::clone(&lanes),
        agents,
        reviewers,
        Micro::new(&config.node.name),
        2 * config.limits.in_flight,
    ));
    let config::Limits { in_flight, in_flight_per_tenant, .. } = config.limits;
    let inbound =
        Arc::new(Inbound::new(Arc::clone(&lane), Arc::clone(&lanes), in_flight, in_flight_per_tenant));
    let (intake, delivering, storing, reading) =
        (Arc::clone(&bus), Arc::clone(&outbox), Arc::clone(&lane), client.clone());
    let links = move || {
        let ours = [intake.link(), delivering.link(), Some(storing.link()), Some(Link::of(&reading))];
        ours.into_iter().flatten().collect()
    };
    let peers = Peers::new(&config.node.name, client.clone(), &config.nats, links).await?;
    health.connected_by(Connections {
        bus: Arc::clone(&bus),
        jetstream,
        lane: Arc::clone(&lane),
        started: health.started,
    });
    scorer.asked_by(&lanes);
    let parts: [(&str, Arc<dyn Part>); 12] = [
        ("name", Arc::new(Name { node: config.node.name.clone(), peers: Arc::clone(&peers) })),
        ("clock", Arc::new(skew.clone())),
        ("outbox", Arc::clone(&outbox) as _),
        ("records", records),
        ("lane", Arc::new(LanePart { lane: Arc::clone(&lane), inbound: Arc::clone(&inbound) })),
        ("tenants", Arc::clone(&directory) as _),
        ("store", Arc::new(stores.clone())),
        ("policy", Arc::new(Policy(Arc::clone(&lanes)))),
        ("deliberations", Arc::new(deadlines.clone())),
        ("streams", Arc::clone(&stream_usage) as _),
        ("thresholds", Arc::clone(&thresholds) as _),
        ("restarts", Arc::new(supervisor.clone())),
    ];
    let webhook = webhooks.clone().map(|webhook| ("webhook", webhook as Arc<dyn Part>));
    parts.into_iter().chain(webhook).for_each(|(name, part)| health.add(name, part));
    health.numbers(Numbers {
        directory: Arc::clone(&directory),
        lanes,
        skew: skew.clone(),
        stores: stores.clone(),
        thresholds: Arc::clone(&thresholds),
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
        let why = redis.refusal().unwrap_or_else(|| "it does not answer".to_owned());
        tracing::warn!(why, "starting without redis");
    }
    if !shutdown.is_requested() && tokio::time::timeout(THRESHOLDS_WAIT, thresholds.ready()).await.is_err() {
        tracing::warn!("learned thresholds cannot be read; for tenants that learn, the floor is in force");
    }
    skew_is_right(&skew, &shutdown).await;
    if !shutdown.is_requested() {
        shutdown.work_begins();
        match bus.start(&config.node.name, &config.nats, &shutdown, &background, (lane_loop.handle(), &supervisor)).await {
            // It was told to stop before NATS has heard of it.
            Err(BusError::Intake) if shutdown.is_requested() => {}
            started => started?,
        }
        peers.start(&background, &supervisor);
        deadlines.start(directory.clone(), &shutdown, &supervisor);
        inbound.start(directory.clone(), &shutdown, &supervisor);
        stream_usage.start(&shutdown, &supervisor);
        if let Some(webhooks) = &webhooks {
            webhooks.start(directory.clone(), skew.clone(), &shutdown, &supervisor);
        }
        health.started();
        tracing::info!(node = config.node.name, tenants = directory.tenants().len(), "serving");
    }

    shutdown.requested().await;
    health.stopping();
    tracing::info!("stopping: no new requests, finishing those in flight");
    if !shutdown.finished_within(config.node.drain).await {
        tracing::warn!("some requests did not finish in time; their senders ask again");
    }
    let model_ends = async {
        let all = model.pools.iter().map(|pool| pool.close(TELL_LIMIT));
        futures_util::future::join_all(all).await.into_iter().all(|ended| ended)
    };
    let (model_ended, cpu_ended, recorded, ()) = tokio::join!(
        model_ends,
        cpu.close(TELL_LIMIT),
        outbox.flush(TELL_LIMIT),
        senders.flush_all(clock(), TELL_LIMIT),
    );
    if !model_ended {
        tracing::warn!("the model's threads did not end in time");
    }
    if !cpu_ended {
        tracing::warn!("the threads for computing did not end in time");
    }
    if !recorded {
        tracing::warn!("some records are not confirmed");
    }
    // What was answered, acknowledged and given back last has left before its connection ends.
    let goodbye = async { tokio::join!(bus.close(), lane.fence()) };
    if tokio::time::timeout(CLOSE_LIMIT, goodbye).await.is_err() {
        tracing::warn!("NATS did not take the goodbye in time");
    }
    background.request();
    background.finished_within(BACKGROUND_LIMIT).await;
    tracing::info!("stopped");
    Ok(())
}

/// Waits until the clock of this node can be gone by, or the stop. A clock that nobody can be asked about is
/// taken for right.
async fn skew_is_right(skew: &Skew, shutdown: &Shutdown) {
    let mut off = skew.changes();
    let right = async {
        let _ = tokio::time::timeout(CLOCK_WAIT, skew.is_known()).await;
        // Cannot fail: the sender lives in `skew`.
        let _ = off.wait_for(|off| !off).await;
    };
    tokio::select! {
        () = right => {}
        () = shutdown.requested() => {}
    }
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
             or impact.guards and restart, or set impact.scorer = \"keywords\""
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
        let error = match nats::connect(&config.node.name, &config.nats, Arc::clone(metrics)).await {
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
            () = tokio::time::sleep(nats::reconnect_delay(attempts)) => {}
            () = shutdown.requested() => return Ok(None),
        }
    }
}

fn refused(kind: ConnectErrorKind) -> bool {
    matches!(kind, ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation)
}

impl Tenants for Directory {
    fn tenant(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        Directory::tenant(self, id)
    }
}

#[async_trait]
impl AllTenants for Directory {
    fn tenants(&self) -> Arc<HashMap<TenantId, Arc<Tenant>>> {
        Directory::tenants(self)
    }

    async fn ready(&self) {
        Directory::ready(self).await;
    }
}

/// What nodes share, over Redis or in this process's memory.
#[derive(Clone)]
struct Stores {
    registry: Arc<dyn Registry>,
    idempotency: Arc<dyn Idempotency>,
    pasts: Arc<dyn SenderHistoryStore>,
    /// Absent: in memory.
    redis: Option<Arc<RedisStore>>,
}

impl Stores {
    fn open(
        config: &NodeConfig,
        settings: Option<RedisSettings>,
        background: &Shutdown,
        supervisor: &Supervisor,
        skew: &Skew,
    ) -> anyhow::Result<Self> {
        let lifetimes = Lifetimes {
            agent: config.registry.ttl,
            window: config.idempotency.window,
            lease: config.idempotency.lease,
        };
        let (Some(redis), Some(mut settings)) = (&config.redis, settings) else {
            tracing::warn!("no redis.url: registry and repeats are kept in this process's memory only");
            let store = Arc::new(MemoryStore::new(lifetimes));
            return Ok(Self {
                registry: Arc::clone(&store) as Arc<dyn Registry>,
                idempotency: Arc::clone(&store) as Arc<dyn Idempotency>,
                pasts: store,
                redis: None,
            });
        };
        settings.lifetimes = lifetimes;
        let (stop, tracker) = (background.token().clone(), background.tracker());
        let store = RedisStore::connect(settings, stop, tracker, supervisor, skew).context("redis.url")?;
        let store = Arc::new(store);
        if redis.allow_no_password && redis.password_file.is_none() {
            tracing::warn!("redis.allow_no_password is set: whoever reaches redis can write there");
        }
        if let Some(trusting) = store.distrust() {
            tracing::warn!("{trusting}");
        }
        Ok(Self {
            registry: Arc::new(CachedRegistry::new(Arc::clone(&store))),
            idempotency: Arc::clone(&store) as Arc<dyn Idempotency>,
            pasts: Arc::clone(&store) as Arc<dyn SenderHistoryStore>,
            redis: Some(store),
        })
    }
}

/// What a node needs to use Redis, its secrets read from their files. Blocks for as long as that takes.
pub fn redis_settings(redis: &config::Redis) -> anyhow::Result<RedisSettings> {
    let mut settings = RedisSettings::new(&redis.url);
    if let Some(login) = redis.login()? {
        settings = settings.login(login.user, login.password);
    }
    let keys = redis.seal_key_file.as_deref().map(SealKeys::read).transpose();
    settings.trust =
        Trust { keys: keys.context("redis.seal_key_file")?, unsealed_for: redis.accept_unsealed_for };
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_a_stop_add_up_to_less_than_ten_seconds() {
        let limits = [config::Node::default().drain, TELL_LIMIT, CLOSE_LIMIT, BACKGROUND_LIMIT];
        assert!(limits.iter().sum::<Duration>() < Duration::from_secs(10), "{limits:?}");
    }
}
