//! Stage 7, for what its reviewers must see first: a durable record of the message and of who may judge it.

use std::{sync::Arc, time::Duration};

use super::{
    Request, read,
    stored::used_before,
    trail::{Outcome, Trail},
};
use crate::{
    cpu::{Cpu, Work},
    deliberation::{Appended, DeliberationLog, LogError},
    domain::{DeliberationId, Encoding, Reason, Why},
    governance::{Parking, Written},
    rejection::Rejection,
    wire,
};

/// Parks a message that the policy permits.
pub(super) async fn park(
    log: &dyn DeliberationLog,
    cpu: &Cpu,
    parking: &Parking<'_>,
    request: &Request,
    trail: &Trail,
) -> Result<Outcome, Rejection> {
    let decoded = parking.decoded();
    let (message, canonical) = (Arc::clone(decoded.message()), decoded.letter().canonical.clone());
    let bytes = canonical.len();
    let json = move || {
        let json = wire::encode_message(&message, &canonical, Encoding::Json);
        String::from_utf8_lossy(&json).into_owned()
    };
    let json = cpu.run_sized(bytes, &decoded.tenant().id, Work::Encode, json).await;
    let parked = parking.parked(Written {
        message: json.map_err(|why| read::not_computed(&why))?,
        impact: trail.impact().cloned(),
        policy_revision: trail.policy_revision().unwrap_or_default().to_owned(),
        decision_id: trail.decision_id().to_owned(),
        node: trail.node().to_owned(),
        traceparent: request.traceparent.clone(),
        now: trail.now(),
    })?;
    match log.park(&parked).await.map_err(unavailable)? {
        Appended::Now => Ok(Outcome::Parked(parked.id, told(parking.why()))),
        Appended::Conflict => found(log, parking, &parked.id).await,
    }
}

/// What is there under this id: the same message, parked before, or another.
async fn found(
    log: &dyn DeliberationLog,
    parking: &Parking<'_>,
    id: &DeliberationId,
) -> Result<Outcome, Rejection> {
    let decoded = parking.decoded();
    let case = log.load(&decoded.tenant().id, id).await.map_err(unavailable)?;
    match case {
        Some(case) if case.parked.digest == hex::encode(decoded.digest()) => {
            let told = match &case.decision {
                None => told(parking.why()),
                Some(decision) => format!("it was parked before, and it is {}", decision.judgement.as_str()),
            };
            Ok(Outcome::Parked(id.clone(), told))
        }
        _ => Err(used_before(&decoded.key().message)),
    }
}

fn told(why: &Why) -> String {
    format!("{why}: its reviewers decide")
}

pub(super) fn unavailable(error: LogError) -> Rejection {
    tracing::warn!(%error, "deliberations unavailable");
    let detail = match error {
        LogError::TooLarge { bytes, limit } => {
            return Rejection::new(
                Reason::TooLarge,
                format!(
                    "its reviewers should decide, and with all that is recorded it has {bytes} bytes, at \
                     most {limit} can be kept"
                ),
            );
        }
        LogError::TooManyParked { open_max } => {
            return Rejection::new(
                Reason::TooManyParked,
                format!(
                    "its reviewers should decide, and {open_max} messages of the tenant wait for theirs \
                     already, its open_max: when some of these are decided there is room"
                ),
            )
            .after(Duration::from_secs(5));
        }
        // The stream is the tenant's own: no other message of the tenant is concerned, and no other tenant.
        LogError::Full(_) => {
            return Rejection::new(
                Reason::TooManyParked,
                "its reviewers should decide, and the tenant's store of deliberations has no room for more",
            )
            .after(Duration::from_secs(5));
        }
        LogError::Unconfirmed | LogError::Refused(_) | LogError::Unreadable(_) => {
            "its reviewers should decide, and it cannot be parked at the moment"
        }
    };
    Rejection::new(Reason::DeliberationUnavailable, detail).after(Duration::from_secs(1))
}
