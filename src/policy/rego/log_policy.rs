//! What of a decision may be logged? The package `system.log` of the operator's, with the rules that OPA knows.

use parking_lot::Mutex;
use regorus::{Engine, Value};
use serde_json::Value as Json;

use super::{Deadline, Rule, failed, with_patience};
use crate::policy::PolicyError;

/// Asked by the thread that writes the log, and by the one of a shadow: neither waits for the other.
pub struct LogPolicy {
    prototype: Engine,
    idle: Mutex<Vec<Engine>>,
    masks: bool,
    drops: bool,
}

impl LogPolicy {
    pub(super) const PACKAGE: &str = "data.system.log";
    /// Says what is taken out of an event.
    pub(super) const MASK: &str = "mask";
    /// `true`: an event is not logged at all.
    pub(super) const DROP: &str = "drop";
    /// One for each thread that asks.
    const IDLE_MAX: usize = 2;

    /// With which of the rules it defines.
    pub(super) fn new(engine: Engine, masks: bool, drops: bool) -> Self {
        Self { prototype: engine, idle: Mutex::default(), masks, drops }
    }

    /// What is to be masked of it: a list.
    pub fn masks(&self, event: &Json) -> Result<Json, PolicyError> {
        let masks = if self.masks { self.eval(Self::MASK, event)? } else { Value::Undefined };
        match masks {
            Value::Undefined => Ok(Json::Array(Vec::new())),
            masks => serde_json::to_value(masks).map_err(|cause| failed(Self::MASK, cause)),
        }
    }

    pub fn drops(&self, event: &Json) -> Result<bool, PolicyError> {
        Ok(self.drops && self.eval(Self::DROP, event)? == Value::Bool(true))
    }

    fn eval(&self, rule: &str, event: &Json) -> Result<Value, PolicyError> {
        let idle = self.idle.lock().pop();
        let mut engine = idle.unwrap_or_else(|| self.prototype.clone());
        engine.set_input(Value::from(event.clone()));
        let path = format!("{}.{rule}", Self::PACKAGE);
        let rule = Rule::Interpreted { path: path.clone() };
        let answer = with_patience(|| {
            let deadline = Deadline::start();
            engine.eval_rule(path.clone()).map_err(|cause| deadline.blames(&rule, cause))
        });
        let mut idle = self.idle.lock();
        if idle.len() < Self::IDLE_MAX {
            idle.push(engine);
        }
        answer
    }
}
