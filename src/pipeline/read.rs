//! Stage 2: bytes become a message, on the runtime if they are few.

use super::{Pipeline, Request, trail::Trail};
use crate::{
    cpu::{CpuError, Work},
    domain::Reason,
    rejection::Rejection,
    wire::{self, Decoded},
};

impl Pipeline {
    /// Decodes the body of a request, and tells the trail what it is of.
    pub(super) async fn read(
        &self,
        request: &Request,
        trail: &mut Trail,
        limits: &wire::Limits,
    ) -> Result<Decoded, Rejection> {
        let Request { tenant, sender, payload, .. } = request;
        let (of, by, body, limits) = (tenant.clone(), sender.clone(), payload.clone(), limits.clone());
        let decode = move || wire::decode(&body, wire::Stamp { tenant: &of, sender: &by }, &limits);
        let decoded = self.cpu.run_sized(payload.len(), tenant, Work::Decode, decode).await;
        trail.decoded(decoded.map_err(|why| not_computed(&why))?)
    }
}

/// Why what was to be computed for a message was not.
pub fn not_computed(why: &CpuError) -> Rejection {
    tracing::warn!(%why, "not computed");
    match why {
        CpuError::Busy { .. } | CpuError::Late { .. } | CpuError::Stopping => Rejection::new(
            Reason::Overloaded,
            "too much waits to be computed for the tenant, or for all of them, at the moment",
        )
        .after(std::time::Duration::from_millis(200)),
        // Nothing is known to take so long or to panic; another attempt may do better.
        CpuError::Overran { .. } | CpuError::Panicked => {
            Rejection::new(Reason::TimedOut, "what is computed for the message could not be")
        }
    }
}
