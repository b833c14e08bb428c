//! Do the message's times and size make sense for this tenant, now?
//!
//! What its bytes alone can tell is the decoder's business.

use std::time::Duration;

use super::units;
use crate::{
    domain::{Reason, Tenant, Timestamp},
    phrase::counted,
    rejection::Rejection,
    wire::Decoded,
};

pub(super) fn check(
    body: &Decoded,
    tenant: &Tenant,
    now: Timestamp,
    clock_skew: Duration,
) -> Result<(), Rejection> {
    let message = &body.message;
    units::check(message, now)?;
    if message.created_at > now.plus(clock_skew) {
        return Err(Rejection::new(
            Reason::ClockSkew,
            format!(
                "found created_at {} ms, at most {} ms in the future of {} ms are allowed",
                message.created_at.0,
                clock_skew.as_millis(),
                now.0
            ),
        ));
    }
    if let Some(expires_at) = message.expires_at.filter(|expires_at| *expires_at <= now) {
        return Err(Rejection::new(
            Reason::Expired,
            format!("found expires_at {} ms, and it is {} ms", expires_at.0, now.0),
        ));
    }
    if body.content_bytes > tenant.limits.content_bytes {
        return Err(Rejection::new(
            Reason::TooLarge,
            format!(
                "found {} of content, this tenant may send {}",
                counted(body.content_bytes, "byte"),
                tenant.limits.content_bytes
            ),
        ));
    }
    Ok(())
}
