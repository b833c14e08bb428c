//! How does a command print? By `say`, `sayln!` and `offer`, and in no other way: the lints forbid it.
//!
//! A reader that has gone (`| head`) is no failure; what cannot be written for another reason, such as a full
//! disk, is an error.

#![expect(clippy::disallowed_methods, reason = "the one place that has standard output")]

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use rustix::termios::{Winsize, tcgetwinsize};

#[derive(Debug, thiserror::Error)]
#[error("standard output cannot be written")]
pub(super) struct OutputError(#[source] io::Error);

/// Who reads what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    There,
    /// It closed its end: whoever goes on printing does so for nobody.
    Gone,
}

/// Prints a text as it is. What follows it is done also if nobody reads on.
pub(super) fn say(text: &str) -> Result<(), OutputError> {
    offer(text.as_bytes()).map(drop)
}

/// The same for those who print without end, and stop when nobody reads on.
pub(super) fn offer(text: &[u8]) -> Result<Reader, OutputError> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(OutputError(error)),
    }
}

/// Prints what clap tells instead of arguments: a help that was asked for, or what is wrong with them.
pub(super) fn usage(told: &clap::Error) -> Result<ExitCode, OutputError> {
    let code = ExitCode::from(u8::try_from(told.exit_code()).unwrap_or(2));
    match told.print() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe && !told.use_stderr() => {
            Err(OutputError(error))
        }
        _ => Ok(code),
    }
}

pub(super) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Of the terminal that is standard output, if it is one.
pub(super) fn window() -> Option<Winsize> {
    tcgetwinsize(io::stdout()).ok()
}

/// A line as `println!` formats it.
macro_rules! sayln {
    ($($told:tt)*) => {
        $crate::output::say(&(format!($($told)*) + "\n"))
    };
}

/// As the standard ones, without their panic when nobody reads on. A terminal that was closed would end us
/// in the middle of stopping in order, which that its closing has just begun.
macro_rules! eprintln {
    ($($told:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($told)*);
    }};
}
macro_rules! eprint {
    ($($told:tt)*) => {{
        use std::io::Write as _;
        let _ = write!(std::io::stderr(), $($told)*);
    }};
}
