//! How does Rego in process answer a question? The owner of regorus.
//!
//! Every module answers for itself and the answers are joined here, as `policies/agentbus/decision.rego`
//! joins them for an OPA server: all must allow; deliberate = any, approvals = maximum, redact =
//! union, lane = durable if any. Shipped modules run as bytecode, an order of magnitude faster than
//! the interpreter. The operator's modules do not: regorus 0.14's bytecode goes on after an
//! undefined assignment, where Rego must stop, and so could allow what Rego denies
//! (`docs/policy.md`, "How it is run").

use std::{
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use regorus::{
    CompiledPolicy, Engine, Value,
    languages::rego::compiler::Compiler,
    rvm::{RegoVM, program::Program},
    utils::limits::ExecutionTimerConfig,
};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    Decision, PolicyEngine, PolicyError, Question, differs,
    reads::{self, Fields, Reads},
    sources::{AGGREGATION, LoadError, Module, PolicySources, SHIPPED},
};

mod answer;
mod input;
mod load;
mod log_policy;
mod own_tests;
mod recorded;
mod trace;

pub(super) use input::as_json;
pub(super) use load::{is_aggregation, module_names, package};
pub use log_policy::LogPolicy;
use own_tests::test;
pub use recorded::RecordedInput;
pub use trace::{ModuleOutcome, TracedModule, TracedRule, Tracer};

/// Questions about the sample message, each bounded by [`RegoEngine::TIME_MAX`].
const SAMPLES_MAX: usize = 20;

/// The policy as regorus runs it.
pub struct RegoEngine {
    rules: Vec<ModuleRules>,
    prototype: Prototype,
    /// Evaluators at rest; a shared one slows down under contention.
    idle: Mutex<Vec<Evaluator>>,
    reads: Reads,
    log_policy: Option<Arc<LogPolicy>>,
    revision: Arc<str>,
    /// `file:line: what`, of what an OPA server may answer otherwise.
    differences: Vec<String>,
}

/// What one module defines.
struct ModuleRules {
    name: String,
    allow: Rule,
    reasons: Option<Rule>,
    obligations: Option<Rule>,
}

/// A rule, and what runs it.
enum Rule {
    /// An entry point of the shipped modules' program.
    Compiled {
        path: String,
        entry: usize,
    },
    Interpreted {
        path: String,
    },
}

impl Rule {
    fn path(&self) -> &str {
        match self {
            Rule::Compiled { path, .. } | Rule::Interpreted { path } => path,
        }
    }
}

/// From which evaluators are made.
struct Prototype {
    compiled: Option<(CompiledPolicy, Arc<Program>)>,
    /// Absent when there are no modules but the shipped ones.
    interpreted: Option<Engine>,
}

/// One thread's means to run rules.
struct Evaluator {
    vm: Option<RegoVM>,
    engine: Option<Engine>,
}

impl RegoEngine {
    /// For one rule, and for starting the next of one decision, so a decision ends within twice this.
    /// Usual ones take microseconds; this is by the clock on the wall, so it leaves room for a busy
    /// machine that runs other threads first.
    pub const TIME_MAX: Duration = Duration::from_millis(100);
    /// Of a decision that comes to nothing within [`Self::TIME_MAX`]: by less it is not to blame for that.
    const SPENT_MAX: Duration = Duration::from_millis(10);
    const INSTRUCTIONS_MAX: usize = 200_000;
    /// Of a message that is put to shipped rules at once.
    const QUICK_BYTES_MAX: usize = 4 * 1024;
    /// Evaluators kept; more are made, and dropped, when more threads than this evaluate at once.
    const IDLE_MAX: usize = 32;
    /// Of what may differ in OPA, for the log.
    const DIFFERENCES_MAX: usize = 20;

    /// Parses, compiles and tries the policy on a sample message.
    pub fn load(sources: &PolicySources) -> Result<Self, LoadError> {
        let load::Loaded { rules, prototype, reads, log_policy } = load::load(sources)?;
        let differ = sources.modules.iter().flat_map(|Module { file, text }| {
            differs::found(text).into_iter().map(move |(line, what)| format!("{file}:{line}: {what}"))
        });
        let differences = differ.take(Self::DIFFERENCES_MAX).collect();
        let (idle, revision) = (Mutex::new(Vec::new()), sources.revision());
        let engine = Self { rules, prototype, idle, reads, log_policy, revision, differences };
        let sample = input::sample();
        let decided = with_patience(|| engine.run(&sample));
        decided.map_err(|cause| LoadError::Sample { cause: cause.to_string() })?;
        Ok(engine)
    }

    /// The same, with the policy's own tests passed. How many there are.
    pub fn tested(sources: &PolicySources) -> Result<(Self, usize), LoadError> {
        Ok((Self::load(sources)?, test(sources)?))
    }

    /// The modules that must all allow, by name.
    pub fn modules(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rules| rules.name.as_str())
    }

    /// What an OPA server may answer otherwise, with file and line.
    pub(super) fn differences(&self) -> &[String] {
        &self.differences
    }

    /// Whether it takes microseconds, whatever the message: rules that ship, over little.
    pub fn is_quick(&self, question: &Question<'_>) -> bool {
        self.prototype.interpreted.is_none() && self.is_little(question)
    }

    /// Whether little is read.
    pub(super) fn is_little(&self, question: &Question<'_>) -> bool {
        let fields = self.reads.fields;
        let large = fields.contains(Fields::CONTENT) || fields.contains(Fields::METADATA);
        !large || question.size <= Self::QUICK_BYTES_MAX
    }

    /// `input` as JSON, of what is read of it.
    pub(super) fn input(&self, question: &Question<'_>) -> Result<Box<RawValue>, PolicyError> {
        let input = input::of(question, self.reads.fields);
        to_raw_value(&input).map_err(|cause| failed("the policy's input", cause))
    }

    /// Decides without waiting for anything but the processor.
    pub fn decide(&self, question: &Question<'_>) -> Result<Decision, PolicyError> {
        self.run(&input::of(question, self.reads.fields))
    }

    fn run(&self, input: &Value) -> Result<Decision, PolicyError> {
        let idle = self.idle.lock().pop();
        let mut evaluator = match idle {
            Some(evaluator) => evaluator,
            None => self.prototype.evaluator()?,
        };
        // An evaluator that panicked is dropped, and the panic is an error as any other.
        let (evaluator, decision) = catch_unwind(AssertUnwindSafe(move || {
            let decision = self.join(&mut evaluator, input);
            (evaluator, decision)
        }))
        .map_err(|_| failed("the policy", "regorus panicked"))?;
        let mut idle = self.idle.lock();
        if idle.len() < Self::IDLE_MAX {
            idle.push(evaluator);
        }
        drop(idle);
        decision
    }

    fn join(&self, evaluator: &mut Evaluator, input: &Value) -> Result<Decision, PolicyError> {
        let deadline = Deadline::start();
        evaluator.set_input(input);
        let mut denying = Vec::new();
        for module in &self.rules {
            // Only `true` allows: undefined, false and anything else deny.
            match evaluator.eval(&module.allow, &deadline)? {
                Value::Bool(true) => {}
                _ => denying.push(module),
            }
        }
        if denying.is_empty() {
            return self.oblige(evaluator, &deadline);
        }
        let mut reasons = Vec::new();
        for module in denying {
            let given = match &module.reasons {
                Some(rule) => evaluator.eval(rule, &deadline)?,
                None => Value::Undefined,
            };
            answer::reasons(&module.name, &given, &mut reasons);
        }
        reasons.sort();
        Ok(Decision::Denied { reasons })
    }

    fn oblige(&self, evaluator: &mut Evaluator, deadline: &Deadline) -> Result<Decision, PolicyError> {
        let mut joined = super::Obligations::default();
        let mut malformed = Vec::new();
        for module in &self.rules {
            let Some(rule) = &module.obligations else { continue };
            let given = evaluator.eval(rule, deadline)?;
            if answer::oblige(&mut joined, &module.name, &given).is_err() {
                malformed.push(answer::malformed(&module.name));
            }
        }
        Ok(match malformed.is_empty() {
            true => Decision::Allowed(joined),
            false => Decision::Denied { reasons: malformed },
        })
    }
}

/// Asks again where the processor was busy: a node that starts beside others is not to end for that.
fn with_patience<T>(mut ask: impl FnMut() -> Result<T, PolicyError>) -> Result<T, PolicyError> {
    for _ in 1..SAMPLES_MAX {
        match ask() {
            Err(PolicyError::TimedOut { .. }) => {}
            answer => return answer,
        }
    }
    ask()
}

#[async_trait]
impl PolicyEngine for RegoEngine {
    /// On the caller's thread; a runaway is stopped after [`RegoEngine::TIME_MAX`]. A node asks through
    /// [`super::OffRuntime`].
    async fn evaluate(&self, question: &Question<'_>) -> Result<Decision, PolicyError> {
        self.decide(question)
    }

    fn revision(&self) -> &Arc<str> {
        &self.revision
    }

    fn reads(&self) -> Reads {
        self.reads
    }

    fn log_policy(&self) -> Option<Arc<LogPolicy>> {
        self.log_policy.clone()
    }
}

impl Prototype {
    fn evaluator(&self) -> Result<Evaluator, PolicyError> {
        let vm = match &self.compiled {
            Some((policy, program)) => {
                let mut vm = RegoVM::new_with_policy(policy.clone());
                vm.load_program(Arc::clone(program));
                vm.set_data(Value::new_object())
                    .map_err(|cause| broken(format!("the shipped policy: {cause}")))?;
                vm.set_max_instructions(RegoEngine::INSTRUCTIONS_MAX);
                vm.set_execution_timer_config(Some(timer()));
                Some(vm)
            }
            None => None,
        };
        Ok(Evaluator { vm, engine: self.interpreted.clone() })
    }
}

impl Evaluator {
    fn set_input(&mut self, input: &Value) {
        if let Some(vm) = &mut self.vm {
            vm.set_input(input.clone());
        }
        if let Some(engine) = &mut self.engine {
            engine.set_input(input.clone());
        }
    }

    fn eval(&mut self, rule: &Rule, deadline: &Deadline) -> Result<Value, PolicyError> {
        deadline.check(rule)?;
        let answer = match (rule, &mut self.vm, &mut self.engine) {
            (Rule::Compiled { entry, .. }, Some(vm), _) => {
                vm.execute_entry_point_by_index(*entry).map_err(|cause| cause.to_string())
            }
            (Rule::Interpreted { path }, _, Some(engine)) => {
                engine.eval_rule(path.clone()).map_err(|cause| cause.to_string())
            }
            // Unknown never allows.
            (Rule::Compiled { .. }, None, _) | (Rule::Interpreted { .. }, _, None) => {
                return Err(broken(format!("nothing to run {} with", rule.path())));
            }
        };
        answer.map_err(|cause| deadline.blames(rule, cause))
    }
}

/// The time limit of one decision, looked at between rules; within a rule, regorus does.
struct Deadline {
    started: Instant,
    /// By the processor's clock, of this thread.
    spent: Duration,
}

impl Deadline {
    fn start() -> Self {
        Self { started: Instant::now(), spent: spent() }
    }

    /// Who has had the processor for a good part of the time is slow by itself; else the machine is.
    fn check(&self, rule: &Rule) -> Result<(), PolicyError> {
        let limit = RegoEngine::TIME_MAX;
        if self.started.elapsed() < limit {
            return Ok(());
        }
        let spent = spent().saturating_sub(self.spent);
        Err(match spent < RegoEngine::SPENT_MAX {
            true => PolicyError::TimedOut { limit },
            false => failed(rule.path(), format!("no decision within {limit:?}, {spent:?} of it computing")),
        })
    }

    /// Why a rule came to nothing: it was late, or what regorus says.
    fn blames(&self, rule: &Rule, cause: impl ToString) -> PolicyError {
        match self.check(rule) {
            Err(late) => late,
            Ok(()) => failed(rule.path(), load::told(cause)),
        }
    }
}

/// The processor time that this thread has taken.
fn spent() -> Duration {
    Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime)).unwrap_or_default()
}

fn timer() -> ExecutionTimerConfig {
    const CHECK_INTERVAL: NonZeroU32 = NonZeroU32::MIN.saturating_add(255);
    ExecutionTimerConfig { limit: RegoEngine::TIME_MAX, check_interval: CHECK_INTERVAL }
}

fn failed(rule: &str, cause: impl ToString) -> PolicyError {
    PolicyError::Failed { rule: rule.to_owned(), cause: cause.to_string() }
}

fn broken(cause: String) -> PolicyError {
    PolicyError::Broken { cause }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_busy_processor_is_no_fault_of_the_policy_at_the_start_and_any_other_error_is() {
        let late = || Err(PolicyError::TimedOut { limit: RegoEngine::TIME_MAX });
        let asked = |answers: usize, then: fn() -> Result<(), PolicyError>| {
            let mut count = 0;
            let answer = with_patience(|| {
                count += 1;
                if count > answers { then() } else { late() }
            });
            (count, answer.is_ok())
        };
        assert_eq!(asked(0, || Ok(())), (1, true));
        assert_eq!(asked(3, || Ok(())), (4, true));
        assert_eq!(asked(usize::MAX, || Ok(())), (SAMPLES_MAX, false));
        assert_eq!(asked(1, || Err(failed("a rule", "a cause"))), (2, false));
    }

    /// When this fails, the operator's modules may run as bytecode too.
    #[test]
    fn bytecode_still_allows_after_an_undefined_assignment_where_the_interpreter_denies() {
        const PATH: &str = "data.own.allow";
        let module = "package own\nallow if { amount := input.absent; not amount > 10 }\n";
        let mut engine = Engine::new();
        engine.add_policy("own.rego".to_owned(), module.to_owned()).unwrap();
        engine.set_input(Value::new_object());
        assert_eq!(engine.eval_rule(PATH.to_owned()).unwrap(), Value::Undefined);

        let policy = engine.compile_with_entrypoint(&PATH.into()).unwrap();
        let program = Compiler::compile_from_policy(&policy, &[PATH]).unwrap();
        let prototype = Prototype { compiled: Some((policy, program)), interpreted: None };
        let mut evaluator = prototype.evaluator().unwrap();
        evaluator.set_input(&Value::new_object());
        let rule = Rule::Compiled { path: PATH.to_owned(), entry: 0 };
        assert_eq!(evaluator.eval(&rule, &Deadline::start()).unwrap(), Value::Bool(true));
    }

    #[test]
    fn a_decision_that_computes_all_the_time_fails_and_one_that_waits_for_the_processor_is_late() {
        let rule = Rule::Interpreted { path: "data.slow.allow".to_owned() };
        let over = |deadline: &Deadline| deadline.started.elapsed() >= RegoEngine::TIME_MAX;
        let computing = Deadline::start();
        assert_eq!(computing.check(&rule), Ok(()));
        while !over(&computing) || spent() < computing.spent + RegoEngine::SPENT_MAX {}
        match computing.check(&rule) {
            Err(PolicyError::Failed { rule, cause }) => {
                assert!(
                    rule == "data.slow.allow" && cause.starts_with("no decision within 100ms"),
                    "{cause}"
                );
            }
            other => panic!("{other:?}"),
        }
        let waiting = Deadline::start();
        std::thread::sleep(RegoEngine::TIME_MAX);
        assert_eq!(waiting.check(&rule), Err(PolicyError::TimedOut { limit: RegoEngine::TIME_MAX }));
    }
}
