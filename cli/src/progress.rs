//! How far is it? A bar on stderr, which is hidden unless that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// `work` tells how many more of the texts are done.
pub(crate) fn with_bar<R>(texts: usize, work: impl FnOnce(&(dyn Fn(usize) + Sync)) -> R) -> R {
    let bar = ProgressBar::new(texts as u64);
    let bar = match ProgressStyle::with_template("{elapsed_precise} {wide_bar} {pos}/{len} texts ({eta})") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    };
    let done = work(&|more| bar.inc(more as u64));
    bar.finish_and_clear();
    done
}
