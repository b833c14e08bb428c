//! What do nodes share, and where is it kept? In Redis, or in this process.

use std::{collections::HashMap, sync::Arc};

use anyhow::Context as _;
use async_trait::async_trait;

use super::basis::Basis;
use crate::{
    breakers::{Breaker, Kind},
    config,
    domain::{Tenant, TenantId},
    guarded::{GuardedStore, Spread},
    lanes::Tenants,
    policy::{self, Rollout, SharedTier},
    review::AllTenants,
    skew::Skew,
    state::{
        self, CachedRegistry, Causes, ConversationLabels, Idempotency, Lifetimes, MemoryStore, RedisSettings,
        RedisStore, Registry, SealKeys, SenderHistoryStore, SharedAnswers, SharedBreakers, Trust,
    },
    tenants::Directory,
};

/// What nodes share, over Redis or in this process's memory.
#[derive(Clone)]
pub(super) struct Stores {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) idempotency: Arc<dyn Idempotency>,
    pub(super) pasts: Arc<dyn SenderHistoryStore>,
    pub(super) labels: Arc<dyn ConversationLabels>,
    pub(super) causes: Arc<dyn Causes>,
    /// Absent: in memory.
    pub(super) redis: Option<Arc<RedisStore>>,
}

impl Stores {
    pub(super) fn open(basis: &Basis, settings: Option<RedisSettings>, skew: &Skew) -> anyhow::Result<Self> {
        let Basis { config, background, supervisor, .. } = basis;
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
                labels: Arc::clone(&store) as Arc<dyn ConversationLabels>,
                causes: Arc::clone(&store) as Arc<dyn Causes>,
                pasts: store,
                redis: None,
            });
        };
        settings.lifetimes = lifetimes;
        settings.runs_on = basis.loops.map(|event_loop| Some(event_loop.handle().clone()));
        let (stop, tracker) = (background.token().clone(), background.tracker());
        let store = RedisStore::connect(settings, stop, tracker, supervisor, skew).context("redis.url")?;
        let store = Arc::new(store);
        if redis.allow_no_password && redis.password_file.is_none() {
            tracing::warn!("redis.allow_no_password is set: whoever reaches redis can write there");
        }
        if let Some(trusting) = store.distrust() {
            tracing::warn!("{trusting}");
        }
        let breaker = basis.breakers.of(Kind::Redis);
        let guarded = Arc::new(GuardedStore::new(Arc::clone(&store), Arc::clone(&breaker)));
        guard(basis, &store, breaker);
        Ok(Self {
            registry: Arc::new(CachedRegistry::new(Arc::clone(&guarded))),
            idempotency: Arc::clone(&guarded) as Arc<dyn Idempotency>,
            pasts: Arc::clone(&guarded) as Arc<dyn SenderHistoryStore>,
            labels: Arc::clone(&guarded) as Arc<dyn ConversationLabels>,
            causes: guarded,
            redis: Some(store),
        })
    }
}

/// Redis is asked again as soon as its own probe is answered; and over it nodes tell each other of all other breakers.
fn guard(basis: &Basis, store: &Arc<RedisStore>, breaker: Arc<Breaker>) {
    let health = store.health();
    basis.keep("redis breaker", move || {
        let (mut health, breaker) = (health.clone(), Arc::clone(&breaker));
        async move {
            loop {
                if *health.borrow_and_update() == state::Health::Up {
                    breaker.restored();
                }
                if health.changed().await.is_err() {
                    // The store is gone, and the node with it.
                    return std::future::pending().await;
                }
            }
        }
    });
    let spread = Arc::new(Spread::new(&basis.breakers, Arc::clone(store) as Arc<dyn SharedBreakers>));
    basis.keep("breakers", move || {
        let spread = Arc::clone(&spread);
        async move { spread.run().await }
    });
}

/// Where OPA servers are asked, nodes share their answers, if each can see that another node wrote one.
pub(super) fn share_answers(basis: &Basis, stores: &Stores, rollout: &Rollout) {
    let redis = stores.redis.as_ref().filter(|redis| redis.seals() && rollout.modes().opa().is_some());
    let Some(redis) = redis else { return };
    let meter = Arc::clone(&basis.metrics) as Arc<dyn policy::Meter>;
    let tier = Arc::new(SharedTier::new(Arc::clone(redis) as Arc<dyn SharedAnswers>, meter));
    rollout.gate().share(Arc::clone(&tier));
    basis.keep("shared answers", move || {
        let tier = Arc::clone(&tier);
        async move { tier.run().await }
    });
}

/// What a node needs to use Redis, its secrets read from their files. Blocks for as long as that takes.
pub fn redis_settings(redis: &config::Redis) -> anyhow::Result<RedisSettings> {
    let mut settings = RedisSettings::new(&redis.url);
    if let Some(login) = redis.login()? {
        settings = settings.login(login.user, login.password);
    }
    let keys = redis.seal_key_file.as_deref().map(SealKeys::read).transpose();
    settings.files = redis.tls.as_ref().map(config::ClientTls::files).unwrap_or_default();
    settings.trust =
        Trust { keys: keys.context("redis.seal_key_file")?, unsealed_for: redis.accept_unsealed_for };
    Ok(settings)
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
