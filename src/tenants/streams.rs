//! How are the bus's streams and consumers set up? Their configurations, as plain data.
//!
//! All of them refuse what is new when they are full, but for records, logged decisions and usage: the oldest durable
//! message is owed to somebody, a new one can still be refused to its face. None of them answers
//! to `DIRECT.GET` (see `published.rs`) or obeys a roll-up header, with which a node could empty it.

use std::time::Duration;

use async_nats::jetstream::{
    consumer::{AckPolicy, DeliverPolicy, pull},
    stream::{self, DiscardPolicy, RetentionPolicy, StorageType},
};

use crate::domain::{AgentId, TenantId};

use super::{
    names::{
        CONSTITUTION_BUCKET, CONSTITUTION_STREAM, CONSTITUTIONS, CONSTITUTIONS_CHANGED, DEADLINES_CONSUMER,
        DECISIONS_STREAM, DECISIONS_SUBJECTS, EVIDENCE_CONSUMER, EVIDENCE_KEPT, FREEZE_BUCKET, FREEZE_STREAM,
        FREEZES, FREEZES_CHANGED, NODES_CONSUMER, POLICY_BUCKET, POLICY_KEYS, POLICY_PUSHED, POLICY_STREAM,
        RECORDS_STREAM, RECORDS_SUBJECTS, TENANTS_BUCKET, TENANTS_CHANGED, TENANTS_STREAM, THRESHOLDS_BUCKET,
        THRESHOLDS_STREAM, USAGE_STREAM, USAGE_SUBJECTS, WEBHOOKS_CONSUMER, dead_letters_stream,
        deliberations_stream, inbound_stream, inbox_messages, inbox_subjects, outbound_stream,
        own_records_stream, records_of,
    },
    plan::{Plan, TENANT_BYTES_MAX, TENANTS_MAX, TenantStore},
    server_conf::PAYLOAD_MAX,
};

/// Bytes the bucket of tenants reserves on disk: every tenant at its largest, and a replacement.
const TENANTS_BYTES: i64 = 2 * (TENANTS_MAX * TENANT_BYTES_MAX) as i64;
/// Bytes of one tenant's learned thresholds.
const THRESHOLD_BYTES_MAX: usize = 16 * 1024;
/// Bytes the bucket of thresholds reserves on disk: every tenant at its largest, and a replacement.
const THRESHOLDS_BYTES: i64 = 2 * (TENANTS_MAX * THRESHOLD_BYTES_MAX) as i64;
/// Policies that can be gone back to, the one in force included.
const POLICIES_KEPT: i64 = 16;
/// States of what is frozen that are kept as evidence, and bytes of one: every freeze at its largest.
const FREEZES_KEPT: i64 = 64;
const FREEZES_BYTES_MAX: i32 = 64 * 1024;
/// Of one state of the constitutions, of which as many are kept.
const CONSTITUTIONS_BYTES_MAX: i32 = 8 * 1024;
/// Sums of usage: some 200 bytes for each agent, hour and run of a node.
const USAGE_BYTES: i64 = 256 << 20;
const USAGE_AGE: Duration = Duration::from_secs(90 * 24 * 3600);
/// The evidence of what was decided stays as long as anybody asks about it.
const DELIBERATIONS_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
const DEAD_LETTERS_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a repeated `submit` of the same message is known to be one.
const SUBMIT_AGAIN: Duration = Duration::from_secs(600);
/// Bytes of an event: a parked message as JSON text within JSON, which is longer than it came.
/// NATS has no larger message.
const EVENT_BYTES_MAX: usize = PAYLOAD_MAX;

/// A message that was pulled and not acknowledged is given to somebody else after this.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// Messages of one consumer that are out at one time.
const ACKS_PENDING_MAX: i64 = 1_000;
/// Of one tenant, those that wait for their next attempt are out as well: given back with a delay.
const NODES_PENDING_MAX: i64 = 10_000;
/// Parked messages that wait for their deadline are all out, given back with a delay: as many as `open_max`
/// may be, and decisions beside them.
const CLERK_PENDING_MAX: i64 = 110_000;
/// Messages of one tenant's inboxes that nodes have in hand or look at again later: all that have no outcome for 20 s,
/// and while nodes are replaced whatever comes.
const EVIDENCE_PENDING_MAX: i64 = 110_000;
/// Of one agent's durable inbox: pulls that wait at one time, messages of one, and how long it may wait.
const INBOX_WAITING_MAX: i64 = 32;
const INBOX_BATCH_MAX: i64 = 1_000;
const INBOX_EXPIRES_MAX: Duration = Duration::from_secs(600);
/// Whoever counts the attempts puts a message aside by itself. If the server did, one that dies with
/// its node in the last attempt would be lost.
const DELIVER_WITHOUT_END: i64 = -1;

/// The stream of records, if nobody says otherwise.
const RECORDS_BYTES: i64 = 1 << 30;
const RECORDS_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// The stream of logged decisions, if nobody says otherwise: little, since none are logged unless that is wanted.
const DECISIONS_BYTES: i64 = 64 << 20;
const DECISIONS_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// One that is sent again within it is kept once.
const DECISION_AGAIN: Duration = Duration::from_secs(20);

/// What is to change about the streams that all tenants share. What is not said stays as it is, and is the
/// default for what is new. What a tenant's own may hold is in its [`TenantStore`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreSettings {
    /// 1 GiB. Less than there is discards the oldest records.
    pub records_bytes: Option<u64>,
    /// 24 hours.
    pub records_age: Option<Duration>,
    /// 64 MiB. Less than there is discards the oldest.
    pub decisions_bytes: Option<u64>,
    /// 7 days.
    pub decisions_age: Option<Duration>,
    /// Copies of each stream: 1, and 3 in a cluster.
    pub replicas: Option<usize>,
}

impl StoreSettings {
    /// Bytes that all streams of the plan reserve on disk, each copy, on a server that has none of them yet.
    pub fn reserved_bytes(&self, plan: &Plan) -> u64 {
        self.over(&Present::default()).reserved_bytes(plan)
    }

    /// With what is not said taken from the streams as they are.
    pub(super) fn over(&self, present: &Present) -> Settled {
        let Present { records, decisions } = present;
        let size = |said: Option<u64>, present: &Option<stream::Config>, usual: i64| {
            said.map(bytes).or(present.as_ref().map(|c| c.max_bytes)).unwrap_or(usual)
        };
        let age = |said: Option<Duration>, present: &Option<stream::Config>, usual: Duration| {
            said.or(present.as_ref().map(|c| c.max_age)).unwrap_or(usual)
        };
        Settled {
            records_bytes: size(self.records_bytes, records, RECORDS_BYTES),
            records_age: age(self.records_age, records, RECORDS_AGE),
            decisions_bytes: size(self.decisions_bytes, decisions, DECISIONS_BYTES),
            decisions_age: age(self.decisions_age, decisions, DECISIONS_AGE),
            replicas: self.replicas.or(records.as_ref().map(|c| c.num_replicas)).unwrap_or(1),
        }
    }
}

/// Streams as they are, of those whose size and age can be said.
#[derive(Debug, Default)]
pub(super) struct Present {
    pub(super) records: Option<stream::Config>,
    pub(super) decisions: Option<stream::Config>,
}

/// Settings without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settled {
    records_bytes: i64,
    records_age: Duration,
    decisions_bytes: i64,
    decisions_age: Duration,
    /// Of new streams; of those that are there too if it was said.
    pub(super) replicas: usize,
}

impl Settled {
    pub(super) fn reserved_bytes(&self, plan: &Plan) -> u64 {
        let tenants = plan.tenants().iter().map(|tenant| plan.store(&tenant.id).reserved_bytes());
        let configs = shared(self)
            .into_iter()
            .map(|config| config.max_bytes)
            .map(|bytes| u64::try_from(bytes).unwrap_or_default());
        configs.chain(tenants).fold(0, u64::saturating_add)
    }
}

/// A stream, and the consumers that it must have; `None` for one that is read without any.
pub(super) type Wanted = (stream::Config, Option<Vec<pull::Config>>);

/// The streams that all tenants share. None has a consumer.
pub(super) fn shared(settings: &Settled) -> Vec<stream::Config> {
    let replicas = settings.replicas;
    let records = stream::Config {
        description: Some("One record for each decision.".to_owned()),
        subjects: vec![RECORDS_SUBJECTS.to_owned()],
        max_age: settings.records_age,
        max_bytes: settings.records_bytes,
        discard: DiscardPolicy::Old,
        // Records leave by age and size only; nobody takes out a single one.
        ..kept(RECORDS_STREAM, replicas)
    };
    let decisions = stream::Config {
        description: Some("Decisions of the policy, in OPA's format, where nodes log them.".to_owned()),
        subjects: vec![DECISIONS_SUBJECTS.to_owned()],
        max_age: settings.decisions_age,
        max_bytes: settings.decisions_bytes,
        discard: DiscardPolicy::Old,
        duplicate_window: DECISION_AGAIN,
        ..kept(DECISIONS_STREAM, replicas)
    };
    let tenants = stream::Config {
        description: Some("Tenants as `agentbus tenants apply` published them; nodes watch this.".to_owned()),
        max_message_size: TENANT_BYTES_MAX as i32,
        max_bytes: TENANTS_BYTES,
        // After it was stored, unlike the publish itself, which nodes could hear too early.
        republish: Some(stream::Republish {
            source: format!("$KV.{TENANTS_BUCKET}.*"),
            destination: TENANTS_CHANGED.replace('*', "{{wildcard(1)}}"),
            headers_only: true,
        }),
        ..bucket(TENANTS_STREAM, TENANTS_BUCKET, replicas)
    };
    let thresholds = stream::Config {
        description: Some("Learned thresholds, one key for each tenant that learns.".to_owned()),
        max_message_size: THRESHOLD_BYTES_MAX as i32,
        max_bytes: THRESHOLDS_BYTES,
        ..bucket(THRESHOLDS_STREAM, THRESHOLDS_BUCKET, replicas)
    };
    let policies = stream::Config {
        description: Some(
            "Policies as `agentbus policy push` and `shadow` published them; nodes follow the last."
                .to_owned(),
        ),
        max_message_size: PAYLOAD_MAX as i32,
        max_messages_per_subject: POLICIES_KEPT,
        // Both keys, and what stands beside the values.
        max_bytes: 3 * POLICIES_KEPT * PAYLOAD_MAX as i64,
        republish: Some(stream::Republish {
            source: POLICY_KEYS.to_owned(),
            destination: POLICY_PUSHED.to_owned(),
            headers_only: true,
        }),
        ..bucket(POLICY_STREAM, POLICY_BUCKET, replicas)
    };
    let freezes = stream::Config {
        description: Some(
            "What is frozen, as `agentbus freeze` and `thaw` left it; nodes follow the last.".to_owned(),
        ),
        max_message_size: FREEZES_BYTES_MAX,
        max_messages_per_subject: FREEZES_KEPT,
        max_bytes: 2 * FREEZES_KEPT * i64::from(FREEZES_BYTES_MAX),
        republish: Some(stream::Republish {
            source: FREEZES.to_owned(),
            destination: FREEZES_CHANGED.to_owned(),
            headers_only: true,
        }),
        ..bucket(FREEZE_STREAM, FREEZE_BUCKET, replicas)
    };
    let constitutions = stream::Config {
        description: Some(
            "Constitutions as `agentbus constitution` left them; nodes follow the last.".to_owned(),
        ),
        max_message_size: CONSTITUTIONS_BYTES_MAX,
        max_messages_per_subject: FREEZES_KEPT,
        max_bytes: 2 * FREEZES_KEPT * i64::from(CONSTITUTIONS_BYTES_MAX),
        republish: Some(stream::Republish {
            source: CONSTITUTIONS.to_owned(),
            destination: CONSTITUTIONS_CHANGED.to_owned(),
            headers_only: true,
        }),
        ..bucket(CONSTITUTION_STREAM, CONSTITUTION_BUCKET, replicas)
    };
    let usage = stream::Config {
        description: Some("What each agent has used, by hours.".to_owned()),
        subjects: vec![USAGE_SUBJECTS.to_owned()],
        max_age: USAGE_AGE,
        max_bytes: USAGE_BYTES,
        // A later sum of the same hour says all that the one before says.
        max_messages_per_subject: 1,
        discard: DiscardPolicy::Old,
        ..kept(USAGE_STREAM, replicas)
    };
    vec![records, decisions, tenants, thresholds, policies, freezes, constitutions, usage]
}

/// The streams of one tenant: whatever it fills, it fills for itself alone.
pub(super) fn of_tenant<'a>(
    tenant: &TenantId,
    agents: impl Iterator<Item = &'a AgentId>,
    store: &TenantStore,
    settings: &Settled,
) -> Vec<Wanted> {
    let replicas = settings.replicas;
    let inbound = stream::Config {
        description: Some(format!("What waits on {tenant}'s durable lane to be governed.")),
        subjects: vec![format!("tenant.{tenant}.submitted.*.*")],
        retention: RetentionPolicy::WorkQueue,
        max_bytes: bytes(store.waiting_bytes),
        max_message_size: PAYLOAD_MAX as i32,
        duplicate_window: SUBMIT_AGAIN,
        ..kept(&inbound_stream(tenant), replicas)
    };
    let outbound = stream::Config {
        description: Some(format!("Durable inboxes of {tenant}'s agents: messages and outcomes.")),
        subjects: vec![format!("tenant.{tenant}.stored.*.*.*.*")],
        // What its recipient has acknowledged goes, once nodes have settled it, too. Streams made before have nothing
        // that could be allowed to delete.
        retention: RetentionPolicy::Interest,
        max_age: store.inbox_age,
        max_bytes: bytes(store.inbox_bytes),
        max_message_size: PAYLOAD_MAX as i32,
        // So that those who listen just now hear of it at once.
        republish: Some(stream::Republish {
            source: format!("tenant.{tenant}.stored.*.outcome.*.*"),
            destination: format!("tenant.{tenant}.agent.{{{{wildcard(1)}}}}.outcome"),
            headers_only: false,
        }),
        ..kept(&outbound_stream(tenant), replicas)
    };
    let inboxes = agents.map(|agent| pull::Config {
        filter_subject: inbox_subjects(tenant, agent.as_str()),
        max_waiting: INBOX_WAITING_MAX,
        max_batch: INBOX_BATCH_MAX,
        max_expires: INBOX_EXPIRES_MAX,
        ..durable(agent.as_str(), "The agent's durable inbox.")
    });
    let inboxes = evidence(tenant).into_iter().chain(inboxes).collect();
    let nodes = vec![pull::Config {
        max_ack_pending: NODES_PENDING_MAX,
        ..durable(NODES_CONSUMER, "Shared by all nodes.")
    }];
    let deliberations = stream::Config {
        description: Some(format!("The logs of {tenant}'s deliberations.")),
        subjects: vec![format!("deliberation.{tenant}.*.*")],
        max_age: DELIBERATIONS_AGE,
        max_bytes: bytes(store.deliberations_bytes),
        max_message_size: EVENT_BYTES_MAX as i32,
        ..kept(&deliberations_stream(tenant), replicas)
    };
    let dead_letters = stream::Config {
        description: Some(format!("What of {tenant}'s could not be governed.")),
        subjects: vec![format!("dead.{tenant}.*.*")],
        max_age: DEAD_LETTERS_AGE,
        max_bytes: bytes(store.dead_letters_bytes),
        max_message_size: PAYLOAD_MAX as i32,
        max_messages_per_subject: 1,
        // An operator drops one that is dealt with.
        deny_delete: false,
        ..kept(&dead_letters_stream(tenant), replicas)
    };
    // A copy that the server makes: what is written stays one message, and no subject is two streams'.
    let records = stream::Config {
        description: Some(format!("What is on record of {tenant}, apart from others'.")),
        sources: Some(vec![stream::Source {
            name: RECORDS_STREAM.to_owned(),
            filter_subject: Some(records_of(tenant)),
            ..stream::Source::default()
        }]),
        max_age: settings.records_age,
        max_bytes: bytes(store.records_bytes),
        discard: DiscardPolicy::Old,
        ..kept(&own_records_stream(tenant), replicas)
    };
    let mut all = vec![
        (inbound, Some(nodes)),
        (outbound, Some(inboxes)),
        (deliberations, Some(deliberations_consumers(tenant))),
        (dead_letters, None),
    ];
    if store.records_bytes > 0 {
        all.push((records, None));
    }
    all
}

/// What keeps the messages of durable inboxes until there is other evidence of them, and that evidence until it is old.
/// Before those of agents: there must be none that could be the last that wants something.
fn evidence(tenant: &TenantId) -> Vec<pull::Config> {
    let mut consumers = vec![pull::Config {
        filter_subject: inbox_messages(tenant),
        headers_only: true,
        max_ack_pending: EVIDENCE_PENDING_MAX,
        ..durable(EVIDENCE_CONSUMER, "Shared by all nodes: keeps other evidence, so that contents may go.")
    }];
    consumers.extend(EVIDENCE_KEPT.map(|(name, subjects)| pull::Config {
        filter_subject: subjects(tenant),
        ..durable(name, "Nobody's: what it is for stays until it is old.")
    }));
    consumers
}

fn deliberations_consumers(tenant: &TenantId) -> Vec<pull::Config> {
    let of =
        |events: &[&str]| events.iter().map(|event| format!("deliberation.{tenant}.*.{event}")).collect();
    vec![
        pull::Config {
            filter_subjects: of(&["parked", "decided"]),
            max_ack_pending: CLERK_PENDING_MAX,
            ..durable(
                DEADLINES_CONSUMER,
                "Escalates and expires, each waits here until it is due; acts on decisions.",
            )
        },
        pull::Config {
            filter_subjects: of(&["parked", "escalated", "decided"]),
            ..durable(WEBHOOKS_CONSUMER, "Tells the outside.")
        },
    ]
}

/// On disk, refusing what does not fit, and nothing taken out but by age.
fn kept(name: &str, replicas: usize) -> stream::Config {
    stream::Config {
        name: name.to_owned(),
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        num_replicas: replicas,
        allow_direct: false,
        deny_delete: true,
        deny_purge: true,
        allow_rollup: false,
        ..stream::Config::default()
    }
}

/// A key-value bucket without the ways in that the clients' own constructor leaves open.
fn bucket(stream: &str, bucket: &str, replicas: usize) -> stream::Config {
    stream::Config {
        subjects: vec![format!("$KV.{bucket}.*")],
        max_messages_per_subject: 1,
        ..kept(stream, replicas)
    }
}

fn durable(name: &str, description: &str) -> pull::Config {
    pull::Config {
        durable_name: Some(name.to_owned()),
        description: Some(description.to_owned()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        max_deliver: DELIVER_WITHOUT_END,
        max_ack_pending: ACKS_PENDING_MAX,
        ..pull::Config::default()
    }
}

/// What of a stream's settings differs, each as `setting old → new`.
pub(super) fn differences(before: &stream::Config, after: &stream::Config) -> Vec<String> {
    let shown = |config: &stream::Config| {
        [
            ("subjects", config.subjects.join(" ")),
            ("retention", format!("{:?}", config.retention).to_lowercase()),
            ("max_bytes", config.max_bytes.to_string()),
            ("max_age", humantime::format_duration(config.max_age).to_string()),
            // The server says -1 for none.
            ("max_message_size", config.max_message_size.max(0).to_string()),
            ("copies", config.num_replicas.to_string()),
        ]
    };
    let pairs = shown(before).into_iter().zip(shown(after));
    pairs
        .filter(|((_, before), (_, after))| before != after)
        .map(|((setting, before), (_, after))| format!("{setting} {before} → {after}"))
        .collect()
}

/// Whether the change discards what is stored.
pub(super) fn discards(before: &stream::Config, after: &stream::Config) -> bool {
    // 0 is without end.
    let shorter = !after.max_age.is_zero() && (before.max_age.is_zero() || after.max_age < before.max_age);
    shorter || (after.discard == DiscardPolicy::Old && after.max_bytes < before.max_bytes)
}

fn bytes(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
