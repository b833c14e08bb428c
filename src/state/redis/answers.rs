//! Answers of the policy that nodes share.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use fred::{
    interfaces::KeysInterface as _,
    prelude::Value,
    types::{Expiration, Key},
};

use super::{Forgery, RedisStore, unexpected};
use crate::{
    domain::TenantId,
    state::{
        Digest, SHARED_BYTES_MAX, SharedAnswers, StoreError,
        clock::millis,
        seal::{self, Judged, Subject},
    },
};

/// Bytes of an answer with its seal. No more are read of what a stranger has put there.
const ENTRY_MAX: usize = SHARED_BYTES_MAX + seal::JSON_GROWS;

fn answer_key(tenant: &TenantId, digest: &Digest) -> String {
    format!("agentbus:{{{tenant}}}:decision:{}", hex::encode(digest))
}

#[async_trait]
impl SharedAnswers for RedisStore {
    async fn get(&self, tenant: &TenantId, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let name = answer_key(tenant, digest);
        // One byte more than an entry may have says that it is none.
        let read = self.client()?.getrange(Key::from(name.as_str()), 0, ENTRY_MAX);
        let stored: Bytes = match read.await {
            Ok(stored) => stored,
            // A list, or what else no node puts there.
            Err(error) if error.details().starts_with("WRONGTYPE") => {
                self.alarm.raise(Forgery::Decision, 1);
                return Ok(None);
            }
            Err(error) => return Err(self.failed(&error)),
        };
        if stored.is_empty() {
            return Ok(None);
        }
        // Whoever could make one up could have a message pass that the policy denies: without a seal it is nothing.
        match seal::open_json(&self.seals, Subject::answer(&name), &stored) {
            (json, Judged::Good { .. }) => Ok(Some(json)),
            (_, Judged::Unsealed | Judged::Forged) => {
                self.alarm.raise(Forgery::Decision, 1);
                Ok(None)
            }
        }
    }

    async fn put(
        &self,
        tenant: &TenantId,
        digest: &Digest,
        json: Vec<u8>,
        life: Duration,
    ) -> Result<(), StoreError> {
        if !self.seals.seals() {
            return Err(unexpected("an answer to share, and no key to seal it with"));
        }
        let name = answer_key(tenant, digest);
        let sealed = seal::seal_json(&self.seals, Subject::answer(&name), json, life);
        let life = Expiration::PX(i64::try_from(millis(life)).unwrap_or(i64::MAX));
        let value = Value::Bytes(sealed.into());
        let set = self.client()?.set(Key::from(name), value, Some(life), None, false);
        let _: Value = set.await.map_err(|error| self.failed(&error))?;
        Ok(())
    }
}
