//! What is remembered of one sender: its messages of the last minute and its last semantic scores,
//! of all nodes as far as this one has heard, and what the others have not heard of yet.
//!
//! Fixed in size, whatever the sender does. The node's own clock counts; what comes from others comes
//! as ages and is put on that clock.

use std::collections::VecDeque;

use crate::{
    domain::Timestamp,
    state::{Count, PAST_SCORES, PAST_SECONDS, Seen, Shared},
};

mod window;

use window::Window;

/// For so long, in ms, what was heard of the other nodes is taken for true. What a node does not tell
/// for longer than the pause between two flushes, and this, make the second within which pasts are true.
const FRESH_MS: u64 = 600;

/// Messages that are remembered by name: more would not raise the volume.
const IN_DOUBT_MAX: usize = 100;

/// A sender's past as the formula needs it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Past {
    /// Its messages within 60 s, this one included.
    pub messages: u32,
    /// The mean of its last semantic scores before this one, if there were any.
    pub mean: Option<f64>,
}

#[derive(Debug, Default)]
pub(super) struct History {
    /// Of all nodes, `told` and `untold` included.
    messages: Window,
    /// Of all nodes, own ones last; oldest first.
    scores: VecDeque<f64>,
    untold: Window,
    /// Messages that are being judged, and how many have ever been.
    judged: u32,
    begun: u32,
    /// Messages that were counted and may come again as if for the first time, oldest first.
    in_doubt: VecDeque<u64>,
    /// As many of the last of `scores` are not told.
    untold_scores: usize,
    /// Told and not confirmed. Told again unchanged until it is, so that it is added once.
    told: Option<Box<Told>>,
    /// When what is known of the others was asked for, in ms.
    heard: u64,
    /// The number of the latest question whose answer is in here.
    answered: u64,
    /// Whether it waits for the next flush.
    pub(super) queued: bool,
}

#[derive(Debug)]
struct Told {
    sequence: u64,
    /// The first time, by this node's clock.
    second: u64,
    messages: Window,
    scores: Vec<f64>,
}

/// A question to the store: what this node tells, and when it asked.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) seen: Seen,
    /// Later questions have larger numbers.
    number: u64,
    asked: Timestamp,
}

impl History {
    /// A message is being judged: it counts for those that come after it, and no other node hears of it. Its
    /// number among those of this sender.
    pub(super) fn reserve(&mut self, now: Timestamp) -> u32 {
        self.advance(now);
        self.judged = self.judged.saturating_add(1);
        self.begun = self.begun.wrapping_add(1);
        self.begun
    }

    /// It was none, or came to nothing.
    pub(super) fn undo(&mut self) {
        self.judged = self.judged.saturating_sub(1);
    }

    /// A message counts from now on, and its score if it has one; the same message counts once.
    pub(super) fn count(&mut self, message: u64, now: Timestamp, score: Option<f64>, in_doubt: bool) {
        self.undo();
        let counted = self.in_doubt.iter().position(|it| *it == message);
        if let Some(at) = counted {
            if !in_doubt {
                self.in_doubt.remove(at);
            }
            return;
        }
        if in_doubt {
            self.in_doubt.push_back(message);
            trim(&mut self.in_doubt, IN_DOUBT_MAX);
        }
        self.advance(now);
        self.messages.count(1);
        self.untold.count(1);
        if let Some(score) = score {
            self.scores.push_back(score);
            trim(&mut self.scores, PAST_SCORES);
            self.untold_scores = (self.untold_scores + 1).min(PAST_SCORES);
        }
    }

    /// Messages within the window, with those that are being judged and came no later than this one, and the
    /// mean of the last scores, if there were any.
    pub(super) fn past_of(&self, number: u32) -> Past {
        let sum: f64 = self.scores.iter().sum();
        let mean = (!self.scores.is_empty()).then(|| sum / self.scores.len() as f64);
        let later = self.begun.wrapping_sub(number).min(self.judged.saturating_sub(1));
        let judged = self.judged.saturating_sub(later);
        Past { messages: self.messages.messages().saturating_add(judged), mean }
    }

    /// Whether what was heard of the other nodes is new enough. Not after the clock was set back.
    pub(super) fn is_fresh(&self, now: Timestamp) -> bool {
        now.0.checked_sub(self.heard).is_some_and(|age| age < FRESH_MS)
    }

    /// Whether there is something that the other nodes may not have heard.
    pub(super) fn is_untold(&self) -> bool {
        self.told.is_some() || self.untold.messages() > 0 || self.untold_scores > 0
    }

    /// What to tell and ask now; `number` is larger than any before it.
    pub(super) fn question(&mut self, teller: u64, number: u64, now: Timestamp) -> Question {
        self.advance(now);
        let second = now.0 / 1_000;
        // Nobody confirmed it for a window's length: what is left of it are scores that the store may
        // have, and by now may no longer know that it has.
        if self.told.as_ref().is_some_and(|told| second.abs_diff(told.second) >= PAST_SECONDS) {
            self.told = None;
        }
        if self.told.is_none() && self.is_untold() {
            let own = self.scores.len().saturating_sub(self.untold_scores);
            self.told = Some(Box::new(Told {
                sequence: number,
                second,
                messages: std::mem::take(&mut self.untold),
                scores: self.scores.iter().skip(own).copied().collect(),
            }));
            self.untold_scores = 0;
            self.untold.advance(second);
        }
        let seen = self.told.as_ref().map_or_else(Seen::default, |told| Seen {
            teller,
            sequence: told.sequence,
            messages: told
                .messages
                .seconds()
                .map(|(then, messages)| Count { age: second.saturating_sub(then), messages })
                .collect(),
            scores: told.scores.clone(),
            ..Seen::default()
        });
        Question { seen: Seen { teller, ..seen }, number, asked: now }
    }

    /// Takes over what all nodes have seen, and adds what of this node's own is not in it.
    pub(super) fn answer(&mut self, question: &Question, shared: &Shared) {
        // Answers can overtake each other; an older one would take back what a newer one brought.
        if question.number <= self.answered {
            return;
        }
        self.answered = question.number;
        self.heard = question.asked.0;
        if self.told.as_ref().is_some_and(|told| told.sequence <= shared.applied) {
            self.told = None;
        }
        let second = question.asked.0 / 1_000;
        let mut messages = Window::default();
        messages.advance(second);
        for &Count { age, messages: count } in &shared.messages {
            messages.count_at(second.saturating_sub(age), count);
        }
        let untold = self.scores.len().saturating_sub(self.untold_scores);
        let mut scores: VecDeque<f64> = shared.scores.iter().copied().collect();
        if let Some(told) = &self.told {
            scores.extend(&told.scores);
        }
        scores.extend(self.scores.iter().skip(untold));
        trim(&mut scores, PAST_SCORES);
        // Others may have recorded since the question, in a later second.
        messages.advance(self.untold_second(second));
        if let Some(told) = &self.told {
            messages.count_all(&told.messages);
        }
        messages.count_all(&self.untold);
        self.messages = messages;
        self.scores = scores;
    }

    /// Nobody answered: not asked again before this is stale too.
    pub(super) fn unanswered(&mut self, question: &Question) {
        self.heard = question.asked.0;
    }

    fn untold_second(&self, second: u64) -> u64 {
        self.untold.seconds().next().map_or(second, |(newest, _)| newest.max(second))
    }

    fn advance(&mut self, now: Timestamp) {
        self.messages.advance(now.0 / 1_000);
        self.untold.advance(now.0 / 1_000);
    }
}

/// The newest alone, at most so many.
fn trim<T>(items: &mut VecDeque<T>, max: usize) {
    let excess = items.len().saturating_sub(max);
    items.drain(..excess);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp(1_767_225_600_000 + ms)
    }

    fn counts(messages: &[(u64, u64)]) -> Vec<Count> {
        messages.iter().map(|&(age, messages)| Count { age, messages }).collect()
    }

    impl History {
        fn past(&self) -> Past {
            self.past_of(self.begun)
        }

        fn record(&mut self, now: Timestamp, score: Option<f64>) {
            self.reserve(now);
            self.count(0, now, score, false);
        }
    }

    #[test]
    fn what_is_judged_counts_for_others_until_it_is_undone_and_is_told_to_nobody() {
        let mut history = History::default();
        for burst in 1..=512 {
            history.reserve(at(0));
            assert_eq!(history.past().messages, burst);
        }
        assert!(!history.is_untold());
        // What other nodes saw comes on top.
        let question = history.question(7, 1, at(0));
        history.answer(&question, &Shared { applied: 0, messages: counts(&[(0, 100)]), scores: vec![] });
        assert_eq!(history.past().messages, 612);
        for message in 0..512 {
            if message % 2 == 0 { history.undo() } else { history.count(message, at(0), Some(0.5), false) }
        }
        assert_eq!(history.past().messages, 356);
        assert_eq!(history.question(7, 2, at(0)).seen.messages, counts(&[(0, 256)]));
    }

    #[test]
    fn a_message_in_doubt_counts_once_however_often_it_comes() {
        let mut history = History::default();
        for in_doubt in [true, true, true, false] {
            history.reserve(at(0));
            history.count(1, at(0), Some(0.5), in_doubt);
        }
        assert_eq!((history.past(), history.in_doubt.len()), (Past { messages: 1, mean: Some(0.5) }, 0));
        for message in 0..1_000 {
            history.reserve(at(0));
            history.count(message, at(0), None, true);
        }
        assert_eq!((history.past().messages, history.in_doubt.len()), (1_001, IN_DOUBT_MAX));
    }

    #[test]
    fn the_mean_is_of_the_last_twenty() {
        let mut history = History::default();
        assert_eq!(history.past().mean, None);
        history.record(at(0), Some(0.8));
        assert_eq!(history.past().mean, Some(0.8));
        for _ in 0..19 {
            history.record(at(0), Some(0.0));
        }
        assert!(history.past().mean.is_some_and(|mean| (mean - 0.04).abs() < 1e-12));
        history.record(at(0), Some(0.5));
        assert!(history.past().mean.is_some_and(|mean| (mean - 0.025).abs() < 1e-12));
    }

    #[test]
    fn what_others_have_seen_is_added_to_what_they_were_not_told() {
        let mut history = History::default();
        history.record(at(0), Some(0.2));
        let question = history.question(7, 1, at(0));
        assert_eq!(question.seen.messages, counts(&[(0, 1)]));
        assert_eq!(question.seen.scores, [0.2]);
        // While the question is under way.
        history.record(at(1_100), Some(0.4));
        let shared = Shared { applied: 1, messages: counts(&[(3, 5), (0, 1)]), scores: vec![0.6, 0.2] };
        history.answer(&question, &shared);
        assert_eq!(history.past().messages, 7);
        assert!(history.past().mean.is_some_and(|mean| (mean - 0.4).abs() < 1e-12));
        let next = history.question(7, 2, at(1_200));
        assert_eq!((next.seen.sequence, next.seen.messages), (2, counts(&[(0, 1)])));
        assert_eq!(next.seen.scores, [0.4], "only what was not told");
    }

    #[test]
    fn what_nobody_confirmed_is_told_again_unchanged_and_still_counts_here() {
        let mut history = History::default();
        history.record(at(0), None);
        let first = history.question(7, 1, at(0));
        history.unanswered(&first);
        assert!(history.is_fresh(at(FRESH_MS - 1)) && !history.is_fresh(at(FRESH_MS)));
        history.record(at(2_000), None);
        let second = history.question(7, 2, at(2_000));
        assert_eq!((second.seen.sequence, &second.seen.messages), (1, &counts(&[(2, 1)])));
        // The store had not heard the first, and not yet the second.
        history.answer(&second, &Shared { applied: 0, messages: counts(&[(1, 10)]), scores: vec![] });
        assert_eq!(history.past().messages, 12);
        let third = history.question(7, 3, at(2_100));
        history.answer(&third, &Shared { applied: 1, messages: counts(&[(1, 11)]), scores: vec![] });
        assert_eq!(history.past().messages, 12);
    }

    #[test]
    fn an_answer_that_was_overtaken_changes_nothing() {
        let mut history = History::default();
        history.record(at(0), None);
        let (early, late) = (history.question(7, 1, at(0)), history.question(7, 2, at(10)));
        history.answer(&late, &Shared { applied: 1, messages: counts(&[(0, 9)]), scores: vec![] });
        history.answer(&early, &Shared { applied: 0, messages: vec![], scores: vec![] });
        assert_eq!(history.past().messages, 9);
        assert!(!history.is_untold());
    }

    #[test]
    fn what_was_not_confirmed_for_a_minute_is_not_told_for_ever() {
        let mut history = History::default();
        history.record(at(0), Some(0.5));
        assert_eq!(history.question(7, 1, at(0)).seen.sequence, 1);
        assert_eq!(history.question(7, 2, at(61_000)).seen.sequence, 0);
        assert!(!history.is_untold());
    }
}
