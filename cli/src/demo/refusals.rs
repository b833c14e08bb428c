//! Which messages must not pass? Each kind of refusal that can be provoked from outside, as data.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agentbus::{
    client::Draft,
    domain::{MessageType, Priority, Reason},
};
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::letter::{Expected, Letter, Routing};
use crate::context::Who;

/// One way to be refused.
struct Provocation {
    /// What the sender tries, in a few words.
    tries: &'static str,
    from: &'static str,
    make: Make,
    expected: Expected,
}

enum Make {
    /// A good message with one thing wrong.
    Edit(fn(&mut Map<String, Value>)),
    /// Any bytes, from a good message in JSON.
    Bytes(fn(String) -> Vec<u8>),
}

use Make::Edit;
use Reason as R;

fn set(message: &mut Map<String, Value>, field: &str, value: Value) {
    message.insert(field.to_owned(), value);
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!(1), |inner, _| json!({ "in": inner }))
}

fn try_it(tries: &'static str, from: &'static str, expected: R, make: Make) -> Provocation {
    Provocation { tries, from, make, expected: Expected::One(expected) }
}

fn bytes() -> Vec<Provocation> {
    let planner = "acme/planner";
    vec![
        try_it(
            "half a message",
            planner,
            R::Malformed,
            Make::Bytes(|good| good.into_bytes().into_iter().take(60).collect()),
        ),
        try_it(
            "a priority nobody knows",
            planner,
            R::Malformed,
            Edit(|m| set(m, "priority", json!("urgent"))),
        ),
        Provocation {
            tries: "a map that claims 4 billion entries",
            from: planner,
            make: Make::Bytes(|_| vec![0xdf, 0xff, 0xff, 0xff, 0xff]),
            expected: Expected::Either(R::TooManyValues, R::Malformed),
        },
        try_it(
            "80,000 bytes of text",
            planner,
            R::TooLarge,
            Edit(|m| set(m, "content", json!({ "text": "x".repeat(80_000) }))),
        ),
        try_it("content nested 40 deep", planner, R::TooDeep, Edit(|m| set(m, "content", nested(40)))),
        try_it(
            "a list of 5,000 numbers",
            planner,
            R::TooManyValues,
            Edit(|m| set(m, "content", json!({ "list": vec![1; 5000] }))),
        ),
        try_it(
            "two priorities in one message",
            planner,
            R::DuplicateKey,
            Make::Bytes(|good| good.replacen('{', "{\"priority\":\"low\",", 1).into_bytes()),
        ),
        try_it(
            "a second message behind the first",
            planner,
            R::TrailingBytes,
            Make::Bytes(|good| (good + "{}").into_bytes()),
        ),
        try_it(
            "an amount of 1e999",
            planner,
            R::NotFinite,
            Make::Bytes(|good| good.replacen("\"text\":", "\"amount\":1e999,\"text\":", 1).into_bytes()),
        ),
        try_it("a field \"admin\"", planner, R::UnknownField, Edit(|m| set(m, "admin", json!(true)))),
        try_it(
            "no time of creation",
            planner,
            R::MissingField,
            Edit(|m| {
                m.shift_remove("created_at");
            }),
        ),
        try_it("schema 99", planner, R::UnsupportedSchema, Edit(|m| set(m, "schema", json!(99)))),
        try_it(
            "the agent \"worker.inbox\"",
            planner,
            R::BadIdentifier,
            Edit(|m| set(m, "to", json!({ "agent": "worker.inbox" }))),
        ),
        try_it(
            "a wildcard as agent",
            planner,
            R::BadIdentifier,
            Edit(|m| set(m, "to", json!({ "agent": "*" }))),
        ),
    ]
}

fn rules() -> Vec<Provocation> {
    let planner = "acme/planner";
    vec![
        try_it(
            "says it belongs to globex",
            planner,
            R::TenantMismatch,
            Edit(|m| set(m, "tenant_id", json!("globex"))),
        ),
        try_it(
            "says it is the steward",
            planner,
            R::SenderMismatch,
            Edit(|m| set(m, "from_agent", json!("steward"))),
        ),
        try_it(
            "names no constitution",
            planner,
            R::ConstitutionalHashMissing,
            Edit(|m| {
                m.shift_remove("constitutional_hash");
            }),
        ),
        try_it(
            "names another constitution",
            planner,
            R::ConstitutionalHashMismatch,
            Edit(|m| set(m, "constitutional_hash", json!("0123456789abcdef"))),
        ),
        try_it(
            "a message that has expired",
            planner,
            R::Expired,
            Edit(|m| set(m, "expires_at", json!(now_ms() - 1000))),
        ),
        try_it(
            "a message from the future",
            planner,
            R::ClockSkew,
            Edit(|m| set(m, "created_at", json!(now_ms() + 120_000))),
        ),
        try_it(
            "an intern gives a command",
            "acme/intern",
            R::PolicyDenied,
            Edit(|m| set(m, "message_type", json!("command"))),
        ),
        try_it(
            "an intern asks for delete",
            "acme/intern",
            R::PolicyDenied,
            Edit(|m| set(m, "tools", json!(["delete"]))),
        ),
        try_it(
            "a tool that nobody knows",
            planner,
            R::PolicyDenied,
            Edit(|m| set(m, "tools", json!(["teleport"]))),
        ),
        try_it(
            "a worker cries critical",
            "acme/tester",
            R::PolicyDenied,
            Edit(|m| set(m, "priority", json!("critical"))),
        ),
        try_it(
            "who acts writes the audit log",
            "globex/planner",
            R::PolicyDenied,
            Edit(|m| {
                set(m, "message_type", json!("audit_log"));
                set(m, "to", json!({ "agent": "auditor" }));
            }),
        ),
        try_it(
            "a judge judges itself",
            "acme/judge",
            R::PolicyDenied,
            Edit(|m| {
                set(m, "message_type", json!("constitutional_validation"));
                set(m, "to", json!({ "agent": "judge" }));
            }),
        ),
    ]
}

fn routes() -> Vec<Provocation> {
    let planner = "acme/planner";
    vec![
        try_it(
            "to somebody who is not there",
            planner,
            R::RecipientUnknown,
            Edit(|m| set(m, "to", json!({ "agent": "nobody" }))),
        ),
        try_it(
            "to globex's builder",
            planner,
            R::RecipientUnknown,
            Edit(|m| set(m, "to", json!({ "agent": "builder" }))),
        ),
        try_it(
            "to a ghost: registered, not listening",
            planner,
            R::RecipientOffline,
            Edit(|m| set(m, "to", json!({ "agent": "ghost" }))),
        ),
        try_it(
            "to one who can teleport",
            planner,
            R::NoCapableAgent,
            Edit(|m| set(m, "to", json!({ "capability": "teleport" }))),
        ),
        try_it(
            "to every astronaut",
            planner,
            R::NoCapableAgent,
            Edit(|m| set(m, "to", json!({ "broadcast": { "role": "astronaut" } }))),
        ),
    ]
}

/// All of them, with a title for each group.
pub(super) fn letters() -> anyhow::Result<Vec<(&'static str, Vec<Letter>)>> {
    let groups = [
        ("what cannot be read", bytes()),
        ("what is not allowed", rules()),
        ("what cannot arrive", routes()),
    ];
    groups
        .into_iter()
        .map(|(title, group)| Ok((title, group.into_iter().map(letter).collect::<anyhow::Result<_>>()?)))
        .collect()
}

fn letter(provocation: Provocation) -> anyhow::Result<Letter> {
    let from: Who = provocation.from.parse().map_err(anyhow::Error::msg)?;
    let target = if from.tenant.as_str() == "acme" { "worker" } else { "builder" };
    let mut good = Draft::to_agent(target, "a harmless text");
    good.message_type = MessageType::Event;
    good.priority = Priority::Normal;
    let mut json = good.json();
    let body = match provocation.make {
        Edit(edit) => {
            if let Some(fields) = json.as_object_mut() {
                edit(fields);
            }
            Bytes::from(json.to_string())
        }
        Make::Bytes(make) => Bytes::from(make(json.to_string())),
    };
    Ok(Letter {
        from,
        target: provocation.tries.to_owned(),
        act: String::new(),
        text: String::new(),
        routing: Routing::Agent,
        message_id: good.message_id,
        body,
        expected: provocation.expected,
    })
}
