//! One OPA server: what it answers, and whether it may be asked.

use std::{
    sync::Arc,
    time::{Duration, Instant as Clock},
};

use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use super::{
    Event, Meter,
    breaker::Breaker,
    form::{self, Answered, Keyed},
    lines::REQUESTS_MAX,
};
use crate::http::{Answer, Call, CallError, EndpointError, Method, Pool};

/// Where it answers many questions at once. A builtin that fails is an error, as in process.
const PATH: &str = "/v1/data/agentbus/batch?strict-builtin-errors=true";
/// Of one answer. What `batch.rego` keeps of the reasons of sixteen questions is less.
const ANSWER_BYTES_MAX: usize = 512 * 1024;

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
}

impl Fault {
    /// Whether a question may be the reason, so that it says nothing of the server.
    fn is_of_question(&self) -> bool {
        matches!(self, Self::Rule(_) | Self::Call(CallError::TimedOut(_) | CallError::TooLarge { .. }))
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
    state: Mutex<State>,
    meter: Arc<dyn Meter>,
}

#[derive(Default)]
struct State {
    breaker: Breaker,
    /// The policy that it had last.
    revision: Option<Arc<str>>,
    /// Why it did not answer last.
    trouble: Option<String>,
}

impl Server {
    /// Reads the system's root certificates for https. Blocks.
    pub(super) fn open(url: &str, token: Option<&str>, meter: Arc<dyn Meter>) -> Result<Self, EndpointError> {
        let pool = Pool::open(&format!("{}{PATH}", url.trim_end_matches('/')))?;
        Ok(Self {
            name: pool.endpoint().authority().into(),
            pool,
            authorization: token.map(|token| format!("Bearer {}", token.trim())),
            places: Semaphore::new(REQUESTS_MAX),
            state: Mutex::default(),
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
        let State { breaker, revision: found, trouble } = &*self.state.lock();
        match found {
            _ if !breaker.is_closed() => Some(trouble.clone().unwrap_or_default()),
            Some(found) if **found != *revision => {
                Some(Fault::Revision { found: Arc::clone(found) }.to_string())
            }
            _ => None,
        }
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
        let started = Clock::now();
        let answer = self.call(questions, within).await.and_then(|answered| {
            self.state.lock().revision = Some(Arc::clone(&answered.revision));
            match *answered.revision == *revision {
                true => Ok(answered),
                false => Err(Fault::Revision { found: answered.revision }),
            }
        });
        let outcome = answer.as_ref().err().map_or("answered", Fault::word);
        self.meter.see(Event::Request { server: &self.name, outcome, took: started.elapsed() });
        self.learn(&answer);
        answer
    }

    /// Asks nothing, to see whether it answers. What it does not answer then is not the fault of a question.
    pub(super) async fn probe(&self, within: Duration) -> Result<Arc<str>, Fault> {
        let probed = self.call(&[], within).await;
        let mut state = self.state.lock();
        match probed {
            Ok(Answered { revision, .. }) => {
                let open = !state.breaker.is_closed();
                state.breaker.probed(Instant::now());
                if open && state.breaker.is_closed() {
                    tracing::info!(server = %self.name, %revision, "an OPA server answers again");
                    state.trouble = None;
                }
                state.revision = Some(Arc::clone(&revision));
                Ok(revision)
            }
            Err(fault) => {
                state.breaker.open(Instant::now());
                self.troubled(&mut state, &fault);
                Err(fault)
            }
        }
    }

    fn learn(&self, answer: &Result<Answered, Fault>) {
        let mut state = self.state.lock();
        match answer {
            Ok(_) => {
                state.breaker.answered();
                state.trouble = None;
            }
            Err(fault) if fault.is_of_question() => {}
            Err(Fault::Revision { .. }) => {}
            Err(fault) => {
                state.breaker.faulted(Instant::now());
                self.troubled(&mut state, fault);
            }
        }
    }

    fn troubled(&self, state: &mut State, fault: &Fault) {
        let why = fault.to_string();
        if state.trouble.as_ref() != Some(&why) {
            tracing::warn!(server = %self.name, why, "an OPA server does not answer");
            state.trouble = Some(why);
        }
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
