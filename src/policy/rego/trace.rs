//! Which rules have decided, and where do they stand? What was asked once is put to the interpreter again, which notes
//! each line that it looks at. For people who ask why; no message waits for it.

use std::collections::BTreeMap;

use regorus::{
    Engine, Value,
    unstable::{Rule as Ast, RuleHead},
};

use super::{Deadline, ModuleRules, RecordedInput, Rule, answer, load, with_patience};
use crate::policy::{Obligations, PolicyError, sources::LoadError, sources::PolicySources};

/// A policy that says where it has looked.
pub struct Tracer {
    engine: Engine,
    rules: Vec<ModuleRules>,
}

/// What one module said.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TracedModule {
    pub name: String,
    pub outcome: ModuleOutcome,
    /// In which rules it looked for that, in the order of files and lines.
    pub rules: Vec<TracedRule>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleOutcome {
    Allowed,
    /// With something demanded besides.
    Obliged,
    /// With its reasons.
    Denied(Vec<String>),
}

/// One definition of a rule.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TracedRule {
    pub file: String,
    /// Where it begins.
    pub line: u32,
    pub name: String,
    /// Those that were evaluated. Where a rule does not hold, the last one is where it ends.
    pub evaluated: Vec<u32>,
}

impl Tracer {
    pub fn new(sources: &PolicySources) -> Result<Self, LoadError> {
        let (mut engine, rules) = load::traced(sources)?;
        engine.set_enable_coverage(true);
        Ok(Self { engine, rules })
    }

    /// What each module says, in the policy's order.
    pub fn trace(&mut self, input: &RecordedInput) -> Result<Vec<TracedModule>, PolicyError> {
        let Self { engine, rules } = self;
        rules.iter().map(|module| traced(engine, module, &input.0)).collect()
    }
}

fn traced(engine: &mut Engine, module: &ModuleRules, input: &Value) -> Result<TracedModule, PolicyError> {
    engine.clear_coverage_data();
    let mut eval = |rule: &Rule| {
        with_patience(|| {
            // What was found for another rule is looked for again, so that it is seen.
            engine.set_input(input.clone());
            let deadline = Deadline::start();
            engine.eval_rule(rule.path().to_owned()).map_err(|cause| deadline.blames(rule, cause))
        })
    };
    let allows = eval(&module.allow)? == Value::Bool(true);
    let more = if allows { &module.obligations } else { &module.reasons };
    let said = more.as_ref().map(eval).transpose()?.unwrap_or(Value::Undefined);
    let outcome = match allows {
        true => {
            let mut obliged = Obligations::default();
            let fine = answer::oblige(&mut obliged, &module.name, &said).is_ok();
            match (fine, obliged == Obligations::default()) {
                (true, true) => ModuleOutcome::Allowed,
                (true, false) => ModuleOutcome::Obliged,
                (false, _) => ModuleOutcome::Denied(vec![answer::malformed(&module.name)]),
            }
        }
        false => {
            let mut reasons = Vec::new();
            answer::reasons(&module.name, &said, &mut reasons);
            ModuleOutcome::Denied(reasons)
        }
    };
    Ok(TracedModule { name: module.name.clone(), outcome, rules: touched(engine)? })
}

/// The rules with a line that was evaluated.
fn touched(engine: &mut Engine) -> Result<Vec<TracedRule>, PolicyError> {
    let report = engine.get_coverage_report().map_err(|cause| super::broken(cause.to_string()))?;
    let covered: BTreeMap<String, _> =
        report.files.into_iter().map(|file| (file.path, file.covered)).collect();
    let mut rules = Vec::new();
    for module in engine.get_modules() {
        let file = module.package.span.source.get_path();
        let Some(lines) = covered.get(file) else { continue };
        for rule in &module.policy {
            let Ast::Spec { head, .. } = rule.as_ref() else { continue };
            let span = rule.span();
            let last = span.line + u32::try_from(span.text().lines().count()).unwrap_or(0).saturating_sub(1);
            let evaluated: Vec<u32> = lines.range(span.line..=last).copied().collect();
            if !evaluated.is_empty() {
                let (file, line, name) = (file.clone(), span.line, named(head).to_owned());
                rules.push(TracedRule { file, line, name, evaluated });
            }
        }
    }
    Ok(rules)
}

fn named(head: &RuleHead) -> &str {
    match head {
        RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. } => {
            refr.span().text()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::policy::sources::Module;

    const OWN: &str = "package agentbus.modules.limits

default allow := false

allow if {
	input.message.type == \"command\"
	not too_long
}

too_long if input.message.size > 100

reasons contains \"too long\" if too_long

obligations := {\"deliberate\": true} if input.message.size > 50
";

    fn policy() -> Tracer {
        let modules = vec![Module { file: "limits.rego".to_owned(), text: OWN.to_owned() }];
        Tracer::new(&PolicySources { modules, ..PolicySources::shipped() }).unwrap()
    }

    fn asked(size: u32, role: &str) -> RecordedInput {
        let input = format!(
            r#"{{"message":{{"type":"command","priority":"normal","to":{{"agent":"worker"}},"tools":[],"size":{size}}},
            "sender":{{"id":"planner","roles":["{role}"],"capabilities":[],"registered":true}},
            "recipient":{{"id":"worker","roles":[],"capabilities":[]}},"tenant":{{"id":"acme","labels":{{}}}},
            "constitution":{{"hash":"cdd01ef066bc6cf2"}}}}"#
        );
        RecordedInput::parse(&input).unwrap()
    }

    fn of<'a>(modules: &'a [TracedModule], name: &str) -> &'a TracedModule {
        modules.iter().find(|module| module.name == name).unwrap()
    }

    #[test]
    fn the_lines_of_the_rules_that_decided_are_told_and_those_of_no_other() {
        let mut tracer = policy();
        let modules = tracer.trace(&asked(200, "executive")).unwrap();
        let limits = of(&modules, "limits");
        assert_eq!(limits.outcome, ModuleOutcome::Denied(vec!["limits: too long".to_owned()]));
        let places: Vec<_> =
            limits.rules.iter().map(|it| (it.file.as_str(), it.line, it.name.as_str())).collect();
        assert_eq!(
            places,
            [("limits.rego", 5, "allow"), ("limits.rego", 10, "too_long"), ("limits.rego", 12, "reasons")]
        );
        assert_eq!(limits.rules.first().unwrap().evaluated, [6, 7]);
        assert_eq!(of(&modules, "roles").outcome, ModuleOutcome::Allowed);

        // The same tracer again, on another question.
        let modules = tracer.trace(&asked(60, "monitor")).unwrap();
        assert_eq!(of(&modules, "limits").outcome, ModuleOutcome::Obliged);
        let roles = of(&modules, "roles");
        let ModuleOutcome::Denied(reasons) = &roles.outcome else { panic!("{roles:?}") };
        assert!(reasons.iter().any(|reason| reason.starts_with("roles: ")), "{reasons:?}");
        assert!(roles.rules.iter().all(|rule| rule.file != "limits.rego"), "{roles:?}");
        assert!(roles.rules.iter().any(|rule| rule.file == "agentbus/roles.rego"), "{roles:?}");
    }
}
