//! What has the node done to look after itself? A look each second at what is counted anyway, and a record of what has
//! grown: at once, and then one every ten seconds at most, with sums. So a breaker that opens and closes all the time
//! fills no stream.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::NodeHealth;
use crate::{
    audit::{Body, Mending, Place, Record, Recovery, Step},
    breakers::Kind,
    domain::{TenantId, Timestamp},
    lanes::LiveTransport,
};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two records.
const RECORD_EVERY: Duration = Duration::from_secs(10);
/// In one record; there are fewer kinds of breakers and parts, and one policy a look.
const STEPS_MAX: usize = 256;

/// How often each step was taken since the node began.
type Totals = BTreeMap<(Mending, String), u64>;

/// What was told, and when.
struct Told {
    totals: Totals,
    revision: String,
    at: Instant,
    /// When a record was tried last, also one that could not be written. What comes first need not wait.
    tried: Option<Instant>,
    /// Policies that came into force since.
    policies: Totals,
}

impl NodeHealth {
    /// Records what the node does to look after itself, until the future is dropped.
    pub(in crate::app) async fn record_mending(
        self: Arc<Self>,
        live: Arc<dyn LiveTransport>,
        clock: fn() -> Timestamp,
    ) {
        // It is a name: it can be read.
        let Ok(bus) = Record::OF_THE_BUS.parse::<TenantId>() else { return };
        let mut told = Told::new(self.totals(), self.policy_in_force(), Instant::now());
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            told.saw_policy(self.policy_in_force());
            let (totals, now) = (self.totals(), Instant::now());
            let Some(recovery) = told.to_tell(&totals, now) else { continue };
            let entry =
                Record::new(clock(), &bus, &self.node, Body::Recovery(recovery)).entry(Place::Recovery);
            match live.record(entry.into()) {
                Ok(_) => told.told(totals, now),
                // It stands in the next, which waits as long.
                Err(error) => {
                    told.tried = Some(now);
                    tracing::debug!(%error, "what the node did to look after itself is not recorded yet");
                }
            }
        }
    }

    fn policy_in_force(&self) -> String {
        let revision = self.numbers.get().map(|numbers| numbers.rollout.gate().revision().to_string());
        revision.unwrap_or_default()
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::new();
        let mut add = |what, of: &str, times| {
            if times > 0 {
                totals.insert((what, of.to_owned()), times);
            }
        };
        for kind in Kind::ALL {
            let (of, counts) = (kind.as_str(), self.breakers.counts(kind));
            add(Mending::BreakerOpened, of, counts.opened);
            add(Mending::BreakerTried, of, counts.tried);
            add(Mending::BreakerClosed, of, counts.closed);
        }
        for (part, restarted, renewed) in self.supervisor.begun_again() {
            add(Mending::PartRestarted, part, restarted);
            add(Mending::PartRenewed, part, renewed);
        }
        for (kind, times) in self.recovered.lock().iter() {
            add(Mending::Recover, kind, *times);
        }
        add(Mending::Reconnected, "", self.metrics.nats.reconnected());
        add(Mending::ModelRestarted, "", self.metrics.model_restarts());
        totals
    }
}

impl Told {
    fn new(totals: Totals, revision: String, at: Instant) -> Self {
        Self { totals, revision, at, tried: None, policies: Totals::new() }
    }

    /// The first that is seen is that of the start.
    fn saw_policy(&mut self, revision: String) {
        if revision == self.revision {
            return;
        }
        let before = std::mem::replace(&mut self.revision, revision.clone());
        if !before.is_empty() && self.policies.len() < STEPS_MAX {
            *self.policies.entry((Mending::PolicyChanged, revision)).or_default() += 1;
        }
    }

    /// What has come since it was told last, if there is anything and it is time.
    fn to_tell(&self, totals: &Totals, now: Instant) -> Option<Recovery<'static>> {
        if self.tried.is_some_and(|tried| now.duration_since(tried) < RECORD_EVERY) {
            return None;
        }
        let more = totals.iter().filter_map(|(step, times)| {
            let more = times.saturating_sub(self.totals.get(step).copied().unwrap_or_default());
            (more > 0).then(|| (step.clone(), more))
        });
        let policies = self.policies.iter().map(|(step, times)| (step.clone(), *times));
        let steps = more.chain(policies).map(|((what, of), times)| Step { what, of, times });
        let steps: Vec<_> = steps.take(STEPS_MAX).collect();
        let over_ms = u64::try_from(now.duration_since(self.at).as_millis()).unwrap_or(u64::MAX);
        (!steps.is_empty()).then_some(Recovery { over_ms, steps: Cow::Owned(steps) })
    }

    fn told(&mut self, totals: Totals, now: Instant) {
        self.policies.clear();
        (self.totals, self.at, self.tried) = (totals, now, Some(now));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn opened(times: u64) -> Totals {
        Totals::from([((Mending::BreakerOpened, "records".to_owned()), times)])
    }

    fn steps(told: &Told, totals: &Totals, at: Instant) -> Option<Vec<(Mending, String, u64)>> {
        let recovery = told.to_tell(totals, at)?;
        Some(recovery.steps.iter().map(|step| (step.what, step.of.clone(), step.times)).collect())
    }

    #[test]
    fn what_comes_first_is_told_at_once_and_what_flaps_by_its_sum_every_ten_seconds() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut told = Told::new(Totals::new(), "r-1".to_owned(), began);
        assert_eq!(steps(&told, &Totals::new(), at(5)), None, "nothing is told of nothing");
        let once = |times| Some(vec![(Mending::BreakerOpened, "records".to_owned(), times)]);
        assert_eq!(steps(&told, &opened(1), at(6)), once(1));
        assert_eq!(told.to_tell(&opened(1), at(6)).unwrap().over_ms, 6_000);
        told.told(opened(1), at(6));
        let mut records = 0;
        for second in 7..67 {
            // It opens a hundred times a second.
            let totals = opened(1 + (second - 6) * 100);
            if let Some(steps) = steps(&told, &totals, at(second)) {
                assert_eq!(steps, once(1_000).unwrap());
                told.told(totals, at(second));
                records += 1;
            }
        }
        assert_eq!(records, 6, "one for ten seconds");
        assert_eq!(steps(&told, &told.totals, at(1_000)), None);
    }

    #[test]
    fn what_could_not_be_told_waits_and_the_next_stands_for_all_the_time_since_what_was() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut told = Told::new(Totals::new(), "r-1".to_owned(), began);
        told.tried = Some(at(6));
        assert_eq!(told.to_tell(&opened(2), at(15)), None);
        assert_eq!(told.to_tell(&opened(2), at(16)).unwrap().over_ms, 16_000);
    }

    #[test]
    fn each_policy_that_came_into_force_is_told_but_the_one_of_the_start() {
        let mut told = Told::new(Totals::new(), String::new(), Instant::now());
        for revision in ["r-1", "r-1", "r-2", "r-1", "r-2"] {
            told.saw_policy(revision.to_owned());
        }
        let expected =
            [("r-1", 1), ("r-2", 2)].map(|(of, times)| (Mending::PolicyChanged, of.to_owned(), times));
        assert_eq!(steps(&told, &Totals::new(), Instant::now()), Some(expected.into()));
        told.told(Totals::new(), Instant::now());
        assert!(told.policies.is_empty());
    }
}
