//! What is to be done with a message that may go? Values: others carry them out.

use std::collections::BTreeSet;

use super::{
    addressees::Addressees,
    duties::Duties,
    message::Decoded,
    route::{Route, Routed},
    rules::Precondition,
};
use crate::{
    deliberation::{self, NoReviewers},
    domain::{Impact, Parked, Reason, Timestamp, Why},
    rejection::Rejection,
};

/// What is to be done once the message is claimed, under [`Decoded::key`].
#[derive(Debug)]
pub struct Plan<'a> {
    pub effect: Effect<'a>,
    /// What is to be done before it.
    pub duties: Duties,
    pub precondition: Precondition,
    /// Whether the record goes ahead of what is stored: its sender waits, and nobody governs the message again
    /// if this node ends. A live delivery is always recorded ahead.
    pub record_ahead: bool,
    /// Whether the verdict is kept as an outcome as well, beside which the durable lane delivers nothing.
    pub notify: bool,
    /// What its sender's past keeps of it: what its words scored.
    pub remember: Option<f64>,
}

#[derive(Debug)]
pub enum Effect<'a> {
    /// Into live inboxes.
    Deliver(Addressees),
    /// Into durable inboxes.
    Store(Addressees),
    /// Onto the durable lane, where it is judged anew. Its permits end here.
    Queue,
    Park(Parking<'a>),
}

/// A message that its reviewers must see first. Its permits end here: it gets new ones when it is approved.
#[derive(Debug)]
pub struct Parking<'a> {
    decoded: &'a Decoded,
    approvals_demanded: Option<u32>,
    why: Why,
    notes: BTreeSet<String>,
}

/// What the record of a parked message says besides.
#[derive(Debug)]
pub struct Written {
    /// The message as JSON.
    pub message: String,
    pub impact: Option<Impact>,
    pub policy_revision: String,
    pub decision_id: String,
    pub node: String,
    pub traceparent: Option<String>,
    pub now: Timestamp,
}

impl<'a> Routed<'a> {
    pub fn route(&self) -> &Route {
        &self.route
    }

    pub fn plan(self) -> Plan<'a> {
        let Self { decoded, purpose, to, route, semantic } = self;
        let duties = Duties::of(&to, &route, &purpose);
        let effect = match route {
            Route::Live => Effect::Deliver(to),
            Route::Durable => Effect::Store(to),
            Route::Queued => Effect::Queue,
            Route::Parked(why) => Effect::Park(Parking {
                decoded,
                approvals_demanded: to.approvals_demanded(),
                why,
                notes: to.notes(),
            }),
        };
        let waits = purpose.mode.waits();
        Plan {
            effect,
            duties,
            precondition: purpose.precondition(),
            record_ahead: waits,
            notify: waits,
            remember: semantic,
        }
    }
}

impl<'a> Parking<'a> {
    pub fn decoded(&self) -> &'a Decoded {
        self.decoded
    }

    pub fn why(&self) -> &Why {
        &self.why
    }

    /// What is parked, with those who may judge it. Or there are none.
    pub fn parked(&self, written: Written) -> Result<Parked, Rejection> {
        let (message, tenant) = (self.decoded.message(), self.decoded.tenant());
        let Written { message: json, impact, policy_revision, decision_id, node, traceparent, now } = written;
        let electorate =
            deliberation::electorate(tenant, &message.sender, message.message_type, self.approvals_demanded)
                .map_err(|NoReviewers(why)| Rejection::new(Reason::NoReviewers, why))?;
        let terms = tenant.deliberation.terms(message.message_type);
        Ok(Parked {
            id: deliberation::id_of(self.decoded.key()),
            tenant: tenant.id.clone(),
            sender: message.sender.clone(),
            message_id: message.id.clone(),
            message: json,
            digest: hex::encode(self.decoded.digest()),
            why: self.why.clone(),
            notes: self.notes.clone(),
            impact,
            policy_revision,
            decision_id,
            node,
            rule: electorate.rule,
            voters: electorate.voters,
            stand_ins: electorate.stand_ins,
            parked_at: now,
            escalate_at: terms
                .escalate_after
                .filter(|after| *after < terms.timeout)
                .map(|after| now.plus(after)),
            deadline: now.plus(terms.timeout),
            traceparent,
        })
    }
}
