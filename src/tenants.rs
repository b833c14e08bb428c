//! Who may be on the bus: from one small file to NATS accounts, users, limits and the directory.
//!
//! The way of a tenant, in reading order:
//!
//! - [`plan`]: the operator's file, parsed and checked.
//! - [`names`]: accounts, users, streams and subjects, each written down once.
//! - [`permissions`]: what every user may publish and subscribe; allow-lists only.
//! - [`keys`]: NKey seeds on disk. [`accounts`]: the server's accounts file. [`generate`]: both.
//! - [`server_conf`]: the server's own settings.
//! - [`mod@reload`]: makes running servers read the accounts again.
//! - [`streams`]: streams and consumers as they should be. [`mod@provision`]: makes them so and publishes
//!   the tenants. [`directory`]: nodes follow them.
//!
//! Knows nothing of messages. An agent's NATS user is its identity; nothing here trusts a body.

pub mod accounts;
pub mod connect;
pub mod directory;
pub mod generate;
pub mod keys;
pub mod names;
pub mod permissions;
pub mod plan;
pub mod provision;
mod published;
pub mod reload;
pub mod server_conf;
pub mod streams;

pub use connect::{ConnectError, connect};
pub use directory::Directory;
pub use generate::{GenerateError, Generated};
pub use keys::Seed;
pub use names::{BusUser, User};
pub use plan::{Plan, PlanError, ServerLimits, TenantStore};
pub use provision::{ProvisionError, Provisioned, provision};
pub use reload::{ReloadError, Reloaded, reload};
pub use server_conf::{ServerConf, render_server_conf};
pub use streams::StoreSettings;
