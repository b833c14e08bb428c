//! How bytes become words of the domain and back: the only limits on bytes are here.
//!
//! A body is MessagePack or JSON; both are read in one bounded pass into the same fields, and every
//! message has one canonical form, which is what is hashed. Knows nothing of NATS, and nothing of
//! the time: whether `created_at` and `expires_at` are acceptable is judged later.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::domain::{AgentId, Encoding, Message, MessageId, TenantId};

mod about;
mod error;
pub(crate) mod fields;
pub(crate) mod json;
mod message;
pub(crate) mod msgpack;
mod place;
pub(crate) mod reader;
mod registry;
mod shown;
pub(crate) mod verdict;
mod votes;
pub(crate) mod writer;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod ecosystems;
#[cfg(test)]
mod properties;

pub use about::About;
pub use error::{DecodeError, Found, Path, Shown};
pub use registry::{
    FindRequest, FoundAgent, FreezeRequest, HeartbeatRequest, RegisterRequest, RegistryReply,
    RegistryRequest, UnregisterRequest, decode_about, decode_find, decode_freeze, decode_heartbeat,
    decode_register, decode_registry_reply, decode_unregister, encode_find, encode_heartbeat,
    encode_register, encode_registry_reply, encode_unregister,
};
pub use verdict::{decode_verdict, encode_asked, encode_verdict};
pub use votes::{
    Concluded, Count, Decided, DeliberationsRequest, Docket, Docketed, ReviewReply, VoteRequest,
    decode_deliberations, decode_vote, encode_review_reply,
};

/// How much a body may ask of the node. Every one is refused with its own facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a whole request; below the server's `max_payload`, which also covers headers.
    pub request_bytes: usize,
    /// Bytes of the content in canonical form.
    pub content_bytes: usize,
    /// Maps and lists within each other. The message itself is the first, its content the second.
    pub depth: usize,
    /// Values of any kind, maps and lists included, keys not.
    pub values: usize,
    pub tools: usize,
    pub metadata_entries: usize,
    pub metadata_key_bytes: usize,
    pub metadata_value_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: 192 * 1024,
            content_bytes: 64 * 1024,
            depth: 16,
            values: 4_096,
            tools: 32,
            metadata_entries: 64,
            metadata_key_bytes: 128,
            metadata_value_bytes: 1_024,
        }
    }
}

/// Who sent a request, as NATS stamped it into the subject.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a> {
    pub tenant: &'a TenantId,
    pub sender: &'a AgentId,
}

/// A message that passed the decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    pub message: Arc<Message>,
    /// How it was written, and so how the verdict is.
    pub encoding: Encoding,
    /// Canonical MessagePack of the whole message.
    pub canonical: Bytes,
    /// Bytes of the content within `canonical`.
    pub content_bytes: usize,
    /// SHA-256 of `canonical` without `created_at` and `expires_at`: equal for equal messages in either
    /// encoding, whenever they were written. Who says the same under the same id again repeats itself.
    pub digest: [u8; 32],
}

/// A body that is not a message, and what the answer needs nevertheless.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{error}")]
pub struct DecodeFailure {
    /// If it could be read.
    pub message_id: Option<MessageId>,
    pub encoding: Encoding,
    #[source]
    pub error: DecodeError,
}

/// Reads a message and ties it to its stamp. Memory and time are proportional to the body, which
/// is at most `limits.request_bytes`.
pub fn decode(bytes: &[u8], stamp: Stamp<'_>, limits: &Limits) -> Result<Decoded, DecodeFailure> {
    let encoding = encoding_of(bytes);
    let failure = |message_id, error| DecodeFailure { message_id, encoding, error };
    check_size(bytes, limits).map_err(|error| failure(None, error))?;
    let message = read_message(bytes, encoding, stamp, limits)
        .map_err(|error| failure(read_id(bytes, encoding, limits), error))?;
    // Enough for defaults and the stamp, so that writing does not allocate twice.
    let written = message::write(&message, Encoding::MessagePack, bytes.len() + 128);
    if written.content_bytes > limits.content_bytes {
        let error =
            DecodeError::ContentTooLarge { bytes: written.content_bytes, limit: limits.content_bytes };
        return Err(failure(Some(message.id), error));
    }
    let digest = digest(&written);
    Ok(Decoded {
        message: Arc::new(message),
        encoding,
        canonical: Bytes::from(written.bytes),
        content_bytes: written.content_bytes,
        digest,
    })
}

/// What tells a repeat of a message from another message.
fn digest(written: &message::Written) -> [u8; 32] {
    let mut digest = Sha256::new();
    written.without_times().iter().for_each(|part| digest.update(part));
    digest.finalize().into()
}

/// What some editors and writers put before a text; it is read over.
pub(crate) const BYTE_ORDER_MARK: char = '\u{feff}';

/// The encoding of a body. JSON begins with `{`, after a byte order mark and any white space; `[` and `"` count as JSON
/// too, so that the error names what was found. As MessagePack those bytes are small integers,
/// which no request is. An empty body counts as MessagePack, the default.
pub fn encoding_of(bytes: &[u8]) -> Encoding {
    // As MessagePack the mark begins with a small integer.
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    match bytes.iter().find(|b| !matches!(b, b' ' | b'\n' | b'\r' | b'\t')) {
        Some(b'{' | b'[' | b'"') => Encoding::Json,
        Some(_) | None => Encoding::MessagePack,
    }
}

/// The canonical MessagePack of a message: what is hashed, and what a recipient gets.
pub fn canonical(message: &Message) -> Vec<u8> {
    message::write(message, Encoding::MessagePack, 512).bytes
}

/// The bytes of a delivery. `canonical` is the message's own, from [`Decoded`] or [`canonical`].
pub fn encode_message(message: &Message, canonical: &Bytes, encoding: Encoding) -> Bytes {
    match encoding {
        Encoding::MessagePack => canonical.clone(),
        Encoding::Json => Bytes::from(message::write(message, Encoding::Json, canonical.len() * 5 / 4).bytes),
    }
}

pub(crate) fn check_size(bytes: &[u8], limits: &Limits) -> Result<(), DecodeError> {
    match bytes.len() {
        0 => Err(DecodeError::Empty),
        found if found > limits.request_bytes => {
            Err(DecodeError::TooLarge { bytes: found, limit: limits.request_bytes })
        }
        _ => Ok(()),
    }
}

fn read_message(
    bytes: &[u8],
    encoding: Encoding,
    stamp: Stamp<'_>,
    limits: &Limits,
) -> Result<Message, DecodeError> {
    match encoding {
        Encoding::MessagePack => message::read(msgpack::MessagePack::new(bytes, limits), stamp, limits),
        Encoding::Json => message::read(json::Json::new(bytes, limits)?, stamp, limits),
    }
}

fn read_id(bytes: &[u8], encoding: Encoding, limits: &Limits) -> Option<MessageId> {
    match encoding {
        Encoding::MessagePack => message::read_id(msgpack::MessagePack::new(bytes, limits)),
        Encoding::Json => message::read_id(json::Json::new(bytes, limits).ok()?),
    }
}
