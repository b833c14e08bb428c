//! What is told of a deliberation or of a node, and what is not.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::domain::{AgentId, Event, Parked, Timestamp, Voter, Why};

/// One thing to tell. The same event makes the same bytes, whichever node tells it and however often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occasion {
    /// `<tenant>.<deliberation>.<event>`, or `health.<node>.<milliseconds since 1970>`, for receivers to tell a repeat by.
    pub id: String,
    pub(super) body: Bytes,
}

impl Occasion {
    /// `None`: nobody is told of such an event.
    pub fn of(parked: &Parked, event: &Event) -> Option<Self> {
        let mut data = about(parked);
        let at = match event {
            Event::Parked(_) => parked.parked_at,
            Event::Escalated { at } => *at,
            Event::Decided { judgement, at, detail, vote: _ } => {
                data.insert("judgement".to_owned(), judgement.as_str().into());
                data.insert("detail".to_owned(), detail.as_str().into());
                *at
            }
            Event::Vote(_) | Event::Concluded { .. } => return None,
        };
        let kind = event.kind();
        let body = json!({
            "type": format!("deliberation.{kind}"),
            "timestamp": instant(at),
            "data": data,
        });
        let id = format!("{}.{}.{kind}", parked.tenant, parked.id);
        Some(Self { id, body: body.to_string().into() })
    }

    /// The level of a node is another one; `notice` is what is told of it on the bus.
    pub fn health(node: &str, notice: &Value, at: Timestamp) -> Self {
        let body = json!({ "type": "node.health", "timestamp": instant(at), "data": notice });
        Self { id: format!("health.{node}.{}", at.0), body: body.to_string().into() }
    }
}

/// Deliberately without the message, and without reviewers' comments, which may quote it.
fn about(parked: &Parked) -> Map<String, Value> {
    let Parked {
        id,
        tenant,
        sender,
        message_id,
        message: _,
        digest,
        why,
        notes,
        impact,
        policy_revision: _,
        decision_id,
        node: _,
        rule,
        voters,
        stand_ins,
        parked_at,
        escalate_at,
        deadline,
        traceparent: _,
    } = parked;
    let mut data = Map::new();
    let mut add = |key: &str, value: Value| data.insert(key.to_owned(), value);
    add("tenant", tenant.as_str().into());
    add("id", id.as_str().into());
    add("sender", sender.as_str().into());
    add("message_id", message_id.as_str().into());
    add("decision_id", decision_id.as_str().into());
    add("digest", digest.as_str().into());
    add("why", sentence(why).into());
    if !notes.is_empty() {
        add("notes", json!(notes));
    }
    if let Some(impact) = impact {
        add("impact", json!(impact));
    }
    add("rule", json!(rule));
    add("voters", electors(voters));
    add("stand_ins", electors(stand_ins));
    add("parked_at", instant(*parked_at).into());
    if let Some(at) = escalate_at {
        add("escalate_at", instant(*at).into());
    }
    add("deadline", instant(*deadline).into());
    data
}

fn electors(electors: &BTreeMap<AgentId, Voter>) -> Value {
    let elector = |(id, voter): (&AgentId, &Voter)| json!({ "id": id.as_str(), "roles": voter.roles, "weight": voter.weight });
    electors.iter().map(elector).collect()
}

fn sentence(why: &Why) -> String {
    match why {
        Why::Impact { score, threshold } => format!("its impact is {score:.2}, at or above {threshold:.2}"),
        Why::Policy => "the policy demands approval of this message".to_owned(),
        Why::Unscored { why } => format!("the impact of this message is not known ({why})"),
        Why::Chain { why, conversation: _ } => format!("may it go on? {why}"),
    }
}

/// RFC 3339, with milliseconds.
fn instant(at: Timestamp) -> String {
    // The last millisecond that RFC 3339 can write; a year of five digits is none of ours.
    const LAST: u64 = 253_402_300_799_999;
    let since = std::time::Duration::from_millis(at.0.min(LAST));
    humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + since).to_string()
}
