//! `ask`, and the answers that this node waits for: a subject of its own, with a token of its own.
//!
//! Nothing here is bounded by the intake: a question that waits has given its place there back, and only
//! an answer that a waiting question takes is worked on.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Bus,
    intake::{Incoming, Took},
    subjects,
};
use crate::{
    domain::Verb,
    lanes::{Ask, Heard, Request},
    overload::Place,
    shutdown::Shutdown,
    wire,
};

/// How often a node that stops looks whether somebody still waits for an answer.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Bus {
    /// Questions, to the end: until the asker has the answer, or hears why there is none.
    pub(super) async fn ask(&self, request: Request, reply: Bytes, shutdown: &Shutdown) {
        let received = request.received;
        let Heard { answer, message } = match self.lanes.ask(request).await {
            Ask::Told(answer) => Heard { answer: *answer, message: None },
            // By now others are worked on in its place.
            Ask::Waits(waiting) => waiting.heard(&self.lanes, shutdown.requested()).await,
        };
        self.micro.count(Verb::Ask, answer.verdict.reason.code() >= 300, received.elapsed());
        let payload = wire::encode_asked(&answer.verdict, message.as_deref(), answer.encoding);
        self.verdict(&reply, &answer, &payload);
    }

    /// The last questions are on their way in for as long as requests still come, or wait to begin.
    pub(super) async fn nobody_waits(&self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if self.lanes.questions.waiting() == 0 && self.gates().0 == 0 {
                return;
            }
        }
    }

    /// Looks in memory whether the answer is waited for; never waits itself.
    pub(super) fn take_answer(self: &Arc<Self>, message: &Incoming, shutdown: &Shutdown) -> Took {
        let Some(traceparent) = self.trace(Verb::Answer.as_str(), message) else { return Took::Little };
        let subject = message.subject();
        let (tenant, sender, token) = match subjects::answer(&subject) {
            Ok(answer) => answer,
            Err(error) => {
                self.lanes.metrics.nats.malformed();
                tracing::debug!(%error, "answer on a malformed subject dropped");
                return Took::Little;
            }
        };
        let asked = self.lanes.questions.take(&tenant, &sender, token);
        let request = Request {
            tenant,
            sender,
            payload: message.payload.clone(),
            traceparent,
            received: Instant::now(),
            place: Place::default(),
        };
        let (bus, reply) = (Arc::clone(self), message.reply.clone());
        match (asked, reply) {
            (Some(asked), reply) => {
                shutdown.tracker().spawn(async move {
                    let received = request.received;
                    let task = bus.lanes.answer(request, asked);
                    let answer = bus.lanes.metrics.polls.watch(Verb::Answer.as_str(), task).await;
                    let error = answer.verdict.reason.code() >= 300;
                    bus.micro.count(Verb::Answer, error, received.elapsed());
                    if let Some(reply) = reply {
                        bus.answer(&reply, &answer);
                    }
                });
                Took::Work
            }
            (None, reply) => {
                let answer = self.lanes.not_asked(&request);
                self.micro.count(Verb::Answer, true, request.received.elapsed());
                if let Some(reply) = reply {
                    self.answer(&reply, &answer);
                }
                Took::Refused(None)
            }
        }
    }
}
