//! An agent's durable inbox, read one message at a time. Plain NATS does: a request for the next message,
//! and an acknowledgement to the reply subject of what came.

use std::time::Duration;

use agentbus::{client::AgentClient, tenants::names};
use anyhow::bail;
use async_nats::{Client, Message, StatusCode, Subscriber};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::{sync::mpsc, task::JoinHandle};

use super::context::Who;

/// How long one request waits at the server. Short: the server would give a message to the request of one
/// that has gone, and it would come again only when its time to be acknowledged is over.
const PULL: Duration = Duration::from_secs(1);
/// For its answer, which says at least that nothing came.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);
/// After a server that was away.
const PAUSE: Duration = Duration::from_secs(1);

/// What the bus keeps for an agent, oldest first. What is not acknowledged comes again.
pub(super) struct DurableInbox {
    client: Client,
    messages: mpsc::Receiver<Message>,
    puller: JoinHandle<()>,
}

/// Where the next one is asked for, and where it comes to.
struct Pull {
    client: Client,
    next: String,
    acks: String,
    inbox: String,
    answers: Subscriber,
}

impl DurableInbox {
    /// Fails if the agent has no durable inbox.
    pub(super) async fn open(client: &AgentClient, who: &Who) -> anyhow::Result<Self> {
        let (stream, agent) = (names::outbound_stream(&who.tenant), &who.agent);
        let client = client.nats().clone();
        let inbox = client.new_inbox();
        let mut pull = Pull {
            next: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{agent}"),
            acks: format!("$JS.ACK.{stream}.{agent}."),
            answers: client.subscribe(inbox.clone()).await?,
            inbox,
            client: client.clone(),
        };
        // What is there already tells as well that the inbox is there.
        let first = match pull.once(None).await? {
            Pulled::Message(message) => Some(message),
            Pulled::Nothing => None,
            Pulled::Away => bail!("there is no durable inbox of {who}; `agentbus tenants apply` makes it"),
        };
        // One beside the one that is being handled.
        let (sender, messages) = mpsc::channel(1);
        let puller = tokio::spawn(pull.run(first, sender));
        Ok(Self { client, messages, puller })
    }

    /// The next one; safe to drop while it waits.
    pub(super) async fn next(&mut self) -> Option<Message> {
        self.messages.recv().await
    }

    /// It was handled, and is not to come again.
    pub(super) async fn ack(&self, message: &Message) -> anyhow::Result<()> {
        self.answer(message, "+ACK").await
    }

    /// Gives back what was fetched and not handled, the last request's answer too.
    pub(super) async fn close(mut self) {
        self.messages.close();
        if tokio::time::timeout(ANSWERED_WITHIN, &mut self.puller).await.is_err() {
            self.puller.abort();
        }
        while let Ok(message) = self.messages.try_recv() {
            // What is lost here comes again when its time to be acknowledged is over.
            let _ = self.answer(&message, "-NAK").await;
        }
    }

    async fn answer(&self, message: &Message, word: &'static str) -> anyhow::Result<()> {
        if let Some(reply) = message.reply.clone() {
            self.client.publish(reply, word.into()).await?;
        }
        Ok(())
    }
}

enum Pulled {
    Message(Message),
    Nothing,
    /// No server, or no such inbox.
    Away,
}

impl Pull {
    async fn run(mut self, first: Option<Message>, messages: mpsc::Sender<Message>) {
        let mut first = first;
        // Only for what there is room for.
        while let Ok(room) = messages.reserve().await {
            let pulled = match first.take() {
                Some(message) => Ok(Pulled::Message(message)),
                None => self.once(Some(PULL)).await,
            };
            match pulled {
                Ok(Pulled::Message(message)) => room.send(message),
                Ok(Pulled::Nothing) => {}
                Ok(Pulled::Away) => tokio::time::sleep(PAUSE).await,
                Err(_) => return,
            }
        }
    }

    /// One request for one message; without a time to wait, only for what is there.
    async fn once(&mut self, wait: Option<Duration>) -> anyhow::Result<Pulled> {
        let ask = match wait {
            Some(wait) => json!({ "batch": 1, "expires": u64::try_from(wait.as_nanos()).unwrap_or(0) }),
            None => json!({ "batch": 1, "no_wait": true }),
        };
        let (next, inbox) = (self.next.clone(), self.inbox.clone());
        self.client.publish_with_reply(next, inbox, ask.to_string().into()).await?;
        let Ok(answer) = tokio::time::timeout(ANSWERED_WITHIN, self.answers.next()).await else {
            return Ok(Pulled::Away);
        };
        let Some(answer) = answer else { bail!("the connection is closed") };
        let kept = answer.reply.as_ref().is_some_and(|reply| reply.starts_with(&self.acks));
        Ok(match answer.status {
            None if kept => Pulled::Message(answer),
            Some(StatusCode::NO_RESPONDERS) => Pulled::Away,
            _ => Pulled::Nothing,
        })
    }
}
