//! What could not be governed: an operator looks at it, tries it again, or gives it up.
//!
//! Nothing is deleted before it is kept elsewhere, unless that is what was asked for. Whoever calls has the
//! operator's rights.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    domain::TenantId,
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
    #[error("JetStream did not take it, and it stays a dead letter: {0}")]
    NotTaken(String),
    #[error("it is back on the durable lane, and its dead letter stays: {0}")]
    Stays(Box<DeadLetterError>),
    #[error("{0}")]
    Store(String),
}

/// The operator's questions about dead letters.
pub struct DeadLetters(Arc<dyn DeadLetterStore>);

impl DeadLetters {
    pub fn new(store: Arc<dyn DeadLetterStore>) -> Self {
        Self(store)
    }

    /// This tenant, or all that have a place for dead letters.
    pub async fn tenants(&self, only: Option<&TenantId>) -> Result<Vec<TenantId>, DeadLetterError> {
        match only {
            Some(tenant) => Ok(vec![tenant.clone()]),
            None => self.0.tenants().await,
        }
    }

    /// How many these tenants have.
    pub async fn count(&self, tenants: &[TenantId]) -> Result<u64, DeadLetterError> {
        let mut sum = 0;
        for tenant in tenants {
            sum += self.0.count(tenant).await?;
        }
        Ok(sum)
    }

    /// The oldest of these tenants, at most so many.
    pub async fn oldest(&self, tenants: &[TenantId], limit: u64) -> Result<Vec<Letter>, DeadLetterError> {
        let (mut letters, mut firsts) = (Vec::new(), Vec::new());
        for tenant in tenants {
            firsts.extend(self.0.next(tenant, 1).await?);
        }
        while (letters.len() as u64) < limit {
            let oldest = firsts.iter().enumerate().min_by_key(|(_, letter)| letter.died_at);
            let Some(at) = oldest.map(|(at, _)| at) else { break };
            let letter = firsts.swap_remove(at);
            firsts.extend(self.0.next(letter.address.tenant(), letter.place + 1).await?);
            letters.push(letter);
        }
        Ok(letters)
    }

    pub async fn read(&self, address: &Address) -> Result<Letter, DeadLetterError> {
        self.0.find(address).await?.ok_or_else(|| DeadLetterError::Unknown(address.clone()))
    }

    /// Back onto the durable lane; no dead letter any more once it is kept there.
    pub async fn redrive(&self, letter: &Letter) -> Result<(), DeadLetterError> {
        let redriven = letter.redriven().ok_or(DeadLetterError::Unreadable)?;
        self.0.resubmit(redriven).await?;
        self.delete(letter).await.map_err(|error| DeadLetterError::Stays(Box::new(error)))
    }

    pub async fn delete(&self, letter: &Letter) -> Result<(), DeadLetterError> {
        self.0.delete(letter.address.tenant(), letter.place).await
    }

    /// Deletes as many as a tenant had at the beginning, the oldest first: those that come meanwhile stay.
    pub async fn delete_all(&self, tenant: &TenantId) -> Result<u64, DeadLetterError> {
        let total = self.0.count(tenant).await?;
        let mut left = total;
        while left > 0 {
            let batch = self.oldest(std::slice::from_ref(tenant), left.min(LETTERS_MAX)).await?;
            if batch.is_empty() {
                break;
            }
            for letter in &batch {
                self.delete(letter)
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
