//! What does a policy answer that OPA servers have? Several of them, asked over kept connections, each behind a breaker;
//! what waits together goes in one request.
//!
//! An answer counts only if it is by the revision that the node has in force. `policies/agentbus/batch.rego` has the
//! other side.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use serde_json::value::RawValue;
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::Instant,
};

use super::{Decision, PolicyError};
use crate::{breakers::Breakers, domain::TenantId, http::EndpointError};

mod dispatch;
mod form;
mod lines;
mod server;

use dispatch::{Dispatch, unanswered};
use lines::{Asked, Lines};
use server::Server;

/// Between two probes of one server.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// For an answer to a probe, at least: it says whether a server is well, not whether it is quick.
const PROBE_WITHIN_MIN: Duration = Duration::from_secs(1);
/// Questions on their way to their lines.
const INBOX_MAX: usize = 512;

/// What there is to ask.
pub struct OpaSettings<'a> {
    /// `http://host:port` or `https://host:port`.
    pub servers: Vec<&'a str>,
    /// What they are shown as a bearer token.
    pub token: Option<String>,
    /// For one question, whoever is asked.
    pub within: Duration,
    /// Those of the node; each server has one of them.
    pub breakers: &'a Breakers,
}

/// What happens with the servers, for the numbers.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// One of them was asked.
    Request { server: &'a str, outcome: &'static str, took: Duration },
}

/// Whoever counts that. Never waits.
pub trait Meter: Send + Sync {
    fn see(&self, event: Event<'_>);
}

/// Nobody.
impl Meter for () {
    fn see(&self, _: Event<'_>) {}
}

/// How one server is, as seen from here.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ServerStanding {
    /// Host and port.
    pub name: Arc<str>,
    /// Why it is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The servers of a node.
pub struct OpaServers {
    dispatch: Dispatch,
    inbox: mpsc::Sender<Asked>,
    /// Taken by whoever runs it.
    asked: Mutex<mpsc::Receiver<Asked>>,
}

impl OpaServers {
    /// Reads the system's root certificates for https. Blocks.
    pub fn open(settings: &OpaSettings<'_>, meter: &Arc<dyn Meter>) -> Result<Self, EndpointError> {
        let OpaSettings { servers, token, within, breakers } = settings;
        let open = |url: &&str| Server::open(url, token.as_deref(), breakers, Arc::clone(meter));
        let servers = servers.iter().map(open).collect::<Result<_, _>>()?;
        let (inbox, asked) = mpsc::channel(INBOX_MAX);
        Ok(Self { dispatch: Dispatch { servers, within: *within }, inbox, asked: Mutex::new(asked) })
    }

    /// Asks what a policy of this revision says, as long as [`OpaServers::run`] runs.
    pub async fn ask(
        &self,
        tenant: &TenantId,
        revision: &Arc<str>,
        question: impl Future<Output = Result<Box<RawValue>, PolicyError>>,
    ) -> Result<Decision, PolicyError> {
        if !self.dispatch.is_usable(revision) {
            return Err(self.dispatch.refusal(revision));
        }
        let question = question.await?;
        let (reply, answer) = oneshot::channel();
        let until = Instant::now() + self.dispatch.within;
        let asked = Asked { tenant: tenant.clone(), revision: Arc::clone(revision), question, until, reply };
        if self.inbox.try_send(asked).is_err() {
            return Err(busy());
        }
        match tokio::time::timeout_at(until, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(unanswered("the requests to OPA have ended".to_owned())),
            Err(_) => Err(unanswered(format!("no answer within {:?}", self.dispatch.within))),
        }
    }

    /// Puts the questions to the servers, and looks after those, until the future is dropped.
    pub async fn run(&self) {
        tokio::join!(
            self.serve(),
            join_all(self.dispatch.servers.iter().map(|server| self.look_after(server)))
        );
    }

    async fn serve(&self) {
        let mut asked = self.asked.lock().await;
        let (mut lines, mut requests) = (Lines::default(), FuturesUnordered::new());
        let mut arrived = Vec::new();
        loop {
            tokio::select! {
                _ = asked.recv_many(&mut arrived, INBOX_MAX) => {
                    for one in arrived.drain(..) {
                        if let Err(refused) = lines.add(one) {
                            refused.tell(Err(busy()));
                        }
                    }
                }
                Some((tenant, late)) = requests.next() => lines.ended(&tenant, late, Instant::now()),
            }
            while let Some((tenant, batch)) = lines.next(Instant::now()) {
                requests.push(async move { (tenant, self.dispatch.put(batch).await) });
            }
        }
    }

    async fn look_after(&self, server: &Server) {
        loop {
            // What comes of it is the server's to remember.
            let _ = server.probe(PROBE_WITHIN_MIN.max(self.dispatch.within)).await;
            tokio::time::sleep(PROBE_EVERY).await;
        }
    }

    /// How each is for a policy of this revision.
    pub fn standing(&self, revision: &str) -> Vec<ServerStanding> {
        let standing = |server: &Server| ServerStanding {
            name: Arc::clone(server.name()),
            problem: server.problem(revision),
        };
        self.dispatch.servers.iter().map(standing).collect()
    }

    /// Asks each once, and takes no notice of its answer: the revision that it has, or why there is none.
    pub async fn reach(&self) -> Vec<(Arc<str>, Result<Arc<str>, String>)> {
        let reach = async |server: &Server| {
            let within = PROBE_WITHIN_MIN.max(self.dispatch.within);
            let found = server.probe(within).await.map_err(|fault| fault.to_string());
            (Arc::clone(server.name()), found)
        };
        join_all(self.dispatch.servers.iter().map(reach)).await
    }
}

fn busy() -> PolicyError {
    PolicyError::Busy { cause: "too many questions wait for OPA".to_owned() }
}
