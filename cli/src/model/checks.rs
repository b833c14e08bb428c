//! What was looked at, and whether it was right.

use std::process::ExitCode;

use crate::output::OutputError;

#[derive(Default)]
pub(super) struct Checks {
    failed: usize,
}

impl Checks {
    pub(super) fn check(&mut self, what: &str, found: Result<String, String>) -> Result<(), OutputError> {
        match found {
            Ok(fact) => sayln!("ok      {what}: {fact}"),
            Err(fault) => {
                self.failed += 1;
                sayln!("FAILED  {what}: {fault}")
            }
        }
    }

    pub(super) fn conclude(&self, model: &str) -> anyhow::Result<ExitCode> {
        if self.failed == 0 {
            sayln!("ok: {model}")?;
            return Ok(ExitCode::SUCCESS);
        }
        sayln!("failed: {} of the checks above; do not score with this model", self.failed)?;
        Ok(ExitCode::FAILURE)
    }
}
