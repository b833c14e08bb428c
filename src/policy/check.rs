//! What did the author of a policy mean? What compiles, and still cannot be meant: paths of `input` that are not there,
//! words that nobody has, comparisons that never hold, obligations that nobody can honour, and what switches the cache
//! off.
//!
//! It reads words, not what they amount to: a finding is sure, and what is not found may still be wrong.

use std::fmt;

use super::{
    differs,
    sources::{AGGREGATION, PolicySources, SHIPPED},
    tokens::tokens,
};
use crate::domain::Tenant;

mod compared;
mod known;
mod look;
mod obliged;
mod paths;
mod words;

use known::Known;
use look::Look;

/// Something that cannot be meant, or that its author should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub file: String,
    pub line: usize,
    pub what: String,
    /// What may be meant.
    pub meant: Option<String>,
    /// It does what it says, and costs something.
    pub note: bool,
}

/// `file:line: what; did you mean …?`
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, what, meant, .. } = self;
        write!(f, "{file}:{line}: {what}")?;
        match meant {
            Some(meant) => write!(f, "; did you mean {meant}?"),
            None => Ok(()),
        }
    }
}

/// Looks through the operator's modules. With `tenants`, it is known which roles, agents and tenants there are; `opa`
/// finds what an OPA server may answer otherwise.
pub fn check(sources: &PolicySources, tenants: Option<&[Tenant]>, opa: bool) -> Vec<Finding> {
    let known = Known::of(tenants);
    let own = sources
        .modules
        .iter()
        .filter(|module| !SHIPPED.iter().chain(AGGREGATION).any(|(_, text)| *text == module.text));
    own.flat_map(|module| {
        let tokens = tokens(&module.text);
        let mut found = Look::new(&module.file, &tokens, &known).through(&module.text);
        let differ = differs::found(&module.text).into_iter().filter(|_| opa);
        found.extend(differ.map(|(line, what)| Finding {
            file: module.file.clone(),
            line,
            what,
            meant: None,
            note: true,
        }));
        found
    })
    .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeSet;

    use super::*;
    use crate::policy::sources::Module;

    fn found(body: &str, tenants: Option<&[Tenant]>) -> Vec<String> {
        let text = format!("package agentbus.modules.own\n\n{body}\n");
        let modules = vec![Module { file: "own.rego".to_owned(), text }];
        check(&PolicySources { modules, ..PolicySources::shipped() }, tenants, false)
            .iter()
            .map(Finding::to_string)
            .collect()
    }

    #[test]
    fn what_cannot_be_meant_is_found_with_its_line_and_what_may_be() {
        for (body, expected) in [
            (
                "allow if input.mesage.tools",
                "own.rego:3: input.mesage is not there, expected approval, constitution, conversation, message, recipient, sender or tenant; did you mean message?",
            ),
            (
                "x := 1\n\nallow if input.sender.role == \"a\"",
                "own.rego:5: input.sender.role is not there, expected capabilities, id, registered or roles; did you mean roles?",
            ),
            (
                "allow if input.message.type == \"comand\"",
                "own.rego:3: there is no type of message \"comand\"; did you mean command?",
            ),
            (
                "allow if \"Query\" == input.message.type",
                "own.rego:3: there is no type of message \"Query\"; did you mean query?",
            ),
            (
                "allow if input.message.type in {\"query\", \"respons\"}",
                "own.rego:3: there is no type of message \"respons\"; did you mean response?",
            ),
            ("allow if input.message.priority != \"urgent\"", "own.rego:3: there is no priority \"urgent\""),
            (
                "allow if \"controler\" in input.sender.roles",
                "own.rego:3: there is no role \"controler\"; did you mean controller?",
            ),
            (
                "allow if \"exectue\" in input.message.tools",
                "own.rego:3: there is no tool \"exectue\"; did you mean execute?",
            ),
            (
                "allow if input.message.tools == \"read\"",
                "own.rego:3: input.message.tools is a list, which \"read\" never is; did you mean \"read\" in input.message.tools?",
            ),
            (
                "allow if input.message.size == \"100\"",
                "own.rego:3: input.message.size is a number, which \"100\" never is",
            ),
            (
                "allow if \"query\" in input.message.type",
                "own.rego:3: `in` looks into lists, and message.type is none: it never holds; did you mean ==?",
            ),
            ("allow if \"a\" == \"b\"", "own.rego:3: \"a\" == \"b\" never holds"),
            ("allow if 1 != 1", "own.rego:3: \"1\" != \"1\" never holds"),
            (
                "obligations := {\"min_approval\": 2}",
                "own.rego:3: there is no obligation \"min_approval\", so the module denies; did you mean min_approvals?",
            ),
            (
                "obligations := {\n\t\"redact\": [\"a\"],\n\t\"min_approvals\": 0,\n}",
                "own.rego:5: min_approvals: found 0, expected 1 to 100, so the module denies",
            ),
            (
                "obligations := {\"lane\": \"fast\"} if true",
                "own.rego:3: lane: found fast, expected \"durable\", so the module denies",
            ),
            (
                "obligations := {\"deliberate\": \"yes\"}",
                "own.rego:3: deliberate: found yes, expected true or false, so the module denies",
            ),
            (
                "obligations := {\"rate\": {\"messages\": 0, \"seconds\": 60}}",
                "own.rego:3: rate.messages: found 0, expected 1 to 1000000, so the module denies",
            ),
            (
                "obligations := {\"rate\": {\"messages\": 5, \"second\": 60}}",
                "own.rego:3: rate takes messages and seconds, not \"second\": the module denies; did you mean seconds?",
            ),
            (
                "obligations := {\"rate\": 5}",
                "own.rego:3: rate: found 5, expected messages and seconds, so the module denies",
            ),
            (
                "obligations := {\"note\": \"\"}",
                "own.rego:3: note: found , expected a text of 1 to 200 characters, so the module denies",
            ),
            (
                "obligations := {\"label\": [\"pii\", \"Secret!\"]}",
                "own.rego:3: label: found Secret!, expected 1 to 32 of [a-z0-9_:-], so the module denies",
            ),
            (
                "allow if \"pii\" in input.conversation.label",
                "own.rego:3: input.conversation.label is not there, expected id or labels; did you mean labels?",
            ),
            (
                "allow if not input.message.content.region in {\"us\"}",
                "own.rego:3: without an input.message.content.region this holds in a node and not in OPA; name it, and negate that",
            ),
            (
                "allow if time.now_ns() > 0",
                "own.rego:3: the answers of the whole policy are not cached because of this",
            ),
        ] {
            assert_eq!(found(body, None), [expected], "{body}");
        }
    }

    #[test]
    fn what_may_be_meant_is_let_be() {
        for body in [
            "allow if \"treasurer\" in input.sender.roles",
            "allow if input.message.content.amout == \"x\"",
            "allow if input.tenant.labels[name] == \"x\"",
            "allow if input.sender.id == \"nobody\"",
            "allow if \"wire_money\" in input.message.tools",
            "obligations := {\"min_approvals\": count(input.message.tools), \"redact\": {\"a.b\"}, \"score\": true}",
            "obligations := {\"deliberate\": needed}",
            "obligations := {\"rate\": {\"messages\": most, \"seconds\": 60}, \"note\": \"look\", \"label\": {\"pii\", more}}",
            "obligations := {\"note\": sprintf(\"%s\", [input.sender.id]), \"label\": []}",
            "# input.mesage == \"a\" and time.now_ns()\nallow if \"input.mesage\" == input.message.content.text",
            "allow if 1 + 1 == 2",
            "allow if some role in input.sender.roles",
        ] {
            assert_eq!(found(body, None), Vec::<String>::new(), "{body}");
        }
    }

    #[test]
    fn with_the_tenants_known_a_role_or_an_agent_that_nobody_has_is_found() {
        let mut tenant = Tenant::new("acme".parse().unwrap());
        let roles = BTreeSet::from(["treasurer".to_owned()]);
        tenant
            .agents
            .insert("planner".parse().unwrap(), crate::domain::AgentGrant { roles, ..Default::default() });
        let tenants = [tenant];
        let body = "allow if { \"treasurer\" in input.sender.roles; input.sender.id == \"planner\"; input.tenant.id == \"acme\" }";
        assert_eq!(found(body, Some(&tenants)), Vec::<String>::new());
        let body = "allow if {\n\t\"auditors\" in input.sender.roles\n\tinput.recipient.id == \"planer\"\n\tinput.tenant.id == \"globex\"\n\t\"boss\" in input.sender.roles\n}";
        let expected = [
            "own.rego:4: there is no role \"auditors\"; did you mean auditor?",
            "own.rego:5: there is no agent \"planer\"; did you mean planner?",
            "own.rego:6: there is no tenant \"globex\"",
            "own.rego:7: there is no role \"boss\"",
        ];
        assert_eq!(found(body, Some(&tenants)), expected);
    }
}
