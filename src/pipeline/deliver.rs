//! Stage 7, second half: hands permitted messages over, each by its own permit.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    CourierError, Dispatch, Handover, Parcel, Pipeline, Request,
    questions::Open,
    read,
    trail::{self, Trail},
};
use crate::{
    cpu::{Cpu, Work},
    domain::{AgentId, Encoding, Message, Missed, Reach, Reason},
    governance::{Addressees, Fanout, redact},
    policy::Permit,
    rejection::Rejection,
    wire::{self, Decoded},
};

/// Of a reply to an `ask`, for the verdict beside the answer.
const VERDICT_BYTES_MAX: usize = 16 * 1024;

/// Delivers and says who got it. Somebody did, or this is a rejection. A question waits for the answer of
/// whoever gets it.
pub(super) async fn hand_over(
    pipeline: &Pipeline,
    to: Addressees,
    letter: &Decoded,
    request: &Request,
    trail: &mut Trail,
    question: Option<&Open>,
) -> Result<Reach, Rejection> {
    match to.fanout {
        Fanout::FirstThatListens => first_that_listens(pipeline, to, letter, request, trail, question).await,
        Fanout::EachOfThem => each_of_them(pipeline, to, letter, request, trail).await,
    }
}

async fn first_that_listens(
    pipeline: &Pipeline,
    to: Addressees,
    letter: &Decoded,
    request: &Request,
    trail: &mut Trail,
    question: Option<&Open>,
) -> Result<Reach, Rejection> {
    let courier = &*pipeline.courier;
    let mut packer = Packer::new(&pipeline.cpu, letter, courier.payload_max());
    let mut offline = Vec::new();
    let mut reached = None;
    for permit in to.permits {
        let agent = permit.recipient().clone();
        let reach = Reach { delivered: 1, agent: Some(agent.clone()), ..Reach::default() };
        let parcel = packer.pack(permit, to.encodings.get(&agent).copied()).await?;
        // Before it leaves: the answer can be back before the delivery is confirmed.
        if let Some(question) = question {
            question.goes_to(&agent);
        }
        let answer_to = question.map(|question| question.to().clone());
        let dispatch = Dispatch {
            answer_to,
            ..dispatch(vec![parcel], std::slice::from_ref(&agent), &reach, letter, request, trail)
        };
        match courier.deliver(dispatch).await.map_err(failed)?.first() {
            Some(Handover::Taken) => {
                reached = Some(reach);
                break;
            }
            Some(Handover::NobodyListens) | None => offline.push(agent),
        }
    }
    if let Some(capability) = to.capability.filter(|_| !offline.is_empty()) {
        pipeline.rotation.passed_over(&letter.message.tenant, &capability, &offline);
    }
    reached.ok_or_else(|| {
        let names = offline.iter().map(AgentId::as_str).collect::<Vec<_>>().join(", ");
        nobody_listens(format!("{names}: registered, but without a live subscription on its inbox"))
    })
}

async fn each_of_them(
    pipeline: &Pipeline,
    to: Addressees,
    letter: &Decoded,
    request: &Request,
    trail: &mut Trail,
) -> Result<Reach, Rejection> {
    let courier = &*pipeline.courier;
    let mut packer = Packer::new(&pipeline.cpu, letter, courier.payload_max());
    let (mut parcels, mut missed) = (Vec::with_capacity(to.permits.len()), to.missed);
    let matched = to.permits.len() + missed.len();
    for permit in to.permits {
        let agent = permit.recipient().clone();
        match packer.pack(permit, to.encodings.get(&agent).copied()).await {
            Ok(parcel) => parcels.push(parcel),
            // Nothing has left yet: the sender asks again, for all of them.
            Err(rejection) if rejection.reason != Reason::TooLarge => return Err(rejection),
            Err(rejection) => missed.push(Missed { agent, reason: rejection.reason }),
        }
    }

    let agents: Vec<AgentId> = parcels.iter().map(|parcel| parcel.permit.recipient().clone()).collect();
    if !agents.is_empty() {
        let hoped = reach(agents.len(), missed.clone());
        let sent = courier.deliver(dispatch(parcels, &agents, &hoped, letter, request, trail)).await;
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
/// of the courier says that NATS has the record.
pub(super) async fn hand_back(
    pipeline: &Pipeline,
    to: Addressees,
    letter: &Decoded,
    encoding: Encoding,
    request: &Request,
    trail: &mut Trail,
) -> Result<(Parcel, Reach), Rejection> {
    let courier = &*pipeline.courier;
    let payload_max = courier.payload_max().saturating_sub(VERDICT_BYTES_MAX);
    let mut packer = Packer::new(&pipeline.cpu, letter, payload_max);
    let permit = to.permits.into_iter().next();
    let permit = permit.ok_or_else(|| nobody_listens("nobody may get the answer".to_owned()))?;
    let agent = permit.recipient().clone();
    let parcel = packer.pack(permit, Some(encoding)).await?;
    let reach = Reach { delivered: 1, agent: Some(agent.clone()), ..Reach::default() };
    courier.deliver(dispatch(Vec::new(), &[agent], &reach, letter, request, trail)).await.map_err(failed)?;
    Ok((parcel, reach))
}

/// Parcels for durable inboxes, which take a message whether somebody listens or not: for the first
/// recipient, or for each of them. At least one, or why there is none.
pub(super) async fn pack(
    cpu: &Cpu,
    to: Addressees,
    letter: &Decoded,
    payload_max: usize,
) -> Result<(Vec<Parcel>, Reach), Rejection> {
    let mut packer = Packer::new(cpu, letter, payload_max);
    let Addressees { permits, mut missed, fanout, durable_encodings, .. } = to;
    let mut parcels = Vec::with_capacity(permits.len());
    for permit in permits {
        let agent = permit.recipient().clone();
        match (packer.pack(permit, durable_encodings.get(&agent).copied()).await, fanout) {
            (Ok(parcel), Fanout::FirstThatListens) => {
                let reach = Reach { delivered: 1, agent: Some(agent), durable: true, ..Reach::default() };
                return Ok((vec![parcel], reach));
            }
            (Ok(parcel), Fanout::EachOfThem) => parcels.push(parcel),
            (Err(rejection), Fanout::FirstThatListens) => return Err(rejection),
            (Err(rejection), _) if rejection.reason != Reason::TooLarge => return Err(rejection),
            (Err(rejection), Fanout::EachOfThem) => missed.push(Missed { agent, reason: rejection.reason }),
        }
    }
    match parcels.len() {
        0 => Err(nobody_listens("none of the matching agents may get it".to_owned())),
        delivered => Ok((parcels, Reach { durable: true, ..reach(delivered, missed) })),
    }
}

fn reach(delivered: usize, mut missed: Vec<Missed>) -> Reach {
    let missed_total = u32::try_from(missed.len()).unwrap_or(u32::MAX);
    missed.truncate(Reach::MISSED_MAX);
    Reach {
        delivered: u32::try_from(delivered).unwrap_or(u32::MAX),
        agent: None,
        missed,
        missed_total,
        durable: false,
    }
}

/// Makes parcels of one message; recipients with the same encoding and redaction share the bytes.
struct Packer<'a> {
    cpu: &'a Cpu,
    letter: &'a Decoded,
    payload_max: usize,
    packed: Vec<(Encoding, BTreeSet<String>, Bytes)>,
}

impl<'a> Packer<'a> {
    fn new(cpu: &'a Cpu, letter: &'a Decoded, payload_max: usize) -> Self {
        Self { cpu, letter, payload_max, packed: Vec::with_capacity(1) }
    }

    async fn pack(&mut self, permit: Permit, wanted: Option<Encoding>) -> Result<Parcel, Rejection> {
        let encoding = wanted.unwrap_or(self.letter.encoding);
        let payload = self.payload(encoding, &permit.obligations().redact).await?;
        if payload.len() > self.payload_max {
            return Err(Rejection::new(
                Reason::TooLarge,
                format!(
                    "for its recipient, who wants {}, the message has {} bytes, at most {} can be delivered",
                    encoding.content_type(),
                    payload.len(),
                    self.payload_max
                ),
            ));
        }
        Ok(Parcel { permit, payload, encoding })
    }

    async fn payload(&mut self, encoding: Encoding, hidden: &BTreeSet<String>) -> Result<Bytes, Rejection> {
        let same = self.packed.iter().find(|(e, h, _)| *e == encoding && h == hidden);
        if let Some((_, _, payload)) = same {
            return Ok(payload.clone());
        }
        // The rules can hide something else from each recipient of a broadcast: others get their turn.
        if !self.packed.is_empty() {
            tokio::task::yield_now().await;
        }
        let (message, canonical) = (Arc::clone(&self.letter.message), self.letter.canonical.clone());
        let payload = if hidden.is_empty() && encoding == Encoding::MessagePack {
            canonical
        } else {
            let (bytes, tenant, hidden) = (canonical.len(), message.tenant.clone(), hidden.clone());
            let encode = move || encoded(&message, &canonical, encoding, &hidden);
            let encoded = self.cpu.run_sized(bytes, &tenant, Work::Encode, encode).await;
            encoded.map_err(|why| read::not_computed(&why))?
        };
        self.packed.push((encoding, hidden.clone(), payload.clone()));
        Ok(payload)
    }
}

/// A message without what is hidden.
fn encoded(message: &Message, canonical: &Bytes, encoding: Encoding, hidden: &BTreeSet<String>) -> Bytes {
    if hidden.is_empty() {
        return wire::encode_message(message, canonical, encoding);
    }
    let redacted = redact(message, hidden);
    let canonical = wire::canonical(&redacted).into();
    wire::encode_message(&redacted, &canonical, encoding)
}

fn dispatch(
    parcels: Vec<Parcel>,
    recipients: &[AgentId],
    hoped: &Reach,
    letter: &Decoded,
    request: &Request,
    trail: &mut Trail,
) -> Dispatch {
    Dispatch {
        key: trail.message_key(letter),
        decision_id: trail.decision_id().to_owned(),
        record: trail.intent(letter, hoped, recipients),
        parcels,
        traceparent: trail::traceparent(request.traceparent.as_deref()),
        answer_to: None,
        not_after: trail.deadline(),
    }
}

fn nobody_listens(detail: String) -> Rejection {
    Rejection::new(Reason::RecipientOffline, detail).after(Duration::from_secs(1))
}

fn failed(error: CourierError) -> Rejection {
    tracing::warn!(%error, "delivery failed");
    match error {
        CourierError::NotConnected | CourierError::Full { .. } | CourierError::RecordsUnreadable => {
            Rejection::new(Reason::DeliveryFailed, "the message could not be sent; nothing was delivered")
        }
        CourierError::RecordsUnconfirmed { .. } => Rejection::new(
            Reason::AuditUnavailable,
            "decisions cannot be recorded at the moment, so nothing was delivered",
        ),
        // Whether it arrived is found out by a retry with the same message id.
        CourierError::Unconfirmed => Rejection::new(
            Reason::TimedOut,
            "the delivery was not confirmed in time; ask again with the same message_id",
        ),
    }
    .after(Duration::from_millis(500))
}
