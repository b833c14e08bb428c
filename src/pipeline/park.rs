//! Stage 7, for what its reviewers must see first: a durable record of the message and of who may judge it.

use std::{sync::Arc, time::Duration};

use super::{
    Request, read,
    stored::used_before,
    trail::{Judged, Outcome, Trail},
};
use crate::{
    cpu::{Cpu, Work},
    deliberation::{self, Appended, DeliberationLog, LogError, NoReviewers},
    domain::{DeliberationId, Encoding, Parked, Reason, Tenant, Why},
    rejection::Rejection,
    wire::{self, Decoded},
};

/// What is to be parked.
#[derive(Clone, Copy)]
pub(super) struct Parking<'a> {
    pub judged: &'a Judged,
    pub why: &'a Why,
    pub letter: &'a Decoded,
    pub tenant: &'a Tenant,
    pub request: &'a Request,
}

/// Parks a message that the policy permits. Its permits end here: it gets new ones when it is approved.
pub(super) async fn park(
    log: &dyn DeliberationLog,
    cpu: &Cpu,
    parking: Parking<'_>,
    trail: &Trail,
) -> Result<Outcome, Rejection> {
    let Parking { judged, why, letter, tenant, request } = parking;
    let message = &letter.message;
    let demanded = judged.approvals_demanded();
    let electorate = deliberation::electorate(tenant, &message.sender, message.message_type, demanded)
        .map_err(|NoReviewers(why)| Rejection::new(Reason::NoReviewers, why))?;
    let terms = tenant.deliberation.terms(message.message_type);
    let id = deliberation::id_of(&trail.message_key(letter));
    let (shared, canonical) = (Arc::clone(message), letter.canonical.clone());
    let written = move || {
        let json = wire::encode_message(&shared, &canonical, Encoding::Json);
        String::from_utf8_lossy(&json).into_owned()
    };
    let written = cpu.run_sized(letter.canonical.len(), &tenant.id, Work::Encode, written).await;
    let now = trail.now();
    let parked = Parked {
        id: id.clone(),
        tenant: tenant.id.clone(),
        sender: message.sender.clone(),
        message_id: message.id.clone(),
        message: written.map_err(|why| read::not_computed(&why))?,
        digest: hex::encode(letter.digest),
        why: why.clone(),
        impact: trail.impact().cloned(),
        policy_revision: trail.policy_revision().unwrap_or_default().to_owned(),
        decision_id: trail.decision_id().to_owned(),
        node: trail.node().to_owned(),
        rule: electorate.rule,
        voters: electorate.voters,
        stand_ins: electorate.stand_ins,
        parked_at: now,
        escalate_at: terms.escalate_after.filter(|after| *after < terms.timeout).map(|after| now.plus(after)),
        deadline: now.plus(terms.timeout),
        traceparent: request.traceparent.clone(),
    };
    match log.park(&parked).await.map_err(unavailable)? {
        Appended::Now => Ok(Outcome::Parked(id, told(why))),
        Appended::Conflict => found(log, parking, &id).await,
    }
}

/// What is there under this id: the same message, parked before, or another.
async fn found(
    log: &dyn DeliberationLog,
    parking: Parking<'_>,
    id: &DeliberationId,
) -> Result<Outcome, Rejection> {
    let Parking { why, letter, tenant, .. } = parking;
    let case = log.load(&tenant.id, id).await.map_err(unavailable)?;
    match case {
        Some(case) if case.parked.digest == hex::encode(letter.digest) => {
            let told = match &case.decision {
                None => told(why),
                Some(decision) => format!("it was parked before, and it is {}", decision.judgement.as_str()),
            };
            Ok(Outcome::Parked(id.clone(), told))
        }
        _ => Err(used_before(&letter.message.id)),
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
