//! `ask`, and the answers that this node waits for: a subject of its own, with a token of its own.
//!
//! Nothing here is bounded by the intake: a question that waits has given its place there back, and only
//! an answer that a waiting question takes is worked on.

use std::{sync::Arc, time::Instant};

use async_nats::{Message as NatsMessage, Subject, Subscriber};
use futures_util::StreamExt as _;
use tokio::sync::OwnedSemaphorePermit;

use super::{Bus, QUIET, subjects};
use crate::{
    domain::Verb,
    pipeline::{Ask, Heard, Request},
    shutdown::Shutdown,
    tenants::names,
    wire,
};

impl Bus {
    /// Questions, to the end: until the asker has the answer, or hears why there is none.
    pub(super) async fn ask(
        &self,
        request: Request,
        reply: Subject,
        slot: OwnedSemaphorePermit,
        shutdown: &Shutdown,
    ) {
        let received = request.received;
        let Heard { answer, message } = match self.pipeline.ask(request).await {
            Ask::Told(answer) => Heard { answer: *answer, message: None },
            Ask::Waits(waiting) => {
                drop(slot);
                waiting.heard(&self.pipeline, shutdown.requested()).await
            }
        };
        self.micro.count(Verb::Ask, answer.verdict.reason.code() >= 300, received.elapsed());
        let payload = wire::encode_asked(&answer.verdict, message.as_deref(), answer.encoding);
        self.verdict(reply, &answer, payload.into()).await;
    }

    /// Subscribes to the answers to this node's questions, and serves them until nobody waits for one.
    pub(super) async fn start_answers(
        self: &Arc<Self>,
        shutdown: &Shutdown,
    ) -> Result<(), async_nats::SubscribeError> {
        let subject = names::answers_to(self.pipeline.questions.node());
        let answers = self.client.queue_subscribe(subject, names::NODES_QUEUE.to_owned()).await?;
        shutdown.tracker().spawn(Arc::clone(self).serve_answers(answers, shutdown.clone()));
        Ok(())
    }

    async fn serve_answers(self: Arc<Self>, mut answers: Subscriber, shutdown: Shutdown) {
        loop {
            let answer = tokio::select! {
                answer = answers.next() => answer,
                // The last questions are on their way in for as long as requests still come.
                () = self.nobody_waits(&shutdown) => break,
            };
            let Some(answer) = answer else { return };
            self.take_answer(answer, &shutdown);
        }
        let _ = answers.unsubscribe().await;
    }

    async fn nobody_waits(&self, shutdown: &Shutdown) {
        shutdown.requested().await;
        loop {
            tokio::time::sleep(2 * QUIET).await;
            if self.pipeline.questions.waiting() == 0 {
                return;
            }
        }
    }

    /// Looks in memory whether the answer is waited for; never waits itself.
    fn take_answer(self: &Arc<Self>, message: NatsMessage, shutdown: &Shutdown) {
        if message.headers.as_ref().is_some_and(|headers| headers.get("Agentbus-Verdict").is_some()) {
            // Somebody let the server route a verdict here.
            tracing::warn!("a verdict came as an answer and was dropped");
            return;
        }
        let (tenant, sender, token) = match subjects::answer(&message.subject) {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(%error, "answer on a malformed subject dropped");
                return;
            }
        };
        let asked = self.pipeline.questions.take(&tenant, &sender, token);
        let traceparent = message.headers.as_ref().and_then(|headers| headers.get("traceparent"));
        let request = Request {
            tenant,
            sender,
            payload: message.payload.clone(),
            traceparent: traceparent.map(|value| value.as_str().to_owned()),
            received: Instant::now(),
        };
        let (bus, reply) = (Arc::clone(self), message.reply);
        match (asked, reply) {
            (Some(asked), reply) => {
                shutdown.tracker().spawn(async move {
                    let received = request.received;
                    let task = bus.pipeline.answer(request, asked);
                    let answer = bus.pipeline.metrics.polls.watch(Verb::Answer.as_str(), task).await;
                    let error = answer.verdict.reason.code() >= 300;
                    bus.micro.count(Verb::Answer, error, received.elapsed());
                    if let Some(reply) = reply {
                        bus.answer(reply, &answer).await;
                    }
                });
            }
            (None, Some(reply)) => {
                let Ok(slot) = Arc::clone(&self.shedding).try_acquire_owned() else {
                    self.pipeline.metrics.requests_unanswered.inc();
                    return;
                };
                let answer = self.pipeline.not_asked(&request);
                self.micro.count(Verb::Answer, true, request.received.elapsed());
                shutdown.tracker().spawn(async move {
                    bus.answer(reply, &answer).await;
                    drop(slot);
                });
            }
            (None, None) => {
                let _ = self.pipeline.not_asked(&request);
                self.micro.count(Verb::Answer, true, request.received.elapsed());
            }
        }
    }
}
