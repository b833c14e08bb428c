//! What the bus answers to `deliberations` and `vote`, as far as people are shown it. Unknown fields are
//! skipped: the node may be newer.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// All that waits for one reviewer, oldest first.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Listing {
    /// Also those that the list has no room for.
    pub(super) total: u64,
    pub(super) deliberations: Vec<Entry>,
}

/// One deliberation in a few words. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) sender: String,
    pub(super) message_id: String,
    pub(super) message_type: String,
    pub(super) to: String,
    pub(super) why: String,
    /// What the policy says of the message.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) score: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) level: Option<String>,
    pub(super) rule: String,
    pub(super) approvals: u64,
    pub(super) rejections: u64,
    /// How near approval and denial are, in the rule's own unit: `1 of 2 approvals`.
    pub(super) approves: String,
    pub(super) denies: String,
    pub(super) escalated: bool,
    pub(super) parked_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) escalate_at: Option<u64>,
    pub(super) deadline: u64,
    pub(super) digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) voted: Option<String>,
    pub(super) may_vote: bool,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Shown {
    pub(super) deliberation: Details,
}

/// One in full.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Details {
    #[serde(flatten)]
    pub(super) entry: Entry,
    pub(super) message: Value,
    #[serde(default)]
    pub(super) impact: Option<Value>,
    #[serde(default)]
    pub(super) voters: Vec<Elector>,
    #[serde(default)]
    pub(super) stand_ins: Vec<Elector>,
    #[serde(default)]
    pub(super) votes: Vec<Cast>,
    #[serde(default)]
    pub(super) decision: Option<Decision>,
    #[serde(default)]
    pub(super) conclusion: Option<Conclusion>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Elector {
    pub(super) id: String,
    #[serde(default)]
    pub(super) roles: Vec<String>,
    #[serde(default)]
    pub(super) weight: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Cast {
    pub(super) voter: String,
    pub(super) choice: String,
    #[serde(default)]
    pub(super) comment: String,
    pub(super) at: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Decision {
    pub(super) judgement: String,
    pub(super) at: u64,
    #[serde(default)]
    pub(super) detail: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Conclusion {
    pub(super) reason: String,
    #[serde(default)]
    pub(super) detail: String,
    #[serde(default)]
    pub(super) at: Option<u64>,
}

/// A vote that counted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Counted {
    pub(super) judgement: String,
    pub(super) approves: String,
    pub(super) denies: String,
}
