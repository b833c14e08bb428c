//! A message as the bytes that its recipients get, each by its own permit.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{decode::not_computed, live::Delivery};
use crate::{
    cpu::{Cpu, Work},
    domain::{Encoding, Message, Missed, Reach, Reason},
    governance::{Addressees, Decoded, Fanout, redact},
    policy::Permit,
    rejection::Rejection,
    wire,
};

/// Parcels for durable inboxes, which take a message whether somebody listens or not: for the first
/// recipient, or for each of them. At least one, or why there is none.
pub(super) async fn durably(
    cpu: &Cpu,
    to: Addressees,
    decoded: &Decoded,
    payload_max: usize,
) -> Result<(Vec<Delivery>, Reach), Rejection> {
    let mut packer = Packer::new(cpu, decoded, payload_max);
    let Addressees { permits, mut missed, fanout, durable_encodings, .. } = to;
    let mut deliveries = Vec::with_capacity(permits.len());
    for permit in permits {
        let agent = permit.recipient().clone();
        match (packer.pack(permit, durable_encodings.get(&agent).copied()).await, fanout) {
            (Ok(delivery), Fanout::FirstThatListens) => {
                let reach = Reach { delivered: 1, agent: Some(agent), durable: true, ..Reach::default() };
                return Ok((vec![delivery], reach));
            }
            (Ok(delivery), Fanout::EachOfThem) => deliveries.push(delivery),
            (Err(rejection), Fanout::FirstThatListens) => return Err(rejection),
            (Err(rejection), _) if rejection.reason != Reason::TooLarge => return Err(rejection),
            (Err(rejection), Fanout::EachOfThem) => missed.push(Missed { agent, reason: rejection.reason }),
        }
    }
    match deliveries.len() {
        0 => Err(nobody_listens("none of the matching agents may get it".to_owned())),
        delivered => Ok((deliveries, Reach { durable: true, ..reach(delivered, missed) })),
    }
}

pub(super) fn reach(delivered: usize, mut missed: Vec<Missed>) -> Reach {
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

/// Makes deliveries of one message; recipients with the same encoding and redaction share the bytes.
pub(super) struct Packer<'a> {
    cpu: &'a Cpu,
    decoded: &'a Decoded,
    payload_max: usize,
    packed: Vec<(Encoding, BTreeSet<String>, Bytes)>,
}

impl<'a> Packer<'a> {
    pub(super) fn new(cpu: &'a Cpu, decoded: &'a Decoded, payload_max: usize) -> Self {
        Self { cpu, decoded, payload_max, packed: Vec::with_capacity(1) }
    }

    pub(super) async fn pack(
        &mut self,
        permit: Permit,
        wanted: Option<Encoding>,
    ) -> Result<Delivery, Rejection> {
        let encoding = wanted.unwrap_or(self.decoded.body().encoding);
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
        Ok(Delivery { permit, payload, encoding })
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
        let (message, canonical) =
            (Arc::clone(self.decoded.message()), self.decoded.body().canonical.clone());
        let payload = if hidden.is_empty() && encoding == Encoding::MessagePack {
            canonical
        } else {
            let (bytes, tenant, hidden) = (canonical.len(), message.tenant.clone(), hidden.clone());
            let encode = move || encoded(&message, &canonical, encoding, &hidden);
            let encoded = self.cpu.run_sized(bytes, &tenant, Work::Encode, encode).await;
            encoded.map_err(|why| not_computed(&why))?
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

pub(super) fn nobody_listens(detail: String) -> Rejection {
    Rejection::new(Reason::RecipientOffline, detail).after(Duration::from_secs(1))
}
