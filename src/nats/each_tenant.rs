//! What a node does for every tenant by itself: a loop that begins when the tenant comes into the directory,
//! and ends when it leaves.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::Rng as _;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{Tenant, TenantId},
    shutdown::Shutdown,
    skew::Skew,
    supervisor::Supervisor,
    tenants::Directory,
};

/// How often the directory is looked at for tenants that came or went.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// A tenant without its streams is asked for again after this, doubling.
const ABSENT_MIN: Duration = Duration::from_millis(500);
const ABSENT_MAX: Duration = Duration::from_secs(15);

/// For whom a node does it: all tenants, or nobody while its clock is off.
pub(super) struct Served {
    pub(super) directory: Arc<Directory>,
    pub(super) skew: Skew,
}

impl Served {
    fn tenants(&self) -> Arc<HashMap<TenantId, Arc<Tenant>>> {
        if self.skew.is_off() { Arc::default() } else { self.directory.tenants() }
    }
}

/// Follows the directory until the shutdown. What `begin` makes for a tenant ends with its token.
pub(super) fn keep<F, B>(
    name: &'static str,
    served: Served,
    shutdown: &Shutdown,
    supervisor: &Supervisor,
    begin: B,
) where
    F: Future<Output = ()> + Send + 'static,
    B: Fn(TenantId, CancellationToken) -> F + Clone + Send + Sync + 'static,
{
    let (following, kept, served) = (shutdown.clone(), supervisor.clone(), Arc::new(served));
    supervisor.keep(name, shutdown.tracker(), shutdown.token().clone(), move || {
        follow(name, Arc::clone(&served), following.clone(), kept.clone(), begin.clone())
    });
}

async fn follow<F, B>(
    name: &'static str,
    served: Arc<Served>,
    shutdown: Shutdown,
    supervisor: Supervisor,
    begin: B,
) where
    F: Future<Output = ()> + Send + 'static,
    B: Fn(TenantId, CancellationToken) -> F + Clone + Send + Sync + 'static,
{
    let mut loops: HashMap<TenantId, CancellationToken> = HashMap::new();
    // If this begins anew, so do the loops.
    let all = shutdown.token().child_token();
    let _end = all.clone().drop_guard();
    let mut seen = None;
    loop {
        let tenants = served.tenants();
        if !seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &tenants)) {
            loops.retain(|tenant, stop| {
                let stays = tenants.contains_key(tenant);
                if !stays {
                    stop.cancel();
                }
                stays
            });
            for tenant in tenants.keys() {
                if !loops.contains_key(tenant) {
                    let stop = all.child_token();
                    loops.insert(tenant.clone(), stop.clone());
                    let (begin, tenant, ends) = (begin.clone(), tenant.clone(), stop.clone());
                    supervisor.keep_below(name, shutdown.tracker(), stop, move || {
                        begin(tenant.clone(), ends.clone())
                    });
                }
            }
            seen = Some(tenants);
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

/// Whether a tenant's stream is there, told once when that changes.
pub(super) struct Presence<'a> {
    /// Of what: words for the log.
    pub(super) what: &'static str,
    pub(super) tenant: &'a TenantId,
    /// How many tenants are without.
    all: &'a AtomicUsize,
    absent: bool,
}

impl<'a> Presence<'a> {
    pub(super) fn new(what: &'static str, tenant: &'a TenantId, all: &'a AtomicUsize) -> Self {
        Self { what, tenant, all, absent: false }
    }

    pub(super) fn is_absent(&mut self) {
        if !std::mem::replace(&mut self.absent, true) {
            self.all.fetch_add(1, Ordering::Relaxed);
            let (tenant, what) = (self.tenant, self.what);
            tracing::warn!(%tenant, what, "a tenant's stream is not there; apply the tenants to make it");
        }
    }

    pub(super) fn is_there(&mut self) {
        if std::mem::replace(&mut self.absent, false) {
            self.all.fetch_sub(1, Ordering::Relaxed);
            tracing::info!(tenant = %self.tenant, what = self.what, "a tenant's stream is there");
        }
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        if self.absent {
            self.all.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// How long to wait before a loop that has ended begins anew.
pub(super) struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(ABSENT_MIN)
    }
}

impl Pause {
    /// Waits, ever longer unless the loop was of use, and no longer than until `stop`.
    pub(super) async fn wait(&mut self, was_served: bool, stop: &CancellationToken) {
        let jittered = self.0.mul_f64(rand::rng().random_range(0.5..1.0));
        self.0 = if was_served { ABSENT_MIN } else { ABSENT_MAX.min(self.0 * 2) };
        tokio::select! {
            () = tokio::time::sleep(jittered) => {}
            () = stop.cancelled() => {}
        }
    }
}
