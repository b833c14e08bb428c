//! How does candle stay on one thread? It computes by rayon, which takes every core unless the calling
//! thread is a whole pool by itself.

use std::cell::OnceCell;

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

thread_local! {
    static ALONE: OnceCell<ThreadPool> = const { OnceCell::new() };
}

/// From now on what this thread does by rayon is done by this thread.
pub fn only_this() -> Result<(), ThreadPoolBuildError> {
    ALONE.with(|alone| {
        if alone.get().is_none() {
            let pool = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build()?;
            // Just seen to be empty, and no other thread sees it.
            let _ = alone.set(pool);
        }
        Ok(())
    })
}
