//! What led to the messages that agents got, as Redis has it?
//!
//! A cause bears no seal: whoever can write there could take it away as well, which no seal can tell.

use async_trait::async_trait;
use fred::{interfaces::KeysInterface as _, prelude::Value};
use futures_util::future::try_join_all;

use super::{RedisStore, unexpected};
use crate::{
    domain::{AgentId, Cause, Conversation, MessageId, TenantId},
    state::{
        Causes, Counted, Followed, HandedBack, Known, MessageKey, StoreError,
        causes::{CONVERSATION_LIFE, FOLLOWED_AT_ONCE},
        clock::millis,
        redis::messages::message_key,
    },
};

/// What all keys of causes of a tenant begin with.
fn causes(tenant: &TenantId) -> String {
    format!("agentbus:{{{tenant}}}:cause:")
}

fn conversations(tenant: &TenantId) -> String {
    format!("agentbus:{{{tenant}}}:conversation:")
}

fn followers(tenant: &TenantId, by: &AgentId, answered: &MessageId) -> String {
    format!("agentbus:{{{tenant}}}:followers:{by}:{answered}")
}

fn number(n: impl TryInto<i64>) -> Value {
    n.try_into().unwrap_or(i64::MAX).into()
}

fn text(text: Option<&str>) -> Value {
    text.unwrap_or_default().into()
}

#[async_trait]
impl Causes for RedisStore {
    async fn cause(&self, tenant: &TenantId, handed: &HandedBack) -> Result<Known, StoreError> {
        let HandedBack { by, answered, span, to, conversation } = handed;
        let claim = to.as_ref().zip(answered.as_ref()).map(|(to, message)| {
            message_key(&MessageKey { tenant: tenant.clone(), sender: to.clone(), message: message.clone() })
        });
        let args = vec![
            number(Cause::TEXT_MAX),
            text(answered.as_ref().map(MessageId::as_str)),
            text(span.as_deref()),
            text(to.as_ref().map(AgentId::as_str)),
            text(claim.as_deref()),
            conversation.to_string().into(),
            conversations(tenant).into(),
            text(answered.as_ref().map(|answered| followers(tenant, by, answered)).as_deref()),
        ];
        let key = format!("{}{by}:", causes(tenant));
        let answer = self.run_for_message(&self.scripts.cause, key.into(), args).await?;
        read(&answer).ok_or_else(|| unexpected("a cause that no node wrote"))
    }

    async fn follow(&self, tenant: &TenantId, followed: &Followed) -> Result<(), StoreError> {
        let Followed { recipients, names, cause } = followed;
        let key = causes(tenant);
        let mut head: Vec<Value> = vec![
            number(millis(self.settings.lifetimes.window)),
            cause.to_string().into(),
            number(names.len()),
        ];
        head.extend(names.iter().map(|name| Value::from(name.to_string())));
        let chunks = recipients.chunks(FOLLOWED_AT_ONCE).map(|recipients| {
            let mut args = head.clone();
            args.extend(recipients.iter().map(|agent| Value::from(agent.as_str())));
            self.run_for_message(&self.scripts.follow, key.as_str().into(), args)
        });
        try_join_all(chunks).await.map(drop)
    }

    async fn count(&self, tenant: &TenantId, counted: &Counted) -> Result<(), StoreError> {
        let Counted { conversation, answered } = counted;
        let key = format!("{}{conversation}", conversations(tenant));
        let args = vec![
            number(millis(CONVERSATION_LIFE)),
            text(answered.as_ref().map(|(by, answered)| followers(tenant, by, answered)).as_deref()),
            number(millis(self.settings.lifetimes.window)),
        ];
        self.run_for_message(&self.scripts.count, key.into(), args).await.map(drop)
    }

    async fn renew(&self, tenant: &TenantId, conversation: &Conversation) -> Result<(), StoreError> {
        let key = format!("{}{conversation}", conversations(tenant));
        let gone: Result<Value, _> = Box::pin(self.client()?.del(key)).await;
        gone.map(drop).map_err(|error| self.failed(&error))
    }
}

fn read(answer: &Value) -> Option<Known> {
    let Value::Array(fields) = answer else { return None };
    let [cause, followers, messages, Value::Integer(0)] = fields.as_slice() else { return None };
    let count = |value: &Value| u32::try_from(value.as_i64()?).ok();
    let cause = match cause.as_str()?.as_ref() {
        "" => None,
        text => Some(text.parse().ok()?),
    };
    Some(Known { cause, followers: count(followers)?, messages: count(messages)? })
}
