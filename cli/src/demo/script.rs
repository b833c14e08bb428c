//! The traffic of the demo: every message type, every routing, both encodings, both tenants.

use agentbus::{
    client::Draft,
    domain::{AgentId, Encoding, MessageType, Priority, Tenant, TenantId},
};
use anyhow::Context as _;
use serde_json::{Value, json};

use super::{
    corpus::Text,
    letter::{Expected, Letter, Routing},
};
use crate::context::Who;

/// What one agent does again and again.
struct Act {
    from: &'static str,
    does: MessageType,
    to: To,
    tools: &'static [&'static str],
    priority: Priority,
}

#[derive(Clone, Copy)]
enum To {
    Agent(&'static str),
    Capability(&'static str),
    Everybody,
    Role(&'static str),
}

use MessageType::{
    AuditLog, Command, ConstitutionalValidation, Event, GovernanceRequest, GovernanceResponse, Heartbeat,
    Notification, Query, Response, TaskRequest, TaskResponse,
};
use Priority::{High, Low, Normal};
use To::{Agent, Capability, Everybody, Role};

impl Act {
    /// As the corpus calls it.
    fn key(&self, tenant: &TenantId) -> String {
        format!("{tenant}/{}/{}", self.from, self.does)
    }
}

const fn act(
    from: &'static str,
    does: MessageType,
    to: To,
    tools: &'static [&'static str],
    priority: Priority,
) -> Act {
    Act { from, does, to, tools, priority }
}

const ACME: &[Act] = &[
    act("planner", Command, Agent("worker"), &["write"], Normal),
    act("planner", TaskRequest, Capability("translate"), &["read"], Normal),
    act("intern", Query, Capability("search"), &["read"], Low),
    act("worker", TaskResponse, Agent("planner"), &[], Normal),
    act("watcher", Notification, Role("implementer"), &[], High),
    act("planner", Event, Everybody, &[], Normal),
    act("planner", GovernanceRequest, Agent("scribe"), &[], Normal),
    act("scribe", GovernanceResponse, Agent("planner"), &[], Normal),
    act("judge", ConstitutionalValidation, Agent("planner"), &[], Normal),
    act("auditor", AuditLog, Agent("watcher"), &[], Low),
    act("watcher", Heartbeat, Agent("steward"), &[], Low),
    act("steward", Command, Capability("deploy"), &["execute"], High),
    act("tester", Response, Agent("planner"), &[], Normal),
    act("worker", TaskRequest, Capability("translate"), &["write", "read"], Normal),
];

const GLOBEX: &[Act] = &[
    act("planner", TaskRequest, Capability("assemble"), &["transfer"], Normal),
    act("controller", Command, Agent("builder"), &["delete"], Normal),
    act("builder", TaskResponse, Agent("planner"), &[], Normal),
    act("courier", Query, Capability("search"), &["list"], Low),
    act("controller", Notification, Everybody, &[], Normal),
    act("drafter", GovernanceResponse, Agent("controller"), &[], Normal),
    act("judge", ConstitutionalValidation, Agent("drafter"), &[], Normal),
    act("planner", Event, Role("implementer"), &[], Normal),
    act("auditor", AuditLog, Agent("controller"), &[], Low),
    act("auditor", GovernanceRequest, Agent("judge"), &[], Normal),
    act("courier", Heartbeat, Agent("controller"), &[], Low),
    act("builder", Response, Agent("courier"), &[], Normal),
    act("planner", Command, Agent("courier"), &["send"], High),
];

/// Who can do what, as the agents register it.
pub(super) fn capabilities(who: &Who) -> &'static [&'static str] {
    match (who.tenant.as_str(), who.agent.as_str()) {
        ("acme", "worker") => &["translate", "search"],
        ("acme", "tester") => &["translate", "deploy"],
        ("acme", "watcher") => &["search"],
        ("globex", "builder") => &["assemble"],
        ("globex", "courier") => &["assemble", "search"],
        ("globex", "auditor") => &["search"],
        _ => &[],
    }
}

/// So many letters, the tenants by turns, acts and texts in a fixed order.
pub(super) fn letters(
    tenants: &[Tenant],
    texts: &[Text],
    range: std::ops::Range<usize>,
) -> anyhow::Result<Vec<Letter>> {
    let mut letters = Vec::with_capacity(range.len());
    for number in range {
        let (name, acts) = if number.is_multiple_of(2) { ("acme", ACME) } else { ("globex", GLOBEX) };
        let tenant =
            tenants.iter().find(|tenant| tenant.id.as_str() == name).context("a tenant of the demo")?;
        let turn = number / 2;
        let act = acts.get(turn % acts.len()).context("an act")?;
        let key = act.key(&tenant.id);
        let its: Vec<&Text> = texts.iter().filter(|text| text.act == key).collect();
        let text =
            its.get(turn / acts.len() % its.len().max(1)).with_context(|| format!("a text for {key}"))?;
        // Every act comes in both encodings.
        let encoding =
            if (turn / acts.len() + turn).is_multiple_of(2) { Encoding::MessagePack } else { Encoding::Json };
        letters.push(letter(act, tenant, text, encoding)?);
    }
    Ok(letters)
}

fn letter(act: &Act, tenant: &Tenant, text: &Text, encoding: Encoding) -> anyhow::Result<Letter> {
    let (to, routing, target): (Value, Routing, String) = match act.to {
        Agent(id) => (json!({ "agent": id }), Routing::Agent, id.to_owned()),
        Capability(id) => (json!({ "capability": id }), Routing::Capability, format!("one who can {id}")),
        Everybody => (json!({ "broadcast": {} }), Routing::Broadcast, "everybody".to_owned()),
        Role(role) => (json!({ "broadcast": { "role": role } }), Routing::Broadcast, format!("every {role}")),
    };
    let content = json!({ "text": text.text, "corpus_id": text.id, "level": text.level });
    let mut draft = Draft::new(to, content);
    draft.message_type = act.does;
    draft.priority = act.priority;
    draft.tools = act.tools.iter().map(|&tool| tool.to_owned()).collect();
    let agent: AgentId = act.from.parse()?;
    Ok(Letter {
        from: Who { tenant: tenant.id.clone(), agent },
        target,
        act: act.does.to_string(),
        text: text.text.clone(),
        routing,
        message_id: draft.message_id.clone(),
        body: draft.encode(encoding),
        expected: Expected::ByImpact { threshold: tenant.limits.deliberation_threshold },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;

    use super::*;
    use crate::demo::corpus;

    #[test]
    fn every_text_has_its_act_and_every_act_a_text() {
        let texts = corpus::texts().unwrap();
        let said: BTreeSet<String> = texts.into_iter().map(|text| text.act).collect();
        let acts = [("acme", ACME), ("globex", GLOBEX)];
        let played = acts.iter().flat_map(|(tenant, acts)| {
            let tenant: TenantId = tenant.parse().unwrap();
            acts.iter().map(move |act| act.key(&tenant))
        });
        assert_eq!(said, played.collect());
    }

    #[test]
    fn both_tenants_play_every_message_type_and_every_routing() {
        for acts in [ACME, GLOBEX] {
            for &does in MessageType::ALL {
                assert!(acts.iter().any(|act| act.does == does), "{does} is not played");
            }
            assert!(acts.iter().any(|act| matches!(act.to, Agent(_))));
            assert!(acts.iter().any(|act| matches!(act.to, Capability(_))));
            assert!(acts.iter().any(|act| matches!(act.to, Everybody | Role(_))));
        }
    }
}
