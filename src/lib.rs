//! agentbus: a governed message bus for AI agents on NATS. What a node runs, and what agents call; the command line is
//! `cli/`.
//!
//! The map, in reading order:
//!
//! - [`domain`]: the words of the bus as types. [`rejection`]: every way to say no.
//! - [`wire`]: bytes to domain and back, under hard limits.
//! - [`audit`]: the one writer of records: what is kept as evidence, and where.
//! - [`governance`]: which way a message may go, as a function of facts; nothing in it waits.
//! - [`lanes`]: each way of a message, on one screen. [`event_loop`]: the threads on which they govern.
//! - [`freezes`]: what has an operator stopped? [`constitutions`]: what may messages name? [`following`]: is a node's
//!   copy of that the last one?
//! - [`usage`]: what has each agent used?
//! - [`fair_queue`]: whose work is next, where several want more than there is? [`shares`]: how much of a room may one
//!   take? [`overload`]: what is done with more than can be worked on?
//! - [`breakers`]: may what has failed of late be asked now? [`guarded`]: all that a node asks of others, behind them.
//! - [`chaos`]: may experiments be made with this node? `servers` breaks what is around it.
//! - [`recent`]: what is known of those who came last.
//! - [`cpu`]: threads for what takes long to compute, tenants in turn.
//! - [`policy`]: Rego decides; makes the `Permit` without which nothing is delivered.
//! - [`impact`]: how much harm a message could do.
//! - [`deliberation`]: reviewers judge what is parked: rules, votes, decisions.
//! - [`state`]: what nodes share, as traits; memory and Redis.
//! - [`review`]: what agents and reviewers ask for besides sending: registrations, what waits, votes.
//! - [`nats`]: NATS: requests in, deliveries, records and verdicts out.
//! - [`tenants`]: who may be on the bus: accounts, users, limits, and the directory nodes watch.
//! - [`webhook`]: tells an HTTP endpoint of deliberations.
//! - [`config`], [`telemetry`], [`admin`], [`shutdown`], [`supervisor`]: what a node is told, shows, how it ends, and
//!   what is done when a part of it does. [`skew`]: is its clock right? [`memory`]: how much may it have?
//!   [`health`]: how well is a part? [`trouble`]: what went wrong last.
//! - [`trace`]: which trace does a message belong to, and is its way worth telling? [`otlp`]: what does a collector get
//!   to know?
//! - [`http`]: calls to servers of others: the webhook, OPA, and where bundles are. [`tls`]: which certificates
//!   are trusted and shown, to all of these and by HTTP's own server.
//! - [`fault_points`]: where can a test kill or stall a node? `timely`: bytes that leave in time or not at all.
//! - [`phrase`]: how are errors and counts told to people?
//! - [`service_manager`]: what does a process tell systemd?
//! - [`secret_file`]: who else could read a file with a secret? [`text_file`]: files that editors wrote.
//! - [`app`]: the composition root.
//! - [`servers`]: child servers and nodes, for `agentbus up`, the demo, the load test and the tests.
//! - [`client`]: an agent's side of the bus.

pub mod admin;
pub mod app;
pub mod audit;
pub mod breakers;
pub mod chaos;
pub mod client;
pub mod config;
pub mod constitutions;
pub mod cpu;
pub mod deliberation;
pub mod domain;
pub mod event_loop;
pub mod fair_queue;
pub mod fault_points;
pub mod following;
pub mod freezes;
pub mod governance;
pub mod guarded;
pub mod health;
pub mod http;
pub mod impact;
pub mod lanes;
pub mod memory;
pub mod nats;
pub mod otlp;
pub mod overload;
pub mod phrase;
pub mod policy;
pub mod recent;
pub mod rejection;
pub mod review;
pub mod secret_file;
pub mod servers;
pub mod service_manager;
pub mod shares;
pub mod shutdown;
pub mod skew;
pub mod state;
pub mod supervisor;
pub mod telemetry;
pub mod tenants;
pub mod text_file;
mod timely;
pub mod tls;
pub mod trace;
pub mod trouble;
pub mod usage;
pub mod webhook;
pub mod wire;

/// The bytes that other versions know.
#[cfg(test)]
#[path = "../tests/golden/check.rs"]
mod golden;
