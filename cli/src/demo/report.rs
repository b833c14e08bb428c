//! What came of it, in tables, and whether it adds up.

use std::fmt::Write as _;

use agentbus::domain::Reason;
use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use hdrhistogram::Histogram;

use super::{
    ledger::{Books, Series},
    letter::Routing,
    scenes::Burst,
};
use crate::context::{Paint, Tone, safe};

pub(super) fn render(books: &Books, burst: &Burst, violations: u64, paint: Paint) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut out, books, burst, violations, paint);
    out
}

fn write(out: &mut String, books: &Books, burst: &Burst, violations: u64, paint: Paint) -> std::fmt::Result {
    writeln!(out, "\n{}\n{}", paint.apply(Tone::Strong, "Verdicts by reason"), reasons(books))?;
    let missing: Vec<&str> = Reason::ALL
        .iter()
        .filter(|reason| !books.reasons.contains_key(reason))
        .map(|reason| reason.as_str())
        .collect();
    writeln!(out, "{}", paint.apply(Tone::Quiet, format!("not provoked here: {}", missing.join(", "))))?;
    let heading = "Latency as the sender sees it, in ms";
    writeln!(out, "\n{}\n{}", paint.apply(Tone::Strong, heading), latencies(books))?;
    writeln!(
        out,
        "\n{:.0} messages/s in the burst ({} messages in {:.2} s), agents, servers and nodes all on this machine.",
        burst.messages as f64 / burst.took.as_secs_f64(),
        burst.messages,
        burst.took.as_secs_f64()
    )?;
    writeln!(
        out,
        "{} messages, {} repeats, {} deliveries promised by verdicts, {} arrived; \
         {violations} attempts refused by the server; verdicts sent astray and dropped by agents: {}.",
        books.messages, books.repeats, books.promised, books.deliveries, books.dropped
    )?;
    let parked = books.reasons.get(&Reason::Deliberating).copied().unwrap_or(0);
    writeln!(
        out,
        "{parked} messages were parked for reviewers: nothing with a high impact passed without them."
    )?;
    if books.wrong_total == 0 && books.unconfirmed == 0 {
        let line = "It adds up: every message has one verdict, and what arrived is what the verdicts say.";
        return writeln!(out, "\n{}", paint.apply(Tone::Good, line));
    }
    if books.wrong_total == 0 {
        let line = format!(
            "It adds up, but for deliveries that the killed node had put on record and not handed over: {}. Their \
             senders were told `delivered`; `send` delivers at most once.",
            books.unconfirmed
        );
        return writeln!(out, "\n{}", paint.apply(Tone::Careful, line));
    }
    writeln!(
        out,
        "\n{}",
        paint.apply(Tone::Bad, format!("It does NOT add up, {} times:", books.wrong_total))
    )?;
    books.wrong.iter().try_for_each(|what| writeln!(out, "  {}", safe(what, 300)))
}

fn reasons(books: &Books) -> Table {
    let mut table = table(["reason", "code", "retry helps", "count"]);
    let mut rows: Vec<(&Reason, &u64)> = books.reasons.iter().collect();
    rows.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), reason.as_str()));
    for (reason, count) in rows {
        let retry = if reason.retryable() { "yes" } else { "" };
        table.add_row([
            reason.as_str().to_owned(),
            reason.code().to_string(),
            retry.to_owned(),
            count.to_string(),
        ]);
    }
    align(&mut table, &[1, 3]);
    table
}

fn latencies(books: &Books) -> Table {
    let mut table = table(["", "messages", "p50", "p90", "p99", "max"]);
    let paced =
        Routing::ALL.map(|routing| (format!("one by one, {}", routing.as_str()), Series::Paced(routing)));
    let rows = paced.into_iter().chain([
        ("many at once".to_owned(), Series::Burst),
        ("many at once, and a node is killed".to_owned(), Series::Death),
        ("a repeat: the stored verdict".to_owned(), Series::Repeat),
    ]);
    for (name, series) in rows {
        if let Some(histogram) = books.latencies.get(&series) {
            let millis = |micros: u64| format!("{:.2}", micros as f64 / 1000.0);
            let at = |histogram: &Histogram<u64>, quantile| millis(histogram.value_at_quantile(quantile));
            table.add_row([
                name,
                histogram.len().to_string(),
                at(histogram, 0.5),
                at(histogram, 0.9),
                at(histogram, 0.99),
                millis(histogram.max()),
            ]);
        }
    }
    align(&mut table, &[1, 2, 3, 4, 5]);
    table
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(header);
    table
}

fn align(table: &mut Table, columns: &[usize]) {
    for &column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}
