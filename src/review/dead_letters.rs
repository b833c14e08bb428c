//! What could not be governed: an operator looks at it, tries it again, or gives it up.
//!
//! Nothing is deleted before it is kept elsewhere, unless that is what was asked for. Whoever calls has the
//! operator's rights.

use std::{borrow::Cow, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    audit::{self, Act, Body, DeadLetter, Place, Record},
    domain::{TenantId, Timestamp},
    state::{Digest, MessageKey},
};

mod address;
mod letter;

pub use address::Address;
pub use letter::Letter;

/// Letters that one question lists or redrives.
pub const LETTERS_MAX: u64 = 1_000;

/// Where dead letters are kept. `nats::DeadLetterStreams` is the one over JetStream.
#[async_trait]
pub trait DeadLetterStore: Send + Sync {
    /// The tenants that have a place for them, those that left the tenants file as well.
    async fn tenants(&self) -> Result<Vec<TenantId>, DeadLetterError>;

    /// How many a tenant has.
    async fn count(&self, tenant: &TenantId) -> Result<u64, DeadLetterError>;

    /// A tenant's first letter at or after a place.
    async fn next(&self, tenant: &TenantId, from: u64) -> Result<Option<Letter>, DeadLetterError>;

    /// The newest under this address.
    async fn find(&self, address: &Address) -> Result<Option<Letter>, DeadLetterError>;

    /// Records what is about to be done. Returns when that is kept.
    async fn record(&self, entry: audit::Entry) -> Result<(), DeadLetterError>;

    /// Puts it back onto the durable lane. Returns when it is kept there; twice at one time is once.
    async fn resubmit(&self, message: Redriven) -> Result<(), DeadLetterError>;

    /// Deletes what is at a place: a newer letter of the same message is another one.
    async fn delete(&self, tenant: &TenantId, place: u64) -> Result<(), DeadLetterError>;
}

/// A message that is to be governed anew.
#[derive(Debug, Clone, PartialEq)]
pub struct Redriven {
    pub key: MessageKey,
    pub digest: Digest,
    /// For the how-manieth time, from 1.
    pub times: u32,
    pub traceparent: Option<String>,
    pub payload: Bytes,
}

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeadLetterError {
    #[error("there is no dead letter {0}")]
    Unknown(Address),
    #[error("it cannot be read as a message of its sender, so no node could govern it")]
    Unreadable,
    #[error(
        "nothing was done, for it could not be recorded: {0}; a server whose users are of an earlier version lets no \
         operator record: `agentbus tenants apply`"
    )]
    Unrecorded(String),
    #[error("JetStream did not take it, and it stays a dead letter: {0}")]
    NotTaken(String),
    #[error("it is back on the durable lane, and its dead letter stays: {0}")]
    Stays(Box<DeadLetterError>),
    #[error("{0}")]
    Store(String),
}

/// Who asks, for the records.
#[derive(Debug, Clone)]
pub struct Operator {
    /// Whom NATS let in.
    pub user: &'static str,
    /// What that person's machine calls them, if it does.
    pub login: Option<String>,
}

/// The operator's questions about dead letters. Each act has a record of who did it, ahead of what is done.
pub struct DeadLetters {
    store: Arc<dyn DeadLetterStore>,
    operator: Operator,
    clock: fn() -> Timestamp,
}

impl DeadLetters {
    pub fn new(store: Arc<dyn DeadLetterStore>, operator: Operator, clock: fn() -> Timestamp) -> Self {
        Self { store, operator, clock }
    }

    /// This tenant, or all that have a place for dead letters.
    pub async fn tenants(&self, only: Option<&TenantId>) -> Result<Vec<TenantId>, DeadLetterError> {
        match only {
            Some(tenant) => Ok(vec![tenant.clone()]),
            None => self.store.tenants().await,
        }
    }

    /// How many these tenants have.
    pub async fn count(&self, tenants: &[TenantId]) -> Result<u64, DeadLetterError> {
        let mut sum = 0;
        for tenant in tenants {
            sum += self.store.count(tenant).await?;
        }
        Ok(sum)
    }

    /// The oldest of these tenants, at most so many.
    pub async fn oldest(&self, tenants: &[TenantId], limit: u64) -> Result<Vec<Letter>, DeadLetterError> {
        let (mut letters, mut firsts) = (Vec::new(), Vec::new());
        for tenant in tenants {
            firsts.extend(self.store.next(tenant, 1).await?);
        }
        while (letters.len() as u64) < limit {
            let oldest = firsts.iter().enumerate().min_by_key(|(_, letter)| letter.died_at);
            let Some(at) = oldest.map(|(at, _)| at) else { break };
            let letter = firsts.swap_remove(at);
            firsts.extend(self.store.next(letter.address.tenant(), letter.place + 1).await?);
            letters.push(letter);
        }
        Ok(letters)
    }

    pub async fn read(&self, address: &Address) -> Result<Letter, DeadLetterError> {
        self.store.find(address).await?.ok_or_else(|| DeadLetterError::Unknown(address.clone()))
    }

    /// Back onto the durable lane; no dead letter any more once it is kept there.
    pub async fn redrive(&self, letter: &Letter) -> Result<(), DeadLetterError> {
        let redriven = letter.redriven().ok_or(DeadLetterError::Unreadable)?;
        self.record(letter, Act::Resubmit, Some(redriven.digest)).await?;
        self.store.resubmit(redriven).await?;
        let deleted = self.store.delete(letter.address.tenant(), letter.place).await;
        deleted.map_err(|error| DeadLetterError::Stays(Box::new(error)))
    }

    /// For good: nobody gets it any more.
    pub async fn discard(&self, letter: &Letter) -> Result<(), DeadLetterError> {
        self.record(letter, Act::Discard, letter.digest()).await?;
        self.store.delete(letter.address.tenant(), letter.place).await
    }

    async fn record(&self, letter: &Letter, act: Act, digest: Option<Digest>) -> Result<(), DeadLetterError> {
        let Operator { user, login } = &self.operator;
        let (sender, message) = letter.address.known();
        let body = Body::DeadLetter(DeadLetter {
            sender: sender.as_ref().map(Cow::Borrowed),
            message: message.as_ref().map(Cow::Borrowed),
            digest,
            act,
            reason: Cow::Borrowed(&letter.reason),
            by: Cow::Borrowed(user),
            login: login.as_deref().map(Cow::Borrowed),
        });
        let place = Place::DeadLetter { sender: sender.as_ref(), message: message.as_ref() };
        let record = Record::new((self.clock)(), letter.address.tenant(), user, body);
        self.store.record(record.entry(place)).await
    }

    /// Discards as many as a tenant had at the beginning, the oldest first: those that come meanwhile stay.
    pub async fn discard_all(&self, tenant: &TenantId) -> Result<u64, DeadLetterError> {
        let total = self.store.count(tenant).await?;
        let mut left = total;
        while left > 0 {
            let batch = self.oldest(std::slice::from_ref(tenant), left.min(LETTERS_MAX)).await?;
            if batch.is_empty() {
                break;
            }
            for letter in &batch {
                self.discard(letter)
                    .await
                    .map_err(|error| DeadLetterError::Store(format!("{}: {error}", letter.address)))?;
            }
            left = left.saturating_sub(batch.len() as u64);
        }
        Ok(total - left)
    }
}

#[cfg(test)]
mod tests;
