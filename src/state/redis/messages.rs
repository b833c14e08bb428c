//! Which messages were claimed and settled, as Redis has it?

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fred::{
    prelude::Value,
    types::{Expiration, Key},
};

use super::{RedisStore, batch::Ask, unexpected};
use crate::state::{
    Claim, ClaimToken, Digest, Idempotency, Lifetimes, MessageKey, StoreError, clock::millis, verdict_fits,
};

fn message_key(key: &MessageKey) -> Key {
    let MessageKey { tenant, sender, message } = key;
    format!("agentbus:{{{tenant}}}:msg:{sender}:{message}").into()
}

fn token_bytes(token: ClaimToken) -> Value {
    Value::Bytes(Bytes::copy_from_slice(&token.0.to_be_bytes()))
}

fn ms(duration: Duration) -> Value {
    i64::try_from(millis(duration)).unwrap_or(i64::MAX).into()
}

impl RedisStore {
    /// Most messages are new, and for those a plain command does, which costs the server less than a
    /// script. Whatever stands there already is for the script to judge.
    async fn claim_first(
        &self,
        key: &MessageKey,
        digest: &Digest,
        token: ClaimToken,
    ) -> Result<bool, StoreError> {
        let Lifetimes { window, lease, .. } = self.settings.lifetimes;
        let mut entry = Vec::with_capacity(64);
        entry.push(b'P');
        entry.extend_from_slice(digest);
        entry.extend_from_slice(&token.0.to_be_bytes());
        // For the lease to be this node's: who asks later may have another window.
        let rest = millis(window).saturating_sub(millis(lease));
        entry.extend_from_slice(format!("r{rest}").as_bytes());
        let window = i64::try_from(millis(window)).unwrap_or(i64::MAX);
        let ask = Ask::SetNew { key: message_key(key), entry: entry.into(), expiry: Expiration::PX(window) };
        let earlier = self.batcher.ask(self.client()?, ask).await;
        Ok(earlier.map_err(|error| self.failed(&error))?.is_null())
    }
}

#[async_trait]
impl Idempotency for RedisStore {
    async fn claim(&self, key: &MessageKey, digest: &Digest) -> Result<Claim, StoreError> {
        let token = ClaimToken::random();
        if self.claim_first(key, digest, token).await? {
            return Ok(Claim::Mine { token });
        }
        let args = vec![
            Value::Bytes(Bytes::copy_from_slice(digest)),
            token_bytes(token),
            ms(self.settings.lifetimes.lease),
            ms(self.settings.lifetimes.window),
        ];
        let answer = self.run_for_message(&self.scripts.claim, message_key(key), args).await?;
        match answer.as_bytes().and_then(<[u8]>::split_first) {
            Some((b'M', [])) => Ok(Claim::Mine { token }),
            Some((b'T', [])) => Ok(Claim::TakenOver { token }),
            Some((b'C', [])) => Ok(Claim::Conflict),
            Some((b'S', verdict)) => Ok(Claim::Settled { verdict: verdict.to_vec() }),
            Some((b'W', left)) => {
                let left = std::str::from_utf8(left).ok().and_then(|left| left.parse().ok());
                let left = left.ok_or_else(|| unexpected("a lease that is no number"))?;
                Ok(Claim::Pending { lease_left: Duration::from_millis(left) })
            }
            _ => Err(unexpected("no answer to a claim")),
        }
    }

    async fn settle(
        &self,
        key: &MessageKey,
        token: ClaimToken,
        verdict: &[u8],
        longer: Duration,
    ) -> Result<(), StoreError> {
        verdict_fits(verdict)?;
        let mut args = vec![token_bytes(token), Value::Bytes(Bytes::copy_from_slice(verdict))];
        if !longer.is_zero() {
            args.push(ms(longer.saturating_add(self.settings.lifetimes.window)));
        }
        self.run_for_message(&self.scripts.settle, message_key(key), args).await?;
        Ok(())
    }

    async fn release(&self, key: &MessageKey, token: ClaimToken) -> Result<(), StoreError> {
        self.run_for_message(&self.scripts.release, message_key(key), vec![token_bytes(token)]).await?;
        Ok(())
    }
}
