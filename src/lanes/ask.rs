//! Questions: governed and delivered as by `send`, and the asker hears the answer as the reply.
//!
//! A question is claimed, recorded and delivered, and then its claim is settled: a repeat is not delivered
//! again, whatever becomes of the answer. The answer is a message of its own, with its own decision and record;
//! its asker waits for it in this process.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    attempt::Attempt,
    findings::Outcome,
    measured::{self, Arrival, Measured},
    parts::Lanes,
    questions::{Expected, Given, Open},
    request::{Answer, Request},
    trace::Source,
};
use crate::{
    domain::{Reason, Recipient, Status, Verb, Verdict},
    governance::{Decoded, Effect, Plan, Purpose, RetryMode},
    rejection::Rejection,
    telemetry::Stage,
    trace::TraceId,
};

/// How long a question still waits when its node is asked to stop.
const LAST_ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// How far an `ask` is.
pub enum Ask {
    /// There is nothing to wait for.
    Told(Box<Answer>),
    /// The question is delivered.
    Waits(Box<Waiting>),
}

/// A delivered question and all that its verdict takes.
pub struct Waiting {
    open: Open,
    measured: Measured,
    delivered: Answer,
    until: Instant,
    within: Duration,
    /// The one that tells of it.
    trace: Option<TraceId>,
}

/// What the asker hears.
pub struct Heard {
    pub answer: Answer,
    /// The answer's message in the encoding of the question; there if, and only if, the verdict says
    /// delivered.
    pub message: Option<Bytes>,
}

impl Lanes {
    /// Governs and delivers a question.
    pub async fn ask(&self, request: Request) -> Ask {
        let mut attempt = Attempt::begin_in_turn(self, &request, self.limits.deadline);
        let governed = attempt.envelope().run(attempt.ask()).await;
        let (governed, question) = match governed {
            Ok((outcome, question)) => (Ok(outcome), question),
            Err(rejection) => (Err(rejection), None),
        };
        let delivered = attempt.conclude(governed);
        let used = measured::used(request.payload.len(), &delivered, Arrival::Now);
        self.usage.count(&request.tenant, &request.sender, attempt.now(), used);
        attempt.measured.passed(Stage::Record);
        let ended = (delivered.verdict.status, delivered.verdict.reason);
        let trace = attempt.end_trace(Source::Request(Verb::Ask), ended);
        let Attempt { measured, .. } = attempt;
        match question {
            Some((open, until)) => {
                let within = self.questions.within();
                Ask::Waits(Box::new(Waiting { open, measured, delivered, until, within, trace }))
            }
            None => {
                let answer = without_answer(delivered);
                measured.observe(&self.metrics, Verb::Ask, &answer, trace);
                Ask::Told(Box::new(answer))
            }
        }
    }
}

impl Attempt<'_> {
    async fn ask(&mut self) -> Result<(Outcome, Option<(Open, Instant)>), Rejection> {
        let admitted = self.admit()?;
        let decoded = self.decode(admitted).await?;
        let until = self.useful(decoded.message(), self.at.received + self.lanes.questions.within());
        let expected = expected(&decoded, until)?;
        let plan = self.judge(&decoded, Purpose::of(RetryMode::Questioner)).await;
        if let Some(earlier) = self.claim(&decoded, &plan).await? {
            return Ok((earlier, None));
        }
        match plan? {
            Plan { effect: Effect::Deliver(to), duties, .. } => {
                self.oblige(&decoded, &duties).await?;
                let open = self.lanes.questions.open(expected)?;
                let reach = self.deliver(&decoded, to, Some(&open)).await?;
                Ok((Outcome::Delivered(reach), Some((open, until))))
            }
            Plan { effect: Effect::Store(_), duties, .. } => {
                self.refuse_the_stopped(&decoded, &duties)?;
                let detail =
                    "the policy lets this message go by the durable lane only, where no answer is waited for";
                Err(Rejection::new(Reason::PolicyDenied, detail))
            }
            parked => Ok((self.commit(&decoded, parked).await?, None)),
        }
    }
}

impl Waiting {
    /// Waits for the answer; when the node is to stop, only a moment longer.
    pub async fn heard(self, lanes: &Lanes, stop: impl Future<Output = ()>) -> Heard {
        let stopped = async {
            stop.await;
            tokio::time::sleep(LAST_ANSWERS_WITHIN).await;
        };
        let Waiting { open, measured, delivered, until, within, trace } = self;
        let given = open.answer(until, stopped).await;
        let Answer { verdict, encoding, .. } = delivered;
        let told = |verdict| Answer { verdict, encoding, repeat: false };
        let elapsed = measured.elapsed();
        let (answer, message) = match given {
            Some(Given::Answer(delivery)) => (told(Verdict { elapsed, ..verdict }), Some(delivery.payload)),
            Some(Given::Refused(rejection)) => {
                (told(instead(verdict, rejection.reason, rejection.detail, elapsed)), None)
            }
            None => {
                let detail = match Instant::now() < until {
                    true => "the node that waited for the answer had to stop".to_owned(),
                    false => format!("no answer within {} ms", within.min(elapsed).as_millis()),
                };
                let detail = format!("{}, and {detail}; it is not delivered again", verdict.detail);
                (told(instead(verdict, Reason::Unanswered, detail, elapsed)), None)
            }
        };
        measured.observe(&lanes.metrics, Verb::Ask, &answer, trace);
        Heard { answer, message }
    }
}

/// The verdict of a question that was delivered, and whose answer did not come: to whom it went stays.
fn instead(delivered: Verdict, reason: Reason, detail: String, elapsed: Duration) -> Verdict {
    let retryable = reason.retryable();
    Verdict { status: Status::Rejected, reason, detail, retryable, elapsed, ..delivered }
}

/// A repeat of a question that was delivered: nobody but its first attempt hears the answer.
fn without_answer(answer: Answer) -> Answer {
    if answer.verdict.status != Status::Delivered {
        return answer;
    }
    let detail = format!(
        "{}, before: the answer, if one came, went to the first attempt; it is not delivered again",
        answer.verdict.detail
    );
    let elapsed = answer.verdict.elapsed;
    Answer { verdict: instead(answer.verdict, Reason::Unanswered, detail, elapsed), ..answer }
}

/// Whether it can be asked, and what its answer must be.
fn expected(decoded: &Decoded, until: Instant) -> Result<Expected, Rejection> {
    let message = decoded.message();
    let answer_type = message.message_type.answered_by().ok_or_else(|| {
        Rejection::new(
            Reason::Malformed,
            format!(
                "found message_type {}, only query, task_request and governance_request can be asked",
                message.message_type
            ),
        )
    })?;
    match &message.to {
        Recipient::Agent(_) | Recipient::Capability(_) => {}
        Recipient::Broadcast(_) => {
            return Err(Rejection::new(
                Reason::Malformed,
                "found a broadcast, a question goes to one agent or one holder of a capability",
            ));
        }
    }
    Ok(Expected {
        tenant: message.tenant.clone(),
        asker: message.sender.clone(),
        question: message.id.clone(),
        answer_type,
        until,
        encoding: decoded.body().encoding,
    })
}
