//! Do the policy's own tests pass? Each rule `test_…` of a `*_test.rego`, as `opa test` runs them: a
//! builtin that fails is undefined there.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use regorus::{
    Engine, Value,
    unstable::{Rule as Ast, RuleHead},
    utils::limits::ExecutionTimerConfig,
};

use super::load::{add, is_aggregation, parse_data, told};
use crate::policy::sources::{AGGREGATION, LoadError, PolicySources, SHIPPED};

/// Tests of one policy.
const TESTS_MAX: usize = 2_000;
/// For one test, and for all of them.
const TEST_WITHIN: Duration = Duration::from_secs(1);
const ALL_WITHIN: Duration = Duration::from_secs(10);

/// A rule that must be true.
struct Test {
    /// `data.<package>.test_…`.
    path: String,
    file: String,
    line: u32,
}

/// Runs them all, beside the modules and what joins them. How many there are, all of which pass.
pub(super) fn test(sources: &PolicySources) -> Result<usize, LoadError> {
    if sources.tests.is_empty() {
        return Ok(0);
    }
    let (mut engine, tests) = prepare(sources)?;
    if tests.len() > TESTS_MAX {
        return Err(LoadError::TooManyTests { found: tests.len(), limit: TESTS_MAX });
    }
    let (mut failed, mut first, started) = (0, None, Instant::now());
    for test in &tests {
        if started.elapsed() > ALL_WITHIN {
            return Err(LoadError::SlowTests { limit: ALL_WITHIN });
        }
        let cause = match engine.eval_rule(test.path.clone()) {
            Ok(Value::Bool(true)) => continue,
            Ok(Value::Undefined) => "is undefined, expected true".to_owned(),
            Ok(found) => format!("is {found}, expected true"),
            Err(cause) => format!("cannot be evaluated: {}", told(cause)),
        };
        failed += 1;
        first.get_or_insert((test, cause));
    }
    match first {
        None => Ok(tests.len()),
        Some((Test { path, file, line }, cause)) => Err(LoadError::Test {
            file: file.clone(),
            line: *line,
            test: path.rsplit('.').next().unwrap_or(path).to_owned(),
            cause,
            failed,
            all: tests.len(),
        }),
    }
}

fn prepare(sources: &PolicySources) -> Result<(Engine, Vec<Test>), LoadError> {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(false);
    engine.set_execution_timer_config(ExecutionTimerConfig {
        limit: TEST_WITHIN,
        check_interval: const { NonZeroU32::MIN.saturating_add(255) },
    });
    if sources.shipped {
        add(&mut engine, SHIPPED)?;
    }
    add(&mut engine, AGGREGATION)?;
    for module in sources.modules.iter().filter(|module| !is_aggregation(module)) {
        add(&mut engine, &[(&module.file, &module.text)])?;
    }
    for module in &sources.tests {
        add(&mut engine, &[(&module.file, &module.text)])?;
    }
    if let Some(data) = &sources.data {
        let added = engine.add_data(parse_data(data)?);
        added.map_err(|cause| LoadError::Data { cause: cause.to_string() })?;
    }
    let tests = tests(&mut engine, sources);
    Ok((engine, tests))
}

/// Rules of the test files, in their order.
fn tests(engine: &mut Engine, sources: &PolicySources) -> Vec<Test> {
    let mut found = Vec::new();
    for module in engine.get_modules() {
        let file = module.package.span.source.get_path();
        if !sources.tests.iter().any(|test| test.file == *file) {
            continue;
        }
        let package = module.package.refr.span().text().to_owned();
        for rule in &module.policy {
            let Ast::Spec { head: RuleHead::Compr { refr, .. }, .. } = rule.as_ref() else { continue };
            let (name, line) = (refr.span().text(), refr.span().line);
            let path = format!("data.{package}.{name}");
            // A name, and one of several bodies.
            let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if name.starts_with("test_") && plain && !found.iter().any(|test: &Test| test.path == path) {
                found.push(Test { path, file: file.clone(), line });
            }
        }
    }
    found
}
