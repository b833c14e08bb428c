//! Do a node and an OPA server give one answer to whatever Rego can say?
//!
//! `make policy-conformance` tries each call of `tests/cases/conformance` on all values that may stand for each of its
//! arguments; the suite tries the calls as they are written.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Command,
};

use agentbus::policy::{Decision, PolicyError, PolicySources, RegoEngine, differs};
use serde_json::{Value as Json, json};

use super::{question::Owned, with_modules};
use crate::support::{
    opa::{self, Opa},
    root,
};

mod calls;

use calls::{Case, cases, table};

/// Builtins of OPA that are no part of what may be written: operators, what answers by the moment, what is bygone.
const UNTRIED: &[&str] = &[
    "all",
    "and",
    "any",
    "assign",
    "div",
    "eq",
    "equal",
    "gt",
    "gte",
    "internal.member_2",
    "internal.member_3",
    "internal.print",
    "internal.template_string",
    "internal.test_case",
    "lt",
    "lte",
    "minus",
    "mul",
    "neq",
    "or",
    "plus",
    "print",
    "rand.intn",
    "rem",
    "time.now_ns",
    "trace",
];

/// What comes of a call.
#[derive(Debug, Clone, PartialEq)]
enum Came {
    /// The policy is not taken.
    Refused(String),
    /// A rule fails.
    Failed,
    Decided(Vec<String>),
}

/// A module that shows what a call comes to.
fn module(call: &str) -> String {
    format!(
        "package agentbus.modules.case\n\ndefault allow := false\n\nc := input.message.content\n\n\
         reasons contains json.marshal(result)\n\nresult := {call}\n"
    )
}

fn input(case: &Case) -> Json {
    json!({
        "message": {"type": "query", "priority": "normal", "to": {"agent": "worker"}, "tools": [],
                    "content": case.content, "metadata": {}, "size": 100},
        "sender": {"id": "planner", "roles": [], "capabilities": [], "registered": true},
        "recipient": {"id": "worker", "roles": [], "capabilities": []},
        "tenant": {"id": "acme", "labels": {}},
        "constitution": {"hash": "cdd01ef066bc6cf2"},
    })
}

/// One call, as each of them has it.
struct Both<'a> {
    call: String,
    node: Result<RegoEngine, String>,
    opa: Result<&'a Opa, String>,
}

impl<'a> Both<'a> {
    async fn of(server: &'a Opa, call: &str) -> Self {
        let text = module(call);
        let policy = PolicySources { shipped: false, ..with_modules(&[("case.rego", &text)]) };
        let node = RegoEngine::load(&policy).map_err(|error| error.to_string());
        Self { call: call.to_owned(), node, opa: server.put("case", &text).await.map(|()| server) }
    }

    async fn decide(&self, case: &Case) -> (Came, Came) {
        let input = input(case);
        let node = match &self.node {
            Err(why) => Came::Refused(why.clone()),
            Ok(engine) => node(engine, &input),
        };
        let opa = match &self.opa {
            Err(why) => Came::Refused(why.clone()),
            Ok(server) => match server.decide(&input).await {
                Ok(decision) => {
                    Came::Decided(decision["reasons"].as_array().unwrap().iter().map(cut).collect())
                }
                Err(_) => Came::Failed,
            },
        };
        (node, opa)
    }
}

fn node(engine: &RegoEngine, input: &Json) -> Came {
    loop {
        match engine.decide(&Owned::from_input(input).ask()) {
            // A machine that is busy with other tests.
            Err(PolicyError::TimedOut { .. }) => {}
            Err(_) => return Came::Failed,
            Ok(Decision::Denied { reasons }) => return Came::Decided(reasons),
            Ok(allowed) => panic!("{allowed:?}"),
        }
    }
}

/// As a node keeps it.
fn cut(reason: &Json) -> String {
    let reason = reason.as_str().unwrap();
    reason[..reason.floor_char_boundary(256)].to_owned()
}

/// Whether both mean the same: each writes numbers in its own way.
fn same(node: &Came, opa: &Came) -> bool {
    let value = |came: &Came| match came {
        Came::Decided(reasons) => match reasons.as_slice() {
            [one] => serde_json::from_str::<Json>(one.strip_prefix("case: ")?).ok(),
            _ => None,
        },
        _ => None,
    };
    node == opa || value(node).zip(value(opa)).is_some_and(|(node, opa)| alike(&node, &opa))
}

fn alike(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 1e-15 * a.abs().max(b.abs())
        }
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| alike(a, b)))
        }
        (a, b) => a == b,
    }
}

/// Tries all, and tells of those that differ though nothing says so. Beside their number, how many differ as it is said,
/// by name. A policy that one of them does not take is no answer of it.
async fn compare(cases: &[Case]) -> (usize, BTreeMap<String, usize>) {
    let Some(program) = opa::program() else { return Default::default() };
    // Without what ships: the server compiles all that it has for each call.
    let joins = ["decision.rego", "shape.rego"].map(|file| opa::policies().join(file));
    let server = Opa::run(&program, &joins.each_ref().map(PathBuf::as_path)).await;
    let (mut kept, mut differ) = (None::<Both<'_>>, 0);
    let (mut refused, mut known) = (BTreeSet::new(), BTreeMap::new());
    for case in cases {
        let both = match kept.take().filter(|both| both.call == case.call) {
            Some(both) => both,
            None => Both::of(&server, &case.call).await,
        };
        match both.decide(case).await {
            (Came::Refused(why), _) => drop(refused.insert(format!("{}: {why}", case.name))),
            (_, Came::Refused(why)) => drop(refused.insert(format!("{}, by OPA: {why}", case.name))),
            (node, opa) if same(&node, &opa) => {}
            _ if case.differs || differs::BUILTINS.iter().any(|(name, _)| *name == case.name) => {
                *known.entry(case.name.clone()).or_default() += 1;
            }
            (node, opa) => {
                differ += 1;
                let Case { name, call, content, .. } = case;
                println!("{name}: {call} with {content}\n  node {node:?}\n  opa  {opa:?}");
            }
        }
        kept = Some(both);
    }
    for refused in refused {
        println!("not taken: {refused}");
    }
    println!("as docs/policy.md says, {} differ: {known:?}", known.values().sum::<usize>());
    println!("policy-conformance: {} cases, {differ} differ", cases.len());
    (differ, known)
}

#[tokio::test]
async fn a_node_and_opa_agree_on_each_call_as_it_is_written() {
    assert_eq!(compare(&cases(false)).await.0, 0);
}

#[tokio::test]
#[ignore = "make policy-conformance: thousands of cases"]
async fn a_node_and_opa_agree_on_each_call_with_whatever_stands_for_its_arguments() {
    let cases = cases(true);
    let (differ, known) = compare(&cases).await;
    assert_eq!(differ, 0);
    let language = cases.iter().filter(|case| case.differs).map(|case| case.name.as_str());
    let listed = differs::BUILTINS.iter().map(|(name, _)| *name).chain(language);
    let gone: BTreeSet<_> = listed.filter(|name| !known.contains_key(*name)).collect();
    assert!(known.is_empty() || gone.is_empty(), "{gone:?} do not differ: take them off the list");
}

#[test]
fn what_differs_is_in_the_docs() {
    let page = fs::read_to_string(root().join("docs/policy.md")).unwrap();
    for (name, how) in differs::BUILTINS {
        assert!(page.contains(&format!("`{name}`")) && page.contains(&format!("| {how} |")), "{name}: {how}");
    }
}

/// Whatever OPA has is tried, or a node refuses a policy with it.
#[test]
fn each_builtin_of_opa_is_tried_or_refused() {
    let Some(program) = opa::program() else { return };
    let output = Command::new(program).args(["capabilities", "--current"]).output().unwrap();
    let capabilities: Json = serde_json::from_slice(&output.stdout).unwrap();
    let tried = table("builtins.json");
    for builtin in capabilities["builtins"].as_array().unwrap() {
        let name = builtin["name"].as_str().unwrap();
        if tried.contains_key(name) || UNTRIED.contains(&name) {
            continue;
        }
        let arguments = builtin["decl"]["args"].as_array().map_or(0, Vec::len);
        let text = module(&format!("{name}({})", vec!["c.a"; arguments].join(", ")));
        let policy = PolicySources { shipped: false, ..with_modules(&[("case.rego", &text)]) };
        let error = RegoEngine::load(&policy).err().unwrap_or_else(|| panic!("a node takes {name}, untried"));
        assert!(
            error.to_string().starts_with(&format!("case.rego:9: {name} is a builtin of OPA alone")),
            "{error}"
        );
    }
}
