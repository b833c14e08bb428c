//! NATS: takes requests in, hands them to the lanes or the registry, answers, and drains.
//!
//! Owns async-nats, and the reader of the connection that strangers can write to. The intake only takes in
//! or sheds; all work is in tracked tasks.

mod answers;
mod connection;
mod constitution_answers;
mod constitution_bucket;
mod dead_letters;
mod deadlines;
mod decision_stream;
mod deliberations;
mod each_tenant;
mod endpoint;
mod fleet;
mod freeze_answers;
mod freeze_bucket;
mod headers;
mod inbound;
mod intake;
mod jetstream;
mod judgements;
mod lane;
mod learned;
mod micro;
mod outbox;
mod peers;
mod policy_answers;
mod policy_bucket;
mod policy_requests;
mod records_probe;
mod replies;
mod requests;
mod round_trips;
mod server_list;
mod server_time;
mod shared_value;
mod status;
mod status_answers;
mod stream_usage;
pub(crate) mod subjects;
mod tenant_consumers;
mod usage_sums;
mod webhooks;

use connection::{fence, open, options, servers};

pub use connection::{BusError, check, connect, reconnect_delay};
pub use constitution_answers::NodeConstitutions;
pub use constitution_bucket::ConstitutionBucket;
pub use dead_letters::DeadLetterStreams;
pub use deadlines::DeadlineWorker;
pub use decision_stream::{DecisionStream, DecisionStreamError, LoggedEvents};
pub use deliberations::Deliberations;
pub use endpoint::Bus;
pub use fleet::{Answers, Fleet, FleetError};
pub use freeze_answers::NodeFreezes;
pub use freeze_bucket::{FreezeBucket, FreezeError, Frozen};
pub use inbound::Inbound;
pub use judgements::KeptJudgements;
pub use lane::JetStreamLane;
pub use learned::LearnedBucket;
pub use micro::Micro;
pub use outbox::Outbox;
pub use peers::{Link, Peers};
pub use policy_bucket::{PolicyBucket, Pushed};
pub use policy_requests::{NodePolicy, PolicyRequest, PolicyRequests};
pub use records_probe::RecordsProbe;
pub use round_trips::RoundTrips;
pub use server_time::watch_server_time;
pub use shared_value::ValueError;
pub use status::{Level, NodeStatus, PartStatus, StatusSource};
pub use stream_usage::StreamUsage;
pub use usage_sums::{UsageError, UsageSums, kept_usage};
pub use webhooks::WebhookDispatcher;
