//! How are many texts, all in memory, worked on by several threads, with the results in order?

use std::{num::NonZeroUsize, thread};

use anyhow::anyhow;

/// Texts that a thread takes at a time.
const CHUNK: usize = 32;

/// Told how many more are done, by whichever thread has done them.
pub type Progress<'a> = &'a (dyn Fn(usize) + Sync);

/// `work` on every item, by threads that make their own state with `seat`. The first error ends it.
pub fn in_order<T: Sync, S, R: Send>(
    items: &[T],
    threads: NonZeroUsize,
    progress: Progress<'_>,
    seat: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &[T]) -> anyhow::Result<Vec<R>> + Sync,
) -> anyhow::Result<Vec<R>> {
    let worker = |number: usize| -> anyhow::Result<Vec<Vec<R>>> {
        let mut seat = seat();
        let mine = items.chunks(CHUNK).skip(number).step_by(threads.get());
        mine.map(|chunk| {
            let done = work(&mut seat, chunk)?;
            progress(chunk.len());
            Ok(done)
        })
        .collect()
    };
    let done = thread::scope(|scope| -> anyhow::Result<Vec<Vec<Vec<R>>>> {
        let running: Vec<_> = (0..threads.get())
            .map(|number| {
                scope.spawn({
                    let worker = &worker;
                    move || worker(number)
                })
            })
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a thread stopped without an answer"))?)
            .collect()
    });
    // Dealt out in turn, so gathered in turn.
    let mut dealt: Vec<_> = done?.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::with_capacity(items.len());
    for number in 0..items.len().div_ceil(CHUNK) {
        let next = dealt.get_mut(number % threads.get()).and_then(Iterator::next);
        all.extend(next.ok_or_else(|| anyhow!("an answer is missing"))?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items_over_any_number_of_threads() {
        let items: Vec<usize> = (0..1_000).collect();
        for threads in [1, 2, 3, 7, 64] {
            let threads = NonZeroUsize::new(threads).unwrap();
            let doubled = in_order(
                &items,
                threads,
                &|_| (),
                || (),
                |(), chunk| Ok(chunk.iter().map(|item| item * 2).collect()),
            );
            assert!(doubled.unwrap().iter().copied().eq((0..1_000).map(|item| item * 2)));
        }
    }

    #[test]
    fn an_error_of_one_thread_is_the_error_of_all() {
        let items: Vec<usize> = (0..100).collect();
        let failed = in_order(
            &items,
            NonZeroUsize::new(2).unwrap(),
            &|_| (),
            || (),
            |(), chunk| {
                if chunk.contains(&77) { anyhow::bail!("seventy-seven") } else { Ok(chunk.to_vec()) }
            },
        );
        assert_eq!(failed.unwrap_err().to_string(), "seventy-seven");
    }
}
