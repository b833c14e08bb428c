//! One OPA server: what it answers, and whether it may be asked.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    Event, Meter,
    form::{self, Answered, Keyed},
    lines::REQUESTS_MAX,
};
use crate::{
    breakers::{Breaker, Breakers, Kind},
    http::{Answer, Call, CallError, EndpointError, Method, Pool},
};

/// Where it answers many questions at once. A builtin that fails is an error, as in process.
const PATH: &str = "/v1/data/agentbus/batch?strict-builtin-errors=true";
/// Of one answer. What `batch.rego` keeps of the reasons of sixteen questions is less.
const ANSWER_BYTES_MAX: usize = 512 * 1024;
/// While nobody knows when it is tried.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// By one of the questions, as the server says.
    #[error("{0}")]
    Rule(String),
    #[error("its policy is {found}")]
    Revision { found: Arc<str> },
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("answered {0}, expected 200")]
    Status(u16),
    #[error("it does not answer as the shipped modules do: {0}")]
    Unreadable(String),
    /// It was not asked.
    #[error("its breaker is open")]
    BreakerOpen,
}

impl Fault {
    /// Whether a question may be the reason, or the policy of this node, so that it says nothing of the server.
    fn is_of_question(&self) -> bool {
        matches!(
            self,
            Self::Rule(_)
                | Self::Revision { .. }
                | Self::Call(CallError::TimedOut(_) | CallError::TooLarge { .. })
        )
    }

    /// For a metric's label.
    fn word(&self) -> &'static str {
        match self {
            Self::Rule(_) => "rule_failed",
            Self::Revision { .. } => "other_revision",
            Self::Call(CallError::TooLarge { .. }) => "unreadable",
            Self::Call(error) => error.word(),
            Self::Status(_) => "refused",
            Self::Unreadable(_) => "unreadable",
            Self::BreakerOpen => "breaker_open",
        }
    }
}

pub(super) struct Server {
    name: Arc<str>,
    pool: Pool,
    /// `Bearer …`.
    authorization: Option<String>,
    /// One for each request under way; who has the most is the least busy.
    places: Semaphore,
    breaker: Arc<Breaker>,
    /// The policy that it had last.
    revision: Mutex<Option<Arc<str>>>,
    meter: Arc<dyn Meter>,
}

impl Server {
    /// Reads the system's root certificates for https. Blocks.
    pub(super) fn open(
        url: &str,
        token: Option<&str>,
        breakers: &Breakers,
        meter: Arc<dyn Meter>,
    ) -> Result<Self, EndpointError> {
        let pool = Pool::open(&format!("{}{PATH}", url.trim_end_matches('/')))?;
        let name: Arc<str> = pool.endpoint().authority().into();
        Ok(Self {
            breaker: breakers.of_target(Kind::Opa, &name),
            name,
            pool,
            authorization: token.map(|token| format!("Bearer {}", token.trim())),
            places: Semaphore::new(REQUESTS_MAX),
            revision: Mutex::default(),
            meter,
        })
    }

    /// Host and port.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether it can be expected to answer by this policy.
    pub(super) fn is_usable(&self, revision: &str) -> bool {
        self.problem(revision).is_none()
    }

    /// Why it cannot.
    pub(super) fn problem(&self, revision: &str) -> Option<String> {
        if let Some((why, _)) = self.breaker.trouble() {
            return Some(why);
        }
        match &*self.revision.lock() {
            Some(found) if **found != *revision => {
                Some(Fault::Revision { found: Arc::clone(found) }.to_string())
            }
            _ => None,
        }
    }

    /// When it may be asked again, if that is all that is wrong.
    pub(super) fn open_for(&self) -> Option<Duration> {
        (!self.breaker.is_closed()).then(|| self.breaker.left().unwrap_or(ASK_AGAIN).max(ASK_AGAIN))
    }

    pub(super) fn idle(&self) -> usize {
        self.places.available_permits()
    }

    /// A place among the requests to it.
    pub(super) fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.places.try_acquire().ok()
    }

    /// Puts questions to it, and learns of it from what comes of that.
    pub(super) async fn ask(
        &self,
        revision: &str,
        questions: &[Keyed<'_>],
        within: Duration,
    ) -> Result<Answered, Fault> {
        let admitted = self.breaker.admit().map_err(|_| Fault::BreakerOpen)?;
        let started = Instant::now();
        let answer = self.call(questions, within).await.and_then(|answered| {
            *self.revision.lock() = Some(Arc::clone(&answered.revision));
            match *answered.revision == *revision {
                true => Ok(answered),
                false => Err(Fault::Revision { found: answered.revision }),
            }
        });
        let outcome = answer.as_ref().err().map_or("answered", Fault::word);
        self.meter.see(Event::Request { server: &self.name, outcome, took: started.elapsed() });
        match &answer {
            Ok(_) => admitted.good(),
            Err(fault) if fault.is_of_question() => admitted.neither(),
            Err(fault) => admitted.bad(fault),
        }
        answer
    }

    /// Asks nothing, to see whether it answers. What it does not answer then is not the fault of a question; what a
    /// question comes to is not known by an answer.
    pub(super) async fn probe(&self, within: Duration) -> Result<Arc<str>, Fault> {
        let closed = self.breaker.is_closed();
        let admitted = self.breaker.admit().ok();
        let probed = self.call(&[], within).await;
        match (&probed, admitted) {
            (Ok(_), Some(admitted)) if closed => admitted.neither(),
            (Ok(_), Some(admitted)) => admitted.good(),
            (Err(fault), Some(admitted)) if closed => {
                admitted.neither();
                self.breaker.fell(fault);
            }
            (Err(fault), Some(admitted)) => admitted.bad(fault),
            (Err(fault), None) => self.breaker.noted(fault),
            (Ok(_), None) => {}
        }
        let Answered { revision, .. } = probed?;
        *self.revision.lock() = Some(Arc::clone(&revision));
        Ok(revision)
    }

    async fn call(&self, questions: &[Keyed<'_>], within: Duration) -> Result<Answered, Fault> {
        let body = form::request(questions).map_err(|error| Fault::Unreadable(error.to_string()))?;
        let mut headers = vec![("content-type", "application/json".to_owned())];
        headers.extend(self.authorization.clone().map(|token| ("authorization", token)));
        let call = Call {
            method: Method::POST,
            headers: &headers,
            body,
            answer_bytes: Some(ANSWER_BYTES_MAX),
            within,
            any_status: true,
        };
        let Answer { status, body, .. } = self.pool.call(call).await?;
        match status {
            200 => form::read(&body, questions).map_err(Fault::Unreadable),
            500 => Err(form::failed_rule(&body).map_or(Fault::Status(status), Fault::Rule)),
            _ => Err(Fault::Status(status)),
        }
    }
}
