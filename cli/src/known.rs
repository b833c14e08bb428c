//! Where are known messages read, as records, judgements or messages? In a file of JSON lines.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::Path,
};

use agentbus::{phrase::counted, text_file};
use agentbus_modelkit::replay::{self, Known};
use anyhow::{Context as _, ensure};

use crate::input;

/// Errors that are told one by one.
const ERRORS_MAX: usize = 5;

/// `-` is standard input. What is left out is told on stderr.
pub(super) fn known(file: &Path) -> anyhow::Result<Vec<Known>> {
    let input: Box<dyn Read> = if file.as_os_str() == "-" {
        Box::new(input::stdin("lines of JSON, such as records or messages,"))
    } else {
        let named = || file.display().to_string();
        Box::new(text_file::over_mark(File::open(file).with_context(named)?).with_context(named)?)
    };
    let mut errors = 0;
    let all = replay::read(BufReader::new(input), |number, error| {
        errors += 1;
        if errors <= ERRORS_MAX {
            eprintln!("agentbus: line {number} is left out: {error}");
        }
    })?;
    if errors > ERRORS_MAX {
        eprintln!("agentbus: {} left out in all", counted(errors, "line"));
    }
    ensure!(!all.is_empty(), "no message to replay in {}", file.display());
    Ok(all)
}
