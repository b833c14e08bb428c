//! The bucket of constitutions: one key, whose last value all nodes have in force, and the values before it as evidence
//! of who has proposed, activated and retired what, when and why.

use async_nats::Client;

use super::shared_value::{Place, SharedValue, ValueError};
use crate::{
    constitutions::Constitutions,
    domain::Amendments,
    tenants::names::{CONSTITUTION_STREAM, CONSTITUTIONS, CONSTITUTIONS_CHANGED},
};

const PLACE: Place =
    Place { stream: CONSTITUTION_STREAM, subject: CONSTITUTIONS, changed: CONSTITUTIONS_CHANGED };

pub struct ConstitutionBucket(SharedValue);

impl ConstitutionBucket {
    pub fn new(client: Client) -> Self {
        Self(SharedValue::new(client, PLACE))
    }

    /// What is there now, and which it is. `None`: nodes go by their configuration.
    pub async fn last(&self) -> Result<Option<(u64, Amendments)>, ValueError> {
        self.0.last().await
    }

    /// All that is kept, the oldest first, with the second since 1970 at which the server has kept it.
    pub async fn history(&self) -> Result<Vec<(i64, u64, Amendments)>, ValueError> {
        self.0.history().await
    }

    /// Puts a state in the place of the one that it was made of. The revision that it has then.
    pub async fn replace(&self, after: u64, state: &Amendments) -> Result<u64, ValueError> {
        self.0.replace(after, state).await
    }

    /// Keeps a node's copy as it is here, until the future is dropped.
    pub async fn follow(&self, constitutions: &Constitutions) {
        self.0.follow(&constitutions.following, |last| constitutions.put_in_force(last)).await;
    }
}
