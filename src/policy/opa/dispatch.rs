//! To which server do questions go, and what if it does not answer? To the least busy of those that can be expected to,
//! and then to another.

use std::time::Duration;

use tokio::{sync::SemaphorePermit, time::Instant};

use super::{
    form::{Keyed, keyed},
    lines::Asked,
    server::{Fault, Server},
};
use crate::{
    http::CallError,
    policy::{Decision, PolicyError},
};

/// Servers that one request is put to, one after the other.
const TRIES_MAX: usize = 3;
/// When it is worth while to ask again: by then it is known which server is well.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The servers, and how long an answer may take.
pub(super) struct Dispatch {
    pub(super) servers: Vec<Server>,
    pub(super) within: Duration,
}

/// What came of one request.
enum Came {
    Answers(Vec<Decision>),
    /// By one of the questions.
    Failed(String),
    /// A server that is well did not answer these questions in time.
    Late,
    Nothing(String),
}

impl Dispatch {
    /// Whether any server can be expected to answer by this policy.
    pub(super) fn is_usable(&self, revision: &str) -> bool {
        self.servers.iter().any(|server| server.is_usable(revision))
    }

    /// Puts questions of one tenant, by one policy, to the servers, and tells all who wait. `true`: they came to nothing
    /// in time, and one of them may be the reason.
    pub(super) async fn put(&self, batch: Vec<Asked>) -> bool {
        let (mut left, mut late) = (vec![batch], false);
        while let Some(mut batch) = left.pop() {
            match self.ask(&batch).await {
                Came::Answers(decisions) => {
                    batch.into_iter().zip(decisions).for_each(|(asked, decision)| asked.tell(Ok(decision)));
                }
                // Halves, until the one that fails is alone.
                Came::Failed(_) if batch.len() > 1 => {
                    let second = batch.split_off(batch.len() / 2);
                    left.extend([second, batch]);
                }
                Came::Failed(cause) => tell_all(batch, &failed(cause)),
                Came::Late if batch.len() > 1 => {
                    late = true;
                    tell_all(batch, &unanswered("a question beside it took too long".to_owned()));
                }
                Came::Late => tell_all(batch, &failed(format!("no decision within {:?}", self.within))),
                Came::Nothing(why) => tell_all(batch, &unanswered(why)),
            }
        }
        late
    }

    async fn ask(&self, batch: &[Asked]) -> Came {
        let Some(first) = batch.first() else { return Came::Answers(Vec::new()) };
        let until = batch.iter().map(|asked| asked.until).max().unwrap_or(first.until);
        let questions: Vec<Keyed<'_>> = batch.iter().map(|asked| keyed(&asked.question)).collect();
        let (mut tried, mut last) = (Vec::new(), None);
        for number in 1..=TRIES_MAX {
            let Some((at, server, _place)) = self.pick(&first.revision, &tried) else { break };
            tried.push(at);
            let within = self.share(until, number);
            match server.ask(&first.revision, &questions, within).await {
                Ok(answered) => return Came::Answers(answered.decisions),
                Err(Fault::Rule(cause)) => return Came::Failed(cause),
                Err(Fault::Call(CallError::TimedOut(_))) if self.is_well(server).await && number == 1 => {
                    return Came::Late;
                }
                Err(fault) => last = Some(fault),
            }
        }
        match last {
            Some(fault @ Fault::Call(CallError::TooLarge { .. })) => Came::Failed(fault.to_string()),
            Some(fault) => Came::Nothing(fault.to_string()),
            None => Came::Nothing(self.why(&first.revision)),
        }
    }

    /// Half of what is left, so that another can be asked. The last one has most of it: the rest is for finding out why it
    /// did not answer.
    fn share(&self, until: Instant, number: usize) -> Duration {
        let left = until.saturating_duration_since(Instant::now());
        let last = number == TRIES_MAX.min(self.servers.len());
        let share = if last { left * 3 / 4 } else { left / 2 };
        // Less would say nothing of a server.
        share.max(self.within / 4)
    }

    async fn is_well(&self, server: &Server) -> bool {
        server.probe(self.within / 4).await.is_ok()
    }

    /// The least busy one that has not been tried, and a place there.
    fn pick(&self, revision: &str, tried: &[usize]) -> Option<(usize, &Server, SemaphorePermit<'_>)> {
        let usable = |(at, server): &(usize, &Server)| !tried.contains(at) && server.is_usable(revision);
        let idlest = |(_, server): &(usize, &Server)| (server.idle(), rand::random::<u32>());
        let (at, server) = self.servers.iter().enumerate().filter(usable).max_by_key(idlest)?;
        Some((at, server, server.place()?))
    }

    /// What who asks hears while nobody can be asked.
    pub(super) fn refusal(&self, revision: &str) -> PolicyError {
        let cause = self.why(revision);
        let open: Option<Vec<Duration>> = self.servers.iter().map(Server::open_for).collect();
        match open.and_then(|open| open.into_iter().min()) {
            Some(retry_after) => PolicyError::BreakerOpen { cause, retry_after },
            None => unanswered(cause),
        }
    }

    /// Why nobody can be asked.
    fn why(&self, revision: &str) -> String {
        let problem = |server: &Server| Some(format!("{}: {}", server.name(), server.problem(revision)?));
        let problems: Vec<_> = self.servers.iter().filter_map(problem).collect();
        format!("no OPA server answers: {}", problems.join("; "))
    }
}

fn tell_all(batch: Vec<Asked>, error: &PolicyError) {
    batch.into_iter().for_each(|asked| asked.tell(Err(error.clone())));
}

fn failed(cause: String) -> PolicyError {
    PolicyError::Failed { rule: "the policy".to_owned(), cause }
}

pub(super) fn unanswered(cause: String) -> PolicyError {
    PolicyError::Unanswered { cause, retry_after: RETRY_AFTER }
}
