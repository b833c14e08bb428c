//! How much may be done to read one message? Told before it is done, whatever the message is made of.
//!
//! Each way to look at a text is linear in it, but there are many: a text that is encoded and disguised in
//! several ways goes through all of them, and what is beside it as well.

use super::TooMuch;

/// What may still be done, in bytes of ASCII that are looked at once: about a nanosecond each.
#[derive(Default)]
pub(super) struct Work {
    left: usize,
    over: bool,
}

impl Work {
    /// For a message of so much weight: enough for a text of that size in two encodings within each other.
    pub(super) fn for_room(room: usize) -> Self {
        const TIMES: usize = 24;
        Self { left: room.saturating_mul(TIMES), over: false }
    }

    /// Whether so much more may be done.
    pub(super) fn allows(&mut self, bytes: usize) -> bool {
        self.over = self.over || bytes > self.left;
        self.left = self.left.saturating_sub(bytes);
        !self.over
    }

    /// What was found, if nothing was left undone for it.
    pub(super) fn all<T>(&self, found: T) -> Result<T, TooMuch> {
        if self.over { Err(TooMuch) } else { Ok(found) }
    }

    /// Goes so many times through a text.
    pub(super) fn spend(&mut self, times: usize, text: &str) -> Result<(), TooMuch> {
        /// Beyond ASCII every character is looked up in tables.
        const BEYOND_ASCII: usize = 4;
        let each = if text.is_ascii() { 1 } else { BEYOND_ASCII };
        self.allows(times * each * text.len());
        self.all(())
    }
}

/// How often is a text gone through to see, to normalise, and to part it?
pub(super) const SEEING: usize = 2;
pub(super) const NORMALISING: usize = 3;
pub(super) const PARTING: usize = 5;
