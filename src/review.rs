//! What is asked of the bus besides sending? Agents register and find others; reviewers look at what waits for them,
//! and vote; operators look after dead letters, and at what was judged. And what follows from reviews by itself: deadlines, decisions carried
//! out, thresholds that learn. Who changes the registry, or gives up a dead letter, leaves a record.
//!
//! Knows nothing of NATS: a request is bytes with a sender, whoever brings it, what is kept is behind a trait, and each
//! use case stands by itself for who has its words already.

use std::{future::Future, time::Duration};

use crate::{
    domain::{Reason, Verb},
    lanes::Request,
    rejection::Rejection,
    telemetry::Metrics,
};

mod about;
mod agents;
mod dead_letters;
mod deadlines;
mod judgements;
mod parked;
mod registrations;
mod reviewers;
mod single_flight;
mod teaching;
#[cfg(test)]
mod testing;
mod thresholds;

pub use about::About;
pub use agents::Agents;
pub use dead_letters::{
    Address, DeadLetterError, DeadLetterStore, DeadLetters, LETTERS_MAX, Letter, Operator, Redriven,
};
pub use deadlines::{Deadlines, Next, Release};
pub use judgements::{Decided, JUDGEMENTS_MAX, Judged, JudgementError, JudgementStore, Judgements};
pub use registrations::Registrations;
pub use reviewers::{Reviewers, Voted};
pub use single_flight::SingleFlight;
pub use thresholds::{AllTenants, LearnedError, LearnedStore, Thresholds, Version, Written};

/// Acts on a request that is not a message within its deadline, and counts how that ended.
async fn answered<T>(
    verb: Verb,
    request: &Request,
    acting: impl Future<Output = Result<T, Rejection>>,
    deadline: Duration,
    metrics: &Metrics,
) -> (Result<T, Rejection>, Reason) {
    let outcome = tokio::time::timeout(deadline, acting).await.unwrap_or_else(|_| {
        let limit = deadline.as_millis();
        Err(Rejection::new(Reason::TimedOut, format!("not done within {limit} ms")))
    });
    let elapsed = request.received.elapsed();
    match &outcome {
        Ok(_) => metrics.done(verb, elapsed),
        Err(rejection) => metrics.answered(verb, (rejection.status(), rejection.reason), elapsed, None),
    }
    let reason = outcome.as_ref().err().map_or(Reason::Delivered, |rejection| rejection.reason);
    (outcome, reason)
}
