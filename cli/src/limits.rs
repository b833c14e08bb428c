//! By whose limits is something tried? A tenant's, of a tenants file.

use std::path::{Path, PathBuf};

use agentbus::{
    domain::{Tenant, TenantId, TenantLimits},
    tenants::Plan,
    text_file,
};
use anyhow::Context as _;
use clap::Args;

const PLAN_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Debug, Args)]
pub(super) struct LimitsArgs {
    /// Tenants file to take a tenant's threshold, weights and `report_lift_max` from; with --tenant
    #[arg(long, value_name = "FILE", requires = "tenant")]
    tenants: Option<PathBuf>,
    /// Whose limits
    #[arg(long, value_name = "TENANT", requires = "tenants")]
    tenant: Option<TenantId>,
}

impl LimitsArgs {
    /// Nothing if none are asked for.
    pub(super) fn limits(&self) -> anyhow::Result<Option<TenantLimits>> {
        let (Some(path), Some(id)) = (&self.tenants, &self.tenant) else { return Ok(None) };
        let plan = plan(path)?;
        let found = plan.tenants().iter().find(|tenant: &&Tenant| tenant.id == *id);
        let limits = found.map(|tenant| tenant.limits.clone()).with_context(|| {
            let names: Vec<&str> = plan.tenants().iter().map(|tenant| tenant.id.as_str()).collect();
            format!("there is no tenant {id} in {}; there are {}", path.display(), names.join(", "))
        })?;
        Ok(Some(limits))
    }
}

fn plan(path: &Path) -> anyhow::Result<Plan> {
    let text = text_file::read(path, PLAN_BYTES_MAX).with_context(|| path.display().to_string())?;
    Plan::parse(&text).with_context(|| path.display().to_string())
}
