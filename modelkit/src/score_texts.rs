//! How are many texts, all in memory, worked on by several threads, with the results in order?

use std::{num::NonZeroUsize, sync::Arc, thread};

use agentbus::{
    domain::{Message, TenantLimits},
    impact::{LIFT_ALL, Semantic, alone, evaluate::Judged, rescored},
};
use anyhow::anyhow;
use indicatif::{ProgressBar, ProgressStyle};

use super::data::Labelled;
use crate::judge::Judge;

/// Texts that a thread takes at a time.
const CHUNK: usize = 32;

/// `work` on every item, by threads that make their own state with `seat`. The first error ends it.
pub(crate) fn in_order<T: Sync, S, R: Send>(
    items: &[T],
    threads: NonZeroUsize,
    seat: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &[T]) -> anyhow::Result<Vec<R>> + Sync,
) -> anyhow::Result<Vec<R>> {
    let bar = progress(items.len());
    let worker = |number: usize| -> anyhow::Result<Vec<Vec<R>>> {
        let mut seat = seat();
        let mine = items.chunks(CHUNK).skip(number).step_by(threads.get());
        mine.map(|chunk| {
            let done = work(&mut seat, chunk)?;
            bar.inc(chunk.len() as u64);
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
    bar.finish_and_clear();
    // Dealt out in turn, so gathered in turn.
    let mut dealt: Vec<_> = done?.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::with_capacity(items.len());
    for number in 0..items.len().div_ceil(CHUNK) {
        let next = dealt.get_mut(number % threads.get()).and_then(Iterator::next);
        all.extend(next.ok_or_else(|| anyhow!("an answer is missing"))?);
    }
    Ok(all)
}

/// What the judge says of each text, beside what is right: the semantic part, or the score by these limits.
pub(super) fn judged(
    judge: &Judge,
    texts: &[Labelled],
    threads: NonZeroUsize,
    limits: Option<&TenantLimits>,
) -> anyhow::Result<Vec<Judged>> {
    in_order(
        texts,
        threads,
        || judge.seat(),
        |seat, chunk| {
            let messages = chunk.iter().map(|one| one.spoken()).collect::<Result<Vec<Arc<_>>, _>>()?;
            let said = seat.semantics(&messages);
            chunk
                .iter()
                .zip(&messages)
                .zip(said)
                .map(|((one, message), said)| {
                    let start: String = one.text.chars().take(60).collect();
                    let said = said.map_err(|error| anyhow!("the text that begins {start:?}: {error}"))?;
                    Ok(Judged {
                        score: limits
                            .map_or(said.semantic.score, |limits| weighed(message, said.semantic, limits)),
                        levels: said.semantic.levels,
                        high: one.high,
                        level: one.level,
                        group: one.group.clone(),
                        text: one.text.clone(),
                    })
                })
                .collect()
        },
    )
}

/// The whole score of a message that is its sender's first, by a tenant's limits.
fn weighed(message: &Message, semantic: Semantic, limits: &TenantLimits) -> f64 {
    let weights = limits.weights.unwrap_or_default();
    let lift_max = limits.report_lift_max.unwrap_or(LIFT_ALL);
    let parts = alone(message, semantic, "", &weights, message.created_at).parts;
    rescored(&parts, Some(message.message_type), semantic.score, &weights, lift_max)
}

/// On stderr, which is hidden unless it is a terminal.
fn progress(texts: usize) -> ProgressBar {
    let bar = ProgressBar::new(texts as u64);
    match ProgressStyle::with_template("{elapsed_precise} {wide_bar} {pos}/{len} texts ({eta})") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
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
            let doubled =
                in_order(&items, threads, || (), |(), chunk| Ok(chunk.iter().map(|item| item * 2).collect()));
            assert!(doubled.unwrap().iter().copied().eq((0..1_000).map(|item| item * 2)));
        }
    }

    #[test]
    fn an_error_of_one_thread_is_the_error_of_all() {
        let items: Vec<usize> = (0..100).collect();
        let failed = in_order(
            &items,
            NonZeroUsize::new(2).unwrap(),
            || (),
            |(), chunk| {
                if chunk.contains(&77) { anyhow::bail!("seventy-seven") } else { Ok(chunk.to_vec()) }
            },
        );
        assert_eq!(failed.unwrap_err().to_string(), "seventy-seven");
    }
}
