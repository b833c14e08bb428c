//! The fast lane: a message goes into live inboxes now, and its sender waits for the verdict.

use std::time::Instant;

use super::{
    attempt::Attempt,
    findings::Outcome,
    measured,
    parts::Lanes,
    request::{Answer, Request},
};
use crate::{
    domain::{Reason, Verb},
    governance::{Purpose, RetryMode},
    rejection::Rejection,
};

impl Lanes {
    /// Governs one message: exactly one verdict, recorded, whatever happens on the way.
    pub async fn send(&self, request: Request) -> Answer {
        let began = Instant::now();
        let mut attempt = Attempt::begin_in_turn(self, &request, self.limits.deadline);
        let governed = attempt.envelope().run(attempt.send()).await;
        let answer = attempt.finish(Verb::Send, governed);
        if measured::tells_load(&answer) {
            // One that was late before it began has taken all the time that it had.
            let took = match answer.verdict.reason {
                Reason::TimedOut => began.elapsed().max(self.limits.deadline),
                _ => began.elapsed(),
            };
            request.place.took(took, Instant::now());
        }
        answer
    }
}

impl Attempt<'_> {
    async fn send(&mut self) -> Result<Outcome, Rejection> {
        let admitted = self.admit()?;
        let decoded = self.decode(admitted).await?;
        // A repeat gets its stored verdict, also when the judgement would be another by now.
        let plan = self.judge(&decoded, Purpose::of(RetryMode::Sender)).await;
        if let Some(earlier) = self.claim(&decoded, &plan).await? {
            return Ok(earlier);
        }
        self.commit(&decoded, plan?).await
    }
}
