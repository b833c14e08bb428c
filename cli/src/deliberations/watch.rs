//! `agentbus deliberations watch`: what waits, as it comes, changes and is decided.

use std::{collections::BTreeMap, process::ExitCode, time::Duration};

use agentbus::{phrase::counted, shutdown::Shutdown};
use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior};

use super::{
    Desk, refusal, refused_code, refused_why,
    reply::{Entry, Listing},
    shown,
    wanted::Wanted,
};
use crate::{
    context::{Identity, Paint, Tone, at, safe, say},
    output::{self, Reader, offer},
    printable,
};

/// Of a terminal that does not say how many it has.
const ROWS: usize = 24;

#[derive(Debug, Args)]
#[command(after_help = "\
On a terminal a table that is drawn anew; otherwise one line for each that is new, changed or gone.\n\n\
Exit codes: 0 done (Ctrl-C, or --for is over), 1 failure, 2 usage, 3 denied.\n\n\
Examples:\n  \
agentbus deliberations watch --as acme/judge\n  \
agentbus deliberations watch --as acme/judge --for 10m --json")]
pub(super) struct WatchArgs {
    #[command(flatten)]
    identity: Identity,
    /// How often to ask
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = every)]
    every: Duration,
    /// Stop after this time, such as 10m
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Print each change as one line of JSON
    #[arg(long)]
    json: bool,
}

fn every(text: &str) -> Result<Duration, String> {
    let every = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match every {
        _ if every < Duration::from_millis(500) => Err("expected 500ms at least".to_owned()),
        _ if every > Duration::from_secs(3600) => Err("expected 1h at most".to_owned()),
        _ => Ok(every),
    }
}

/// What happened to one since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    New,
    Changed,
    /// Decided, or not this reviewer's any more.
    Gone,
}

impl Change {
    fn as_str(self) -> &'static str {
        match self {
            Change::New => "new",
            Change::Changed => "changed",
            Change::Gone => "gone",
        }
    }
}

pub(super) async fn run(args: WatchArgs) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::default();
    shutdown.on_terminal_signals()?;
    let desk = Desk::connect(&args.identity).await?;
    let paint = Paint::stdout();
    let drawn = output::is_terminal() && !args.json;
    let end = args.duration.map(|duration| Instant::now() + duration);
    let screen = drawn.then(Screen::open);
    // As many as one answer lists.
    let mut known: BTreeMap<String, Entry> = BTreeMap::new();
    let (mut away, all) = (false, Wanted::default());
    let mut ticks = tokio::time::interval(args.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = at(end) => return Ok(ExitCode::SUCCESS),
            () = shutdown.requested() => return Ok(ExitCode::SUCCESS),
        }
        let listing = tokio::select! {
            listing = desk.listing(&all) => listing,
            () = shutdown.requested() => return Ok(ExitCode::SUCCESS),
        };
        let listing = match listing {
            Ok(Ok(listing)) => listing,
            Ok(Err(refused)) if passing(&refused) => {
                told_away(&mut away, &refused_why(&refused).1);
                continue;
            }
            Ok(Err(refused)) => {
                drop(screen);
                eprintln!("{}", refusal(&refused));
                return Ok(refused_code(&refused));
            }
            Err(error) => {
                told_away(&mut away, &error.to_string());
                continue;
            }
        };
        away = false;
        let changes = changes(&mut known, &listing);
        let text = match screen {
            Some(_) => table(&listing, &desk, paint),
            None => lines(&changes, &desk, args.json).await,
        };
        // A closed pipe ends this as Ctrl-C would.
        if offer(text.as_bytes())? == Reader::Gone {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Whether asking again can help.
fn passing(refused: &Value) -> bool {
    refused.get("retryable").and_then(Value::as_bool).unwrap_or(false)
}

/// Once for each absence.
fn told_away(away: &mut bool, why: &str) {
    if !std::mem::replace(away, true) {
        eprintln!("the bus does not answer, asking on: {}", safe(why, 400));
    }
}

/// What differs from the last look, and remembers this one.
fn changes(known: &mut BTreeMap<String, Entry>, listing: &Listing) -> Vec<(Change, Entry)> {
    let mut changes = Vec::new();
    let current: BTreeMap<String, Entry> =
        listing.deliberations.iter().map(|entry| (entry.id.clone(), entry.clone())).collect();
    for entry in &listing.deliberations {
        match known.get(&entry.id) {
            None => changes.push((Change::New, entry.clone())),
            Some(before) if before != entry => changes.push((Change::Changed, entry.clone())),
            Some(_) => {}
        }
    }
    let gone = known.values().filter(|before| !current.contains_key(&before.id));
    changes.extend(gone.map(|before| (Change::Gone, before.clone())));
    *known = current;
    changes
}

/// The terminal's other screen: what was there before is there again at the end.
struct Screen;

impl Screen {
    fn open() -> Self {
        // A terminal that is gone is seen when the table is written.
        let _ = say("\u{1b}[?1049h");
        Self
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = say("\u{1b}[?1049l");
    }
}

fn table(listing: &Listing, desk: &Desk, paint: Paint) -> String {
    let head = format!("what waits for {}; Ctrl-C ends it", desk.who);
    let body = format!("{}\n{}", paint.apply(Tone::Quiet, head), shown::listing(listing, &desk.who, paint));
    // Some terminals say 0 where they do not know.
    let rows = output::window().map_or(0, |size| size.ws_row.into());
    let rows = if rows == 0 { ROWS } else { rows };
    // Home, the table over what was there, and the rest cleared: no flicker.
    format!("\u{1b}[H{}\u{1b}[0J", fitted(&body, rows).replace('\n', "\u{1b}[K\n"))
}

/// No more than the window has rows for, the last of which stays free for the cursor.
fn fitted(text: &str, rows: usize) -> String {
    let room = rows.saturating_sub(1).max(2);
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() <= room {
        return text.to_owned();
    }
    let mut out: String = lines.iter().take(room - 1).map(|line| format!("{line}\n")).collect();
    let more = counted(lines.len() - (room - 1), "line");
    out += &format!("… {more} more than this window has\n");
    out
}

async fn lines(changes: &[(Change, Entry)], desk: &Desk, as_json: bool) -> String {
    let mut out = String::new();
    for (change, entry) in changes {
        // How it ended, if it can be known.
        let ended = match change {
            Change::Gone => {
                let details = desk.details(&entry.id).await.ok().and_then(Result::ok);
                details.and_then(|(details, _)| details.decision)
            }
            Change::New | Change::Changed => None,
        };
        if as_json {
            let mut line = json!({ "change": change.as_str(), "deliberation": entry });
            if let (Some(decision), Some(fields)) = (&ended, line.as_object_mut()) {
                fields.insert(
                    "decision".to_owned(),
                    json!({ "judgement": decision.judgement, "at": decision.at, "detail": decision.detail }),
                );
            }
            out += &format!("{}\n", printable::json(&line.to_string()));
        } else {
            let text = match &ended {
                Some(decision) => {
                    format!(
                        "{}  {}: {}",
                        entry.id,
                        safe(&decision.judgement, 32),
                        safe(&decision.detail, 400)
                    )
                }
                None => shown::line(entry, &desk.who),
            };
            out += &format!("{:<7}  {text}\n", change.as_str());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_look_tells_what_came_what_changed_and_what_went() {
        let entry = |id: &str| -> Entry { serde_json::from_value(shown::tests::entry(id)).unwrap() };
        let list = |entries: Vec<Entry>| Listing { total: entries.len() as u64, deliberations: entries };
        let words = |changes: Vec<(Change, Entry)>| -> Vec<(Change, String)> {
            changes.into_iter().map(|(change, entry)| (change, entry.id)).collect()
        };
        let mut known = BTreeMap::new();
        let (one, two) = (entry("a"), entry("b"));
        let first = changes(&mut known, &list(vec![one.clone(), two.clone()]));
        assert_eq!(words(first), [(Change::New, "a".to_owned()), (Change::New, "b".to_owned())]);
        assert!(changes(&mut known, &list(vec![one.clone(), two])).is_empty());
        let voted = Entry { approvals: 1, ..one };
        let last = changes(&mut known, &list(vec![voted]));
        assert_eq!(words(last), [(Change::Changed, "a".to_owned()), (Change::Gone, "b".to_owned())]);
    }

    #[test]
    fn what_is_drawn_fits_the_window() {
        let text: String = (0..30).map(|n| format!("line {n}\n")).collect();
        assert_eq!(fitted(&text, 31), text);
        let cut = fitted(&text, 30);
        assert_eq!(cut.lines().count(), 29, "{cut}");
        assert!(cut.ends_with("line 27\n… 2 lines more than this window has\n"), "{cut}");
        assert_eq!(fitted(&text, 0).lines().count(), 2);
    }

    #[test]
    fn how_often_to_ask_has_bounds() {
        assert!(every("100ms").is_err() && every("2h").is_err() && every("soon").is_err());
        assert_eq!(every("1s").unwrap(), Duration::from_secs(1));
    }
}
