//! One message that was given up, with all that was known of it.

use bytes::Bytes;
use serde_json::Value;

use super::{Address, Redriven};
use crate::{
    domain::Encoding,
    state::{Digest, MessageKey},
    wire,
};

/// Of what cannot be read, shown.
const BEGINNING: usize = 160;

/// A dead letter as it is kept.
#[derive(Debug, Clone)]
pub struct Letter {
    pub address: Address,
    pub reason: String,
    pub detail: String,
    pub attempts: u64,
    /// How often it was redriven before it died.
    pub redriven: u32,
    /// Milliseconds since 1970.
    pub died_at: u64,
    pub traceparent: Option<String>,
    pub payload: Bytes,
    /// Where it is kept. Later letters have higher ones.
    pub place: u64,
}

impl Letter {
    fn decoded(&self) -> Option<(MessageKey, wire::Decoded)> {
        let (tenant, sender, message) = self.address.ids()?;
        let limits = wire::Limits { content_bytes: usize::MAX, ..wire::Limits::default() };
        let stamp = wire::Stamp { tenant: &tenant, sender: &sender };
        let decoded = wire::decode(&self.payload, stamp, &limits).ok()?;
        (decoded.message.id == message).then_some((MessageKey { tenant, sender, message }, decoded))
    }

    /// As the map that its sender wrote, if it can be read as theirs.
    pub fn message(&self) -> Option<Value> {
        let (_, decoded) = self.decoded()?;
        let json = wire::encode_message(&decoded.message, &decoded.canonical, Encoding::Json);
        serde_json::from_slice(&json).ok()
    }

    /// Of its content, if it can be read as its sender's.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.decoded().map(|(_, decoded)| decoded.digest)
    }

    /// The first bytes, escaped.
    pub fn beginning(&self) -> String {
        let more = if self.payload.len() > BEGINNING { "…" } else { "" };
        format!(
            "{}{more}",
            self.payload.get(..BEGINNING.min(self.payload.len())).unwrap_or_default().escape_ascii()
        )
    }

    /// What is to be governed anew. `None`: no node could read it as its sender's.
    pub(super) fn redriven(&self) -> Option<Redriven> {
        let (key, decoded) = self.decoded()?;
        Some(Redriven {
            key,
            digest: decoded.digest,
            times: self.redriven.saturating_add(1),
            traceparent: self.traceparent.clone(),
            payload: self.payload.clone(),
        })
    }
}
