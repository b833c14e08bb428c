//! What is `input` for a question? `docs/protocol.md`, "What the policy sees", built without going
//! through JSON, and only the fields that the policy can read.

use std::{collections::BTreeMap, sync::LazyLock};

use regorus::{Value, value::Object};

use crate::{
    domain::{self, Approval, Recipient},
    policy::{Party, Question, reads::Fields},
};

macro_rules! keys {
    ($($name:ident = $word:literal),+ $(,)?) => {
        struct Keys { $($name: Value),+ }
        /// Shared, so that a question costs a reference count for each and no allocation.
        static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys { $($name: Value::from($word)),+ });
    };
}

keys! {
    message = "message", kind = "type", priority = "priority", to = "to", tools = "tools",
    content = "content", metadata = "metadata", size = "size",
    sender = "sender", recipient = "recipient", id = "id", roles = "roles",
    capabilities = "capabilities", registered = "registered",
    tenant = "tenant", labels = "labels", constitution = "constitution", hash = "hash",
    approval = "approval", deliberation = "deliberation", rule = "rule", approvals = "approvals",
    escalated = "escalated", conversation = "conversation", agent = "agent", capability = "capability", broadcast = "broadcast", role = "role",
}

/// An object under construction that leaves out what is not wanted.
struct Selected {
    fields: Fields,
    object: Object,
}

impl Selected {
    fn new(fields: Fields) -> Self {
        Self { fields, object: Object::new() }
    }

    fn add(&mut self, field: Fields, key: &Value, value: impl FnOnce() -> Value) {
        if self.fields.contains(field) {
            self.object.insert(key.clone(), value());
        }
    }
}

pub(super) fn of(question: &Question<'_>, fields: Fields) -> Value {
    let keys = &*KEYS;
    let message = question.message;
    let mut body = Selected::new(fields);
    body.add(Fields::TYPE, &keys.kind, || Value::from(message.message_type.as_str()));
    body.add(Fields::PRIORITY, &keys.priority, || Value::from(message.priority.as_str()));
    body.add(Fields::TO, &keys.to, || to(&message.to));
    body.add(Fields::TOOLS, &keys.tools, || list(message.tools.iter().map(String::as_str)));
    body.add(Fields::CONTENT, &keys.content, || map(&message.content));
    body.add(Fields::METADATA, &keys.metadata, || pairs(&message.metadata));
    body.add(Fields::SIZE, &keys.size, || Value::from(question.size));

    let mut tenant = Selected::new(fields);
    tenant.add(Fields::TENANT_ID, &keys.id, || Value::from(question.tenant.id.as_str()));
    tenant.add(Fields::TENANT_LABELS, &keys.labels, || pairs(&question.tenant.labels));

    let mut constitution = Selected::new(fields);
    constitution.add(Fields::CONSTITUTION, &keys.hash, || Value::from(message.constitution.to_string()));

    let mut conversation = Selected::new(fields);
    if let Some(id) = &message.conversation_id {
        conversation.add(Fields::CONVERSATION_ID, &keys.id, || Value::from(id.as_str()));
    }
    conversation.add(Fields::CONVERSATION_LABELS, &keys.labels, || {
        let labels = question.labels.into_iter().flatten().map(|label| Value::from(label.as_str()));
        Value::from(labels.collect::<Vec<_>>())
    });

    let sender =
        [Fields::SENDER_ID, Fields::SENDER_ROLES, Fields::SENDER_CAPABILITIES, Fields::SENDER_REGISTERED];
    let recipient =
        [Fields::RECIPIENT_ID, Fields::RECIPIENT_ROLES, Fields::RECIPIENT_CAPABILITIES, Fields::NONE];
    let mut input = Selected::new(fields);
    // Absent for what nobody was asked about.
    if let Some(given) = question.approval {
        input.add(Fields::APPROVAL, &keys.approval, || approval(given));
    }
    if !conversation.object.is_empty() {
        input.object.insert(keys.conversation.clone(), conversation.object.into_value());
    }
    for (key, value) in [
        (&keys.message, body.object.into_value()),
        (&keys.sender, party(question.sender, fields, sender)),
        (&keys.recipient, party(question.recipient, fields, recipient)),
        (&keys.tenant, tenant.object.into_value()),
        (&keys.constitution, constitution.object.into_value()),
    ] {
        input.object.insert(key.clone(), value);
    }
    input.object.into_value()
}

/// The same as JSON.
pub(in crate::policy) fn as_json(question: &Question<'_>, fields: Fields) -> serde_json::Value {
    // Cannot fail: there is nothing in it that JSON has not.
    serde_json::to_value(of(question, fields)).unwrap_or_default()
}

fn approval(given: &Approval) -> Value {
    let keys = &*KEYS;
    let approvals = given.approvals.iter().map(|approver| {
        object([
            (&keys.id, Value::from(approver.id.as_str())),
            (&keys.roles, list(approver.roles.iter().map(String::as_str))),
        ])
    });
    object([
        (&keys.deliberation, Value::from(given.deliberation.as_str())),
        (&keys.rule, Value::from(given.rule.as_str())),
        (&keys.approvals, Value::from(approvals.collect::<Vec<_>>())),
        (&keys.escalated, Value::from(given.escalated)),
    ])
}

/// What a policy is tried on when it is loaded: a usual message, complete.
pub(super) fn sample() -> Value {
    let keys = &*KEYS;
    let agent = |id: &str| {
        object([
            (&keys.id, Value::from(id)),
            (&keys.roles, list(["implementer"].into_iter())),
            (&keys.capabilities, list(["sample"].into_iter())),
            (&keys.registered, Value::from(true)),
        ])
    };
    object([
        (&keys.message, {
            object([
                (&keys.kind, Value::from("query")),
                (&keys.priority, Value::from("normal")),
                (&keys.to, object([(&keys.agent, Value::from("sample-recipient"))])),
                (&keys.tools, list(["read"].into_iter())),
                (&keys.content, object([(&keys.message, Value::from("sample"))])),
                (&keys.metadata, Value::new_object()),
                (&keys.size, Value::from(256_u64)),
            ])
        }),
        (&keys.sender, agent("sample-sender")),
        (&keys.recipient, agent("sample-recipient")),
        (&keys.tenant, object([(&keys.id, Value::from("sample")), (&keys.labels, Value::new_object())])),
        (&keys.constitution, object([(&keys.hash, Value::from("cdd01ef066bc6cf2"))])),
        (
            &keys.conversation,
            object([(&keys.id, Value::from("sample")), (&keys.labels, list([].into_iter()))]),
        ),
    ])
}

fn party(party: Party<'_>, fields: Fields, [id, roles, capabilities, registered]: [Fields; 4]) -> Value {
    let keys = &*KEYS;
    let mut out = Selected::new(fields);
    out.add(id, &keys.id, || Value::from(party.id.as_str()));
    out.add(roles, &keys.roles, || list(party.roles.iter().map(String::as_str)));
    out.add(capabilities, &keys.capabilities, || {
        list(party.capabilities.iter().map(|capability| capability.as_str()))
    });
    if registered != Fields::NONE {
        out.add(registered, &keys.registered, || Value::from(party.registered));
    }
    out.object.into_value()
}

fn to(to: &Recipient) -> Value {
    let keys = &*KEYS;
    match to {
        Recipient::Agent(agent) => object([(&keys.agent, Value::from(agent.as_str()))]),
        Recipient::Capability(capability) => object([(&keys.capability, Value::from(capability.as_str()))]),
        Recipient::Broadcast(filter) => {
            let mut inner = Object::new();
            if let Some(capability) = &filter.capability {
                inner.insert(keys.capability.clone(), Value::from(capability.as_str()));
            }
            if let Some(role) = &filter.role {
                inner.insert(keys.role.clone(), Value::from(role.as_str()));
            }
            object([(&keys.broadcast, inner.into_value())])
        }
    }
}

fn object<const N: usize>(pairs: [(&Value, Value); N]) -> Value {
    pairs.into_iter().map(|(key, value)| (key.clone(), value)).collect::<Object>().into_value()
}

fn list<'a>(items: impl Iterator<Item = &'a str>) -> Value {
    Value::from(items.map(Value::from).collect::<Vec<_>>())
}

fn pairs(map: &BTreeMap<String, String>) -> Value {
    let entries = map.iter().map(|(key, value)| (Value::from(key.as_str()), Value::from(value.as_str())));
    entries.collect::<Object>().into_value()
}

fn map(entries: &BTreeMap<String, domain::Value>) -> Value {
    entries
        .iter()
        .map(|(key, item)| (Value::from(key.as_str()), value(item)))
        .collect::<Object>()
        .into_value()
}

/// The decoder bounds the depth.
fn value(item: &domain::Value) -> Value {
    match item {
        domain::Value::Null => Value::Null,
        domain::Value::Bool(bool) => Value::from(*bool),
        domain::Value::Int(int) => Value::from(*int),
        domain::Value::Float(float) => Value::from(*float),
        domain::Value::Text(text) => Value::from(text.as_str()),
        domain::Value::List(items) => Value::from(items.iter().map(value).collect::<Vec<_>>()),
        domain::Value::Map(entries) => map(entries),
    }
}
