//! How does text of strangers get onto a terminal? As text that a person can trust to be all there is.
//!
//! Three rules, for every line that people read: what is not seen, what looks like blank and what is drawn
//! as another letter is written as its code point; nothing of a stranger begins a line, each has a prefix
//! of ours; and no line is longer than the terminal, so that the terminal breaks none.

use std::io;

use comfy_table::{ContentArrangement, Table, presets::UTF8_BORDERS_ONLY};
use rustix::termios::{Winsize, tcgetwinsize};
use serde_json::Value;

use super::{
    output,
    paint::{Paint, Tone},
};

mod marks;
mod wrap;

use marks::{Form, marked};
use wrap::wrapped;

/// Characters of a content that people are shown; `--json` prints all of it.
pub(super) const CONTENT_MAX: usize = 2000;
/// Columns where nothing says how many there are.
const COLUMNS: usize = 80;
/// Of whatever says so: below it not even labels have room, above it nobody reads.
const COLUMNS_MIN: usize = 40;
const COLUMNS_MAX: usize = 400;
/// Columns left free, for those who indent a page.
const MARGIN: usize = 2;
/// Columns of a field's name.
const NAME: usize = 9;
/// Stands before every line that goes on with the one before.
const GOES_ON: &str = "↳ ";

/// Text of a stranger within a line, cut to `limit` characters of it.
pub(super) fn safe(text: &str, limit: usize) -> String {
    let kept: String = text.chars().take(limit).collect();
    let mut out = marked(&kept, Form::Text);
    if text.chars().nth(limit).is_some() {
        out.push('…');
    }
    out
}

/// The same as a quoted text, so that its end is seen: a quote within it is escaped.
pub(super) fn quoted(text: &str, limit: usize) -> String {
    let kept: String = text.chars().take(limit).collect();
    let more = if text.chars().nth(limit).is_some() { "…" } else { "" };
    format!("{}{more}", marked(&Value::String(kept).to_string(), Form::Shown))
}

/// A line of compact JSON, for programs: the same value, with what people would not see as `\u` escapes.
pub(super) fn json(line: &str) -> String {
    marked(line, Form::Json)
}

/// How many columns the terminal has, if one says so.
pub(super) fn columns() -> Option<usize> {
    let of = |size: Option<Winsize>| size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
    // Of a pager one hears by standard error.
    let terminal = of(output::window()).or_else(|| of(tcgetwinsize(io::stderr()).ok()));
    let said = || std::env::var("COLUMNS").ok()?.parse().ok();
    terminal.or_else(said).map(|columns| columns.clamp(COLUMNS_MIN, COLUMNS_MAX))
}

/// A table that the terminal has room for.
pub(super) fn table<'a>(header: impl IntoIterator<Item = &'a str>) -> Table {
    let width = columns().unwrap_or(COLUMNS) - MARGIN;
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(width).unwrap_or(u16::MAX))
        .set_header(header.into_iter().collect::<Vec<_>>());
    table
}

/// Lines under names of ours.
pub(super) struct Page {
    width: usize,
    paint: Paint,
    out: String,
}

impl Page {
    pub(super) fn new(paint: Paint) -> Self {
        Self::of_width(columns().unwrap_or(COLUMNS) - MARGIN, paint)
    }

    pub(super) fn of_width(width: usize, paint: Paint) -> Self {
        Self { width, paint, out: String::new() }
    }

    /// A line of our own, as it is: it must hold nothing of a stranger but ids.
    pub(super) fn own(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    /// A word of ours at the margin, and what is said after it.
    pub(super) fn headed(&mut self, word: &str, tone: Tone, text: &str) {
        let told = marked(text, Form::Text);
        self.lines(&told, word.chars().count() + 2, |paint| format!("{}  ", paint.apply(tone, word)));
    }

    /// A name and what a stranger, or the bus, says under it.
    pub(super) fn field(&mut self, name: &str, text: &str) {
        let name = format!("{name:<NAME$}");
        let told = marked(text, Form::Text);
        self.lines(&told, 2 + name.chars().count() + 2, |paint| {
            format!("  {}  ", paint.apply(Tone::Quiet, name))
        });
    }

    /// Text of a stranger below a line of ours.
    pub(super) fn text(&mut self, text: &str) {
        let told = marked(text, Form::Text);
        self.lines(&told, 2, |_| "  ".to_owned());
    }

    /// A value as indented JSON below a line of ours.
    pub(super) fn value(&mut self, value: &Value) {
        for line in serde_json::to_string_pretty(value).unwrap_or_default().lines() {
            // Blanks before the first sign of a line are of the indentation.
            let text = line.trim_start_matches(' ');
            let indent = (4 + line.len() - text.len()).min(self.width / 2);
            self.lines(&marked(text, Form::Shown), indent, |_| " ".repeat(indent));
        }
    }

    /// The content of a message: its text, if it has nothing else.
    pub(super) fn content(&mut self, content: &Value, limit: usize) {
        match content.as_object().filter(|map| map.len() == 1).and_then(|map| map.get("text")) {
            Some(Value::String(text)) => self.text(&safe(text, limit)),
            _ => {
                let line = content.to_string();
                let kept: String = line.chars().take(limit).collect();
                let more = if line.chars().nth(limit).is_some() { "…" } else { "" };
                self.lines(&format!("{}{more}", marked(&kept, Form::Shown)), 2, |_| "  ".to_owned());
            }
        }
    }

    /// What is marked already, after a prefix of so many columns.
    fn lines(&mut self, told: &str, columns: usize, prefix: impl FnOnce(Paint) -> String) {
        let mut prefix = prefix(self.paint);
        let mut columns = columns;
        // A long id leaves no room beside it.
        if columns > self.width / 2 {
            self.own(prefix.trim_end());
            (prefix, columns) = ("    ".to_owned(), 4);
        }
        let room = self.width.saturating_sub(columns);
        let mark = GOES_ON.chars().count();
        let mut lines = wrapped(told, room, room.saturating_sub(mark)).into_iter();
        self.own(format!("{prefix}{}", lines.next().unwrap_or_default()).trim_end());
        for line in lines {
            self.own(&format!("{}{}{line}", " ".repeat(columns), self.paint.apply(Tone::Quiet, GOES_ON)));
        }
    }

    pub(super) fn into_text(self) -> String {
        self.out
    }
}

#[cfg(test)]
mod tests;
