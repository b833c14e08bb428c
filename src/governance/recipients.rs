//! Whom would a message reach, and may it reach each of them?

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    addressees::{Addressees, Fanout},
    message::{Checked, Decoded},
    rules::Purpose,
    seen::{Seen, as_party},
};
use crate::{
    domain::{
        AgentId, AgentRecord, BroadcastFilter, CapabilityId, ConversationLabel, Encoding, Message, Missed,
        Reason, Recipient, Tenant,
    },
    impact::Need,
    policy::{Permit, Question},
    rejection::Rejection,
};

/// Recipients of one broadcast. A backstop: only agents of the tenants file can register, and it has at
/// most 1,000 of a tenant.
const BROADCAST_MAX: usize = 4096;

/// A checked message whose recipients are not known yet.
#[derive(Debug)]
pub struct Unaddressed<'a> {
    decoded: &'a Decoded,
    purpose: Purpose<'a>,
}

/// What is to be looked up in the registry, beside the sender.
#[derive(Debug, Clone, Copy)]
pub enum Lookup<'a> {
    Agent(&'a AgentId),
    /// Some of those with the capability, in the order in which they are to be tried.
    Holders(&'a CapabilityId),
    /// All that match; see [`Unaddressed::matching`].
    Everybody(&'a BroadcastFilter),
}

/// What the registry knows of them: live, as far as it can tell. Delivery finds out.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub sender: Option<Arc<AgentRecord>>,
    pub recipients: Vec<Arc<AgentRecord>>,
}

/// A message with those whom it would reach: at least one.
#[derive(Debug)]
pub struct Addressed<'a> {
    decoded: &'a Decoded,
    purpose: Purpose<'a>,
    view: View,
    fanout: Fanout,
    /// Of its conversation, if the policy reads them.
    labels: Option<BTreeSet<ConversationLabel>>,
}

/// A message with a permit for at least one of them.
#[derive(Debug)]
pub struct Permitted<'a> {
    pub(super) decoded: &'a Decoded,
    pub(super) purpose: Purpose<'a>,
    pub(super) to: Addressees,
}

impl<'a> Unaddressed<'a> {
    pub fn new(checked: Checked<'a>, purpose: Purpose<'a>) -> Self {
        Self { decoded: checked.decoded(), purpose }
    }

    pub fn decoded(&self) -> &'a Decoded {
        self.decoded
    }

    pub fn lookup(&self) -> Lookup<'a> {
        match &self.decoded.message().to {
            Recipient::Agent(id) => Lookup::Agent(id),
            Recipient::Capability(capability) => Lookup::Holders(capability),
            Recipient::Broadcast(filter) => Lookup::Everybody(filter),
        }
    }

    /// Of these, whom a broadcast is for.
    pub fn matching(&self, ids: &[AgentId], filter: &BroadcastFilter) -> Result<Vec<AgentId>, Rejection> {
        let tenant = self.decoded.tenant();
        let has_role = |id: &&AgentId| {
            filter
                .role
                .as_ref()
                .is_none_or(|role| tenant.agents.get(*id).is_some_and(|grant| grant.roles.contains(role)))
        };
        let sender = &self.decoded.message().sender;
        let matching: Vec<AgentId> =
            ids.iter().filter(|id| *id != sender).filter(has_role).cloned().collect();
        if matching.len() > BROADCAST_MAX {
            return Err(Rejection::new(
                Reason::TooLarge,
                format!("{} agents match, a broadcast reaches at most {BROADCAST_MAX}", matching.len()),
            ));
        }
        Ok(matching)
    }

    /// With what the registry knows.
    pub fn addressed(self, mut view: View) -> Result<Addressed<'a>, Rejection> {
        let Self { decoded, purpose } = self;
        let (fanout, nobody) = match self.lookup() {
            Lookup::Agent(id) => {
                // A durable inbox is there for every agent of the directory, also for one that is away.
                if view.recipients.is_empty()
                    && purpose.mode.durable()
                    && decoded.tenant().agents.contains_key(id)
                {
                    view.recipients.push(Arc::new(unregistered(id)));
                }
                let detail = format!("agent {id} is not registered in this tenant");
                (Fanout::FirstThatListens, Rejection::new(Reason::RecipientUnknown, detail))
            }
            Lookup::Holders(capability) => {
                let detail = format!("no live agent but the sender holds capability {capability}");
                (Fanout::FirstThatListens, Rejection::new(Reason::NoCapableAgent, detail))
            }
            Lookup::Everybody(_) => {
                let detail = "no live agent but the sender matches the broadcast";
                (Fanout::EachOfThem, Rejection::new(Reason::NoCapableAgent, detail))
            }
        };
        match view.recipients.is_empty() {
            true => Err(nobody.after(Duration::from_secs(1))),
            false => Ok(Addressed { decoded, purpose, view, fanout, labels: None }),
        }
    }
}

impl<'a> Addressed<'a> {
    /// With what its conversation is labelled with; `None` where the policy does not read that.
    #[must_use]
    pub fn labelled(self, labels: Option<BTreeSet<ConversationLabel>>) -> Self {
        Self { labels, ..self }
    }

    pub fn recipients(&self) -> &[Arc<AgentRecord>] {
        &self.view.recipients
    }

    /// What the policy is to be asked about one of them.
    pub fn question<'b>(&'b self, recipient: &'b AgentRecord) -> Question<'b> {
        let (message, tenant) = (self.decoded.message(), self.decoded.tenant());
        Question {
            message,
            size: self.decoded.body().canonical.len(),
            sender: as_party(&message.sender, self.view.sender.as_deref(), tenant),
            recipient: as_party(&recipient.id, Some(recipient), tenant),
            tenant,
            approval: self.purpose.approval,
            labels: self.labels.as_ref(),
        }
    }

    /// What the policy sees of them, for the record.
    pub fn seen(&self) -> Seen {
        let recipients = &self.view.recipients;
        Seen {
            constitution: self.decoded.message().constitution,
            tenant: Arc::clone(self.decoded.shared_tenant()),
            sender: self.decoded.message().sender.clone(),
            registered: self.view.sender.clone(),
            recipients: recipients.iter().take(Seen::RECIPIENTS_MAX).cloned().collect(),
            recipients_total: recipients.len(),
        }
    }

    /// With the answers, in the order of the recipients. No clear answer about one is none about the message.
    pub fn permitted(
        self,
        answers: impl IntoIterator<Item = Result<Permit, Rejection>>,
    ) -> Result<Permitted<'a>, Rejection> {
        let Self { decoded, purpose, view, fanout, labels: _ } = self;
        let (mut permits, mut missed, mut refused) =
            (Vec::with_capacity(view.recipients.len()), Vec::new(), None);
        let mut answers = answers.into_iter();
        for recipient in &view.recipients {
            match answers.next() {
                Some(Ok(permit)) if is_about(&permit, decoded, recipient) => permits.push(permit),
                Some(Err(rejection)) if rejection.reason == Reason::PolicyDenied => {
                    missed.push(Missed { agent: recipient.id.clone(), reason: rejection.reason });
                    refused = Some(rejection);
                }
                Some(Err(rejection)) => return Err(rejection),
                Some(Ok(_)) | None => {
                    let unclear = "the policy gave no clear answer";
                    return Err(Rejection::new(Reason::PolicyUnavailable, unclear));
                }
            }
        }
        match refused {
            Some(rejection) if permits.is_empty() => Err(rejection),
            _ => {
                let to = addressees(permits, missed, fanout, decoded, &view);
                can_be_labelled(&to, decoded.message())?;
                Ok(Permitted { decoded, purpose, to })
            }
        }
    }
}

impl<'a> Permitted<'a> {
    pub fn decoded(&self) -> &'a Decoded {
        self.decoded
    }

    pub fn policy_revision(&self) -> Option<&Arc<str>> {
        self.to.permits.first().map(Permit::revision)
    }

    /// Who wants its score; nobody does any more of what its reviewers have approved.
    pub fn need(&self) -> Option<Need> {
        match (self.purpose.approval, self.to.demand(|obligations| obligations.score)) {
            (Some(_), _) => None,
            (None, true) => Some(Need::Demanded),
            (None, false) => Some(Need::IfItMatters),
        }
    }
}

/// What cannot be labelled is not let through: else a sender would leave its conversation out to stay without.
fn can_be_labelled(to: &Addressees, message: &Message) -> Result<(), Rejection> {
    if message.conversation_id.is_some() || !to.demand(|obligations| !obligations.labels.is_empty()) {
        return Ok(());
    }
    let detail = "the policy labels the conversation of this message, and it has no conversation_id";
    Err(Rejection::new(Reason::PolicyDenied, detail))
}

/// A permit is for one message to one recipient, and for no other.
fn is_about(permit: &Permit, decoded: &Decoded, recipient: &AgentRecord) -> bool {
    Arc::ptr_eq(permit.message(), decoded.message()) && *permit.recipient() == recipient.id
}

fn addressees(
    permits: Vec<Permit>,
    missed: Vec<Missed>,
    fanout: Fanout,
    decoded: &Decoded,
    view: &View,
) -> Addressees {
    let tenant = decoded.tenant();
    Addressees {
        permits,
        missed,
        fanout,
        capability: match &decoded.message().to {
            Recipient::Capability(capability) => Some(capability.clone()),
            Recipient::Agent(_) | Recipient::Broadcast(_) => None,
        },
        encodings: view.recipients.iter().filter_map(|it| live_encoding(it, tenant)).collect(),
        durable_encodings: view
            .recipients
            .iter()
            .map(|it| (it.id.clone(), tenant.durable_encoding(&it.id)))
            .collect(),
    }
}

/// What it has registered, or else what the operator says.
fn live_encoding(recipient: &AgentRecord, tenant: &Tenant) -> Option<(AgentId, Encoding)> {
    let granted = || tenant.agents.get(&recipient.id)?.encoding;
    Some((recipient.id.clone(), recipient.encoding.or_else(granted)?))
}

/// An agent that has not said what it can do.
fn unregistered(id: &AgentId) -> AgentRecord {
    AgentRecord { id: id.clone(), capabilities: Arc::default(), encoding: None, description: String::new() }
}
