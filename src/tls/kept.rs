//! What is made of files, and made again when they have changed.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf, sync::Arc, time::SystemTime};

use parking_lot::Mutex;

use super::TlsError;

type Make<T> = Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>;
/// When a file was changed, its length and its number; `None`: it is not there.
type Stamp = Option<(SystemTime, u64, u64)>;

pub(super) struct Kept<T> {
    files: Vec<PathBuf>,
    make: Make<T>,
    current: Mutex<(Vec<Stamp>, Arc<T>)>,
}

impl<T> Kept<T> {
    /// Blocks.
    pub(super) fn new(
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let (stamps, made) = (stamps(&files), make()?);
        Ok(Self { files, make: Box::new(make), current: Mutex::new((stamps, Arc::new(made))) })
    }

    /// What the files say, or said last when they could be read. A look at the files costs some microseconds.
    pub(super) fn now(&self) -> Arc<T> {
        let found = stamps(&self.files);
        let mut current = self.current.lock();
        if current.0 != found {
            current.0 = found;
            match (self.make)() {
                Ok(made) => current.1 = Arc::new(made),
                Err(error) => {
                    tracing::error!(%error, "a changed TLS file is of no use; going on with what was read before");
                }
            }
        }
        Arc::clone(&current.1)
    }
}

impl<T> std::fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("files", &self.files).finish_non_exhaustive()
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let found = fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len(), found.ino()))
    };
    files.iter().map(stamp).collect()
}
