//! What have all nodes seen of a sender, as Redis has it?

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fred::{prelude::Value, types::Key};

use super::{Forgery, RedisStore, unexpected};
use crate::{
    domain::{AgentId, TenantId},
    state::{
        SenderHistoryStore, StoreError,
        clock::millis,
        past::{Count, PAST_SCORES, PAST_SECONDS, SCORES_LIFE, Seen, Shared},
    },
};

/// A past without scores is nothing once its counts are out of the window.
const COUNTS_LIFE: Duration = Duration::from_secs(2 * PAST_SECONDS);

fn past_key(tenant: &TenantId, sender: &AgentId, scale: &str) -> Key {
    match scale {
        "" => format!("agentbus:{{{tenant}}}:past:{sender}").into(),
        scale => format!("agentbus:{{{tenant}}}:past:{sender}:{scale}").into(),
    }
}

/// Where the script's counts begin, as Lua counts.
const ADDED: u64 = 8;

fn number(n: u64) -> Value {
    i64::try_from(n).unwrap_or(i64::MAX).into()
}

fn counts(flat: &[u64]) -> Vec<Count> {
    let (pairs, _) = flat.as_chunks();
    pairs.iter().map(|&[age, messages]| Count { age, messages }).collect()
}

#[async_trait]
impl SenderHistoryStore for RedisStore {
    async fn share(&self, tenant: &TenantId, sender: &AgentId, seen: &Seen) -> Result<Shared, StoreError> {
        let Seen { teller, sequence, messages, scores, scale } = seen;
        let mut args = vec![
            Value::Bytes(Bytes::from(format!("{teller:x}"))),
            number(*sequence),
            number(ADDED + 2 * messages.len() as u64),
            number(PAST_SECONDS),
            number(PAST_SCORES as u64),
            number(millis(SCORES_LIFE)),
            number(millis(COUNTS_LIFE)),
        ];
        args.extend(messages.iter().flat_map(|count| [number(count.age), number(count.messages)]));
        // As text that gives back the very number.
        args.extend(scores.iter().map(|score| Value::from(score.to_string())));
        let answer = self.run_for_message(&self.scripts.past, past_key(tenant, sender, scale), args).await?;
        let unreadable = || unexpected("a past that cannot be read");
        let Value::Array(parts) = answer else { return Err(unreadable()) };
        let [applied, messages, scores, spoiled] = <[Value; 4]>::try_from(parts).map_err(|_| unreadable())?;
        self.alarm.raise(Forgery::Past, spoiled.as_u64().ok_or_else(unreadable)?);
        let applied = applied.as_u64().ok_or_else(unreadable)?;
        let messages: Vec<u64> = messages.convert().map_err(|_| unreadable())?;
        let scores = scores.convert().map_err(|_| unreadable())?;
        Ok(Shared { applied, messages: counts(&messages), scores })
    }
}
