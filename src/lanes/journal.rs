//! Which records does an attempt owe, and where do they stand?

use std::borrow::Cow;

use super::{findings::Findings, measured::Measured, request::Request};
use crate::{
    audit::{Body, Decision, Entry, Facts, Party, Place, Record, Written},
    domain::{AgentId, Reach, Reason, Status, Verdict},
    policy,
};

/// What a record is made of.
type Of<'a> = (&'a Request, &'a Findings<'a>, &'a Measured);

/// What is on record already.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// An intent to deliver.
    intended: bool,
    /// It stands where verdicts do. Only a live delivery's is looked for when a claim is taken over: what
    /// the durable lane has stored is seen there.
    intended_to_store: bool,
}

impl Journal {
    /// The record that goes ahead of a delivery: the verdict as it will be if it succeeds.
    pub(super) fn intent(&mut self, of: Of<'_>, hoped: &Reach, recipients: &[AgentId]) -> Written {
        self.intended = true;
        let verdict = of.1.delivered(hoped.clone());
        self.written(of, Body::Intent(decision(of, recipients, &verdict)))
    }

    /// The same for what is to be stored on the durable lane.
    pub(super) fn intent_to_store(&mut self, of: Of<'_>, hoped: &Reach, recipients: &[AgentId]) -> Entry {
        (self.intended, self.intended_to_store) = (true, true);
        let verdict = of.1.delivered(hoped.clone());
        self.entry(of, Body::Intent(decision(of, recipients, &verdict)))
    }

    /// Whether a verdict is to be recorded beside what is on record.
    pub(super) fn owes(&self, verdict: &Verdict) -> bool {
        match (verdict.status, verdict.reason) {
            // Its intent went ahead of the delivery.
            (Status::Delivered, _) => !self.intended,
            // Not judged yet.
            (Status::Stored, _) => false,
            // Only counted: a flood must not fill the records.
            (Status::Shed, _) => false,
            // Whether the intent came to nothing is not known; it stands.
            (Status::Rejected, Reason::TimedOut) => !self.intended,
            (Status::Deliberating | Status::Rejected, _) => true,
        }
    }

    /// The record of a verdict that no intent stands for.
    pub(super) fn verdict(&self, of: Of<'_>, verdict: &Verdict) -> Written {
        self.written(of, Body::Verdict(decision(of, &recipients(verdict), verdict)))
    }

    /// With those of its turn, if it has a name there; unless it says what became of what stands by itself.
    fn written(&self, of: Of<'_>, body: Body<'_>) -> Written {
        let (request, findings, _) = of;
        match &findings.named {
            Some(name) if !self.intended_to_store => {
                let record = Record::new(findings.at.now, &request.tenant, findings.node, body);
                Written::Part(record.part(name))
            }
            _ => self.entry(of, body).into(),
        }
    }

    fn entry(&self, (request, findings, _): Of<'_>, body: Body<'_>) -> Entry {
        let place = Place::Message {
            sender: &request.sender,
            message: findings.message_id.as_ref(),
            claimed: self.intended && !self.intended_to_store,
        };
        Record::new(findings.at.now, &request.tenant, findings.node, body).entry(place)
    }
}

fn recipients(verdict: &Verdict) -> Vec<AgentId> {
    verdict.reach.iter().filter_map(|reach| reach.agent.clone()).collect()
}

fn decision<'a>(
    (request, findings, measured): Of<'a>,
    recipients: &'a [AgentId],
    verdict: &'a Verdict,
) -> Decision<'a> {
    Decision {
        sender: Cow::Borrowed(&request.sender),
        message_type: findings.message_type,
        digest: findings.digest,
        recipients: Cow::Borrowed(recipients),
        verdict: Cow::Borrowed(verdict),
        facts: findings.seen.as_ref().map(|(seen, revision)| Facts {
            constitution: seen.constitution,
            policy_revision: Cow::Borrowed(revision),
            sender: party(seen.sender()),
            recipients: seen.recipients().map(party).collect(),
            recipients_total: u64::try_from(seen.recipients_total).unwrap_or(u64::MAX),
            remembered: findings.remembered,
        }),
        submitted_as: findings.submitted_as.as_deref().map(Cow::Borrowed),
        stages_us: Cow::Owned(measured.micros()),
        cause: findings.cause.as_deref().map(Cow::Borrowed),
    }
}

fn party(seen: policy::Party<'_>) -> Party<'_> {
    Party {
        id: Cow::Borrowed(seen.id),
        roles: Cow::Borrowed(seen.roles),
        capabilities: Cow::Borrowed(seen.capabilities),
        registered: seen.registered,
    }
}
