//! A candidate that is only tried: it is read, compiled and tested as one that comes into force, and then judges beside.

use bytes::Bytes;

use super::{Origin, Rollout};
use crate::{
    domain::Timestamp,
    policy::{Label, PolicyEngine as _, RegoEngine, Shadow, ShadowPlan, bundle::Bundle, sources::LoadError},
};

/// How far an operator's clock may be ahead.
const CLOCKS_DIFFER_MS: u64 = 60 * 60 * 1_000;

/// What an operator wants to be tried.
#[derive(Debug, Clone)]
pub struct ShadowOffer {
    pub plan: ShadowPlan,
    /// A bundle; empty: nothing any more.
    pub packed: Bytes,
}

impl Rollout {
    /// Has the candidate judge beside the policy in force, or none any more. Why it cannot is logged, and told until
    /// another comes.
    pub async fn try_beside(&self, offer: ShadowOffer) {
        let Some(shadow) = self.gate.shadow() else { return };
        let ShadowOffer { plan, packed } = offer;
        if packed.is_empty() {
            tracing::info!("no candidate judges beside the policy in force any more");
            return shadow.stop(plan.sequence);
        }
        let now = (self.clock)();
        if plan.until <= now {
            return;
        }
        match self.candidate_of(plan, packed, now).await {
            Ok((label, engine)) => {
                let (revision, share) = (engine.revision().clone(), plan.share);
                shadow.judge(plan, label, engine, self.gate.revision());
                // Another may have come into force meanwhile.
                shadow.comes_into_force(&self.gate.revision());
                tracing::info!(%revision, share, "a candidate judges beside the policy in force");
            }
            Err(why) => {
                tracing::warn!(why, "a candidate that was to judge beside the policy in force is refused");
                shadow.refuse(plan, why);
            }
        }
    }

    async fn candidate_of(
        &self,
        plan: ShadowPlan,
        packed: Bytes,
        now: Timestamp,
    ) -> Result<(Label, RegoEngine), String> {
        if !(plan.share > 0.0 && plan.share <= 1.0) {
            return Err(format!("its share: found {}, expected more than 0 and at most 1", plan.share));
        }
        let most = u64::try_from(Shadow::TIME_MAX.as_millis()).unwrap_or(u64::MAX);
        if plan.until.0.saturating_sub(now.0) > most.saturating_add(CLOCKS_DIFFER_MS) {
            return Err(format!("its end: expected one within {:?}", Shadow::TIME_MAX));
        }
        let (shipped, verifier) = match &self.state.lock().origin {
            Origin::Folder(folder) => (folder.shipped, None),
            // It sees the same messages as one in force, so it must have the same signature.
            Origin::Bundles { shipped, verifier, .. } => (*shipped, verifier.clone()),
        };
        let opened = tokio::task::spawn_blocking(move || {
            let Bundle { label, sources } = Bundle::open(&packed, shipped, verifier.as_ref())?;
            let (engine, _) = RegoEngine::tested(&sources)?;
            Ok::<_, LoadError>((label, engine))
        });
        opened.await.map_err(|cause| cause.to_string())?.map_err(|error| error.to_string())
    }
}
