//! An agent's side of the bus, in Rust: what `agentbus send`, the demo, the load test and the tests
//! use. It does nothing that a plain NATS client could not do; `examples/` shows that.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_nats::{
    Client, ConnectOptions, Event, HeaderMap, RequestErrorKind, Subscriber,
    jetstream::{
        self,
        consumer::{PullConsumer, pull},
    },
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use rand::Rng as _;
use serde_json::{Value, json};

use crate::{
    domain::{AgentId, Encoding, MessageType, Priority, Reason, TenantId, Verb, Verdict},
    tls::{self, TlsError},
    wire,
};

/// A connected agent.
#[derive(Debug, Clone)]
pub struct AgentClient {
    nats: Client,
    id: AgentId,
    /// What the server has refused this connection: publishes and subscriptions beyond its permissions.
    violations: Arc<AtomicU64>,
    traceparent: Option<String>,
}

/// What went wrong before there was a verdict.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot connect to NATS at {url} as {agent}: {cause}")]
    Connect { url: String, agent: AgentId, cause: async_nats::ConnectError },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot subscribe: {0}")]
    Subscribe(#[from] async_nats::SubscribeError),
    /// Also after every retry. The message may have been delivered; the same `message_id` asks again.
    #[error("no answer from the bus within {waited:?}: {last}")]
    NoAnswer { waited: Duration, last: String },
    #[error("the bus answered with something else than a verdict: {0}")]
    Unreadable(String),
}

/// How long to wait for an answer, over all retries.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For one attempt; then the same message is sent again.
    pub attempt: Duration,
    pub deadline: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { attempt: Duration::from_millis(1500), deadline: Duration::from_secs(5) }
    }
}

impl Patience {
    /// With one long attempt, since a repeat does not hear the answer.
    pub const FOR_AN_ANSWER: Patience =
        Patience { attempt: Duration::from_secs(30), deadline: Duration::from_secs(35) };
}

/// The reply to a message; to an `ask`, with its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub verdict: Verdict,
    /// The answer's message; there if, and only if, the verdict says delivered.
    pub answer: Option<Value>,
    /// The verdict is that of an earlier attempt.
    pub repeat: bool,
}

impl Asked {
    fn read(reply: &async_nats::Message) -> Result<Self, ClientError> {
        let payload = &reply.payload;
        let verdict =
            wire::decode_verdict(payload).map_err(|error| ClientError::Unreadable(error.to_string()))?;
        let whole: Value =
            match wire::encoding_of(payload) {
                Encoding::Json => serde_json::from_slice(payload)
                    .map_err(|error| ClientError::Unreadable(error.to_string()))?,
                Encoding::MessagePack => rmp_serde::from_slice(payload)
                    .map_err(|error| ClientError::Unreadable(error.to_string()))?,
            };
        let repeat = reply.headers.as_ref().is_some_and(|headers| headers.get("Agentbus-Repeat").is_some());
        Ok(Self { verdict, answer: whole.get("answer").cloned(), repeat })
    }
}

impl AgentClient {
    /// Connects with the agent's NKey seed; its replies come to its own inbox prefix.
    pub async fn connect(
        server: impl Into<tls::Server>,
        id: &AgentId,
        seed: &str,
    ) -> Result<Self, ClientError> {
        let server = server.into();
        let violations = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&violations);
        let options = ConnectOptions::with_nkey(seed.trim().to_owned())
            .name(format!("agent {id}"))
            .custom_inbox_prefix(format!("_INBOX.{id}"))
            .connection_timeout(Duration::from_secs(2))
            .event_callback(move |event| {
                // The server tells violations as errors on the connection, not as answers.
                if matches!(&event, Event::ServerError(error) if is_violation(error)) {
                    seen.fetch_add(1, Ordering::Relaxed);
                }
                std::future::ready(())
            });
        let options = match server.files.are_named() {
            true => {
                options.require_tls(true).tls_client_config(Arc::unwrap_or_clone(tls::client(&server.files)?))
            }
            false => options,
        };
        let nats = options.connect(server.urls()).await.map_err(|cause| ClientError::Connect {
            url: crate::config::without_secrets(&server.url),
            agent: id.clone(),
            cause,
        })?;
        Ok(Self { nats, id: id.clone(), violations, traceparent: None })
    }

    /// All that is asked from now on continues this trace (W3C trace context).
    pub fn continuing(self, traceparent: Option<String>) -> Self {
        Self { traceparent, ..self }
    }

    pub fn id(&self) -> &AgentId {
        &self.id
    }

    pub fn nats(&self) -> &Client {
        &self.nats
    }

    /// How often the server has refused what this connection tried to publish or subscribe.
    pub fn violations(&self) -> u64 {
        self.violations.load(Ordering::Relaxed)
    }

    /// Sends a message; asks again with the same bytes, and so the same message id, when there is no
    /// answer, or when the answer is that nobody knows yet whether it was delivered. The bus delivers
    /// it once.
    pub async fn send(&self, message: Bytes, patience: Patience) -> Result<Verdict, ClientError> {
        Ok(self.decided(Verb::Send, message, patience).await?.verdict)
    }

    /// Hands a message to the durable lane; asks again with the same bytes while the bus cannot say
    /// whether it is kept, or has no room at the moment. The verdict follows as an outcome.
    pub async fn submit(&self, message: Bytes, patience: Patience) -> Result<Verdict, ClientError> {
        Ok(self.submitted(message, patience).await?.verdict)
    }

    /// The same, with whether it is a repeat.
    pub async fn submitted(&self, message: Bytes, patience: Patience) -> Result<Asked, ClientError> {
        let started = tokio::time::Instant::now();
        loop {
            let left = Patience { deadline: patience.deadline.saturating_sub(started.elapsed()), ..patience };
            let asked = Asked::read(&self.call(Verb::Submit, message.clone(), left).await?)?;
            let pause = Duration::from_millis(rand::rng().random_range(50..150));
            let pause = pause.max(asked.verdict.retry_after.unwrap_or_default());
            if !asked.verdict.retryable || started.elapsed() + 2 * pause >= patience.deadline {
                return Ok(asked);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Outcomes of this agent's messages as they come about. Those that came while nobody listened are in
    /// the durable inbox.
    pub async fn outcomes(
        &self,
    ) -> Result<impl Stream<Item = async_nats::Message> + Unpin + use<>, ClientError> {
        let messages = self.nats.subscribe(format!("agent.{}.outcome", self.id)).await?;
        self.settled().await;
        let id = self.id.clone();
        Ok(messages.filter(move |message| std::future::ready(outcome(message, &id).is_some())))
    }

    /// What is kept for this agent, of its tenant `tenant`: messages and outcomes, each until it is
    /// acknowledged. Tell them apart by [`is_delivery`] and [`outcome`].
    ///
    /// Named, not looked up: in an account without streams of its own the server answers a client that
    /// asks for a consumer's details with that. Whether it exists is seen when messages are pulled.
    pub fn durable_inbox(&self, tenant: &TenantId) -> Result<PullConsumer, ClientError> {
        let mut context = jetstream::new(self.nats.clone());
        context.set_timeout(Duration::from_secs(5));
        let info = serde_json::from_value(json!({
            "stream_name": format!("OUT_{tenant}"),
            "name": self.id.as_str(),
            "created": "1970-01-01T00:00:00Z",
            "config": { "deliver_policy": "all", "ack_policy": "explicit", "replay_policy": "instant" },
            "delivered": { "consumer_seq": 0, "stream_seq": 0 },
            "ack_floor": { "consumer_seq": 0, "stream_seq": 0 },
            "num_ack_pending": 0, "num_redelivered": 0, "num_waiting": 0, "num_pending": 0,
        }));
        let info = info.map_err(|error| ClientError::Unreadable(error.to_string()))?;
        let config = pull::Config { durable_name: Some(self.id.to_string()), ..pull::Config::default() };
        Ok(PullConsumer::new(config, info, context))
    }

    /// Asks a question and waits for its answer. Asks again as [`Self::send`] does; a question that was
    /// delivered is not delivered again, and then its answer is lost.
    pub async fn ask(&self, message: Bytes, patience: Patience) -> Result<Asked, ClientError> {
        self.decided(Verb::Ask, message, patience).await
    }

    /// The verdict on a `send` or an `ask`, with whether it is a repeat.
    pub async fn decided(
        &self,
        verb: Verb,
        message: Bytes,
        patience: Patience,
    ) -> Result<Asked, ClientError> {
        let started = tokio::time::Instant::now();
        loop {
            let left = Patience { deadline: patience.deadline.saturating_sub(started.elapsed()), ..patience };
            let reply = self.call(verb, message.clone(), left).await?;
            let asked = Asked::read(&reply)?;
            let pause = Duration::from_millis(rand::rng().random_range(50..150));
            let over = started.elapsed() + 2 * pause >= patience.deadline;
            if asked.verdict.reason != Reason::TimedOut || over {
                return Ok(asked);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Answers a question that has come into the inbox, as a plain NATS client's `respond` does. `false`:
    /// nobody waits for an answer to this delivery, and the server would refuse it.
    pub async fn answer(
        &self,
        question: &async_nats::Message,
        answer: Bytes,
    ) -> Result<bool, async_nats::PublishError> {
        match &question.reply {
            Some(reply) if is_question(question, &self.id) => {
                self.nats.publish(reply.clone(), answer).await.map(|()| true)
            }
            _ => Ok(false),
        }
    }

    /// Calls any verb of the bus and returns the raw answer.
    pub async fn call(
        &self,
        verb: Verb,
        payload: Bytes,
        patience: Patience,
    ) -> Result<async_nats::Message, ClientError> {
        let subject = format!("bus.{}.{}", self.id, verb.as_str());
        let started = tokio::time::Instant::now();
        loop {
            let left = patience.deadline.saturating_sub(started.elapsed());
            let request =
                async_nats::Request::new().payload(payload.clone()).timeout(Some(patience.attempt.min(left)));
            let request = match &self.traceparent {
                Some(traceparent) => {
                    let mut headers = HeaderMap::new();
                    headers.insert("traceparent", traceparent.as_str());
                    request.headers(headers)
                }
                None => request,
            };
            let last = match self.nats.send_request(subject.clone(), request).await {
                Ok(answer) => return Ok(answer),
                Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                    "no node is listening".to_owned()
                }
                Err(error) => error.to_string(),
            };
            if started.elapsed() + Duration::from_millis(50) >= patience.deadline {
                return Err(ClientError::NoAnswer { waited: started.elapsed(), last });
            }
            // Jittered, so that those who lost the same node do not come back together.
            let pause = Duration::from_millis(rand::rng().random_range(10..50));
            tokio::time::sleep(pause).await;
        }
    }

    /// Registers, or renews with what is given. While the bus cannot know (the registry is not there,
    /// the tenant is new), asks again for a few seconds; the last answer is returned, whatever it says.
    pub async fn register(&self, capabilities: &[&str]) -> Result<Value, ClientError> {
        let body = json!({ "capabilities": capabilities }).to_string();
        let started = tokio::time::Instant::now();
        loop {
            let answer = self.json(Verb::Register, body.clone()).await?;
            let reason = answer.get("reason").and_then(Value::as_str).and_then(Reason::parse);
            let passing = matches!(
                reason,
                Some(
                    Reason::RegistryUnavailable
                        | Reason::BreakerOpen
                        | Reason::TenantUnknown
                        | Reason::SenderUnknown
                )
            );
            if !passing || started.elapsed() >= Patience::default().deadline {
                return Ok(answer);
            }
            let pause = Duration::from_millis(rand::rng().random_range(50..150));
            tokio::time::sleep(pause).await;
        }
    }

    /// Stops itself, until an operator lets it go on; where its tenant's `limits.self_freeze` allows it.
    pub async fn freeze(&self, why: &str) -> Result<Value, ClientError> {
        self.json(Verb::Freeze, json!({ "why": why }).to_string()).await
    }

    /// A registry verb in JSON.
    pub async fn json(&self, verb: Verb, body: String) -> Result<Value, ClientError> {
        let answer = self.call(verb, body.into(), Patience::default()).await?;
        serde_json::from_slice(&answer.payload).map_err(|error| ClientError::Unreadable(error.to_string()))
    }

    /// The hash of the constitution that messages had best name. `None`: no node has said so in time.
    pub async fn preferred_constitution(&self, within: Duration) -> Option<String> {
        let patience = Patience { attempt: within, deadline: within };
        let answer = self.call(Verb::About, Bytes::from_static(b"{}"), patience).await.ok()?;
        let answer: Value = serde_json::from_slice(&answer.payload).ok()?;
        let mut named = answer.get("constitutions")?.as_array()?.iter();
        let preferred = named.find(|one| one.get("preferred").and_then(Value::as_bool) == Some(true))?;
        Some(preferred.get("hash")?.as_str()?.to_owned())
    }

    /// What the bus delivers to this agent. Anything that does not name it as `Agentbus-Recipient` is not
    /// meant for it and is dropped, as every agent should do.
    pub async fn inbox(
        &self,
    ) -> Result<impl Stream<Item = async_nats::Message> + Unpin + use<>, ClientError> {
        let messages = self.everything().await?;
        let id = self.id.clone();
        Ok(messages.filter(move |message| std::future::ready(is_delivery(message, &id))))
    }

    /// Like [`AgentClient::inbox`], with what is not from the bus; tell it by [`is_delivery`].
    pub async fn everything(&self) -> Result<Subscriber, ClientError> {
        let messages = self.nats.subscribe(format!("agent.{}.inbox", self.id)).await?;
        self.settled().await;
        Ok(messages)
    }

    /// Returns when the server has read all that was written so far: a round trip on a subject of
    /// the agent's own.
    pub async fn settled(&self) {
        let echo = format!("_INBOX.{}.{}", self.id, nuid::next());
        let request = async_nats::Request::new().inbox(echo).timeout(Some(Duration::from_secs(1)));
        // Heartbeat is the cheapest verb; any answer, or none in time, is as good.
        let _ = self.nats.send_request(format!("bus.{}.heartbeat", self.id), request).await;
    }
}

/// By a chosen reply subject somebody can have the server send here what is not meant for this agent: a
/// verdict, which names no recipient, or what is in their own durable inbox, which names them. No agent can
/// set these headers.
fn meant_for<'a>(message: &'a async_nats::Message, agent: &AgentId) -> Option<&'a async_nats::HeaderMap> {
    let headers = message.headers.as_ref()?;
    let recipient = headers.get("Agentbus-Recipient")?;
    (recipient.as_str() == agent.as_str()).then_some(headers)
}

/// Whether this only says that something has come into the durable inbox.
pub fn is_hint(message: &async_nats::Message) -> bool {
    let headers = message.headers.as_ref();
    message.payload.is_empty() && headers.is_some_and(|headers| headers.get("Agentbus-Kept").is_some())
}

/// Whether the bus delivered this message to this agent.
pub fn is_delivery(message: &async_nats::Message, agent: &AgentId) -> bool {
    meant_for(message, agent).is_some_and(|headers| headers.get("Agentbus-Delivery").is_some())
}

/// Whether somebody waits for this agent's answer to it. What `send` delivers has a reply subject as well, which is the
/// node's.
pub fn is_question(message: &async_nats::Message, agent: &AgentId) -> bool {
    message.reply.as_ref().is_some_and(|reply| reply.starts_with(&format!("bus.{agent}.answer.")))
}

/// The verdict in this message, if it is an outcome for this agent.
pub fn outcome(message: &async_nats::Message, agent: &AgentId) -> Option<Verdict> {
    let headers = meant_for(message, agent)?;
    let told = headers.get("Agentbus-Verdict").is_some() && headers.get("Agentbus-Delivery").is_none();
    if !told {
        return None;
    }
    wire::decode_verdict(&message.payload).ok()
}

fn is_violation(error: &async_nats::ServerError) -> bool {
    error.to_string().to_ascii_lowercase().contains("permissions violation")
}

/// A message to be written, with the defaults a person would choose.
#[derive(Debug, Clone)]
pub struct Draft {
    pub message_id: String,
    pub message_type: MessageType,
    /// `{"agent": …}`, `{"capability": …}` or `{"broadcast": {…}}`.
    pub to: Value,
    pub priority: Priority,
    pub constitutional_hash: String,
    pub content: Value,
    pub tools: Vec<String>,
    pub metadata: BTreeMap<String, String>,
    pub conversation_id: Option<String>,
    pub in_reply_to: Option<String>,
    /// From now.
    pub expires_in: Option<Duration>,
}

impl Draft {
    /// A note: type `event`, new message id, the default constitution.
    pub fn new(to: Value, content: Value) -> Self {
        Self {
            message_id: nuid::next().to_string(),
            message_type: MessageType::Event,
            to,
            priority: Priority::Normal,
            constitutional_hash: crate::config::DEFAULT_CONSTITUTION.to_owned(),
            content,
            tools: Vec::new(),
            metadata: BTreeMap::new(),
            conversation_id: None,
            in_reply_to: None,
            expires_in: None,
        }
    }

    pub fn to_agent(agent: &str, text: &str) -> Self {
        Self::new(json!({ "agent": agent }), json!({ "text": text }))
    }

    pub fn json(&self) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut message = json!({
            "message_id": self.message_id,
            "message_type": self.message_type.as_str(),
            "to": self.to,
            "priority": self.priority.as_str(),
            "constitutional_hash": self.constitutional_hash,
            "content": self.content,
            "created_at": millis(now),
        });
        if let Some(fields) = message.as_object_mut() {
            if !self.tools.is_empty() {
                fields.insert("tools".to_owned(), json!(self.tools));
            }
            for (name, id) in [("conversation_id", &self.conversation_id), ("in_reply_to", &self.in_reply_to)]
            {
                if let Some(id) = id {
                    fields.insert(name.to_owned(), json!(id));
                }
            }
            if !self.metadata.is_empty() {
                fields.insert("metadata".to_owned(), json!(self.metadata));
            }
            if let Some(expires_in) = self.expires_in {
                fields.insert("expires_at".to_owned(), json!(millis(now + expires_in)));
            }
        }
        message
    }

    pub fn encode(&self, encoding: Encoding) -> Bytes {
        match encoding {
            Encoding::Json => self.json().to_string().into(),
            // A JSON value always has a MessagePack form.
            Encoding::MessagePack => rmp_serde::to_vec_named(&self.json()).unwrap_or_default().into(),
        }
    }
}
