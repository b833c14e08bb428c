//! Who beside the bus learns of deliberations? One HTTP endpoint, called as Standard Webhooks says
//! (<https://www.standardwebhooks.com>): signed, with an id that repeats share.
//!
//! Knows how to make one call, not when: retries are JetStream's (`nats/webhooks.rs`). What a message says
//! never leaves with a call; who wants to read it asks the bus.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use crate::{
    config,
    domain::Timestamp,
    http::{Call, CallError, Endpoint, EndpointError, Method},
};

mod occasion;
mod secret;

pub use occasion::Occasion;
pub use secret::{Secret, SecretError};

/// An endpoint, and what calls to it are signed with. Clones are told of a change together.
#[derive(Debug, Clone)]
pub struct Webhook {
    now: Arc<ArcSwap<Way>>,
}

#[derive(Debug)]
struct Way {
    endpoint: Endpoint,
    timeout: Duration,
    secret: Secret,
}

/// Why there can be no calls.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error("webhook.secret_file: {0}")]
    Secret(#[from] SecretError),
    #[error("webhook.url: {0}")]
    Endpoint(#[from] EndpointError),
}

impl Webhook {
    /// Reads the secret, and for https the roots of trust. Blocks.
    pub fn open(settings: &config::Webhook) -> Result<Self, WebhookError> {
        let way = Way {
            secret: Secret::read(&settings.secret_file)?,
            endpoint: Endpoint::open(&settings.url)?,
            timeout: settings.timeout,
        };
        Ok(Self { now: Arc::new(ArcSwap::from_pointee(way)) })
    }

    /// From the next call on, the way of the other one. A call that is being made stays as it is.
    pub fn become_as(&self, other: &Self) {
        self.now.store(other.now.load_full());
    }

    /// Whether the endpoint takes connections. Nothing is asked of it.
    pub async fn reach(&self) -> Result<(), CallError> {
        let way = self.now.load_full();
        way.endpoint.reach(way.timeout).await
    }

    /// One call. An answer of 200 to 299 in time is success, and nothing else is.
    pub async fn call(&self, occasion: &Occasion, now: Timestamp) -> Result<(), CallError> {
        let way = self.now.load_full();
        let seconds = now.0 / 1000;
        let signature = way.secret.sign(&occasion.id, seconds, &occasion.body);
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("webhook-id", occasion.id.clone()),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", signature),
        ];
        let call = Call {
            method: Method::POST,
            headers: &headers,
            body: occasion.body.clone(),
            answer_bytes: None,
            within: way.timeout,
            any_status: false,
        };
        way.endpoint.call(call).await.map(drop)
    }
}
