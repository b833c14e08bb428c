//! The durable lane, first half: refuses what can be refused at once, and queues the rest.

use super::{
    attempt::Attempt,
    findings::Outcome,
    parts::Lanes,
    request::{Answer, Request},
};
use crate::{domain::Verb, rejection::Rejection};

impl Lanes {
    /// Keeps a message to be governed by [`Lanes::drain`].
    pub async fn submit(&self, request: Request) -> Answer {
        let mut attempt = Attempt::begin(self, &request, self.limits.deadline);
        let governed = attempt.envelope().run(attempt.submit()).await;
        attempt.finish(Verb::Submit, governed)
    }
}

impl Attempt<'_> {
    async fn submit(&mut self) -> Result<Outcome, Rejection> {
        let admitted = self.admit()?;
        let decoded = self.decode(admitted).await?;
        self.check(&decoded)?;
        self.queue(&decoded).await
    }
}
