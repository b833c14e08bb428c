//! Questions and answers: both are governed like any message, and the asker hears the answer as the
//! reply.
//!
//! A question is claimed, recorded and delivered as by `send`, and then its claim is settled: a repeat
//! is not delivered again, whatever becomes of the answer. The answer is a message of its own, with its
//! own decision and record; its asker waits for it in this process.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tracing::Instrument as _;

use super::{
    Answer, Parcel, Pipeline, Request, deliver, once,
    questions::{Asked, Expected, Given, Open},
    trail::{self, Outcome, Trail},
};
use crate::{
    domain::{AgentId, Message, Reason, Recipient, Status, Verb, Verdict},
    governance::{Effect, Purpose, RetryMode},
    rejection::Rejection,
    telemetry::Stage,
    wire::Decoded,
};

/// How long a question still waits when its node is asked to stop.
const LAST_ANSWERS_WITHIN: Duration = Duration::from_secs(1);
/// Times that an answer is judged while the judgement cannot be had: nobody says it again.
const JUDGED_MAX: usize = 3;
/// Between two of these, and between two looks for a place in flight for an answer.
const TRY_AGAIN: Duration = Duration::from_millis(20);

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
    trail: Trail,
    delivered: Answer,
    until: Instant,
    within: Duration,
}

/// What the asker hears.
pub struct Heard {
    pub answer: Answer,
    /// The answer's message in the encoding of the question; there if, and only if, the verdict says
    /// delivered.
    pub message: Option<Bytes>,
}

impl Pipeline {
    /// Governs and delivers a question.
    pub async fn ask(&self, request: Request) -> Ask {
        let mut trail = Trail::start(&self.node, &request, self.limits.deadline, (self.clock)());
        let span = trail.span(&request.tenant);
        let putting = self.put(&request, &mut trail).instrument(span);
        let put = tokio::time::timeout(self.limits.deadline, putting).await;
        let (outcome, question) = match put.unwrap_or_else(|_| Err(trail::timed_out(self.limits.deadline))) {
            Ok((outcome, question)) => (Ok(outcome), question),
            Err(rejection) => (Err(rejection), None),
        };
        let answer = trail.answer(outcome);
        if !answer.repeat {
            trail.record(&request, &answer.verdict, &*self.courier, &self.metrics);
        }
        once::conclude(&self.idempotency, &self.tasks, &mut trail, &answer);
        match question {
            Some((open, until)) => {
                let within = self.questions.within();
                Ask::Waits(Box::new(Waiting { open, trail, delivered: answer, until, within }))
            }
            None => {
                let answer = without_answer(answer);
                trail.observe(&self.metrics, Verb::Ask, &answer);
                Ask::Told(Box::new(answer))
            }
        }
    }

    async fn put(
        &self,
        request: &Request,
        trail: &mut Trail,
    ) -> Result<(Outcome, Option<(Open, Instant)>), Rejection> {
        let (tenant, slot) = self.admission.admit(&*self.tenants, &request.tenant, &request.sender)?;
        trail.hold(slot);
        trail.passed(Stage::Admit);
        let decoded = tenant.decoded(self.read(request, trail, &self.limits.wire).await?)?;
        let letter = decoded.letter();
        let expected = expected(letter)?;
        trail.passed(Stage::Decode);

        let plan = self.judge(&decoded, trail, Purpose { mode: RetryMode::Sender, approval: None }).await;
        if let Some(earlier) = once::enter(self, letter, &plan, trail).await? {
            return Ok((earlier, None));
        }
        trail.passed(Stage::Claim);
        match plan?.effect {
            Effect::Deliver(to) => {
                let open = self.questions.open(expected)?;
                let reach = deliver::hand_over(self, to, letter, request, trail, Some(&open)).await?;
                trail.passed(Stage::Deliver);
                let until = self.until(decoded.message(), request.received, trail);
                Ok((Outcome::Delivered(reach), Some((open, until))))
            }
            Effect::Store(_) => Err(Rejection::new(
                Reason::PolicyDenied,
                "the policy lets this message go by the durable lane only, where no answer is waited for",
            )),
            Effect::Park(parking) => Ok((once::park(self, &parking, request, trail).await?, None)),
        }
    }

    /// Until when the answer is of use.
    fn until(&self, question: &Message, received: Instant, trail: &Trail) -> Instant {
        let until = received + self.questions.within();
        let left = question.expires_at.map(|expires_at| expires_at.0.saturating_sub(trail.now().0));
        left.map_or(until, |left| until.min(received + Duration::from_millis(left)))
    }

    /// Governs the answer to a question and gives it to the asker. The answer's own verdict.
    pub async fn answer(&self, request: Request, asked: Asked) -> Answer {
        let mut trail = Trail::start(&self.node, &request, self.limits.deadline, (self.clock)());
        let span = trail.span(&request.tenant);
        let governing = self.govern_answer(&request, &asked.expected, &mut trail).instrument(span);
        let governed = tokio::time::timeout(self.limits.deadline, governing).await;
        let governed = governed.unwrap_or_else(|_| Err(trail::timed_out(self.limits.deadline)));
        let answer = match governed {
            Ok((outcome, Some(parcel))) => match asked.give(Given::Answer(Box::new(parcel))) {
                true => trail.answer(Ok(outcome)),
                false => trail.answer(Err(nobody_waits())),
            },
            Ok((outcome, None)) => {
                let answer = trail.answer(Ok(outcome));
                asked.give(Given::Refused(refused(&request.sender, &answer)));
                answer
            }
            Err(rejection) => {
                let answer = trail.answer(Err(rejection));
                asked.give(Given::Refused(refused(&request.sender, &answer)));
                answer
            }
        };
        if !answer.repeat {
            trail.record(&request, &answer.verdict, &*self.courier, &self.metrics);
        }
        once::conclude(&self.idempotency, &self.tasks, &mut trail, &answer);
        trail.observe(&self.metrics, Verb::Answer, &answer);
        answer
    }

    async fn govern_answer(
        &self,
        request: &Request,
        expected: &Expected,
        trail: &mut Trail,
    ) -> Result<(Outcome, Option<Parcel>), Rejection> {
        // Outside of the tenant's rate, which the question has paid; and it comes only once, so it waits
        // for its place, until the deadline.
        let (tenant, slot) = loop {
            match self.admission.admit_unrated(&*self.tenants, &request.tenant, &request.sender) {
                Err(full) if full.reason == Reason::Overloaded => tokio::time::sleep(TRY_AGAIN).await,
                admitted => break admitted?,
            }
        };
        trail.hold(slot);
        trail.passed(Stage::Admit);
        let decoded = tenant.decoded(self.read(request, trail, &self.limits.wire).await?)?;
        let letter = decoded.letter();
        fits(decoded.message(), expected)?;
        trail.passed(Stage::Decode);

        let purpose = Purpose { mode: RetryMode::Asker, approval: None };
        let mut plan = self.judge(&decoded, trail, purpose).await;
        for _ in 1..JUDGED_MAX {
            match &plan {
                Err(passing) if passing.reason.retryable() => tokio::time::sleep(TRY_AGAIN).await,
                _ => break,
            }
            plan = self.judge(&decoded, trail, purpose).await;
        }
        if let Some(earlier) = once::enter(self, letter, &plan, trail).await? {
            return Ok((earlier, None));
        }
        trail.passed(Stage::Claim);
        match plan?.effect {
            Effect::Deliver(to) => {
                let encoding = expected.encoding;
                let (parcel, reach) = deliver::hand_back(self, to, letter, encoding, request, trail).await?;
                trail.passed(Stage::Deliver);
                Ok((Outcome::Delivered(reach), Some(parcel)))
            }
            Effect::Store(to) => Ok((self.store_recorded(to, letter, request, trail).await?, None)),
            Effect::Park(parking) => Ok((once::park(self, &parking, request, trail).await?, None)),
        }
    }

    /// For an answer to nothing that waits: told so, undecoded.
    pub fn not_asked(&self, request: &Request) -> Answer {
        let mut trail = Trail::start(&self.node, request, self.limits.deadline, (self.clock)());
        let answer = trail.answer(Err(nobody_waits()));
        trail.observe(&self.metrics, Verb::Answer, &answer);
        answer
    }
}

impl Waiting {
    /// Waits for the answer; when the node is to stop, only a moment longer.
    pub async fn heard(self, pipeline: &Pipeline, stop: impl Future<Output = ()>) -> Heard {
        let stopped = async {
            stop.await;
            tokio::time::sleep(LAST_ANSWERS_WITHIN).await;
        };
        let Waiting { open, mut trail, delivered, until, within } = self;
        let given = open.answer(until, stopped).await;
        trail.waited();
        let Answer { verdict, encoding, .. } = delivered;
        let told = |verdict| Answer { verdict, encoding, repeat: false };
        let elapsed = trail.elapsed();
        let (answer, message) = match given {
            Some(Given::Answer(parcel)) => (told(Verdict { elapsed, ..verdict }), Some(parcel.payload)),
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
        trail.observe(&pipeline.metrics, Verb::Ask, &answer);
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
fn expected(letter: &Decoded) -> Result<Expected, Rejection> {
    let message = &letter.message;
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
        encoding: letter.encoding,
    })
}

/// Whether it is an answer to this question, as far as it says so itself.
fn fits(answer: &Message, expected: &Expected) -> Result<(), Rejection> {
    let asker = &expected.asker;
    let wrong = match (&answer.to, &answer.in_reply_to) {
        (Recipient::Agent(to), _) if to != asker => {
            format!("found an answer to agent {to}, expected {asker}, who has asked")
        }
        (Recipient::Capability(_) | Recipient::Broadcast(_), _) => {
            format!("an answer goes to agent {asker}, who has asked, and to nobody else")
        }
        (_, Some(found)) if *found != expected.question => {
            format!("found in_reply_to {found}, the question is {}", expected.question)
        }
        _ if answer.message_type != expected.answer_type => {
            format!(
                "found message_type {}, this question takes a {}",
                answer.message_type, expected.answer_type
            )
        }
        _ => return Ok(()),
    };
    Err(Rejection::new(Reason::Malformed, wrong))
}

/// For the asker, why the answer does not come as the reply.
fn refused(agent: &AgentId, answer: &Answer) -> Rejection {
    let Verdict { status, reason, detail, deliberation_id, .. } = &answer.verdict;
    let detail = match (status, deliberation_id) {
        _ if answer.repeat => {
            format!(
                "{agent} answered with a message_id that it had used before ({reason})",
                reason = reason.as_str()
            )
        }
        (Status::Deliberating, Some(id)) => format!(
            "{agent} answered, and deliberation {id} comes first: {detail}; approved, the answer comes into \
             your durable inbox"
        ),
        (Status::Delivered, _) => {
            format!(
                "{agent} answered, and the policy sends the answer by the durable lane: it is in your inbox there"
            )
        }
        _ => format!("{agent} answered, and the answer was not let through ({}): {detail}", reason.as_str()),
    };
    Rejection::new(Reason::AnswerRejected, detail)
}

fn nobody_waits() -> Rejection {
    Rejection::new(Reason::NotAsked, "nobody waits for this answer of yours, or not any more")
}
