//! Why a tenants file cannot be used.

use std::{io, path::PathBuf};

use crate::{
    domain::{DeliberationError, TenantId, WeightsError},
    tenants::names::User,
};

/// Why a tenants file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("cannot read the tenants file {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("a tenants file has at most {limit} bytes")]
    FileTooLarge { limit: u64 },
    /// Not TOML, a key that does not exist, a name that is not allowed, a value of the wrong type.
    #[error("{message}")]
    Syntax { message: String },
    #[error("the file names no tenant; applied, it would remove all")]
    NoTenants,
    #[error("{at} must be {expected}, found {found}")]
    OutOfBounds { at: String, expected: String, found: String },
    #[error("at most {limit} {what}, found {found}")]
    TooMany { what: String, limit: usize, found: usize },
    #[error("tenants.{tenant}.limits.weights: {cause}")]
    Weights { tenant: TenantId, cause: WeightsError },
    #[error("tenants.{tenant}.deliberation.{cause}")]
    Deliberation { tenant: TenantId, cause: DeliberationError },
    #[error("{one} and {other} have the same key {key}; a key says who it is")]
    SharedKey { key: String, one: User, other: User },
    #[error("tenant {tenant}: the name is the bus's own, choose another")]
    ReservedName { tenant: TenantId },
}

pub(in crate::tenants) fn out_of_bounds(at: String, expected: &str, found: String) -> PlanError {
    PlanError::OutOfBounds { at, expected: expected.to_owned(), found }
}
