//! Hands permitted messages over to live inboxes.

use std::time::Duration;

use super::{
    attempt::Attempt,
    live::{Delivery, Dispatch, Handover, LiveError},
    pack::{Packer, nobody_listens, reach},
    questions::Open,
    trace::Destination,
};
use crate::{
    domain::{AgentId, Encoding, Missed, Reach, Reason},
    governance::{Addressees, Decoded, Fanout},
    rejection::Rejection,
    telemetry::Stage,
};

/// Of a reply to an `ask`, for the verdict beside the answer.
const VERDICT_BYTES_MAX: usize = 16 * 1024;

impl Attempt<'_> {
    /// Delivers and says who got it. Somebody did, or this is a rejection. A question waits for the answer of
    /// whoever gets it.
    pub(super) async fn deliver(
        &mut self,
        decoded: &Decoded,
        to: Addressees,
        question: Option<&Open>,
    ) -> Result<Reach, Rejection> {
        let reached = match to.fanout {
            Fanout::FirstThatListens => self.first_that_listens(decoded, to, question).await,
            Fanout::EachOfThem => Box::pin(self.each_of_them(decoded, to)).await,
        };
        if reached.is_ok() {
            self.measured.passed(Stage::Deliver);
        }
        reached
    }

    async fn first_that_listens(
        &mut self,
        decoded: &Decoded,
        to: Addressees,
        question: Option<&Open>,
    ) -> Result<Reach, Rejection> {
        let live = &*self.lanes.live;
        let mut packer = Packer::new(&self.lanes.cpu, decoded, live.payload_max());
        let mut offline = Vec::new();
        let mut reached = None;
        for permit in to.permits {
            let agent = permit.recipient().clone();
            let reach = Reach { delivered: 1, agent: Some(agent.clone()), ..Reach::default() };
            let delivery = packer.pack(permit, to.encodings.get(&agent).copied()).await?;
            // Before it leaves: the answer can be back before the delivery is confirmed.
            if let Some(question) = question {
                question.goes_to(&agent);
            }
            let answer_to = question.map(|question| question.to().clone());
            let dispatch = Dispatch {
                answer_to,
                ..self.dispatch(decoded, vec![delivery], std::slice::from_ref(&agent), &reach)
            };
            match live.deliver(dispatch).await.map_err(failed)?.first() {
                Some(Handover::Taken) => {
                    reached = Some(reach);
                    break;
                }
                Some(Handover::NobodyListens) | None => offline.push(agent),
            }
        }
        if let Some(capability) = to.capability.filter(|_| !offline.is_empty()) {
            self.lanes.rotation.passed_over(&decoded.key().tenant, &capability, &offline);
        }
        reached.ok_or_else(|| {
            let names = offline.iter().map(AgentId::as_str).collect::<Vec<_>>().join(", ");
            nobody_listens(format!("{names}: registered, but without a live subscription on its inbox"))
        })
    }

    async fn each_of_them(&mut self, decoded: &Decoded, to: Addressees) -> Result<Reach, Rejection> {
        let live = &*self.lanes.live;
        let mut packer = Packer::new(&self.lanes.cpu, decoded, live.payload_max());
        let (mut deliveries, mut missed) = (Vec::with_capacity(to.permits.len()), to.missed);
        let matched = to.permits.len() + missed.len();
        for permit in to.permits {
            let agent = permit.recipient().clone();
            match packer.pack(permit, to.encodings.get(&agent).copied()).await {
                Ok(delivery) => deliveries.push(delivery),
                // Nothing has left yet: the sender asks again, for all of them.
                Err(rejection) if rejection.reason != Reason::TooLarge => return Err(rejection),
                Err(rejection) => missed.push(Missed { agent, reason: rejection.reason }),
            }
        }

        let agents: Vec<AgentId> =
            deliveries.iter().map(|delivery| delivery.permit.recipient().clone()).collect();
        if !agents.is_empty() {
            let hoped = reach(agents.len(), missed.clone());
            let sent = live.deliver(self.dispatch(decoded, deliveries, &agents, &hoped)).await;
            let absent = agents.into_iter().zip(sent.map_err(failed)?);
            let absent = absent.filter(|(_, handover)| *handover == Handover::NobodyListens);
            missed.extend(absent.map(|(agent, _)| Missed { agent, reason: Reason::RecipientOffline }));
        }
        match matched.saturating_sub(missed.len()) {
            0 => Err(nobody_listens(format!(
                "of {matched} matching agents, none may get it and has a live subscription"
            ))),
            delivered => Ok(reach(delivered, missed)),
        }
    }

    /// Packs an answer for who has asked, and records the intent ahead of it, as for any delivery: the fence
    /// of the transport says that NATS has the record.
    pub(super) async fn hand_back(
        &mut self,
        decoded: &Decoded,
        to: Addressees,
        encoding: Encoding,
    ) -> Result<(Delivery, Reach), Rejection> {
        let live = &*self.lanes.live;
        let payload_max = live.payload_max().saturating_sub(VERDICT_BYTES_MAX);
        let mut packer = Packer::new(&self.lanes.cpu, decoded, payload_max);
        let permit = to.permits.into_iter().next();
        let permit = permit.ok_or_else(|| nobody_listens("nobody may get the answer".to_owned()))?;
        let agent = permit.recipient().clone();
        let delivery = packer.pack(permit, Some(encoding)).await?;
        let reach = Reach { delivered: 1, agent: Some(agent.clone()), ..Reach::default() };
        live.deliver(self.dispatch(decoded, Vec::new(), &[agent], &reach)).await.map_err(failed)?;
        Ok((delivery, reach))
    }

    fn dispatch(
        &mut self,
        decoded: &Decoded,
        deliveries: Vec<Delivery>,
        recipients: &[AgentId],
        hoped: &Reach,
    ) -> Dispatch {
        Dispatch {
            key: decoded.key().clone(),
            decision_id: self.findings.decision_id.clone(),
            record: self.intent(hoped, recipients),
            deliveries,
            traceparent: self.hand_on(Destination::Inbox),
            cause: self.findings.cause.clone(),
            answer_to: None,
            not_after: self.deadline(),
            // The claim outlasts the deadline by half of one; the rest is for the way to the server.
            written_by: self.deadline() + self.lanes.limits.deadline / 4,
        }
    }
}

fn failed(error: LiveError) -> Rejection {
    tracing::warn!(%error, "delivery failed");
    match error {
        LiveError::BreakerOpen { retry_after } => {
            return Rejection::breaker_open("the store of decision records", retry_after);
        }
        LiveError::NotConnected
        | LiveError::Full { .. }
        | LiveError::RecordsUnreadable
        | LiveError::RecordStrange => {
            Rejection::new(Reason::DeliveryFailed, "the message could not be sent; nothing was delivered")
        }
        LiveError::RecordsUnconfirmed { .. } => Rejection::new(
            Reason::AuditUnavailable,
            "decisions cannot be recorded at the moment, so nothing was delivered",
        ),
        // Whether it arrived is found out by a retry with the same message id.
        LiveError::Unconfirmed => Rejection::new(
            Reason::TimedOut,
            "the delivery was not confirmed in time; ask again with the same message_id",
        ),
    }
    .after(Duration::from_millis(500))
}
