//! Who may be on the bus: from one small file to NATS accounts, users, limits and the directory.
//!
//! The way of a tenant, in reading order:
//!
//! - [`plan`]: the operator's file, parsed and checked.
//! - [`names`]: accounts, users, streams and subjects, each written down once.
//! - [`permissions`]: what every user may publish and subscribe; allow-lists only.
//! - [`public_keys`]: keys that agents bring. [`keys`]: NKey seeds on disk. [`accounts`]: the server's accounts
//!   file. [`generate`]: both. [`changes`]: what that would change.
//! - [`server_conf`]: the server's own settings.
//! - [`mod@reload`]: makes running servers read the accounts again.
//! - [`sync`]: brings them to the servers of a cluster, and sees that each runs with them.
//! - [`streams`]: streams and consumers as they should be. [`mod@provision`]: makes them so and publishes
//!   the tenants. [`mod@preview`]: what that would change. [`directory`]: nodes follow them.
//! - [`purge`]: removes what those that left have left. [`connections`]: who is connected with which key.
//!
//! Knows nothing of messages. An agent's NATS user is its identity; nothing here trusts a body.

pub mod accounts;
pub mod changes;
pub mod connect;
pub mod connections;
pub mod directory;
pub mod generate;
pub mod keys;
pub mod names;
pub mod permissions;
pub mod plan;
pub mod preview;
pub mod provision;
mod public_keys;
mod published;
pub mod purge;
pub mod reload;
pub mod server_conf;
pub mod streams;
pub mod sync;

pub use changes::{AccessChanges, KeyChange};
pub use connect::{ConnectError, connect};
pub use connections::connections_of;
pub use directory::Directory;
pub use generate::{GenerateError, Generated};
pub use keys::{Seed, public_key_of};
pub use names::{BusUser, User};
pub use plan::{Plan, PlanError, ServerLimits, TenantStore};
pub use preview::{StoreChanges, preview};
pub use provision::{ProvisionError, Provisioned, provision};
pub use purge::{Leftovers, PurgeError};
pub use reload::{ReloadError, Reloaded, reload};
pub use server_conf::{DiskSync, ServerConf, render_server_conf};
pub use streams::StoreSettings;
pub use sync::{Distributed, SyncError};
