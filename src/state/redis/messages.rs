//! Which messages were claimed and settled, as Redis has it?

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fred::{
    interfaces::KeysInterface as _,
    prelude::Value,
    types::{Expiration, SetOptions},
};

use super::{Forgery, RedisStore, pipe::WRITTEN_WITHIN, unexpected};
use crate::{
    domain::DecisionId,
    state::{
        Claim, ClaimToken, Digest, Idempotency, Lifetimes, MessageKey, StoreError, VERDICT_BYTES_MAX,
        clock::millis,
        seal::{self, Judged, Subject},
        verdict_fits,
    },
};

/// Bytes of an entry: a letter, a digest, and a verdict with its seal.
const ENTRY_MAX: usize = 1 + 32 + VERDICT_BYTES_MAX + seal::VERDICT_GROWS;
/// No node claims for longer.
const LEASE_MAX: Duration = Duration::from_secs(3_600);

pub(super) fn message_key(key: &MessageKey) -> String {
    let MessageKey { tenant, sender, message } = key;
    format!("agentbus:{{{tenant}}}:msg:{sender}:{message}")
}

fn token_bytes(token: ClaimToken) -> Value {
    Value::Bytes(Bytes::copy_from_slice(&token.number.to_be_bytes()))
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
        (digest, decision): (&Digest, Option<&DecisionId>),
        token: ClaimToken,
    ) -> Result<bool, StoreError> {
        let Lifetimes { window, lease, .. } = self.settings.lifetimes;
        let mut entry = Vec::with_capacity(96);
        entry.push(if decision.is_some() { b'N' } else { b'P' });
        entry.extend_from_slice(digest);
        entry.extend_from_slice(&token.number.to_be_bytes());
        if let Some(decision) = decision {
            entry.extend_from_slice(decision.as_str().as_bytes());
            entry.push(b' ');
        }
        // For the lease to be this node's: who asks later may have another window.
        let rest = millis(window).saturating_sub(millis(lease));
        entry.extend_from_slice(format!("r{rest}").as_bytes());
        let life = i64::try_from(millis(window)).unwrap_or(i64::MAX);
        let (client, key) = (self.client()?, message_key(key).into());
        let set: Result<Value, _> = match self.pipes.here().set_new(&key, &entry, life).await {
            Some(set) => set,
            None => {
                let (life, unless_there) = (Some(Expiration::PX(life)), Some(SetOptions::NX));
                Box::pin(client.set(key, Value::Bytes(entry.into()), life, unless_there, false)).await
            }
        };
        Ok(!set.map_err(|error| self.failed(&error))?.is_null())
    }

    /// A verdict is told only if a node sealed it for this message. Whether it is for another content of the
    /// message is told only then, too.
    fn settled(&self, name: &str, entry: &[u8], digest: &Digest) -> Claim {
        let Some((of, stored)) = entry.split_first_chunk::<32>() else {
            return self.doubtful(Forgery::Claim);
        };
        let (verdict, judged) = seal::open_verdict(&self.seals, Subject::verdict(name, of), stored);
        match judged {
            Judged::Forged => self.doubtful(Forgery::Verdict),
            Judged::Good { .. } | Judged::Unsealed if of == digest => Claim::Settled { verdict },
            Judged::Good { .. } | Judged::Unsealed => Claim::Conflict,
        }
    }

    fn sealed(
        &self,
        name: &str,
        digest: &Digest,
        verdict: &[u8],
        life: Duration,
    ) -> Result<Vec<u8>, StoreError> {
        verdict_fits(verdict)?;
        seal::seal_verdict(&self.seals, Subject::verdict(name, digest), verdict, life)
            .ok_or_else(|| unexpected("a verdict to store without room for a seal"))
    }

    /// What is written in time gets to Redis before the lease ends. Should Redis itself be late, the taker has told of the
    /// same decision.
    fn cannot_be_taken_over(&self, token: ClaimToken) -> bool {
        token.asked.elapsed() + 2 * WRITTEN_WITHIN < self.settings.lifetimes.lease
    }

    fn doubtful(&self, what: Forgery) -> Claim {
        self.alarm.raise(what, 1);
        Claim::Doubtful
    }
}

#[async_trait]
impl Idempotency for RedisStore {
    async fn claim(
        &self,
        key: &MessageKey,
        digest: &Digest,
        decision: Option<&DecisionId>,
    ) -> Result<Claim, StoreError> {
        let token = ClaimToken::random();
        if self.claim_first(key, (digest, decision), token).await? {
            return Ok(Claim::Mine { token });
        }
        let args = vec![
            Value::Bytes(Bytes::copy_from_slice(digest)),
            token_bytes(token),
            ms(self.settings.lifetimes.lease),
            ms(self.settings.lifetimes.window),
            i64::try_from(ENTRY_MAX).unwrap_or(i64::MAX).into(),
            ms(LEASE_MAX),
            decision.map_or("", DecisionId::as_str).into(),
        ];
        let name = message_key(key);
        let answer = self.run_for_message(&self.scripts.claim, name.as_str().into(), args).await?;
        match answer.as_bytes().and_then(<[u8]>::split_first) {
            Some((b'M', [])) => Ok(Claim::Mine { token }),
            Some((b'T', [])) => Ok(Claim::TakenOver { token, first: None }),
            Some((b'T', first)) => match std::str::from_utf8(first).ok().and_then(DecisionId::parse) {
                Some(first) => Ok(Claim::TakenOver { token, first: Some(first) }),
                None => Ok(self.doubtful(Forgery::Claim)),
            },
            Some((b'C', [])) => Ok(Claim::Conflict),
            Some((b'S', entry)) => Ok(self.settled(&name, entry, digest)),
            Some((b'X', [])) => Ok(self.doubtful(Forgery::Claim)),
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
        digest: &Digest,
        token: ClaimToken,
        verdict: &[u8],
        longer: Duration,
    ) -> Result<(), StoreError> {
        let name = message_key(key);
        let life = longer.saturating_add(self.settings.lifetimes.window);
        let sealed = self.sealed(&name, digest, verdict, life)?;
        let mut args = vec![token_bytes(token), Value::Bytes(sealed.into())];
        if !longer.is_zero() {
            args.push(ms(life));
        }
        self.run_for_message(&self.scripts.settle, name.into(), args).await?;
        Ok(())
    }

    /// By a plain command, which costs the server a quarter of what a script does.
    async fn settle_recorded(
        &self,
        key: &MessageKey,
        digest: &Digest,
        token: ClaimToken,
        verdict: &[u8],
    ) -> Result<(), StoreError> {
        if self.cannot_be_taken_over(token) {
            let name = message_key(key);
            let sealed = self.sealed(&name, digest, verdict, self.settings.lifetimes.window)?;
            let entry = [b"S", digest.as_slice(), &sealed].concat();
            if let Some(set) = self.pipes.here().set_there(&name.into(), &entry).await {
                return set.map(drop).map_err(|error| self.failed(&error));
            }
        }
        self.settle(key, digest, token, verdict, Duration::ZERO).await
    }

    async fn release(&self, key: &MessageKey, token: ClaimToken) -> Result<(), StoreError> {
        self.run_for_message(&self.scripts.release, message_key(key).into(), vec![token_bytes(token)])
            .await?;
        Ok(())
    }
}
