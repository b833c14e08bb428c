//! What is in force as long as no policy has been read? Nothing that could allow.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Decision, PolicyEngine, PolicyError, Question, reads::Reads};

/// Of a node whose bundle has not come yet.
pub struct Absent(Arc<str>);

impl Default for Absent {
    fn default() -> Self {
        Self(Arc::from(""))
    }
}

#[async_trait]
impl PolicyEngine for Absent {
    async fn evaluate(&self, _: &Question<'_>) -> Result<Decision, PolicyError> {
        Err(PolicyError::Broken { cause: "no policy has been read yet".to_owned() })
    }

    /// Empty: there is none.
    fn revision(&self) -> &Arc<str> {
        &self.0
    }

    fn reads(&self) -> Reads {
        Reads::EVERYTHING
    }
}
