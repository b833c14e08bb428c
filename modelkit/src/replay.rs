//! Known messages through another head, other weights or another threshold: what would have been parked?

use std::{
    collections::HashMap,
    io::{BufRead, Read as _},
    num::NonZeroUsize,
    sync::Arc,
};

use agentbus::{
    domain::{Message, Weights},
    impact::{Semantic, for_each_text, needs_no_words, rescored, score_standalone},
};
use anyhow::{Context as _, ensure};

use crate::{
    in_order::{Progress, in_order},
    judge::{Judge, Seat},
};

mod line;
mod tally;

pub use line::{Before, Known, Unknown};
pub use tally::{ByName, Tally};

const LINE_BYTES_MAX: u64 = 1024 * 1024;
const LINES_MAX: usize = 1_000_000;
/// Characters of a message's words in an example.
pub const WORDS_MAX: usize = 72;

/// What is tried.
pub struct By {
    pub weights: Weights,
    pub report_lift_max: f64,
    pub threshold: f64,
    /// Of what was not parked or delivered before by what its line says.
    pub threshold_before: f64,
}

/// Whether a message was parked, and whether it would be; nothing where nobody knows.
pub struct Fate {
    before: Option<bool>,
    after: Option<(f64, bool)>,
    /// A node would not read its words.
    spared: bool,
}

/// Of each message, in their order. `inside` says what the bus has not said anything of.
pub fn fates(
    lines: &[Known],
    by: &By,
    [judge, inside]: [&Judge; 2],
    threads: NonZeroUsize,
    progress: Progress<'_>,
) -> anyhow::Result<Vec<Fate>> {
    in_order(
        lines,
        threads,
        progress,
        || (judge.seat(), inside.seat()),
        |(seat, inside), chunk| by.fates(chunk, seat, inside),
    )
}

impl By {
    fn fates(&self, chunk: &[Known], seat: &mut Seat, inside: &mut Seat) -> anyhow::Result<Vec<Fate>> {
        let words: Vec<Arc<Message>> = chunk.iter().filter_map(|known| known.message.clone()).collect();
        let mut said = seat.semantics(&words).into_iter();
        let silent = |known: &&Known| known.before.is_none();
        let unknown: Vec<Arc<Message>> =
            chunk.iter().filter(silent).filter_map(|known| known.message.clone()).collect();
        let mut said_inside = inside.semantics(&unknown).into_iter();
        chunk
            .iter()
            .map(|known| {
                let read = known.message.as_ref().map(|_| said.next()).map(|it| it.context("no answer"));
                // Without a score a message is parked.
                let semantic = read.transpose()?.map(|it| it.ok().map(|it| it.semantic));
                let before = match (&known.before, &known.message) {
                    (Some(before), _) => Some(before.parked),
                    (None, Some(message)) => {
                        let said = said_inside.next().context("no answer")?;
                        Some(said.map_or(true, |said| self.parks_before(message, said.semantic, known)))
                    }
                    (None, None) => None,
                };
                Ok(Fate { before, after: self.after(known, semantic), spared: self.spares(known) })
            })
            .collect()
    }

    fn parks_before(&self, message: &Message, semantic: Semantic, known: &Known) -> bool {
        score_standalone(message, semantic, "", &Weights::default(), known.at).score >= self.threshold_before
    }

    fn spares(&self, known: &Known) -> bool {
        let fresh = |message: &Arc<Message>| {
            score_standalone(message, Semantic::from(0.0), "", &self.weights, known.at).parts
        };
        let before = known.before.as_ref().and_then(|before| before.parts);
        before.or_else(|| known.message.as_ref().map(fresh)).is_some_and(|parts| {
            needs_no_words(&parts, known.message_type, &self.weights, self.report_lift_max, self.threshold)
        })
    }

    /// `semantic`: of the words, if there are any; inside it, what was found.
    fn after(&self, known: &Known, semantic: Option<Option<Semantic>>) -> Option<(f64, bool)> {
        let before = known.before.as_ref();
        let parts = before.and_then(|before| before.parts.as_ref());
        let semantic = match semantic {
            Some(None) => return Some((1.0, true)),
            Some(Some(found)) => Some(found.score),
            None => None,
        };
        let score = match (parts, &known.message, semantic) {
            (Some(parts), _, found) => match found.or(parts.semantic) {
                Some(semantic) => {
                    rescored(parts, known.message_type, semantic, &self.weights, self.report_lift_max)
                }
                // Its words were not read: both ends are on one side, or nobody knows.
                None => {
                    let [low, high] = [0.0, 1.0].map(|semantic| {
                        rescored(parts, known.message_type, semantic, &self.weights, self.report_lift_max)
                    });
                    return ((low >= self.threshold) == (high >= self.threshold))
                        .then_some((low, low >= self.threshold));
                }
            },
            (None, Some(message), Some(found)) => {
                let alone = score_standalone(message, Semantic::from(found), "", &self.weights, known.at);
                rescored(&alone.parts, known.message_type, found, &self.weights, self.report_lift_max)
            }
            // Decided without an impact, as it would be again.
            (None, _, _) => return before.map(|before| (before.score.0, before.parked)),
        };
        Some((score, score >= self.threshold))
    }
}

/// Messages from lines of records, judgements, messages or texts. `left_out` is told of each line that is none.
pub fn read(mut input: impl BufRead, mut left_out: impl FnMut(u64, Unknown)) -> anyhow::Result<Vec<Known>> {
    let (mut all, mut number) = (Vec::new(), 0);
    let mut places: HashMap<String, usize> = HashMap::new();
    loop {
        let mut line = Vec::new();
        number += 1;
        let bytes = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if bytes == 0 {
            return Ok(all);
        }
        ensure!((bytes as u64) < LINE_BYTES_MAX, "line {number} has more than {LINE_BYTES_MAX} bytes");
        if line.trim_ascii().is_empty() {
            continue;
        }
        match line::read(&line, number) {
            Ok(known) => match known.decision.as_ref().and_then(|id| places.get(id)) {
                // An intent, and the verdict after it.
                Some(&place) => {
                    if let Some(earlier) = all.get_mut(place) {
                        *earlier = known;
                    }
                }
                None => {
                    if let Some(id) = &known.decision {
                        places.insert(id.clone(), all.len());
                    }
                    all.push(known);
                }
            },
            Err(why) => left_out(number, why),
        }
        ensure!(all.len() <= LINES_MAX, "more than {LINES_MAX} messages; give fewer");
    }
}

/// One change.
pub struct Example<'a> {
    pub known: &'a Known,
    pub score: f64,
}

/// What would be otherwise.
pub struct Changes<'a> {
    pub all: Tally,
    /// Nobody knows what became of them, or what would.
    pub unknown: usize,
    /// Their words would not be read.
    pub spared: usize,
    pub types: ByName,
    pub senders: ByName,
    pub levels: ByName,
    pub newly: Vec<Example<'a>>,
    pub no_longer: Vec<Example<'a>>,
}

impl<'a> Changes<'a> {
    /// The clearest come first, at most so many examples of each kind.
    pub fn of(lines: &'a [Known], fates: &[Fate], examples: usize) -> Self {
        let mut changes = Self {
            all: Tally::default(),
            unknown: 0,
            spared: 0,
            types: ByName::default(),
            senders: ByName::default(),
            levels: ByName::default(),
            newly: Vec::new(),
            no_longer: Vec::new(),
        };
        for (known, fate) in lines.iter().zip(fates) {
            let (Some(before), Some((score, after))) = (fate.before, fate.after) else {
                changes.unknown += 1;
                continue;
            };
            changes.all.add(before, after);
            changes.spared += usize::from(fate.spared);
            changes.types.add(known.message_type.map_or("unknown", |it| it.as_str()), before, after);
            changes.senders.add(&known.sender, before, after);
            if let Some(level) = known.level {
                changes.levels.add(&format!("level {level}"), before, after);
            }
            let changed = match (before, after) {
                (false, true) => &mut changes.newly,
                (true, false) => &mut changes.no_longer,
                _ => continue,
            };
            changed.push(Example { known, score });
        }
        changes.newly.sort_by(|a, b| b.score.total_cmp(&a.score));
        changes.no_longer.sort_by(|a, b| a.score.total_cmp(&b.score));
        changes.newly.truncate(examples);
        changes.no_longer.truncate(examples);
        changes
    }
}

impl Example<'_> {
    /// The first of them, if they are in the line.
    pub fn words(&self) -> Option<String> {
        let message = self.known.message.as_ref()?;
        let mut words = String::new();
        for_each_text(message, &mut |text| {
            if words.chars().count() <= WORDS_MAX {
                words = format!("{words} {text}");
            }
        });
        Some(words.trim_start().chars().take(WORDS_MAX).collect())
    }
}
