//! Which questions go together, and whose turn is it? Each tenant has a line of its own, and never all of the requests.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde_json::value::RawValue;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    domain::TenantId,
    policy::{Decision, PolicyError},
};

/// Questions that wait at one time, and of these of one tenant.
const WAITING_MAX: usize = 1_024;
const WAITING_OF_TENANT_MAX: usize = 512;
/// Requests under way at one time, and of these of one tenant.
pub(super) const REQUESTS_MAX: usize = 32;
const REQUESTS_OF_TENANT_MAX: usize = 8;
/// Questions of one request, and bytes of all but its first.
const BATCH_MAX: usize = 16;
const BATCH_BYTES_MAX: usize = 64 * 1024;
/// After a request that came to nothing in time, the tenant's questions go one by one for so long: the slow one is told
/// from those beside it.
const APART_FOR: Duration = Duration::from_secs(5);

/// A question that somebody waits for.
pub(super) struct Asked {
    pub(super) tenant: TenantId,
    /// By which policy.
    pub(super) revision: Arc<str>,
    pub(super) question: Box<RawValue>,
    pub(super) until: Instant,
    pub(super) reply: oneshot::Sender<Result<Decision, PolicyError>>,
}

impl Asked {
    fn waits(&self, now: Instant) -> bool {
        !self.reply.is_closed() && now < self.until
    }

    /// Who waits no longer is told nothing.
    pub(super) fn tell(self, answer: Result<Decision, PolicyError>) {
        let _ = self.reply.send(answer);
    }
}

/// Questions that wait.
#[derive(Default)]
pub(super) struct Lines {
    lines: BTreeMap<TenantId, Line>,
    /// Whose questions wait, the next first.
    turns: VecDeque<TenantId>,
    waiting: usize,
    requests: usize,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Asked>,
    requests: usize,
    apart_until: Option<Instant>,
}

impl Lines {
    /// Takes it into its tenant's line, or gives it back where there is no room.
    pub(super) fn add(&mut self, asked: Asked) -> Result<(), Asked> {
        let line = self.lines.entry(asked.tenant.clone()).or_default();
        if self.waiting >= WAITING_MAX || line.waiting.len() >= WAITING_OF_TENANT_MAX {
            return Err(asked);
        }
        if line.waiting.is_empty() {
            self.turns.push_back(asked.tenant.clone());
        }
        self.waiting += 1;
        line.waiting.push_back(asked);
        Ok(())
    }

    /// What is asked next, of one tenant and by one policy. Those that nobody waits for any more are passed over.
    pub(super) fn next(&mut self, now: Instant) -> Option<(TenantId, Vec<Asked>)> {
        for _ in 0..self.turns.len() {
            if self.requests >= REQUESTS_MAX {
                return None;
            }
            let tenant = self.turns.pop_front()?;
            let Some(line) = self.lines.get_mut(&tenant) else { continue };
            let before = line.waiting.len();
            let batch = if line.requests < REQUESTS_OF_TENANT_MAX { line.take(now) } else { Vec::new() };
            self.waiting -= before - line.waiting.len();
            line.requests += usize::from(!batch.is_empty());
            if line.waiting.is_empty() {
                self.forget(&tenant, now);
            } else {
                self.turns.push_back(tenant.clone());
            }
            if !batch.is_empty() {
                self.requests += 1;
                return Some((tenant, batch));
            }
        }
        None
    }

    /// A request has ended; `late`: its questions may be why it came to nothing in time.
    pub(super) fn ended(&mut self, tenant: &TenantId, late: bool, now: Instant) {
        self.requests = self.requests.saturating_sub(1);
        if let Some(line) = self.lines.get_mut(tenant) {
            line.requests = line.requests.saturating_sub(1);
            if late {
                line.apart_until = Some(now + APART_FOR);
            }
        }
        self.forget(tenant, now);
    }

    /// Of a tenant about whom nothing need be known.
    fn forget(&mut self, tenant: &TenantId, now: Instant) {
        let idle = |line: &Line| {
            line.waiting.is_empty() && line.requests == 0 && line.apart_until.is_none_or(|until| until <= now)
        };
        if self.lines.get(tenant).is_some_and(idle) {
            self.lines.remove(tenant);
        }
    }
}

impl Line {
    fn take(&mut self, now: Instant) -> Vec<Asked> {
        let most = if self.apart_until.is_some_and(|until| now < until) { 1 } else { BATCH_MAX };
        let (mut batch, mut bytes) = (Vec::<Asked>::new(), 0);
        while batch.len() < most
            && let Some(asked) = self.waiting.pop_front()
        {
            if !asked.waits(now) {
                continue;
            }
            bytes += asked.question.get().len();
            let fits = batch
                .first()
                .is_none_or(|first| first.revision == asked.revision && bytes <= BATCH_BYTES_MAX);
            if !fits {
                self.waiting.push_front(asked);
                break;
            }
            batch.push(asked);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    type Answer = oneshot::Receiver<Result<Decision, PolicyError>>;

    fn asked(tenant: &str, revision: &str, bytes: usize, now: Instant) -> (Asked, Answer) {
        let (reply, answer) = oneshot::channel();
        let question = RawValue::from_string(format!("{:?}", "x".repeat(bytes))).unwrap();
        let until = now + Duration::from_secs(1);
        let revision = revision.into();
        (Asked { tenant: tenant.parse().unwrap(), revision, question, until, reply }, answer)
    }

    /// Lines with so many questions of each, and those who wait for them.
    fn lines(of: &[(&str, &str, usize, usize)], now: Instant) -> (Lines, Vec<Answer>) {
        let (mut lines, mut answers) = (Lines::default(), Vec::new());
        for (tenant, revision, bytes, count) in of {
            for _ in 0..*count {
                let (asked, answer) = asked(tenant, revision, *bytes, now);
                answers.push(answer);
                assert!(lines.add(asked).is_ok());
            }
        }
        (lines, answers)
    }

    fn sizes(lines: &mut Lines, now: Instant) -> Vec<(String, usize)> {
        let batches = std::iter::from_fn(|| lines.next(now));
        batches.map(|(tenant, batch)| (tenant.to_string(), batch.len())).collect()
    }

    fn told(sizes: &[(&str, usize)]) -> Vec<(String, usize)> {
        sizes.iter().map(|(tenant, count)| ((*tenant).to_owned(), *count)).collect()
    }

    #[test]
    fn tenants_take_turns_and_what_waits_together_goes_together() {
        let now = Instant::now();
        let (mut lines, _answers) = lines(&[("acme", "r", 1, 40), ("globex", "r", 1, 2)], now);
        assert_eq!(sizes(&mut lines, now), told(&[("acme", 16), ("globex", 2), ("acme", 16), ("acme", 8)]));
    }

    #[test]
    fn no_request_has_two_policies_or_many_large_questions() {
        let now = Instant::now();
        let of = [("acme", "r", 1, 3), ("acme", "s", 1, 2), ("acme", "s", BATCH_BYTES_MAX, 2)];
        let (mut lines, _answers) = lines(&of, now);
        assert_eq!(sizes(&mut lines, now), told(&[("acme", 3), ("acme", 2), ("acme", 1), ("acme", 1)]));
    }

    #[test]
    fn one_tenant_never_has_all_requests_nor_all_places_to_wait() {
        let now = Instant::now();
        let (mut lines, _answers) = lines(&[("acme", "r", BATCH_BYTES_MAX, WAITING_OF_TENANT_MAX)], now);
        assert!(lines.add(asked("acme", "r", 1, now).0).is_err());
        assert_eq!(sizes(&mut lines, now).len(), REQUESTS_OF_TENANT_MAX);
        let (other, _answer) = asked("globex", "r", 1, now);
        assert!(lines.add(other).is_ok());
        assert_eq!(sizes(&mut lines, now), told(&[("globex", 1)]));
        lines.ended(&"acme".parse().unwrap(), false, now);
        assert_eq!(sizes(&mut lines, now), told(&[("acme", 1)]));
    }

    #[test]
    fn after_a_late_request_its_tenants_questions_go_one_by_one_for_a_while() {
        let now = Instant::now();
        let (mut lines, _answers) = lines(&[("acme", "r", 1, 3), ("globex", "r", 1, 2)], now);
        assert_eq!(sizes(&mut lines, now), told(&[("acme", 3), ("globex", 2)]));
        lines.ended(&"acme".parse().unwrap(), true, now);
        lines.ended(&"globex".parse().unwrap(), false, now);
        let add = |lines: &mut Lines, now| {
            let more = ["acme", "acme", "globex", "globex"].map(|tenant| asked(tenant, "r", 1, now));
            more.map(|(asked, answer)| {
                assert!(lines.add(asked).is_ok());
                answer
            })
        };
        let _more = add(&mut lines, now);
        assert_eq!(sizes(&mut lines, now), told(&[("acme", 1), ("globex", 2), ("acme", 1)]));
        let later = now + APART_FOR;
        for tenant in ["acme", "acme", "globex"] {
            lines.ended(&tenant.parse().unwrap(), false, later);
        }
        let _more = add(&mut lines, later);
        assert_eq!(sizes(&mut lines, later), told(&[("acme", 2), ("globex", 2)]));
    }

    #[test]
    fn who_waits_no_longer_is_passed_over_and_nothing_of_the_tenant_is_kept() {
        let now = Instant::now();
        let (mut lines, answers) = lines(&[("acme", "r", 1, 3)], now);
        drop(answers);
        assert!(lines.next(now).is_none());
        assert!(lines.lines.is_empty() && lines.turns.is_empty() && lines.waiting == 0);
        let (late, _answer) = asked("acme", "r", 1, now);
        assert!(lines.add(late).is_ok());
        assert!(lines.next(now + Duration::from_secs(1)).is_none());
        assert!(lines.lines.is_empty() && lines.turns.is_empty() && lines.waiting == 0);
    }
}
