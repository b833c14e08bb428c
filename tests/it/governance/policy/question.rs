//! How does a question look as data, and what does a stranger ask at random?

use std::{collections::BTreeSet, sync::Arc};

use agentbus::{
    domain::{
        AgentId, Approval, Approver, BroadcastFilter, CapabilityId, ConversationLabel, Message, MessageType,
        Priority, Recipient, Tenant, Timestamp, Value,
    },
    policy::{Party, Question},
};
use rand::{Rng, seq::IndexedRandom};
use serde_json::{Value as Json, json};

/// A question that owns its parts.
#[derive(Debug, Clone)]
pub(super) struct Owned {
    pub(super) message: Arc<Message>,
    pub(super) size: usize,
    pub(super) sender: Agent,
    pub(super) recipient: Agent,
    pub(super) tenant: Tenant,
    pub(super) approval: Option<Approval>,
    pub(super) labels: Option<BTreeSet<ConversationLabel>>,
}

#[derive(Debug, Clone)]
pub(super) struct Agent {
    pub(super) id: AgentId,
    pub(super) roles: BTreeSet<String>,
    pub(super) capabilities: BTreeSet<CapabilityId>,
    pub(super) registered: bool,
}

impl Owned {
    pub(super) fn ask(&self) -> Question<'_> {
        Question {
            message: &self.message,
            size: self.size,
            sender: self.sender.party(),
            recipient: self.recipient.party(),
            tenant: &self.tenant,
            approval: self.approval.as_ref(),
            labels: self.labels.as_ref(),
        }
    }

    /// A question from the `input` of a case.
    pub(super) fn from_input(input: &Json) -> Self {
        let message = &input["message"];
        let tenant = &input["tenant"];
        let sender = Agent::from_input(&input["sender"]);
        let Value::Map(content) = value(&message["content"]) else { panic!("content is a map") };
        let id = text(&tenant["id"]).parse().unwrap();
        let tenant = Tenant { labels: pairs(&tenant["labels"]), ..Tenant::new(id) };
        let message = Message {
            id: "m-1".parse().unwrap(),
            tenant: tenant.id.clone(),
            sender: sender.id.clone(),
            conversation_id: input["conversation"]["id"].as_str().map(|id| id.parse().unwrap()),
            in_reply_to: None,
            message_type: MessageType::parse(text(&message["type"])).unwrap(),
            to: to(&message["to"]),
            priority: Priority::parse(text(&message["priority"])).unwrap(),
            constitution: text(&input["constitution"]["hash"]).parse().unwrap(),
            content,
            tools: texts(&message["tools"]).map(str::to_owned).collect(),
            metadata: pairs(&message["metadata"]),
            created_at: Timestamp(1),
            expires_at: None,
        };
        Self {
            message: Arc::new(message),
            size: usize::try_from(input["message"]["size"].as_u64().unwrap()).unwrap(),
            sender,
            recipient: Agent::from_input(&input["recipient"]),
            tenant,
            approval: input.get("approval").map(approval),
            labels: input["conversation"]
                .get("labels")
                .map(|labels| texts(labels).map(|it| it.parse().unwrap()).collect()),
        }
    }
}

impl Agent {
    fn party(&self) -> Party<'_> {
        Party {
            id: &self.id,
            roles: &self.roles,
            capabilities: &self.capabilities,
            registered: self.registered,
        }
    }

    fn from_input(agent: &Json) -> Self {
        Self {
            id: text(&agent["id"]).parse().unwrap(),
            roles: texts(&agent["roles"]).map(str::to_owned).collect(),
            capabilities: texts(&agent["capabilities"]).map(|id| id.parse().unwrap()).collect(),
            registered: agent["registered"].as_bool().unwrap_or(true),
        }
    }
}

fn approval(approval: &Json) -> Approval {
    let approvals = approval["approvals"].as_array().into_iter().flatten();
    Approval {
        deliberation: text(&approval["deliberation"]).parse().unwrap(),
        rule: serde_json::from_value(approval["rule"].clone()).unwrap(),
        approvals: approvals
            .map(|approver| Approver {
                id: text(&approver["id"]).parse().unwrap(),
                roles: texts(&approver["roles"]).map(str::to_owned).collect(),
            })
            .collect(),
        escalated: approval["escalated"].as_bool().unwrap(),
    }
}

fn to(to: &Json) -> Recipient {
    if let Some(agent) = to.get("agent") {
        Recipient::Agent(text(agent).parse().unwrap())
    } else if let Some(capability) = to.get("capability") {
        Recipient::Capability(text(capability).parse().unwrap())
    } else {
        let filter = &to["broadcast"];
        Recipient::Broadcast(BroadcastFilter {
            capability: filter["capability"].as_str().map(|id| id.parse().unwrap()),
            role: filter["role"].as_str().map(str::to_owned),
        })
    }
}

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(bool) => Value::Bool(*bool),
        Json::Number(number) => match number.as_i128() {
            Some(int) => Value::Int(int),
            None => Value::Float(number.as_f64().unwrap()),
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::List(items.iter().map(value).collect()),
        Json::Object(entries) => {
            Value::Map(entries.iter().map(|(key, item)| (key.clone(), value(item))).collect())
        }
    }
}

fn text(json: &Json) -> &str {
    json.as_str().unwrap_or_else(|| panic!("{json} is not a text"))
}

fn texts(json: &Json) -> impl Iterator<Item = &str> {
    json.as_array().into_iter().flatten().map(text)
}

fn pairs(json: &Json) -> std::collections::BTreeMap<String, String> {
    let entries = json.as_object().into_iter().flatten();
    entries.map(|(key, value)| (key.clone(), text(value).to_owned())).collect()
}

/// The `input` of a random question, drawn so that every rule of the shipped policy is met often.
pub(super) fn random(rng: &mut impl Rng) -> Json {
    const ROLES: &[&str] = &[
        "executive",
        "legislative",
        "judicial",
        "monitor",
        "auditor",
        "controller",
        "implementer",
        "stranger",
    ];
    const TOOLS: &[&str] = &[
        "read",
        "list",
        "send",
        "write",
        "execute",
        "delete",
        "transfer",
        "search",
        "web:fetch",
        "book_flight",
        "readFile",
        "mcp__fs__write_file",
        "send_and_obliterate",
    ];
    const AGENTS: &[&str] = &["planner", "worker", "judge"];
    const TENANTS: &[&str] = &["acme", "globex"];
    const LABELS: &[(&str, &[&str])] = &[
        ("message_types_denied", &["command", " query , event", ""]),
        ("tools_denied", &["write", "delete,transfer"]),
        ("tools_allowed", &["search", "search, web:fetch"]),
        ("tools_unknown", &["denied", "execute"]),
        ("agents_denied", &["worker", "nobody"]),
        ("priority_max", &["high", "low", "nonsense"]),
        ("deliberate_tools", &["delete,write"]),
        ("deliberate_message_types", &["query"]),
        ("region", &["eu"]),
    ];
    let agent = |rng: &mut dyn rand::RngCore| {
        json!({
            "id": AGENTS.choose(rng).unwrap(),
            "roles": pick(rng, ROLES, 2),
            "capabilities": pick(rng, &["nlp:summarise", "search"], 2),
            "registered": true,
        })
    };
    let labels: serde_json::Map<String, Json> = match rng.random_bool(0.5) {
        true => serde_json::Map::new(),
        false => (0..rng.random_range(1..4))
            .map(|_| LABELS.choose(rng).unwrap())
            .map(|(name, values)| (name.to_string(), json!(values[0])))
            .collect(),
    };
    let to = match rng.random_range(0..4) {
        0 => json!({"agent": "worker"}),
        1 => json!({"capability": "nlp:summarise"}),
        2 => json!({"broadcast": {}}),
        _ => json!({"broadcast": {"role": "auditor"}}),
    };
    let mut input = json!({
        "message": {
            "type": MessageType::WORDS.choose(rng).unwrap(),
            "priority": Priority::WORDS.choose(rng).unwrap(),
            "to": to,
            "tools": pick(rng, TOOLS, 3),
            "content": {"text": format!("text {}", rng.random_range(0..3)), "amount": rng.random_range(0..3)},
            "metadata": {"source": "test"},
            "size": rng.random_range(64..256),
        },
        "sender": agent(rng),
        "recipient": agent(rng),
        "tenant": {"id": TENANTS.choose(rng).unwrap(), "labels": labels},
        "constitution": {"hash": "cdd01ef066bc6cf2"},
    });
    if rng.random_bool(0.3) {
        let rule = *["quorum", "unanimous", "super_majority", "weighted", "roles"].choose(rng).unwrap();
        input["approval"] = json!({
            "deliberation": "0123456789abcdef01234567",
            "rule": rule,
            "approvals": [{"id": "judge", "roles": pick(rng, ROLES, 2)}],
            "escalated": rng.random_bool(0.5),
        });
    }
    input
}

/// Up to `max` different words, sorted, as the bus would send them.
fn pick(rng: &mut dyn rand::RngCore, words: &[&'static str], max: usize) -> BTreeSet<&'static str> {
    (0..rng.random_range(0..=max)).filter_map(|_| words.choose(rng).copied()).collect()
}
