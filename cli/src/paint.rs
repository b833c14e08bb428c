//! Which colour does a word have, if colour is wanted?

use std::fmt;

use super::output;

/// Colour, if it is wanted where this goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paint {
    on: bool,
}

/// What a colour means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    Careful,
    Quiet,
    Strong,
}

impl Paint {
    /// Colour on a terminal, unless `NO_COLOR` is set (no-color.org).
    pub(super) fn stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { on: output::is_terminal() && !unwanted }
    }

    #[cfg(test)]
    pub(super) fn never() -> Self {
        Self { on: false }
    }

    pub(super) fn apply(self, tone: Tone, text: impl fmt::Display) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Careful => "33",
            Tone::Quiet => "2",
            Tone::Strong => "1",
        };
        if self.on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }
}
