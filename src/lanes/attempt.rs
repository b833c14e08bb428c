//! One attempt at a verdict: its deadline and span, its timings, its answer, and what is recorded of it.
//!
//! The envelope of every lane, written once: [`Attempt::begin`], [`Envelope::run`], [`Attempt::finish`].

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tracing::Instrument as _;

use super::{
    admission::Slot,
    claim::{Claimed, is_lasting},
    findings::{Findings, Outcome},
    follows::Follows,
    journal::Journal,
    measured::{self, Arrival, Measured, Moment},
    parts::Lanes,
    request::{Answer, Request},
    trace::{Source, Traced},
    turns::Turns,
};
use crate::{
    audit,
    domain::{AgentId, Freeze, Message, Reach, Reason, Tenant, Timestamp, Verb, Verdict},
    fault_points::{self, Step},
    governance::Admitted,
    impact::Observation,
    policy::InForce,
    rejection::Rejection,
    telemetry::Stage,
    wire,
};

/// What an attempt holds, each part with a job of its own.
pub(super) struct Attempt<'a> {
    pub lanes: &'a Lanes,
    pub request: &'a Request,
    pub at: Moment,
    pub measured: Measured,
    pub findings: Findings<'a>,
    /// By which it is judged, from its first question to its last.
    pub policy: Arc<InForce>,
    pub claim: Option<Claimed>,
    pub follows: Follows,
    /// [`super::Evidence::last`], as far as it is known.
    pub stored_last: u64,
    pub sender: Counting,
    /// Its sender, where the policy stops it: once the verdict stands.
    pub stops: Option<Box<Freeze>>,
    /// Where traces are exported.
    pub traced: Option<Box<Traced>>,
    /// Of a question or an answer, when it is of no use any more.
    useful_until: Option<Instant>,
    /// When its sender is told that it timed out.
    deadline: Arc<Mutex<Instant>>,
    journal: Journal,
    slot: Option<Slot>,
}

/// How the message will count for its sender.
#[derive(Default)]
pub(super) struct Counting {
    /// Until it counts.
    pub observation: Option<Observation>,
    /// What is counted with it.
    pub semantic: Option<f64>,
}

/// How long governing may take, and where what is logged meanwhile belongs.
pub(super) struct Envelope {
    received: Instant,
    deadline: Arc<Mutex<Instant>>,
    span: tracing::Span,
}

impl Envelope {
    /// Governs, within the deadline.
    pub(super) fn run<T>(
        self,
        governing: impl Future<Output = Result<T, Rejection>>,
    ) -> impl Future<Output = Result<T, Rejection>> {
        let (received, deadline) = (self.received, Arc::clone(&self.deadline));
        self.run_or(governing, move || timed_out(*deadline.lock() - received))
    }

    /// The same, for which it says itself what it means to be late.
    ///
    /// In a box, and no async function: each would hold the whole of what it is given once more.
    pub(super) fn run_or<T>(
        self,
        governing: impl Future<Output = Result<T, Rejection>>,
        late: impl FnOnce() -> Rejection,
    ) -> impl Future<Output = Result<T, Rejection>> {
        let (governing, deadline) = (Box::pin(governing.instrument(self.span)), self.deadline);
        async move {
            // It may have waited for its turn until then, or for a thread that did something else.
            if Instant::now() >= *deadline.lock() {
                return Err(late());
            }
            tokio::select! {
                biased;
                governed = governing => governed,
                () = passed(deadline) => Err(late()),
            }
        }
    }
}

/// Waits for the deadline. It is moved by what is governed, in the same task, so each poll sees where it is now.
async fn passed(deadline: Arc<Mutex<Instant>>) {
    let until = || tokio::time::Instant::from_std(*deadline.lock());
    let mut sleep = pin!(tokio::time::sleep_until(until()));
    poll_fn(|context| {
        let until = until();
        if sleep.deadline() != until {
            sleep.as_mut().reset(until);
        }
        sleep.as_mut().poll(context)
    })
    .await;
}

impl<'a> Attempt<'a> {
    /// One whose record stands with those of its turn.
    pub(super) fn begin_in_turn(lanes: &'a Lanes, request: &'a Request, within: Duration) -> Self {
        Self::begin(lanes, request, within).in_turn(&lanes.turns)
    }

    pub(super) fn in_turn(self, turns: &Turns) -> Self {
        let findings = self.findings.named(turns.next(self.request.received));
        Self { findings, ..self }
    }

    pub(super) fn begin(lanes: &'a Lanes, request: &'a Request, within: Duration) -> Self {
        let received = request.received;
        let at = Moment { received, now: (lanes.clock)() };
        Self {
            lanes,
            request,
            at,
            measured: Measured::since(received),
            findings: Findings::new(&lanes.node, at, wire::encoding_of(&request.payload)),
            policy: lanes.gate.in_force(),
            claim: None,
            follows: Follows::default(),
            stored_last: 0,
            sender: Counting::default(),
            stops: None,
            traced: Traced::begun(lanes.tracer.as_deref(), request),
            useful_until: None,
            deadline: Arc::new(Mutex::new(received + within)),
            journal: Journal::default(),
            slot: None,
        }
    }

    /// What is logged in it, on whichever thread, is found by the verdict's decision id.
    pub(super) fn span(&self) -> tracing::Span {
        let (decision_id, tenant) = (&*self.findings.decision_id, self.request.tenant.as_str());
        match &self.traced {
            None => tracing::info_span!("message", decision_id, tenant),
            Some(traced) => {
                let trace_id = tracing::field::display(traced.trace_id());
                tracing::info_span!("message", decision_id, tenant, trace_id)
            }
        }
    }

    pub(super) fn envelope(&self) -> Envelope {
        Envelope { received: self.at.received, deadline: Arc::clone(&self.deadline), span: self.span() }
    }

    pub(super) fn deadline(&self) -> Instant {
        *self.deadline.lock()
    }

    /// Moves the deadline: that long from now.
    pub(super) fn due_in(&self, within: Duration) {
        *self.deadline.lock() = Instant::now() + within;
    }

    /// It is of no use after `most`, nor when it has expired. Until when it is.
    pub(super) fn useful(&mut self, message: &Message, most: Instant) -> Instant {
        let most = most.saturating_duration_since(self.at.received);
        let left = message.expires_at.map(|at| Duration::from_millis(at.0.saturating_sub(self.now().0)));
        let until = self.at.received + left.map_or(most, |left| left.min(most));
        self.useful_until = Some(until);
        until
    }

    /// How long a question or an answer is of use yet.
    pub(super) fn useful_for(&self) -> Option<Duration> {
        Some(self.useful_until?.saturating_duration_since(Instant::now()))
    }

    /// The tenant is known and within its limits.
    pub(super) fn admit(&mut self) -> Result<Admitted, Rejection> {
        let Request { tenant, sender, .. } = self.request;
        let Lanes { admission, tenants, hours, .. } = self.lanes;
        let now = self.at.received;
        let may = |tenant: &Tenant| hours.may(tenant, sender, now);
        let admitted = admission.admit_if(&**tenants, (tenant, sender), may);
        let admitted = self.holds(admitted)?;
        hours.take(&admitted, sender, now)?;
        Ok(admitted)
    }

    /// The same outside of its rate, which was paid before.
    pub(super) fn admit_unrated(&mut self) -> Result<Admitted, Rejection> {
        let Request { tenant, sender, .. } = self.request;
        let admitted = self.lanes.admission.admit_unrated(&*self.lanes.tenants, tenant, sender);
        self.holds(admitted)
    }

    fn holds(&mut self, admitted: Result<(Admitted, Slot), Rejection>) -> Result<Admitted, Rejection> {
        let (admitted, slot) = admitted?;
        self.slot = Some(slot);
        self.measured.passed(Stage::Admit);
        Ok(admitted)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.at.now
    }

    pub(super) fn answer(&self, outcome: Result<Outcome, Rejection>) -> Answer {
        self.findings.answer(outcome)
    }

    /// The end of it: what [`Attempt::conclude`] does, then the numbers. The sender hears after.
    pub(super) fn finish(mut self, verb: Verb, governed: Result<Outcome, Rejection>) -> Answer {
        let answer = self.conclude(governed);
        self.observed(verb, answer)
    }

    pub(super) fn observed(mut self, verb: Verb, answer: Answer) -> Answer {
        self.counted(verb, &answer, Arrival::Now);
        answer
    }

    /// The numbers, of the node and of what the sender has used.
    pub(super) fn counted(&mut self, verb: Verb, answer: &Answer, arrival: Arrival) {
        self.measured.passed(Stage::Record);
        let source = if arrival == Arrival::Now { Source::Request(verb) } else { Source::Queue };
        let trace = self.end_trace(source, (answer.verdict.status, answer.verdict.reason));
        self.measured.observe(&self.lanes.metrics, verb, answer, trace);
        let Request { tenant, sender, payload, .. } = self.request;
        self.lanes.usage.count(tenant, sender, self.at.now, measured::used(payload.len(), answer, arrival));
    }

    /// The answer. It is recorded, unless that was done ahead; it counts for the sender, and the claim is
    /// settled, unless it is a repeat. Whom the policy stops is stopped then.
    pub(super) fn conclude(&mut self, governed: Result<Outcome, Rejection>) -> Answer {
        fault_points::reached(Step::Known);
        let answer = self.answer(governed);
        if !answer.repeat {
            self.record(&answer.verdict);
        }
        self.count_after_claim(&answer);
        self.count_in_conversation(&answer);
        if let Some(claim) = self.claim.take() {
            claim.settle(&self.lanes.idempotency, &self.lanes.tasks, &answer.verdict, self.slot.take());
        }
        self.stop_sender();
        answer
    }

    /// Records a verdict that no intent stands for.
    pub(super) fn record(&self, verdict: &Verdict) {
        if !self.journal.owes(verdict) {
            return;
        }
        if let Err(error) = self.lanes.live.record(self.recorded(verdict)) {
            self.lanes.metrics.record_dropped();
            tracing::warn!(%error, decision_id = self.findings.decision_id, "decision not recorded");
        }
    }

    /// The record of a verdict.
    pub(super) fn recorded(&self, verdict: &Verdict) -> audit::Written {
        self.journal.verdict((self.request, &self.findings, &self.measured), verdict)
    }

    /// The record that goes ahead of a live delivery.
    pub(super) fn intent(&mut self, hoped: &Reach, recipients: &[AgentId]) -> audit::Written {
        self.journal.intent((self.request, &self.findings, &self.measured), hoped, recipients)
    }

    /// The record that goes ahead of what is stored.
    pub(super) fn intent_to_store(&mut self, hoped: &Reach, recipients: &[AgentId]) -> audit::Entry {
        self.journal.intent_to_store((self.request, &self.findings, &self.measured), hoped, recipients)
    }

    /// The message counts for its sender: something was done with it, or its verdict stands.
    pub(super) fn count(&mut self) {
        if let Some(observation) = self.sender.observation.take() {
            observation.count(self.sender.semantic);
        }
    }

    /// The same after the claim, unless it is a repeat. What came to nothing may come again as if for the
    /// first time, and is remembered by name.
    fn count_after_claim(&mut self, answer: &Answer) {
        let Some(observation) = self.sender.observation.take() else { return };
        match answer.verdict.reason {
            _ if answer.repeat => {}
            _ if is_lasting(&answer.verdict) => observation.count(self.sender.semantic),
            _ => observation.count_in_doubt(self.sender.semantic),
        }
    }
}

fn timed_out(within: Duration) -> Rejection {
    let detail = format!("not done within {} ms; ask again with the same message_id", within.as_millis());
    Rejection::new(Reason::TimedOut, detail).after(Duration::from_millis(100))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_deadline_that_counts_is_where_it_was_moved_last_later_or_earlier() {
        let began = tokio::time::Instant::now();
        let at = |seconds| began.into_std() + Duration::from_secs(seconds);
        let deadline = Arc::new(Mutex::new(at(1)));
        let (received, moved) = (began.into_std(), Arc::clone(&deadline));
        let envelope = Envelope { received, deadline, span: tracing::Span::none() };
        let governing = async {
            *moved.lock() = at(60);
            tokio::time::sleep(Duration::from_secs(2)).await;
            *moved.lock() = at(3);
            std::future::pending::<Result<(), Rejection>>().await
        };
        assert_eq!(envelope.run(governing).await.unwrap_err().reason, Reason::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 3);
    }
}
