//! How much may be done to read one message? Told before it is done, whatever the message is made of, and the same
//! for every message, however much of it may be read.
//!
//! Each way to look at a text is linear in it, but there are many: a text that is encoded and disguised in
//! several ways goes through all of them, and what is beside it as well.

use super::TooMuch;

/// What may still be done, in about a nanosecond each.
#[derive(Default)]
pub(super) struct Work {
    left: usize,
    over: bool,
}

impl Work {
    /// Enough to read 64 KiB of prose, code or logs, and half of it written and decoded.
    pub(super) fn of_one_message() -> Self {
        Self::of(3_400_000)
    }

    /// Enough for 64 KiB of whatever kind, JSON of many values and Base64 of bytes that are no text among them.
    pub(super) fn of_one_long_message() -> Self {
        Self::of(17_000_000)
    }

    pub(super) fn of(left: usize) -> Self {
        Self { left, over: false }
    }

    /// Whether so much more may be done.
    pub(super) fn allows(&mut self, work: usize) -> bool {
        self.over = self.over || work > self.left;
        self.left = self.left.saturating_sub(work);
        !self.over
    }

    /// What was found, if nothing was left undone for it.
    pub(super) fn all<T>(&self, found: T) -> Result<T, TooMuch> {
        if self.over { Err(TooMuch) } else { Ok(found) }
    }

    /// Goes through a text, for each byte so long.
    pub(super) fn spend(&mut self, each: usize, text: &str) -> Result<(), TooMuch> {
        // Beyond ASCII every character is looked up in tables, and those beside it are looked at one by one.
        let other = text.bytes().map(|b| usize::from(!b.is_ascii())).sum::<usize>();
        let looked_at = if other == 0 { text.len() } else { 2 * (text.len() + other) };
        self.allows(each * looked_at);
        self.all(())
    }
}

/// What it takes for a byte to see, to normalise, and to part a text,
pub(super) const SEEING: usize = 4;
pub(super) const NORMALISING: usize = 5;
pub(super) const PARTING: usize = 10;
/// where letters that stand apart are joined,
pub(super) const JOINING: usize = 30;
/// for a character to be drawn as another, or put together,
pub(super) const DRAWING: usize = 80;
/// for a text to be looked at in all ways at all, and for a value to be held.
pub(super) const LOOKING: usize = 600;
pub(super) const HOLDING: usize = 200;
