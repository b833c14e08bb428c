//! How is the demo told? Stories line by line; on a terminal a status block below them that stays.

use std::time::{Duration, Instant};

use agentbus::domain::{Reason, Verdict};
use parking_lot::Mutex;

use super::{ledger::Counts, letter::Letter};
use crate::{
    context::{Paint, Tone, safe, say},
    output::{self, OutputError},
};

/// Redraws of the block in a second; more would only flicker.
const REDRAW: Duration = Duration::from_millis(50);
const BAR: usize = 12;
/// Lines of the block.
const BLOCK: usize = 2;

/// Standard output, with the block at its end.
pub(super) struct Screen {
    pub(super) paint: Paint,
    live: bool,
    // A plain lock: held for one write, never over an await.
    block: Mutex<Block>,
    unwritten: Mutex<Option<OutputError>>,
}

#[derive(Default)]
struct Block {
    shown: bool,
    drawn: Option<Instant>,
    doing: String,
    done: usize,
    of: usize,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            paint: Paint::stdout(),
            live: output::is_terminal(),
            block: Mutex::default(),
            unwritten: Mutex::default(),
        }
    }

    pub(super) fn section(&self, title: &str) {
        self.line("");
        self.line(&self.paint.apply(Tone::Strong, title));
    }

    pub(super) fn line(&self, text: &str) {
        let mut block = self.block.lock();
        self.erase(&mut block);
        self.put(&format!("{text}\n"));
    }

    pub(super) fn note(&self, text: &str) {
        self.line(&format!("  {}", self.paint.apply(Tone::Quiet, text)));
    }

    /// One message and what became of it.
    pub(super) fn story(&self, letter: &Letter, verdict: &Verdict, latency: Duration) {
        let who = format!("{} → {}", letter.from, letter.target);
        let tone = if verdict.reason == Reason::Delivered { Tone::Good } else { Tone::Careful };
        let outcome = match &verdict.reach {
            Some(reach) => match (&reach.agent, reach.missed_total) {
                (Some(_), _) => "delivered".to_owned(),
                (None, 0) => format!("delivered to {}", reach.delivered),
                (None, missed) => format!("delivered to {}, {missed} missed", reach.delivered),
            },
            None => verdict.reason.as_str().to_owned(),
        };
        let impact =
            verdict.impact.as_ref().map_or(String::new(), |impact| format!("  impact {:.2}", impact.score));
        self.line(&format!(
            "  {who:<42} {:<25} {} in {:.1} ms{}",
            letter.act,
            self.paint.apply(tone, outcome),
            latency.as_secs_f64() * 1000.0,
            self.paint.apply(Tone::Quiet, impact)
        ));
        if verdict.reason != Reason::Delivered {
            self.note(&format!("  “{}”", safe(&letter.text, 100)));
        }
    }

    /// A message that must not pass, and how it was told so.
    pub(super) fn refusal(&self, letter: &Letter, verdict: &Verdict, right: bool) {
        let mark =
            if right { self.paint.apply(Tone::Good, "✓") } else { self.paint.apply(Tone::Bad, "✗") };
        let who = format!("{}: {}", letter.from.agent, letter.target);
        self.line(&format!(
            "  {mark} {who:<46} {} {}",
            self.paint.apply(Tone::Careful, format!("{:<28}", verdict.reason.as_str())),
            self.paint.apply(Tone::Quiet, safe(&verdict.detail, 90))
        ));
    }

    /// Something that was tried and checked.
    pub(super) fn check(&self, what: &str, found: &str, right: bool) {
        let mark =
            if right { self.paint.apply(Tone::Good, "✓") } else { self.paint.apply(Tone::Bad, "✗") };
        self.line(&format!("  {mark} {what:<46} {}", self.paint.apply(Tone::Quiet, found)));
    }

    pub(super) fn progress(&self, doing: &str, done: usize, of: usize, counts: &Counts) {
        if !self.live {
            return;
        }
        let mut block = self.block.lock();
        if block.doing != doing {
            doing.clone_into(&mut block.doing);
        }
        (block.done, block.of) = (done, of);
        if block.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) && done < of {
            return;
        }
        self.erase(&mut block);
        self.draw(&mut block, counts);
    }

    /// Takes the block away.
    pub(super) fn finish(&self) {
        self.erase(&mut self.block.lock());
    }

    /// Whether all of it could be written.
    pub(super) fn written(self) -> Result<(), OutputError> {
        self.unwritten.into_inner().map_or(Ok(()), Err)
    }

    fn draw(&self, block: &mut Block, counts: &Counts) {
        let filled = (BAR * block.done.min(block.of)).checked_div(block.of).unwrap_or(0);
        let bar = format!("{}{}", "━".repeat(filled), "─".repeat(BAR - filled));
        let wrong = match counts.wrong {
            0 => self.paint.apply(Tone::Good, "nothing wrong"),
            wrong => self.paint.apply(Tone::Bad, format!("{wrong} wrong")),
        };
        // Fits into 80 columns: a line that wraps would not be erased whole.
        self.put(&format!(
            "\n  {} {:>3}/{:<3} {:<11} {:>4} sent {:>4} delivered  {wrong}\n",
            self.paint.apply(Tone::Good, bar),
            block.done,
            block.of,
            block.doing,
            counts.messages,
            counts.deliveries,
        ));
        block.shown = true;
        block.drawn = Some(Instant::now());
    }

    /// What cannot be written must not keep the servers from being stopped in order: it is told at the end.
    fn put(&self, text: &str) {
        if let Err(error) = say(text) {
            self.unwritten.lock().get_or_insert(error);
        }
    }

    /// Moves the cursor up over the block and clears to the end of the screen.
    fn erase(&self, block: &mut Block) {
        if block.shown {
            self.put(&format!("\u{1b}[{BLOCK}A\u{1b}[0J"));
            block.shown = false;
        }
    }
}
