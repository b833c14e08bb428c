//! Answers to questions: governed like any message, and given to who waits in this process.

use std::time::Duration;

use super::{
    attempt::Attempt,
    findings::Outcome,
    live::Delivery,
    parts::Lanes,
    questions::{Asked, Expected, Given},
    request::{Answer, Request},
};
use crate::{
    domain::{AgentId, Message, Reason, Recipient, Status, Verb, Verdict},
    governance::{Admitted, Decoded, Effect, Plan, Purpose, RetryMode},
    rejection::Rejection,
};

/// Times that an answer is judged while the judgement cannot be had: nobody says it again.
const JUDGED_MAX: usize = 3;
/// Between two of these, and between two looks for a place in flight for an answer.
const TRY_AGAIN: Duration = Duration::from_millis(20);

impl Lanes {
    /// Governs the answer to a question and gives it to the asker. The answer's own verdict.
    pub async fn answer(&self, request: Request, asked: Asked) -> Answer {
        let mut attempt = Attempt::begin(self, &request, self.limits.deadline);
        let governed = attempt.envelope().run(attempt.hear(&asked.expected)).await;
        match governed {
            Ok((outcome, Some(delivery))) => {
                let heard = asked.give(Given::Answer(Box::new(delivery)));
                attempt.finish(Verb::Answer, heard.then_some(outcome).ok_or_else(nobody_waits))
            }
            governed => {
                let answer = attempt.conclude(governed.map(|(outcome, _)| outcome));
                asked.give(Given::Refused(refused(&request.sender, &answer)));
                attempt.observed(Verb::Answer, answer)
            }
        }
    }

    /// For an answer to nothing that waits: told so, undecoded.
    pub fn not_asked(&self, request: &Request) -> Answer {
        self.refuse(Verb::Answer, request, nobody_waits())
    }
}

impl Attempt<'_> {
    async fn hear(&mut self, expected: &Expected) -> Result<(Outcome, Option<Delivery>), Rejection> {
        let admitted = self.admit_when_there_is_room().await?;
        let decoded = self.decode(admitted).await?;
        fits(decoded.message(), expected)?;
        self.useful(decoded.message(), expected.until);
        self.follows.question = Some(expected.question.clone());
        let plan = self.judge_until_clear(&decoded).await;
        if let Some(earlier) = self.claim(&decoded, &plan).await? {
            return Ok((earlier, None));
        }
        match plan? {
            Plan { effect: Effect::Deliver(to), duties, .. } => {
                self.oblige(&decoded, &duties).await?;
                let (delivery, reach) = self.hand_back(&decoded, to, expected.encoding).await?;
                Ok((Outcome::Delivered(reach), Some(delivery)))
            }
            plan => Ok((self.commit(&decoded, plan).await?, None)),
        }
    }

    /// Outside of the tenant's rate, which the question has paid; and it comes only once, so it waits for its
    /// place, until the deadline.
    async fn admit_when_there_is_room(&mut self) -> Result<Admitted, Rejection> {
        loop {
            match self.admit_unrated() {
                Err(full) if full.reason == Reason::Overloaded => tokio::time::sleep(TRY_AGAIN).await,
                admitted => return admitted,
            }
        }
    }

    async fn judge_until_clear<'b>(&mut self, decoded: &'b Decoded) -> Result<Plan<'b>, Rejection> {
        for _ in 1..JUDGED_MAX {
            match self.judge(decoded, Purpose::of(RetryMode::Asker)).await {
                Err(passing) if passing.reason.retryable() => tokio::time::sleep(TRY_AGAIN).await,
                plan => return plan,
            }
        }
        self.judge(decoded, Purpose::of(RetryMode::Asker)).await
    }
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
