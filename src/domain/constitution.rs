//! The constitution in force, known by its hash.

use std::{fmt, str::FromStr};

use super::{IdError, Timestamp, id::shown};

/// The first 16 hex digits of a constitution's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConstitutionHash([u8; 8]);

impl ConstitutionHash {
    pub fn to_bytes(self) -> [u8; 8] {
        self.0
    }
}

impl FromStr for ConstitutionHash {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut bytes = [0; 8];
        let lowercase = !text.bytes().any(|b| b.is_ascii_uppercase());
        if lowercase && hex::decode_to_slice(text, &mut bytes).is_ok() {
            Ok(Self(bytes))
        } else {
            Err(IdError {
                what: "constitutional_hash",
                expected: "16 lowercase hexadecimal digits",
                found: shown(text),
            })
        }
    }
}

impl TryFrom<String> for ConstitutionHash {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<ConstitutionHash> for String {
    fn from(hash: ConstitutionHash) -> String {
        hash.to_string()
    }
}

impl fmt::Display for ConstitutionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Once for every message: a buffer, not a formatter for each byte.
        let mut digits = [0; 16];
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

/// A constitution and the time in which messages may name it. Two overlap while an amendment rolls
/// out, so that no agent meets a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constitution {
    pub hash: ConstitutionHash,
    /// In force from this instant; absent means always was. Milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// In force until just before this instant; absent means no end is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Constitution {
    pub fn in_force(&self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }
}

/// All constitutions that messages may name, as operators have left them: one value, so that a node has all of it or
/// none.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Amendments {
    /// At most [`Amendments::ACCEPTED_MAX`].
    pub accepted: Vec<Constitution>,
    /// Which of them messages should name.
    pub preferred: ConstitutionHash,
    /// What has led here.
    pub act: Amendment,
}

impl Amendments {
    pub const ACCEPTED_MAX: usize = 8;
}

/// One act of an operator.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Amendment {
    pub what: Act,
    pub hash: ConstitutionHash,
    pub why: String,
    /// By the clock of who did it, in milliseconds since 1970.
    pub at: Timestamp,
    /// What that person's machine calls them, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
}

/// What became of a constitution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Messages may name it.
    Proposed,
    /// Messages should name it.
    Activated,
    /// Messages may not name it any more.
    Retired,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proposed => "proposed",
            Self::Activated => "activated",
            Self::Retired => "retired",
        })
    }
}
