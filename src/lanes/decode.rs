//! Bytes become a message, on the runtime if they are few.

use std::pin::pin;

use super::{attempt::Attempt, request::Request};
use crate::{
    cpu::{CpuError, Work},
    domain::Reason,
    governance::{Admitted, Decoded},
    rejection::Rejection,
    telemetry::Stage,
    wire,
};

impl Attempt<'_> {
    /// Decodes the body under hard limits, tied to the sender that NATS stamped.
    pub(super) async fn decode(&mut self, admitted: Admitted) -> Result<Decoded, Rejection> {
        let decoded = self.read(self.lanes.limits.wire.clone()).await?;
        self.measured.passed(Stage::Decode);
        if let Some(traced) = &mut self.traced {
            traced.converses(decoded.message.conversation_id.as_ref());
        }
        admitted.decoded(decoded)
    }

    pub(super) async fn read(&mut self, limits: wire::Limits) -> Result<wire::Decoded, Rejection> {
        let Request { tenant, sender, payload, .. } = self.request;
        let (of, by, body) = (tenant.clone(), sender.clone(), payload.clone());
        let decode = move || wire::decode(&body, wire::Stamp { tenant: &of, sender: &by }, &limits);
        // Whoever's messages are large waits for itself alone.
        let decoding = self.lanes.cpu.run_sized(payload.len(), tenant, Work::Decode, decode);
        let decoded = self.request.place.wait(pin!(decoding)).await;
        self.findings.decoded(decoded.map_err(|why| not_computed(&why))?)
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
