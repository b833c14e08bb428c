//! What do all nodes say? An operator asks each of them, and hears also which did not answer.

use std::{collections::BTreeMap, time::Duration};

use async_nats::Client;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use super::{
    constitution_answers::NodeConstitutions,
    freeze_answers::NodeFreezes,
    policy_requests::{NodePolicy, PolicyRequest},
    recovery::NodeRecovery,
    shadow_answers::NodeShadow,
    status::NodeStatus,
};
use crate::{breakers::Kind, tenants::names};

/// Nodes that are heard.
const NODES_MAX: usize = 1_024;
/// For the first answer, and once there is one, for the next.
const FIRST_ANSWER: Duration = Duration::from_secs(3);
const QUIET: Duration = Duration::from_millis(300);
/// For all nodes to say what is in force, and to read a policy, test it and try it.
const STATUS_WITHIN: Duration = Duration::from_secs(3);
const RELOAD_WITHIN: Duration = Duration::from_secs(30);
/// For all nodes to say what they follow: who asks waits to hear that it is in force.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(1);

/// The nodes of a bus, as its operator sees them.
pub struct Fleet(Client);

#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    #[error("no node answers; does one run (`agentbus node`), with the accounts of this bus?")]
    Nobody,
    #[error("the nodes cannot be asked: {0}")]
    Unavailable(String),
}

/// What each node said, by its name; `None`: it runs and did not answer.
pub type Answers<T = NodePolicy> = BTreeMap<String, Option<T>>;

/// What a node says of itself.
trait Answer: serde::de::DeserializeOwned {
    fn node(&self) -> &str;
}

impl Answer for NodePolicy {
    fn node(&self) -> &str {
        &self.node
    }
}

impl Answer for NodeFreezes {
    fn node(&self) -> &str {
        &self.node
    }
}

impl Answer for NodeShadow {
    fn node(&self) -> &str {
        &self.node
    }
}

impl Answer for NodeConstitutions {
    fn node(&self) -> &str {
        &self.node
    }
}

impl Answer for NodeRecovery {
    fn node(&self) -> &str {
        &self.node
    }
}

impl Answer for NodeStatus {
    fn node(&self) -> &str {
        &self.node
    }
}

impl Fleet {
    /// `operator` is logged in as the bus's operator.
    pub fn new(operator: Client) -> Self {
        Self(operator)
    }

    /// Asks all nodes that run.
    pub async fn ask(&self, request: PolicyRequest) -> Result<Answers, FleetError> {
        let within = match request {
            PolicyRequest::Status => STATUS_WITHIN,
            PolicyRequest::Reload => RELOAD_WITHIN,
        };
        let subject = names::policy_request(request.as_str());
        self.ask_each(&self.names().await?, (&subject, Bytes::new()), within).await
    }

    /// Asks these nodes what they have frozen, and tells them which revision of it is the last.
    pub async fn freezes(&self, nodes: &[String], last: u64) -> Result<Answers<NodeFreezes>, FleetError> {
        let last = Bytes::from(last.to_string());
        self.ask_each(nodes, (names::FREEZE_STATUS, last), FOLLOWED_WITHIN).await
    }

    /// Asks these nodes which constitutions they have in force, and tells them which revision is the last.
    pub async fn constitutions(
        &self,
        nodes: &[String],
        last: u64,
    ) -> Result<Answers<NodeConstitutions>, FleetError> {
        let last = Bytes::from(last.to_string());
        self.ask_each(nodes, (names::CONSTITUTION_STATUS, last), FOLLOWED_WITHIN).await
    }

    /// Asks all nodes that run what the candidate beside their policy would change.
    pub async fn shadows(&self) -> Result<Answers<NodeShadow>, FleetError> {
        self.ask_each(&self.names().await?, (names::POLICY_DIFF, Bytes::new()), STATUS_WITHIN).await
    }

    /// Asks all nodes that run how they are.
    pub async fn status(&self) -> Result<Answers<NodeStatus>, FleetError> {
        self.ask_each(&self.names().await?, (names::NODE_STATUS, Bytes::new()), STATUS_WITHIN).await
    }

    /// Has all nodes that run recover what they ask of this kind.
    pub async fn recover(&self, kind: Kind) -> Result<Answers<NodeRecovery>, FleetError> {
        let kind = Bytes::from_static(kind.as_str().as_bytes());
        self.ask_each(&self.names().await?, (names::NODE_RECOVERY, kind), STATUS_WITHIN).await
    }

    async fn ask_each<T: Answer>(
        &self,
        nodes: &[String],
        question: (&str, Bytes),
        within: Duration,
    ) -> Result<Answers<T>, FleetError> {
        let mut answers: Answers<T> = nodes.iter().map(|name| (name.clone(), None)).collect();
        let end = Instant::now() + within;
        let mut waiting = answers.len();
        self.gather(question, |payload| {
            if let Ok(answer) = serde_json::from_slice::<T>(payload) {
                let before = answers.insert(answer.node().to_owned(), Some(answer));
                waiting = waiting.saturating_sub(usize::from(matches!(before, Some(None))));
            }
            (waiting > 0).then_some(end)
        })
        .await?;
        Ok(answers)
    }

    /// Who answers to a ping, each until nobody has for a moment.
    pub async fn names(&self) -> Result<Vec<String>, FleetError> {
        let mut names = Vec::new();
        self.gather((names::PING_NODES, Bytes::new()), |payload| {
            let pong: Option<Pong> = serde_json::from_slice(payload).ok();
            names.extend(pong.map(|pong| pong.metadata.node));
            Some(Instant::now() + QUIET)
        })
        .await?;
        if names.is_empty() { Err(FleetError::Nobody) } else { Ok(names) }
    }

    /// Hands on each answer, until the time that was told last, or `None`.
    async fn gather(
        &self,
        (subject, question): (&str, Bytes),
        mut hear: impl FnMut(&[u8]) -> Option<Instant>,
    ) -> Result<(), FleetError> {
        let failed = |cause: String| FleetError::Unavailable(cause);
        let inbox = self.0.new_inbox();
        let mut heard = self.0.subscribe(inbox.clone()).await.map_err(|error| failed(error.to_string()))?;
        let asked = self.0.publish_with_reply(subject.to_owned(), inbox, question);
        asked.await.map_err(|error| failed(error.to_string()))?;
        let mut until = Instant::now() + FIRST_ANSWER;
        for _ in 0..NODES_MAX {
            let Ok(Some(answer)) = timeout_at(until, heard.next()).await else { break };
            // Nobody listens there.
            if answer.status == Some(async_nats::StatusCode::NO_RESPONDERS) {
                break;
            }
            match hear(&answer.payload) {
                Some(next) => until = next,
                None => break,
            }
        }
        Ok(())
    }
}

#[derive(serde::Deserialize)]
struct Pong {
    metadata: Metadata,
}

#[derive(serde::Deserialize)]
struct Metadata {
    node: String,
}
