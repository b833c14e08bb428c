//! Would another policy do? It is asked what was asked of late, beside the one in force, and nothing follows from
//! its answers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{InForce, PolicyEngine, PolicyError, owned::Owned};

/// For all questions together: a policy that is slow within its bounds is not tried on all of them.
const TRIED_WITHIN: Duration = Duration::from_secs(5);

/// What came of asking both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Trial {
    /// Questions of late that it gave an answer to.
    pub tried: usize,
    /// Of these, answered otherwise than by the policy in force.
    pub changed: usize,
}

/// Asks both. An error is of a rule that fails where the one in force has an answer.
pub(super) async fn run(
    candidate: &dyn PolicyEngine,
    in_force: &InForce,
    questions: &[Arc<Owned>],
) -> Result<Trial, PolicyError> {
    let (mut trial, started) = (Trial::default(), Instant::now());
    for owned in questions {
        if started.elapsed() >= TRIED_WITHIN {
            break;
        }
        let question = owned.ask();
        let answer = match candidate.evaluate(&question).await {
            Ok(answer) => answer,
            // The processor was busy, or a server away, which is no fault of the policy.
            Err(
                PolicyError::TimedOut { .. }
                | PolicyError::Busy { .. }
                | PolicyError::Unanswered { .. }
                | PolicyError::BreakerOpen { .. },
            ) => continue,
            Err(failed @ (PolicyError::Failed { .. } | PolicyError::Broken { .. })) => {
                if in_force.0.evaluate(&question).await.is_ok() {
                    return Err(failed);
                }
                continue;
            }
        };
        trial.tried += 1;
        let before = in_force.0.evaluate(&question).await;
        trial.changed += usize::from(before.is_ok_and(|before| before != answer));
    }
    Ok(trial)
}
