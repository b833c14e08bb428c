//! What does a group send?

use agentbus::domain::{MessageType, Priority};
use serde::{Deserialize, Serialize};

use super::defaults::one;

/// One kind of message in a mix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    #[serde(default)]
    pub(crate) verb: Way,
    #[serde(default)]
    pub(crate) to: Recipient,
    /// Sizes of whole messages, in turn.
    #[serde(default)]
    pub(crate) bytes: Vec<u32>,
    /// Instead of sizes: a file of recorded contents, beside the profile.
    pub(crate) corpus: Option<String>,
    /// No two texts are alike, so that nothing of a text can be remembered.
    #[serde(default)]
    pub(crate) distinct: bool,
    #[serde(default, rename = "type")]
    pub(crate) message_type: Option<MessageType>,
    #[serde(default)]
    pub(crate) priority: Option<Priority>,
    /// Of all messages of the mix, against the other entries' shares.
    #[serde(default = "one")]
    pub(crate) share: u32,
    /// The verdict's status that counts as an answer; another one is an error.
    #[serde(default)]
    pub(crate) expect: Option<Expect>,
}

impl Entry {
    /// As it is called in tables.
    pub(crate) fn label(&self) -> String {
        let label = format!("{} to {}", self.verb.as_str(), self.to.as_str());
        match self.expected() {
            Expect::Deliberating => format!("{label}, deliberated"),
            Expect::Delivered | Expect::Stored => label,
        }
    }

    pub(crate) fn expected(&self) -> Expect {
        self.expect.unwrap_or(match self.verb {
            Way::Send | Way::Ask => Expect::Delivered,
            Way::Submit => Expect::Stored,
        })
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    #[default]
    Send,
    Submit,
    Ask,
}

impl Way {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Way::Send => "send",
            Way::Submit => "submit",
            Way::Ask => "ask",
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Recipient {
    #[default]
    Agent,
    Capability,
    Broadcast,
}

impl Recipient {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Recipient::Agent => "agent",
            Recipient::Capability => "capability",
            Recipient::Broadcast => "broadcast",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Expect {
    Delivered,
    Stored,
    Deliberating,
}

impl Expect {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Expect::Delivered => "delivered",
            Expect::Stored => "stored",
            Expect::Deliberating => "deliberating",
        }
    }
}
