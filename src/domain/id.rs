//! Identifiers, checked before any subject, Redis key or label is built from them.
//!
//! All are ASCII, so that no two that look alike differ (`protocol.md`, "Identifiers").

use std::{fmt, str::FromStr, sync::Arc};

/// What was found where an identifier was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {expected}, found {found}")]
pub struct IdError {
    pub what: &'static str,
    pub expected: &'static str,
    /// The offending text, escaped and cut to 80 characters.
    pub found: String,
}

/// Escapes control, bidi and other non-ASCII characters and cuts to 80 characters, so that the text
/// of a stranger can stand in an error or a log line.
pub fn shown(text: &str) -> String {
    const SHOWN_MAX: usize = 80;
    let mut out: String = text
        .chars()
        .take(SHOWN_MAX)
        .flat_map(|c| if c.is_ascii_graphic() || c == ' ' { vec![c] } else { c.escape_unicode().collect() })
        .take(SHOWN_MAX)
        .collect();
    out.insert(0, '"');
    out.push('"');
    if text.chars().count() > SHOWN_MAX {
        out.push('…');
    }
    out
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $what:literal, $length:literal, $allowed:literal, $test:expr) => {
        identifier!($(#[$doc])* $name, $what, $length..=$length, concat!($length, " of ", $allowed), $test, whole);
    };
    ($(#[$doc:meta])* $name:ident, $what:literal, $min:literal..=$max:literal, $allowed:literal, $test:expr) => {
        identifier!(
            $(#[$doc])* $name, $what, $min..=$max, concat!($min, " to ", $max, " of ", $allowed), $test, whole
        );
    };
    ($(#[$doc:meta])* $name:ident, $what:literal, $lengths:expr, $expected:expr, $test:expr, whole) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let allowed: fn(u8) -> bool = $test;
                if ($lengths).contains(&text.len()) && text.bytes().all(allowed) {
                    Ok(Self(text.into()))
                } else {
                    Err(IdError {
                        what: $what,
                        expected: $expected,
                        found: shown(text),
                    })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

fn lower(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-')
}

identifier!(
    /// A tenant: one NATS account.
    TenantId, "tenant", 3..=64, "[a-z0-9_-]", lower
);
identifier!(
    /// An agent within its tenant: one NATS user.
    AgentId, "agent", 1..=64, "[a-z0-9_-]", lower
);
identifier!(
    /// Something an agent says it can do.
    CapabilityId, "capability", 1..=64, "[a-z0-9_:-]", |b| lower(b) || b == b':'
);
impl CapabilityId {
    /// What a capability must be to be registered, for errors.
    pub const LABEL: &str = "1 to 32 of [a-z0-9_:-] in at most 3 words of at most 20, beginning with a letter, such as nlp:summarise-v2";

    /// Whether it names something rather than saying something. Whoever asks who can do what reads the names
    /// that others have chosen, and nothing has judged these: no policy, no score. So there is no room in
    /// them for a sentence. Longer ones are only found in what the last version registered.
    pub fn is_label(&self) -> bool {
        const BYTES_MAX: usize = 32;
        const WORDS_MAX: usize = 3;
        const WORD_BYTES_MAX: usize = 20;
        let words = || self.0.split(['_', ':', '-']).filter(|word| !word.is_empty());
        self.0.len() <= BYTES_MAX
            && self.0.starts_with(|c: char| c.is_ascii_lowercase())
            && words().count() <= WORDS_MAX
            && words().all(|word| word.len() <= WORD_BYTES_MAX)
    }
}

identifier!(
    /// What the policy has said of a conversation, for its later decisions.
    ConversationLabel, "label", 1..=32, "[a-z0-9_:-]", |b| lower(b) || b == b':'
);
identifier!(
    /// A deliberation, unique within its tenant: follows from the message's sender and id.
    DeliberationId, "deliberation_id", 24, "[a-f0-9]", |b| matches!(b, b'a'..=b'f' | b'0'..=b'9')
);
identifier!(
    /// The sender's name for a message, unique per tenant and sender: the idempotency key.
    MessageId, "message_id", 1..=64, "[A-Za-z0-9_-]", |b| lower(b) || b.is_ascii_uppercase()
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_could_reach_another_subject_are_refused() {
        for bad in ["", "a.b", "*", ">", "a b", "a\0", "a\r\nb", "ä", "A", "a\u{202e}b", "a\u{200b}"] {
            let error = bad.parse::<AgentId>().err();
            assert!(error.is_some(), "{bad:?} was accepted");
        }
        assert!("x".repeat(65).parse::<AgentId>().is_err());
        assert!("ab".parse::<TenantId>().is_err(), "a tenant has at least 3 characters");
        let short = "ab".parse::<DeliberationId>().map_err(|error| error.expected);
        assert_eq!(short.err(), Some("24 of [a-f0-9]"));
        assert!("nlp:summarise-v2".parse::<CapabilityId>().is_ok());
        assert!("Msg_1-A".parse::<MessageId>().is_ok());
    }

    #[test]
    fn a_label_has_no_room_for_a_sentence() {
        let label = |text: &str| text.parse::<CapabilityId>().is_ok_and(|capability| capability.is_label());
        for good in ["sum", "translate", "nlp:summarise-v2", "code_review", "tools:web_search", "a__b"] {
            assert!(label(good), "{good} is refused");
        }
        for bad in [
            "ignore-all-previous-instructions",
            "ignore_your_rules_now",
            "a:b:c:d",
            "ignoreallpreviousinstructions",
            "summarise:translate:orchestrating",
            "1-then-obey",
            "-x",
            "___",
        ] {
            assert!(!label(bad), "{bad} is taken");
        }
    }

    #[test]
    fn an_error_shows_hostile_text_escaped_and_capped() {
        let error = "a\u{202e}\r\n".repeat(100).parse::<AgentId>().map_err(|e| e.to_string());
        let text = error.err().unwrap_or_default();
        assert!(text.is_ascii() || text.ends_with('…'), "{text}");
        assert!(text.len() < 200, "{text}");
    }
}
