//! How is a decision written? As OPA writes its decision log: <https://www.openpolicyagent.org/docs/management-decision-logs>.

use serde_json::{Value, json};

use crate::{
    domain::{Reason, Timestamp},
    policy::{Decision, PolicyError, comparison::Answer, decided::Decided, reads::Fields, rego},
};

/// The rule that is asked, as OPA names it.
pub(super) const PATH: &str = "agentbus/decision";
/// What the policy of a bus is called among OPA's bundles.
const BUNDLE: &str = "agentbus";
/// What is left out of an event unless it is wanted: a tenant's texts.
const TEXTS: [&str; 2] = ["/input/message/content", "/input/message/metadata"];

/// Who writes the events.
pub(in crate::policy) struct Labels(Value);

impl Labels {
    pub(in crate::policy) fn of(node: &str) -> Self {
        Self(json!({ "id": node, "version": env!("CARGO_PKG_VERSION") }))
    }
}

pub(in crate::policy) fn of(decided: &Decided, labels: &Labels) -> Value {
    let (outcome, told) = match &decided.answer {
        Ok(decision) => ("result", result(decision)),
        Err(error) => ("error", failure(error)),
    };
    let question = decided.question.ask();
    let fields = match question.labels {
        Some(_) => Fields::ALL,
        // Nobody has looked: that is not the same as none.
        None => Fields::ALL.without(Fields::CONVERSATION_LABELS),
    };
    let took = u64::try_from(decided.took.as_nanos()).unwrap_or(u64::MAX);
    json!({
        "labels": labels.0,
        "decision_id": decided.id,
        "bundles": { BUNDLE: { "revision": &*decided.revision } },
        "path": PATH,
        "input": rego::as_json(&question, fields),
        outcome: told,
        "timestamp": timestamp(decided.at),
        "metrics": {
            "timer_rego_query_eval_ns": took,
            "counter_server_query_cache_hit": u8::from(decided.cached),
        },
    })
}

/// The same question, with another answer to it.
pub(in crate::policy) fn answered(mut event: Value, answer: &Answer) -> Value {
    if let Some(event) = event.as_object_mut() {
        for before in ["result", "error"] {
            event.shift_remove(before);
        }
        match answer {
            Ok(decision) => event.insert("result".to_owned(), result(decision)),
            Err(why) => {
                let code = Reason::PolicyFailed.as_str();
                event.insert("error".to_owned(), json!({ "code": code, "message": why }))
            }
        };
    }
    event
}

/// Takes a value out, and says so, as OPA does.
pub(super) fn erase(event: &mut Value, pointer: &str) {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return };
    let taken = event.pointer_mut(parent).and_then(Value::as_object_mut).and_then(|it| it.shift_remove(key));
    if taken.is_some() {
        note(event, "erased", pointer);
    }
}

pub(in crate::policy) fn erase_content(event: &mut Value) {
    TEXTS.iter().for_each(|pointer| erase(event, pointer));
}

/// Says of a value that it was taken out, or another put in its place.
pub(super) fn note(event: &mut Value, list: &str, pointer: &str) {
    let Some(event) = event.as_object_mut() else { return };
    let list = event.entry(list).or_insert_with(|| Value::Array(Vec::new()));
    if let Some(list) = list.as_array_mut() {
        list.push(pointer.into());
    }
}

/// What `data.agentbus.decision` is for it.
pub(in crate::policy) fn result(decision: &Decision) -> Value {
    match decision {
        Decision::Allowed(obliged) => {
            json!({ "allow": true, "reasons": [], "obligations": obliged })
        }
        Decision::Denied { reasons } => json!({ "allow": false, "reasons": reasons, "obligations": {} }),
    }
}

fn failure(error: &PolicyError) -> Value {
    json!({ "code": error.rejection().reason.as_str(), "message": error.to_string() })
}

fn timestamp(Timestamp(ms): Timestamp) -> String {
    let at = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_millis(ms));
    humantime::format_rfc3339_millis(at.unwrap_or(std::time::UNIX_EPOCH)).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::{collections::BTreeSet, sync::Arc, time::Duration};

    use super::*;
    use crate::{
        domain::Tenant,
        policy::{Obligations, Party, Question, owned::Owned},
        wire::{self, Stamp},
    };

    const MESSAGE: &str = r#"{"message_id":"m-1","message_type":"command","to":{"agent":"worker"},"tools":["read"],
        "constitutional_hash":"cdd01ef066bc6cf2","content":{"text":"the report"},"created_at":1790000000000}"#;

    /// As `docs/decision-log.md` shows it, and as readers of other versions know it.
    #[test]
    fn an_event_is_written_as_it_always_was() {
        let mut tenant = Tenant::new("acme".parse().unwrap());
        tenant.labels.insert("region".to_owned(), "eu".to_owned());
        let (sender, recipient) = ("planner".parse().unwrap(), "worker".parse().unwrap());
        let stamp = Stamp { tenant: &tenant.id, sender: &sender };
        let message = wire::decode(MESSAGE.as_bytes(), stamp, &wire::Limits::default()).unwrap().message;
        let [executive, implementer] = ["executive", "implementer"].map(|it| BTreeSet::from([it.to_owned()]));
        let (plan, none) = (BTreeSet::from(["plan".parse().unwrap()]), BTreeSet::new());
        let question = Question {
            message: &message,
            size: 312,
            sender: Party { id: &sender, roles: &executive, capabilities: &plan, registered: true },
            recipient: Party { id: &recipient, roles: &implementer, capabilities: &none, registered: true },
            tenant: &tenant,
            approval: None,
            labels: None,
        };
        let room = Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
        let decided = Decided {
            id: "kwgBtD6dd5f4LfCUqfSfEk".to_owned(),
            question: Owned::of(&question),
            revision: "r-1".into(),
            log_policy: None,
            answer: Ok(Arc::new(Decision::Allowed(Obligations {
                deliberate: true,
                ..Obligations::default()
            }))),
            took: Duration::from_micros(11),
            cached: false,
            at: Timestamp(1_790_000_000_000),
            room,
        };
        let mut event = of(&decided, &Labels(json!({ "id": "node-1", "version": "0.1.0" })));
        erase_content(&mut event);
        let bytes = crate::golden::same("decision-event.json", event.to_string().as_bytes());
        let page = include_str!("../../../docs/decision-log.md");
        assert!(page.contains(std::str::from_utf8(&bytes).unwrap()), "docs/decision-log.md shows another");

        let failed = PolicyError::Failed { rule: "data.x".to_owned(), cause: "why".to_owned() };
        let event = of(&Decided { answer: Err(failed), ..decided }, &Labels(json!({})));
        let error = json!({ "code": "policy_failed", "message": "data.x could not be evaluated: why" });
        assert_eq!((event.get("result"), event.get("error")), (None, Some(&error)));
    }
}
