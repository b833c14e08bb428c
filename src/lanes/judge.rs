//! The core judges, and names what it needs; that is looked up here.

use std::{pin::pin, sync::Arc};

use futures_util::future::join;

use super::{attempt::Attempt, lookup};
use crate::{
    domain::Impact,
    governance::{Checked, Decoded, Judging, Plan, Purpose, RetryMode, Routed, Rules},
    impact::{Need, Patience, Unassessed},
    rejection::Rejection,
    telemetry::Stage,
};

impl Attempt<'_> {
    /// What is to be done with the message. What led to it is looked up meanwhile.
    pub(super) async fn judge<'b>(
        &mut self,
        decoded: &'b Decoded,
        purpose: Purpose<'b>,
    ) -> Result<Plan<'b>, Rejection> {
        // With their approval its reviewers have begun a chain.
        let led = if purpose.approval.is_some() { None } else { self.lookup_cause(decoded) };
        let routed = match led {
            None => self.route(decoded, purpose).await?,
            Some(led) => {
                let (chain, routed) = Box::pin(join(led, self.route(decoded, purpose))).await;
                self.findings.cause = Some(Box::new(chain.cause.clone()));
                routed?.within(&chain)?
            }
        };
        let plan = routed.plan();
        self.sender.semantic = plan.remember;
        Ok(plan)
    }

    async fn route<'b>(
        &mut self,
        decoded: &'b Decoded,
        purpose: Purpose<'b>,
    ) -> Result<Routed<'b>, Rejection> {
        let lanes = self.lanes;
        let mut judging = self.check(decoded)?.judge(purpose);
        loop {
            judging = match judging {
                Judging::NeedsRegistry(asks) => {
                    let mut view = lookup::find(&*lanes.registry, &lanes.rotation, &asks).await?;
                    let tenant = &decoded.key().tenant;
                    view.recipients = lanes.freezes.reachable(tenant, view.recipients)?;
                    let next = asks.found(view)?;
                    self.measured.passed(Stage::Recipient);
                    next
                }
                Judging::NeedsPolicy(asks) => {
                    let asks = asks.labelled(self.labels(decoded).await?);
                    self.findings.asked(asks.seen(), Arc::clone(self.policy.revision()));
                    let by = (&*self.policy, &*self.findings.decision_id);
                    let rulings = lookup::ask(&lanes.gate, by, &asks).await;
                    self.findings.ruled(&rulings);
                    let next = asks.answered(rulings.into_iter().map(|ruling| ruling.permit))?;
                    self.measured.passed(Stage::Policy);
                    next
                }
                Judging::NeedsModel(permitted) => {
                    self.findings.policy_revision = permitted.policy_revision().cloned();
                    let impact = match permitted.need() {
                        Some(need) => Some(self.score(decoded, need, purpose.mode).await),
                        None => None,
                    };
                    permitted.scored(impact)?
                }
                Judging::Routed(routed) => {
                    // Judging takes a while, and an operator may have stopped it meanwhile.
                    lanes.freezes.check(decoded.message())?;
                    return Ok(routed);
                }
            }
        }
    }

    /// Whether nobody has stopped it, its constitution is in force, and its times and size make sense.
    pub(super) fn check<'b>(&mut self, decoded: &'b Decoded) -> Result<Checked<'b>, Rejection> {
        self.lanes.freezes.check(decoded.message())?;
        let (constitutions, elsewhere) =
            (&self.lanes.constitutions.in_force(), &self.lanes.constitutions.elsewhere());
        let rules = Rules {
            constitutions: &constitutions.accepted,
            elsewhere,
            clock_skew: self.lanes.limits.clock_skew,
            clock_is_off: self.lanes.skew.is_off(),
            now: self.now(),
        };
        let in_force = decoded.in_force(&rules)?;
        self.measured.passed(Stage::Constitution);
        let checked = in_force.checked(&rules)?;
        self.measured.passed(Stage::Structure);
        Ok(checked)
    }

    /// How much harm it could do, after what its sender has sent. Judged twice, it is observed once.
    async fn score(&mut self, decoded: &Decoded, need: Need, mode: RetryMode) -> Result<Impact, Unassessed> {
        let patience = mode.patience(self.useful_for());
        let (message, tenant, assessor) = (decoded.message(), decoded.tenant(), &self.lanes.assessor);
        let observation = match self.sender.observation.take() {
            Some(observation) => observation,
            None => assessor.observe(message, tenant, self.now()).await,
        };
        let past = observation.past();
        self.sender.observation = Some(observation);
        let soon = self.lanes.limits.deadline;
        if let Patience::Within(limit) = patience {
            self.due_in(limit + soon);
        }
        let assessing = assessor.assess(message, tenant, past, (need, patience), self.now());
        let assessing = async {
            match &self.traced {
                None => assessing.await,
                Some(traced) => traced.probe.within(assessing).await,
            }
        };
        // Whoever's texts are slow to read takes no other's place meanwhile.
        let impact = self.request.place.wait(pin!(assessing)).await;
        if let Patience::Within(_) = patience {
            // What is left to do is as for any other message.
            self.due_in(soon);
        }
        self.findings.assessed(&impact);
        self.measured.passed(Stage::Impact);
        impact
    }
}
