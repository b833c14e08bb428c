//! What can be wrong with bytes, as a closed list with facts.
//!
//! `Display` is for the log and may show, escaped and capped, what a stranger wrote. The sender's
//! `detail` shows a value only where it is too short for a sentence: a verdict goes to a reply subject of the
//! requester's choice, so it must not carry the requester's text to somebody else (`protocol.md`, "A delivery").

pub(crate) use super::place::Place;
pub(super) use super::place::name;
pub use super::place::{Found, Path};
pub use super::shown::Shown;
use crate::{
    domain::{IdError, Reason},
    rejection::Rejection,
};

/// Why bytes are not a request. Positions are byte offsets from the start of the body.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DecodeError {
    #[error("the body is empty, expected a map")]
    Empty,
    #[error("the body has {bytes} bytes, at most {limit} are allowed")]
    TooLarge { bytes: usize, limit: usize },
    #[error("content has {bytes} bytes in canonical form, at most {limit} are allowed")]
    ContentTooLarge { bytes: usize, limit: usize },
    #[error("maps and lists are nested more than {limit} deep")]
    TooDeep { limit: usize },
    #[error("the body holds or claims more than {limit} values")]
    TooManyValues { limit: usize },
    #[error("the body ends inside a value, at byte {at}")]
    Truncated { at: usize },
    #[error("byte {at} is 0x{found:02x}, expected {expected}")]
    Syntax { at: usize, expected: &'static str, found: u8 },
    #[error("the text at byte {at} is not UTF-8")]
    BadUtf8 { at: usize },
    /// MessagePack has more kinds of values than JSON; what has no equal there is refused, so that
    /// every message can be handed on in either encoding.
    #[error("byte {at} begins a value of kind {kind}, which is not allowed")]
    UnsupportedKind { at: usize, kind: &'static str },
    #[error("the map key at byte {at} is of kind {found}, expected text")]
    KeyNotText { at: usize, found: &'static str },
    #[error("the key {key} occurs twice in one map")]
    DuplicateKey { key: Shown },
    #[error("{} after the end of the map", crate::phrase::counted(*bytes, "byte"))]
    TrailingBytes { bytes: usize },
    #[error("the number at byte {at} is not finite")]
    NotFinite { at: usize },
    #[error("the integer at byte {at} is outside of -2^63 to 2^64-1")]
    IntegerRange { at: usize },
    #[error("the body is {found}, expected a map{}", of_first_byte(*taken_for_msgpack))]
    NotAMap { found: Found, taken_for_msgpack: Option<u8> },
    #[error("{of} has no field {field}")]
    UnknownField { of: &'static str, field: Shown },
    #[error("{field} is missing")]
    MissingField { field: &'static str },
    #[error("constitutional_hash is missing")]
    ConstitutionalHashMissing,
    #[error("{field} is {found}, expected {expected}")]
    WrongType { field: Path, expected: &'static str, found: Found },
    #[error("{field} must be one of {}, found {found}", expected.join(", "))]
    UnknownWord { field: &'static str, expected: &'static [&'static str], found: Shown },
    #[error("{field} must be {expected}, found {found}")]
    BadIdentifier { field: Path, expected: &'static str, found: Shown },
    #[error("{field} has {found} {unit}, at most {limit} are allowed")]
    TooLong { field: Path, unit: &'static str, found: usize, limit: usize },
    #[error("content is empty, expected at least one entry")]
    EmptyContent,
    #[error("to names {found} of agent, capability and broadcast, expected exactly one")]
    Recipients { found: usize },
    #[error("schema is {found}, this bus reads {supported}")]
    UnsupportedSchema { found: i128, supported: i128 },
    #[error("tenant_id is {found}, the sender belongs to another tenant")]
    TenantMismatch { found: Shown },
    #[error("from_agent is {found}, the sender is another agent")]
    SenderMismatch { found: Shown },
    /// What only has a byte offset, and the field it stands in.
    #[error("{path}: {error}")]
    Inside { path: Path, error: Box<DecodeError> },
}

/// What makes people's JSON that is none look like integers.
fn of_first_byte(byte: Option<u8>) -> String {
    let Some(byte) = byte else { return String::new() };
    let first = match byte {
        b'!'..=b'~' => format!("`{}`", char::from(byte)),
        0xfe | 0xff => format!("0x{byte:02x}, as UTF-16 does"),
        _ => format!("0x{byte:02x}"),
    };
    format!("; it begins with {first}, not `{{`, so it was read as MessagePack")
}

impl DecodeError {
    /// The word that clients match on.
    pub fn reason(&self) -> Reason {
        match self {
            DecodeError::Empty
            | DecodeError::Truncated { .. }
            | DecodeError::Syntax { .. }
            | DecodeError::BadUtf8 { .. }
            | DecodeError::UnsupportedKind { .. }
            | DecodeError::KeyNotText { .. }
            | DecodeError::IntegerRange { .. }
            | DecodeError::NotAMap { .. }
            | DecodeError::WrongType { .. }
            | DecodeError::UnknownWord { .. }
            | DecodeError::EmptyContent
            | DecodeError::Recipients { .. } => Reason::Malformed,
            DecodeError::TooLarge { .. }
            | DecodeError::ContentTooLarge { .. }
            | DecodeError::TooLong { .. } => Reason::TooLarge,
            DecodeError::TooDeep { .. } => Reason::TooDeep,
            DecodeError::TooManyValues { .. } => Reason::TooManyValues,
            DecodeError::DuplicateKey { .. } => Reason::DuplicateKey,
            DecodeError::TrailingBytes { .. } => Reason::TrailingBytes,
            DecodeError::NotFinite { .. } => Reason::NotFinite,
            DecodeError::UnknownField { .. } => Reason::UnknownField,
            DecodeError::MissingField { .. } => Reason::MissingField,
            DecodeError::ConstitutionalHashMissing => Reason::ConstitutionalHashMissing,
            DecodeError::BadIdentifier { .. } => Reason::BadIdentifier,
            DecodeError::UnsupportedSchema { .. } => Reason::UnsupportedSchema,
            DecodeError::TenantMismatch { .. } => Reason::TenantMismatch,
            DecodeError::SenderMismatch { .. } => Reason::SenderMismatch,
            DecodeError::Inside { error, .. } => error.reason(),
        }
    }

    /// One sentence for the sender: facts, and of the sender's text no more than a label holds.
    pub fn detail(&self) -> String {
        match self {
            DecodeError::DuplicateKey { key } => format!("the key {} occurs twice in one map", key.name()),
            DecodeError::UnknownField { of, field } => format!("{of} has no field {}", field.name()),
            DecodeError::UnknownWord { field, expected, found } => {
                format!(
                    "{field} must be one of {}, found the text {}",
                    expected.join(", "),
                    found.described()
                )
            }
            DecodeError::BadIdentifier { field, expected, found } => {
                format!("{field} must be {expected}, found the text {}", found.described())
            }
            DecodeError::TenantMismatch { .. } => {
                "tenant_id is not the tenant this request came from; leave it out or make it equal".to_owned()
            }
            DecodeError::SenderMismatch { .. } => {
                "from_agent is not the agent this request came from; leave it out or make it equal".to_owned()
            }
            DecodeError::WrongType { field, expected, found } => {
                format!("{field} is {}, expected {expected}", found.described())
            }
            DecodeError::NotAMap { found, taken_for_msgpack } => {
                format!(
                    "the body is {}, expected a map{}",
                    found.described(),
                    of_first_byte(*taken_for_msgpack)
                )
            }
            DecodeError::Inside { path, error } => format!("{path}: {}", error.detail()),
            DecodeError::Empty
            | DecodeError::TooLarge { .. }
            | DecodeError::ContentTooLarge { .. }
            | DecodeError::TooDeep { .. }
            | DecodeError::TooManyValues { .. }
            | DecodeError::Truncated { .. }
            | DecodeError::Syntax { .. }
            | DecodeError::BadUtf8 { .. }
            | DecodeError::UnsupportedKind { .. }
            | DecodeError::KeyNotText { .. }
            | DecodeError::TrailingBytes { .. }
            | DecodeError::NotFinite { .. }
            | DecodeError::IntegerRange { .. }
            | DecodeError::MissingField { .. }
            | DecodeError::ConstitutionalHashMissing
            | DecodeError::TooLong { .. }
            | DecodeError::EmptyContent
            | DecodeError::Recipients { .. }
            | DecodeError::UnsupportedSchema { .. } => self.to_string(),
        }
    }

    /// An identifier's own error, under the name of the field it stood in.
    pub(super) fn identifier(field: Place<'_>, error: &IdError, text: &str) -> DecodeError {
        DecodeError::BadIdentifier { field: field.into(), expected: error.expected, found: Shown::new(text) }
    }

    /// What tells no more than an offset, with the field that was being read.
    pub(super) fn at(self, field: &'static str) -> DecodeError {
        if self.only_an_offset() { self.inside(|| Path::from(Place::from(field))) } else { self }
    }

    /// The same for what stands under a key, of which the inner ones are known.
    pub(super) fn within(self, key: &str) -> DecodeError {
        self.deeper(|| name(key))
    }

    /// The same for an item of a list.
    pub(super) fn within_item(self, index: usize) -> DecodeError {
        self.deeper(|| format!("[{index}]"))
    }

    fn deeper(self, outer: impl FnOnce() -> String) -> DecodeError {
        match self {
            DecodeError::Inside { path, error } => DecodeError::Inside { path: path.below(&outer()), error },
            other if other.only_an_offset() => other.inside(|| Path(outer().into())),
            other => other,
        }
    }

    fn inside(self, path: impl FnOnce() -> Path) -> DecodeError {
        DecodeError::Inside { path: path(), error: Box::new(self) }
    }

    fn only_an_offset(&self) -> bool {
        matches!(
            self,
            DecodeError::UnsupportedKind { .. }
                | DecodeError::BadUtf8 { .. }
                | DecodeError::KeyNotText { .. }
                | DecodeError::DuplicateKey { .. }
                | DecodeError::NotFinite { .. }
                | DecodeError::IntegerRange { .. }
        )
    }
}

impl From<DecodeError> for Rejection {
    fn from(error: DecodeError) -> Self {
        Rejection::new(error.reason(), error.detail())
    }
}
