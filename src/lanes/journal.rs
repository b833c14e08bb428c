//! Which records does an attempt owe, and where do they stand?

use bytes::Bytes;

use super::{findings::Findings, live::RecordPlace, request::Request};
use crate::{
    domain::{AgentId, Reach, Reason, Status, Verdict},
    wire::{self, Record, RecordKind},
};

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
    pub(super) fn intent(
        &mut self,
        (request, findings): (&Request, &Findings<'_>),
        hoped: &Reach,
        recipients: &[AgentId],
    ) -> Bytes {
        self.intended = true;
        let verdict = findings.delivered(hoped.clone());
        encoded(RecordKind::Intent, (request, findings), recipients, &verdict)
    }

    /// The same for what is to be stored on the durable lane, and its place.
    pub(super) fn intent_to_store<'a>(
        &mut self,
        (request, findings): (&'a Request, &'a Findings<'_>),
        hoped: &Reach,
        recipients: &[AgentId],
    ) -> (RecordPlace<'a>, Bytes) {
        self.intended_to_store = true;
        let record = self.intent((request, findings), hoped, recipients);
        (self.place(request, findings), record)
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

    /// The record of a verdict that no intent stands for, and its place.
    pub(super) fn verdict<'a>(
        &self,
        (request, findings): (&'a Request, &'a Findings<'_>),
        verdict: &Verdict,
    ) -> (RecordPlace<'a>, Bytes) {
        let recipients: Vec<AgentId> = verdict.reach.iter().filter_map(|reach| reach.agent.clone()).collect();
        let record = encoded(RecordKind::Verdict, (request, findings), &recipients, verdict);
        (self.place(request, findings), record)
    }

    fn place<'a>(&self, request: &'a Request, findings: &'a Findings<'_>) -> RecordPlace<'a> {
        RecordPlace {
            tenant: &request.tenant,
            sender: &request.sender,
            message: findings.message_id.as_ref(),
            after_intent: self.intended && !self.intended_to_store,
        }
    }
}

fn encoded(
    kind: RecordKind,
    (request, findings): (&Request, &Findings<'_>),
    recipients: &[AgentId],
    verdict: &Verdict,
) -> Bytes {
    wire::encode_record(&Record {
        kind,
        at: findings.at.now,
        tenant: &request.tenant,
        sender: &request.sender,
        message_type: findings.message_type,
        digest: findings.digest.as_ref(),
        recipients,
        verdict,
    })
    .into()
}
