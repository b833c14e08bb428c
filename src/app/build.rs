//! What is a node made of? Each part is made from those before it.

use std::sync::Arc;

use async_nats::Client;

use super::{
    Stores,
    basis::Basis,
    connect::connect,
    health::{Beside, Connections, Decisions, LanePart, Name, NodeHealth, Numbers, Opa, Policy, Scorer},
    load_model, stores,
};
use crate::{
    breakers::{Breakers, Kind},
    config::PolicyBundle,
    constitutions::Constitutions,
    cpu::Cpu,
    deliberation::DeliberationLog,
    freezes::Freezes,
    guarded::{GuardedLane, GuardedLog, GuardedTransport},
    health::Part,
    impact::{Senders, semantic},
    lanes::{DurableLane, Lanes, LiveTransport, QuestionLimits, Questions},
    nats::{
        self, Bus, ConstitutionBucket, DeadlineWorker, DecisionStream, Deliberations, FreezeBucket, Inbound,
        InboxEvidence, JetStreamLane, Kicker, LearnedBucket, Link, Outbox, Peers, PolicyBucket, RecordsProbe,
        RoundTrips, ShadowBucket, StreamUsage, UsageSums, WebhookDispatcher,
    },
    policy::{BundleSource, Rollout, decision_log::WrittenEvents},
    review::{AllTenants, Deadlines, LearnedStore, Registrations, Release, Thresholds},
    skew::Skew,
    state::RedisSettings,
    tenants::Directory,
    trace::Tracer,
    webhook::Webhook,
};

mod endpoint;
mod lanes;

/// The parts that are begun, or ended, one after the other.
pub(super) struct Node {
    pub(super) basis: Basis,
    pub(super) health: Arc<NodeHealth>,
    pub(super) cpu: Arc<Cpu>,
    pub(super) model: semantic::Prepared,
    pub(super) skew: Skew,
    pub(super) directory: Arc<Directory>,
    pub(super) freezes: Arc<Freezes>,
    pub(super) constitutions: Arc<Constitutions>,
    pub(super) thresholds: Arc<Thresholds>,
    pub(super) rollout: Arc<Rollout>,
    pub(super) stores: Stores,
    pub(super) outbox: Arc<Outbox>,
    pub(super) senders: Arc<Senders>,
    pub(super) lane: Arc<JetStreamLane>,
    pub(super) registrations: Arc<Registrations>,
    pub(super) bus: Arc<Bus>,
    pub(super) peers: Arc<Peers>,
    pub(super) deadlines: DeadlineWorker,
    pub(super) inbound: Arc<Inbound>,
    pub(super) evidence: InboxEvidence,
    pub(super) stream_usage: Arc<StreamUsage>,
    pub(super) webhooks: Option<Arc<WebhookDispatcher>>,
    pub(super) usage: Arc<UsageSums>,
}

/// What is there before anything is connected.
pub(super) struct Found {
    pub(super) cpu: Arc<Cpu>,
    pub(super) rollout: Arc<Rollout>,
    /// What is to be kept of what the policy decides.
    pub(super) decisions: Option<WrittenEvents>,
    /// What is followed besides the bus.
    pub(super) bundles: Option<Arc<dyn BundleSource>>,
    /// With how often it is called for one event.
    pub(super) webhook: Option<(Webhook, u32)>,
    pub(super) redis: Option<RedisSettings>,
    /// Where traces are exported.
    pub(super) tracer: Option<Arc<Tracer>>,
}

/// What is known of tenants, and what nodes share.
struct Shared {
    client: Client,
    skew: Skew,
    directory: Arc<Directory>,
    freezes: Arc<Freezes>,
    constitutions: Arc<Constitutions>,
    thresholds: Arc<Thresholds>,
    stores: Stores,
}

impl Shared {
    fn open(
        basis: &Basis,
        client: Client,
        model: &semantic::Prepared,
        redis: Option<RedisSettings>,
    ) -> anyhow::Result<Self> {
        let Basis { config, metrics, background, supervisor, clock, .. } = basis;
        let skew = Skew::new(*clock, config.node.clock_tolerance);
        nats::watch_server_time(client.clone(), skew.clone(), background, supervisor);
        let directory = Directory::new();
        let (followed, reader) = (Arc::clone(&directory), client.clone());
        basis.keep("directory", move || {
            let (directory, client) = (Arc::clone(&followed), reader.clone());
            async move { directory.follow(&client).await }
        });
        let freezes = Arc::new(Freezes::default());
        let (frozen, bucket) = (Arc::clone(&freezes), Arc::new(FreezeBucket::new(client.clone())));
        basis.keep("freezes", move || {
            let (freezes, bucket) = (Arc::clone(&frozen), Arc::clone(&bucket));
            async move { bucket.follow(&freezes).await }
        });
        let (wanting, bucket) = (Arc::clone(&freezes), Arc::new(FreezeBucket::new(client.clone())));
        basis.keep("freezes wanted", move || {
            let (freezes, bucket) = (Arc::clone(&wanting), Arc::clone(&bucket));
            async move { bucket.keep_wanted(&freezes).await }
        });
        let constitutions = Arc::new(Constitutions::configured(config.constitutions()?));
        let (followed, bucket) =
            (Arc::clone(&constitutions), Arc::new(ConstitutionBucket::new(client.clone())));
        basis.keep("constitutions", move || {
            let (constitutions, bucket) = (Arc::clone(&followed), Arc::clone(&bucket));
            async move { bucket.follow(&constitutions).await }
        });
        let thresholds = Thresholds::new(
            LearnedBucket::new(client.clone()) as Arc<dyn LearnedStore>,
            Arc::clone(&directory) as Arc<dyn AllTenants>,
            &config.node.name,
            *clock,
            Arc::clone(metrics),
            semantic::scales(&*model.scorer, &model.heads),
        );
        let learned = Arc::clone(&thresholds);
        basis.keep("thresholds", move || Arc::clone(&learned).follow());
        let stores = Stores::open(basis, redis, &skew)?;
        Ok(Self { client, skew, directory, freezes, constitutions, thresholds, stores })
    }
}

/// Whatever it starts is on the loop of the durable lane.
async fn lane(basis: &Basis, payload_max: usize) -> anyhow::Result<Arc<JetStreamLane>> {
    let Basis { config, background, supervisor, durable, .. } = basis;
    let (name, nats) = (config.node.name.clone(), config.nats.clone());
    let (metrics, background) = (Arc::clone(&basis.metrics), background.clone());
    let supervisor = supervisor.clone();
    let connecting = async move {
        JetStreamLane::connect(&name, &nats, payload_max, metrics, &background, &supervisor).await
    };
    Ok(Arc::new(durable.run(connecting).await??))
}

/// Where messages go from the node, and what is remembered of their senders.
struct Outgoing {
    questions: Arc<Questions>,
    outbox: Arc<Outbox>,
    lane: Arc<JetStreamLane>,
    deliberations: Arc<dyn DeliberationLog>,
    senders: Arc<Senders>,
    breakers: Arc<Breakers>,
}

impl Outgoing {
    async fn open(basis: &Basis, shared: &Shared, cpu: &Arc<Cpu>) -> anyhow::Result<Self> {
        let Basis { config, metrics, background, supervisor, clock, .. } = basis;
        let (name, client) = (&config.node.name, &shared.client);
        let questions = Arc::new(Questions::new(QuestionLimits {
            waiting: config.limits.asks,
            waiting_per_tenant: config.limits.asks_per_tenant,
            within: config.limits.answer,
        }));
        let outbox = Arc::new(Outbox::start(
            name,
            &config.nats,
            client.clone(),
            Arc::clone(metrics),
            questions.node(),
            (&basis.loops, background, supervisor),
        )?);
        let senders = Senders::sharing(config.impact.senders_max, Arc::clone(&shared.stores.pasts));
        let senders = Arc::new(senders);
        let (kept, stop, clock) = (Arc::clone(&senders), background.token().clone(), *clock);
        basis.keep("senders", move || Arc::clone(&kept).keep(clock, stop.clone()));
        let deliberations = Deliberations::new(
            client.clone(),
            Arc::clone(&shared.directory) as _,
            Arc::clone(metrics),
            Arc::clone(cpu),
        );
        let lane = lane(basis, client.max_payload()).await?;
        let deliberations = Arc::new(GuardedLog::new(Arc::new(deliberations), &basis.breakers));
        let breakers = Arc::clone(&basis.breakers);
        Ok(Self { questions, outbox, lane, deliberations, senders, breakers })
    }

    fn live(&self) -> Arc<dyn LiveTransport> {
        let records = self.breakers.of(Kind::Records);
        Arc::new(GuardedTransport::new(Arc::clone(&self.outbox) as _, records))
    }

    fn durable(&self) -> Arc<dyn DurableLane> {
        Arc::new(GuardedLane::new(Arc::clone(&self.lane) as _, &self.breakers))
    }
}

impl Node {
    /// `None`: it is to stop before NATS was there.
    pub(super) async fn build(
        basis: Basis,
        found: Found,
        health: Arc<NodeHealth>,
    ) -> anyhow::Result<Option<Self>> {
        let Found { cpu, rollout, decisions, bundles, webhook, redis, tracer } = found;
        let Basis { config, metrics, shutdown, background, supervisor, clock, .. } = &basis;
        // Before it is connected: loading takes a moment, and readiness waits for it.
        let model = load_model(&config.impact, metrics).await?;
        let scorer = Scorer::new(model.state.clone());
        health.add("model", Arc::clone(&scorer) as Arc<dyn Part>);
        let Some(client) = connect(config, metrics, shutdown).await? else { return Ok(None) };
        let every = config.nats.ping_interval;
        let jetstream = RoundTrips::watch("jetstream", client.clone(), every, background, supervisor);
        let breaker = basis.breakers.of(Kind::Records);
        let records = RecordsProbe::watch(client.clone(), breaker, background, supervisor);
        let on_the_bus = config.policy.bundle.as_ref().filter(|bundle| bundle.from == PolicyBundle::BUS);
        let bucket = on_the_bus.map(|_| Arc::new(PolicyBucket::new(client.clone())) as Arc<dyn BundleSource>);
        if let Some(source) = bundles.or(bucket) {
            let followed = Arc::clone(&rollout);
            basis.keep("policy", move || {
                let (rollout, source) = (Arc::clone(&followed), Arc::clone(&source));
                async move { rollout.follow(&*source).await }
            });
        }
        let (tried, candidates) = (Arc::clone(&rollout), Arc::new(ShadowBucket::new(client.clone())));
        basis.keep("shadow", move || {
            let (rollout, candidates) = (Arc::clone(&tried), Arc::clone(&candidates));
            async move { candidates.follow(&rollout).await }
        });
        if let Some(events) = decisions {
            let kept = Arc::new((DecisionStream::new(client.clone()), events));
            basis.keep("decisions", move || {
                let kept = Arc::clone(&kept);
                async move { kept.0.keep(&kept.1).await }
            });
        }
        let shared = Shared::open(&basis, client.clone(), &model, redis)?;
        stores::share_answers(&basis, &shared.stores, &rollout);
        let outgoing = Outgoing::open(&basis, &shared, &cpu).await?;
        let lanes = lanes::lanes(&basis, &shared, &outgoing, rollout.gate(), &cpu, (&model, tracer))?;
        lanes::poll_while_few_wait(&basis, &lanes);
        lanes::watch_memory(&basis, &lanes);
        let registrations =
            Registrations::new(outgoing.live(), Arc::clone(metrics), &config.node.name, *clock);
        let registrations = Arc::new(registrations);
        let (kept, stop) = (Arc::clone(&registrations), background.token().clone());
        basis.keep("registrations", move || Arc::clone(&kept).keep(stop.clone()));
        let usage = UsageSums::new(client.clone(), Arc::clone(&lanes.usage), &config.node.name, *clock);
        let usage = Arc::new(usage);
        let told = Arc::clone(&usage);
        basis.keep("usage", move || Arc::clone(&told).keep());
        let bus = endpoint::bus(&basis, &shared, &outgoing, &lanes, (&registrations, &rollout), &health);
        let (watched, notices, at) = (Arc::clone(&health), client.clone(), *clock);
        basis.keep("health", move || Arc::clone(&watched).watch(notices.clone(), at));
        let (mended, live) = (Arc::clone(&health), outgoing.live());
        basis.keep("recovery records", move || Arc::clone(&mended).record_mending(Arc::clone(&live), at));
        let deadlines = Deadlines {
            log: Arc::clone(&outgoing.deliberations),
            lanes: Arc::clone(&lanes) as Arc<dyn Release>,
            thresholds: Arc::clone(&shared.thresholds),
            clock: *clock,
        };
        let deadlines =
            DeadlineWorker::new(client.clone(), deadlines, shared.skew.clone(), Arc::clone(metrics));
        let webhooks = webhook.map(|(webhook, attempts)| {
            let (metrics, cpu) = (Arc::clone(metrics), Arc::clone(&cpu));
            let guarded = (webhook, basis.breakers.of(Kind::Webhook));
            WebhookDispatcher::new(client.clone(), guarded, attempts, *clock, metrics, cpu)
        });
        if let Some(webhook) = &webhooks {
            let (health, webhook) = (Arc::clone(&health), Arc::clone(webhook));
            basis.keep("health webhook", move || Arc::clone(&health).tell(Arc::clone(&webhook)));
        }
        let stream_usage =
            StreamUsage::new(client.clone(), Arc::clone(&shared.directory), Arc::clone(metrics));
        let inbound = Arc::new(Inbound::new(
            Arc::clone(&bus),
            Arc::clone(&outgoing.lane),
            config.limits.in_flight,
            config.limits.in_flight_per_tenant,
        ));
        let (intake, delivering, storing) =
            (Arc::clone(&bus), Arc::clone(&outgoing.outbox), Arc::clone(&outgoing.lane));
        let reading = client.clone();
        let links = move || {
            let own = [Link::of(&reading)];
            let writing = delivering.links().into_iter().chain(storing.links());
            intake.links().into_iter().chain(writing).chain(own).collect()
        };
        let heard = (Arc::clone(&shared.constitutions), Arc::clone(&lanes.admission));
        let kicker = Kicker::connect(&config.node.name, &config.nats).await?;
        let freezes = Arc::clone(&shared.freezes);
        let (ends, counts) = (kicker.clone(), Arc::clone(metrics));
        basis.keep("cut off", move || nats::cut_off(ends.clone(), Arc::clone(&freezes), Arc::clone(&counts)));
        let peers = Peers::new(&config.node.name, client.clone(), kicker.clone(), links, heard);
        let (watching, watched, counts) =
            (Arc::clone(&peers), Arc::clone(&shared.directory), Arc::clone(metrics));
        basis.keep("connections", move || {
            let (watching, watched, counts) =
                (Arc::clone(&watching), Arc::clone(&watched), Arc::clone(&counts));
            nats::watch_connections(kicker.clone(), watching, watched, client.clone(), counts)
        });
        let evidence = InboxEvidence::new(
            Arc::clone(&outgoing.lane),
            Arc::clone(&peers),
            shared.skew.clone(),
            Arc::clone(metrics),
        );
        health.connected_by(Connections {
            bus: Arc::clone(&bus),
            jetstream,
            lane: Arc::clone(&outgoing.lane),
            started: health.started,
        });
        scorer.asked_by(&lanes);
        health.add("records", records);
        health.add("freezes", Arc::clone(&shared.freezes) as Arc<dyn Part>);
        health.add("constitutions", Arc::clone(&shared.constitutions) as Arc<dyn Part>);
        health.add("policy", Arc::new(Policy(Arc::clone(&rollout))));
        health.add("shadow", Arc::new(Beside(Arc::clone(&rollout))));
        health.add("opa", Arc::new(Opa(Arc::clone(&rollout))));
        if let Some(log) = rollout.gate().log() {
            health.add("decisions", Arc::new(Decisions(Arc::clone(log))));
        }
        let Shared { skew, directory, freezes, constitutions, thresholds, stores, .. } = shared;
        let Outgoing { outbox, lane, senders, .. } = outgoing;
        let node = Self {
            health,
            cpu,
            model,
            skew,
            directory,
            freezes,
            constitutions,
            thresholds,
            rollout,
            stores,
            outbox,
            senders,
            lane,
            registrations,
            bus,
            peers,
            deadlines,
            inbound,
            evidence,
            stream_usage,
            webhooks,
            usage,
            basis,
        };
        node.tell_of(lanes);
        Ok(Some(node))
    }

    /// Shows the parts to whoever asks how the node is.
    fn tell_of(&self, lanes: Arc<Lanes>) {
        let node = self.basis.config.node.name.clone();
        let (peers, lane, inbound) =
            (Arc::clone(&self.peers), Arc::clone(&self.lane), Arc::clone(&self.inbound));
        let parts: [(&str, Arc<dyn Part>); 12] = [
            ("name", Arc::new(Name { node, peers })),
            ("clock", Arc::new(self.skew.clone())),
            ("memory", Arc::new(self.basis.memory.clone())),
            ("outbox", Arc::clone(&self.outbox) as _),
            ("lane", Arc::new(LanePart { lane, inbound })),
            ("tenants", Arc::clone(&self.directory) as _),
            ("store", Arc::new(self.stores.clone())),
            ("deliberations", Arc::new(self.deadlines.clone())),
            ("streams", Arc::clone(&self.stream_usage) as _),
            ("inboxes", Arc::new(self.evidence.clone())),
            ("thresholds", Arc::clone(&self.thresholds) as _),
            ("restarts", Arc::new(self.basis.supervisor.clone())),
        ];
        let webhook = self.webhooks.clone().map(|webhook| ("webhook", webhook as Arc<dyn Part>));
        parts.into_iter().chain(webhook).for_each(|(name, part)| self.health.add(name, part));
        self.health.numbers(Numbers {
            directory: Arc::clone(&self.directory),
            lanes,
            rollout: Arc::clone(&self.rollout),
            skew: self.skew.clone(),
            memory: self.basis.memory.clone(),
            stores: self.stores.clone(),
            thresholds: Arc::clone(&self.thresholds),
        });
    }
}
