//! What leaves the node at once, behind the breaker of the records that go ahead of it.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    audit::{Record, Written},
    breakers::{Breaker, Call, Open},
    lanes::{Dispatch, Handover, LiveError, LiveTransport, Named},
    state::MessageKey,
};

/// A transport and the breaker of its records.
pub struct GuardedTransport {
    transport: Arc<dyn LiveTransport>,
    records: Arc<Breaker>,
}

impl GuardedTransport {
    pub fn new(transport: Arc<dyn LiveTransport>, records: Arc<Breaker>) -> Self {
        Self { transport, records }
    }

    /// Who stops waiting for a delivery mostly waits for its fence, which says nothing of records.
    fn admit(&self) -> Result<Call<'_>, LiveError> {
        self.records.admit().map_err(|Open { retry_after }| LiveError::BreakerOpen { retry_after })
    }
}

fn ended<T>(call: Call<'_>, answer: Result<T, LiveError>) -> Result<T, LiveError> {
    match &answer {
        Ok(_) => call.good(),
        Err(fault @ (LiveError::RecordsUnconfirmed { .. } | LiveError::RecordsUnreadable)) => call.bad(fault),
        Err(
            LiveError::NotConnected
            | LiveError::Full { .. }
            | LiveError::Unconfirmed
            | LiveError::RecordStrange
            | LiveError::BreakerOpen { .. },
        ) => call.neither(),
    }
    answer
}

#[async_trait]
impl LiveTransport for GuardedTransport {
    async fn deliver(&self, dispatch: Dispatch) -> Result<Vec<Handover>, LiveError> {
        ended(self.admit()?, self.transport.deliver(dispatch).await)
    }

    /// What has been decided is told all the same: nobody waits for it.
    fn record(&self, record: Written) -> Result<(), LiveError> {
        self.transport.record(record)
    }

    async fn last_intent(
        &self,
        key: &MessageKey,
        named: Named<'_>,
    ) -> Result<Option<Record<'static>>, LiveError> {
        ended(self.admit()?, self.transport.last_intent(key, named).await)
    }

    fn payload_max(&self) -> usize {
        self.transport.payload_max()
    }
}
