//! Where do bundles come from? A source waits for the next; one that is read from a file is here.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::fs;

use super::bundle::PACKED_BYTES_MAX;

/// Between two looks at a file.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A bundle that could be put in force.
#[derive(Debug, Clone)]
pub struct Offer {
    pub packed: Bytes,
    /// The revision that is meant, though it is older than the one in force.
    pub force: Option<String>,
}

/// Why no bundle could be looked for. For the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// Tells of bundles, each once.
#[async_trait]
pub trait BundleSource: Send + Sync {
    /// Looks for another bundle than the one that was told last: the first comes at once. `None`, after a while: there
    /// is no other.
    async fn next(&self) -> Result<Option<Offer>, SourceError>;
}

/// A file that somebody replaces.
pub struct BundleFile {
    path: PathBuf,
    /// Of the file that was told last: when it was written, and its bytes.
    told: Mutex<Option<(SystemTime, u64)>>,
}

impl BundleFile {
    pub fn new(path: PathBuf) -> Self {
        Self { path, told: Mutex::new(None) }
    }

    async fn look(&self) -> Result<Option<Bytes>, SourceError> {
        let failed = |cause| SourceError(format!("{} cannot be read: {cause}", self.path.display()));
        let metadata = fs::metadata(&self.path).await.map_err(failed)?;
        let found = (metadata.modified().map_err(failed)?, metadata.len());
        if *self.told.lock() == Some(found) {
            return Ok(None);
        }
        if found.1 > PACKED_BYTES_MAX as u64 {
            let (path, bytes) = (self.path.display(), found.1);
            return Err(SourceError(format!("{path} has {bytes} bytes, at most {PACKED_BYTES_MAX}")));
        }
        let packed = fs::read(&self.path).await.map_err(failed)?;
        *self.told.lock() = Some(found);
        Ok(Some(packed.into()))
    }
}

#[async_trait]
impl BundleSource for BundleFile {
    async fn next(&self) -> Result<Option<Offer>, SourceError> {
        if let Some(packed) = self.look().await? {
            return Ok(Some(Offer { packed, force: None }));
        }
        tokio::time::sleep(LOOK_EVERY).await;
        Ok(None)
    }
}
