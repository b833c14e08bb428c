//! Bundles come by themselves: each is looked at as it comes, and put in force if it may be.

use std::{sync::Arc, time::Duration};

use super::{Candidate, Loaded, Origin, Rollout};
use crate::policy::{
    OffRuntime, RegoEngine,
    bundle::Bundle,
    source::{BundleSource, Offer},
    sources::LoadError,
    trial::Trial,
};

/// After a source could not be asked.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(15);

impl Rollout {
    /// Takes what the source tells of, until the future is dropped.
    pub async fn follow(&self, source: &dyn BundleSource) {
        let mut wait = RETRY;
        loop {
            match source.next().await {
                Ok(offer) => {
                    wait = RETRY;
                    self.state.lock().unreachable = None;
                    if let Some(offer) = offer {
                        // What came of it is logged, counted and part of the standing.
                        let _ = self.offer(offer).await;
                    }
                }
                Err(why) => {
                    let before = self.state.lock().unreachable.replace(why.to_string());
                    if before != Some(why.to_string()) {
                        tracing::warn!(%why, "no bundle can be looked for; trying again without end");
                    }
                    tokio::time::sleep(wait).await;
                    wait = RETRY_MAX.min(wait * 2);
                }
            }
        }
    }

    /// Puts a bundle in force, unless something is wrong with it.
    pub async fn offer(&self, offer: Offer) -> Result<Loaded, LoadError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        match self.unpack(offer).await {
            Ok((engine, origin, tests, trial)) => {
                let loaded = self.put_in_force(Candidate { engine, origin, tests, trial, _turn: turn });
                self.ready.send_replace(true);
                Ok(loaded)
            }
            Err(error) => Err(self.refuse(error)),
        }
    }

    /// Waits until there is a policy; the caller bounds the wait.
    pub async fn ready(&self) {
        // Cannot fail: the sender lives in `self`.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    async fn unpack(&self, offer: Offer) -> Result<(Arc<OffRuntime>, Origin, usize, Trial), LoadError> {
        let Origin::Bundles { shipped, verifier, label: before } = self.state.lock().origin.clone() else {
            return Err(LoadError::NoBundles);
        };
        let (trusted, Offer { packed, force }) = (verifier.clone(), offer);
        let opened = tokio::task::spawn_blocking(move || {
            let Bundle { label, sources } = Bundle::open(&packed, shipped, trusted.as_ref())?;
            if let Some(before) = before.filter(|before| label.is_older_than(before))
                && force.as_deref() != Some(&*label.revision)
            {
                return Err(LoadError::Older { found: label.to_string(), in_force: before.to_string() });
            }
            let (engine, tests) = RegoEngine::tested(&sources)?;
            Ok((label, engine, tests))
        })
        .await;
        let (label, engine, tests) =
            opened.map_err(|cause| LoadError::Compile { cause: cause.to_string() })??;
        let (engine, trial) = self.tried(engine).await?;
        Ok((engine, Origin::Bundles { shipped, verifier, label: Some(label) }, tests, trial))
    }
}
