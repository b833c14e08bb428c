//! What does a command read from standard input? At a terminal it says so before it waits.

#![expect(clippy::disallowed_methods, reason = "the one place that has standard input")]

use std::io::{self, IsTerminal as _, Stdin};

/// Standard input, for what is expected there, such as `lines of JSON`.
pub(super) fn stdin(expected: &str) -> Stdin {
    if is_terminal() {
        eprintln!("reading {expected} from the terminal; Ctrl-D on a line of its own ends it");
    }
    io::stdin()
}

/// For who asks a question there.
pub(super) fn answers() -> Stdin {
    io::stdin()
}

pub(super) fn is_terminal() -> bool {
    io::stdin().is_terminal()
}
